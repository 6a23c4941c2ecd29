"""A classification of three classes is trained, scored, registered, promoted and reported by the shared code as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from promotion_helpers import promote_best

from storage.layout import Store
from storage.registry import Registry
from storage.tables import read_splits
from tasks.config import DataSettings, PromotionSettings, TrainSettings
from tasks.datasets import DATASETS
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import (
    SPLITS,
    DatasetSpec,
    Expectation,
    Parsed,
    Repair,
    Source,
    SourceFile,
    SplitTables,
)
from tasks.ingestion import fetching, pipeline
from tasks.models import PROBLEMS
from tasks.models.engine.accelerated import accelerate_for_scoring
from tasks.models.engine.train_step import predict
from tasks.models.spec import Batch, Budget, ClassesPlot, Problem, ScoredSplit, Variant, refuse_task, restored
from tasks.promotion.log import read_log
from tasks.reporting.collect import run_report
from tasks.scoring import ClassificationScoring
from tasks.training.fitting import fit_variant
from tasks.training.registering import register_fitted
from tasks.training.scoring import evaluate_fitted, evaluate_version, read_predictions
from tasks.training.seen import seen_by
from tasks.training.uncertainty import uncertainty_of

CLASSES = ("falling", "level", "rising")
STEPS = 6
COLUMNS = tuple(f"step_{i}" for i in range(STEPS))
SCHEMA = pa.schema([*((name, pa.float32()) for name in COLUMNS), ("label", pa.int8())])


def simulate(folder: Path) -> tuple[Path, ...]:
    """Write 600 short series whose slope is the class."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, size=600, p=[0.25, 0.3, 0.45])
    series = (label[:, None] - 1) * np.arange(STEPS) * 0.5 + rng.normal(0, 0.4, (600, STEPS))
    pd.DataFrame(dict(zip(COLUMNS, series.T, strict=True)) | {"label": label}).to_csv(folder / "slopes.csv", index=False)
    return (folder / "slopes.csv",)


def parse(files: Mapping[str, Path], request: TableRequest) -> Parsed:
    table = pa.Table.from_pandas(pd.read_csv(files["slopes.csv"]), preserve_index=False).cast(SCHEMA)
    repair = Repair(name="none", rule="nothing is repaired", count=0, share=0.0, limit=0.001)
    return Parsed(table=table, repairs=(repair,), facts={"rows_read": table.num_rows})


def split(parsed: Parsed) -> SplitTables:
    bounds = dict(zip(SPLITS, ((0, 300), (300, 150), (450, 150)), strict=True))
    tables = {name: parsed.table.slice(*bounds[name]) for name in SPLITS}
    return SplitTables(tables=tables, normalisation={}, bounds={name: {"rows": rows} for name, (_, rows) in bounds.items()})


SPEC = DatasetSpec(
    name="slopes",
    title="Short series that fall, stay or rise",
    licence="simulated",
    default_source="csv",
    sources={"csv": Source(lambda options, today: (SourceFile(name="slopes.csv", urls=("x",), max_bytes=1_000_000),))},
    transform_version=1,
    schema=SCHEMA,
    parse=parse,
    expectations=lambda request: (
        Expectation("column_values_to_not_be_null", {"column": "label"}, "critical", "every series has a class"),
    ),
    validation_frame=lambda parsed: parsed.table.to_pandas(),
    split=split,
    simulate=simulate,
    sample_source="csv",
)


class SlopesLearner:
    """A network beside the series of all splits."""

    def __init__(self, splits: Mapping[str, pa.Table], variant: Variant, accelerated: Any) -> None:
        self.inputs = {
            name: np.column_stack([splits[name][column].to_numpy() for column in COLUMNS])[:, :, None] for name in SPLITS
        }
        self.labels = {name: splits[name]["label"].to_numpy().astype(np.float32) for name in SPLITS}
        self.variant, self.accelerated = variant, accelerated
        self.network, self.optimizer, self.execution = accelerated.fast, accelerated.optimizer, accelerated.execution
        self.network.compile(
            optimizer=self.optimizer,
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=self.execution.jit_compile,
            steps_per_execution=self.execution.steps_per_execution,
        )

    def describe_execution(self) -> Any:
        return self.accelerated.describe()

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        order = np.random.default_rng((seed, epoch)).permutation(len(self.labels["train"])).reshape(-1, 50)[:steps]
        inputs, labels = self.inputs["train"], self.labels["train"]
        return len(order), (Batch(self.network, inputs[ids], labels[ids][:, None]) for ids in order)

    def predict(self, name: str) -> Any:
        return predict(self.network, self.inputs[name])

    def targets(self, name: str) -> Any:
        return self.labels[name]

    def validation(self) -> dict[str, float]:
        probability, label = self.predict("val"), self.labels["val"].astype(int)
        right = probability.argmax(axis=1) == label
        return {
            "val_loss": float(-np.log(probability[np.arange(len(label)), label]).mean()),
            "val_accuracy": float(right.mean()),
        }

    def export(self) -> Any:
        import keras

        network = self.accelerated.plain
        network.set_weights(self.network.get_weights())
        series = keras.Input((STEPS, 1))
        return keras.Model(series, network(series), name="slopes")


def gru_network() -> Any:
    import keras

    layers = [keras.Input((STEPS, 1)), keras.layers.GRU(8), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential(layers, name="network")


def restore(splits: Any, normalisation: Any, exported: Any) -> SlopesLearner:
    network = exported.get_layer("network")
    variant = restored(network)
    return SlopesLearner(splits, variant, accelerate_for_scoring(network, variant=variant))


def scored_split(learner: SlopesLearner) -> ScoredSplit:
    truth = learner.labels["test"]
    majority = np.bincount(learner.labels["train"].astype(int)).argmax()
    naive = np.full_like(truth, majority)
    return ScoredSplit(
        prediction=learner.predict("test"), truth=truth, naive=naive, scale=1.0, row=np.arange(len(truth), dtype=np.int64)
    )


def with_task(changes: Mapping[str, Any]) -> Problem:
    refuse_task(changes, task=PROBLEM.task, dataset="slopes")
    return PROBLEM


PROBLEM = Problem(
    dataset="slopes",
    scoring=ClassificationScoring(classes=3),
    naive="majority",
    variants={"gru": Variant(name="gru", summary="GRU(8)", network=gru_network, epochs=8, batch_size=50, learning_rate=1e-2)},
    learner=lambda splits, normalisation, variant, accelerated: SlopesLearner(splits, variant, accelerated),
    restore=restore,
    scored_split=scored_split,
    examples=lambda learner, count: (learner.inputs["test"][:count], learner.predict("test")[:count]),
    plot_data=lambda splits, normalisation: ClassesPlot(classes=CLASSES),
    sample_budget=Budget(epochs=8, steps_per_epoch=None, patience_epochs=8),
    is_better=lambda new, old: new["val_accuracy"] > old["val_accuracy"],
    validation_metric="val_accuracy",
    task={"target": "label", "classes": 3},
    with_task=with_task,
    default_variants=("gru",),
)


@pytest.mark.slow
def test_three_classes_from_file_to_report(keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DATASETS, "slopes", SPEC)
    monkeypatch.setitem(PROBLEMS, "slopes", PROBLEM)
    store = Store.at(tmp_path)
    registry = Registry.open(store)
    raw = fetching.fetch_raw("slopes", settings=DataSettings(data="sample"), store=store, mirror=None)
    parsed = pipeline.parse_raw(raw, store=store)
    table = pipeline.publish_parsed(
        parsed, validation=pipeline.validate_parsed(parsed, settings=DataSettings(), store=store), store=store
    )

    settings = TrainSettings()
    fitted = fit_variant(table, variant="gru", settings=settings, store=store, on_progress=lambda progress: None)
    evaluation = evaluate_fitted(fitted, store=store)
    predictions = read_predictions(evaluation, table=table, store=store)
    assert predictions["prediction"].shape == (150, 3)
    np.testing.assert_allclose(predictions["prediction"].sum(axis=1), 1, atol=1e-5)
    right = predictions["prediction"].argmax(axis=1) == predictions["truth"]
    assert evaluation.scores["accuracy"] == pytest.approx(right.mean())
    # The most frequent class of train rows is the last one.
    assert evaluation.scores["majority_accuracy"] == pytest.approx((predictions["truth"] == 2).mean())
    assert evaluation.scores["skill"] > 0.3

    model = register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-1")
    assert model.name == "slopes-sample"
    version = registry.version("slopes-sample", 1)
    assert uncertainty_of(version, registry=registry) is None
    # A restored model has the scores that it was registered with.
    store.evaluation(table.version, fitted.training_key).with_suffix(".json").unlink()
    assert evaluate_version(version, table=table, registry=registry, store=store).scores == pytest.approx(evaluation.scores)

    decision = promote_best([model], table=table, settings=PromotionSettings(), registry=registry, store=store)
    assert decision.outcome == "promoted", decision.reason
    report = run_report(table, models=[model], decision=decision, registry=registry, store=store)
    assert "confusion matrix" in report.pictures
    assert "the more frequent label" in report.markdown

    # Another one is tested against it on the rows of the test split, none of which is among the ids that were recorded.
    again = TrainSettings(seed=1, epochs=1)
    fitted = fit_variant(table, variant="gru", settings=again, store=store, on_progress=lambda progress: None)
    evaluation = evaluate_fitted(fitted, store=store)
    model = register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-2")
    seen = seen_by(registry.version("slopes-sample", model.version), problem=PROBLEM, registry=registry, store=store)
    splits, _ = read_splits(table, store=store)
    assert [int(seen.among(PROBLEM.row_ids(splits[name])).sum()) for name in SPLITS] == [300, 150, 0]
    decision = promote_best([model], table=table, settings=PromotionSettings(), registry=registry, store=store)
    tests = [line["test"] for line in read_log("slopes-sample", registry=registry, store=store) if "test" in line]
    if decision.outcome != "rejected":
        assert [(test["number"], test["rows"]["rows"]) for test in tests] == [(1, 150)]


def test_a_network_of_three_outputs_is_refused_where_one_is_asked(keras: Any, tiny: Any) -> None:
    from learner_helpers import learner_with

    from storage.errors import SettingError

    for dataset, wanted in (("jena", r"expected one forecast a window: end it with Dense\(1\)"), ("imdb", "end it with Dense")):
        problem = PROBLEMS[dataset]
        usual = problem.variants["gru_baseline"]

        def softmax(usual: Variant = usual) -> Any:
            network = usual.network()
            softmax = keras.layers.Dense(3, activation="softmax")
            return keras.Sequential([*network.inputs, *network.layers[:-1], softmax], name="network")

        splits, normalisation = tiny(dataset)
        with pytest.raises(SettingError, match=wanted):
            learner_with(problem, splits, normalisation, variant=replace(usual, name="softmax", network=softmax))
