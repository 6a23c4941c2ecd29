"""From a published table to a registered version: what a training follows from, and what is kept of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import DataError, DeviceError, ReplacedError, RetrainError, SettingError
from storage.folders import remove_folder
from storage.io import read_json
from storage.layout import Store
from storage.references import TableRef
from storage.registry import Registry
from tasks.config import TrainSettings
from tasks.datasets import DATASETS
from tasks.models import PROBLEMS, problem_named, variant_named
from tasks.models.networks.jena import FORECAST, gru_stacked_network
from tasks.models.optimizers import adamw, cosine
from tasks.models.spec import Budget
from tasks.training import fitting, identity, scoring
from tasks.training.fitting import FittedRef, fit_variant, threads_for
from tasks.training.identity import budget_for, model_name, problem_asked_by, training_key
from tasks.training.registering import find_trained, register_fitted

TABLE = TableRef(dataset="jena", version="0123456789ab", uri="nowhere", simulated=False, rows={})
SIMULATED = TABLE.model_copy(update={"simulated": True})


# --- names, budgets and keys


def test_a_sample_never_shares_a_registered_name_with_real_data() -> None:
    names = {
        model_name(TABLE.model_copy(update={"dataset": name, "simulated": simulated}))
        for name in DATASETS
        for simulated in (True, False)
    }
    assert len(names) == 2 * len(DATASETS)
    assert {model_name(TABLE), model_name(SIMULATED)} == {"jena", "jena-sample"}


@pytest.mark.parametrize(
    ("simulated", "settings", "expected"),
    [
        (False, TrainSettings(), Budget(epochs=20, steps_per_epoch=500, patience_epochs=10)),
        (False, TrainSettings(epochs=3, patience_epochs=2), Budget(epochs=3, steps_per_epoch=500, patience_epochs=2)),
        (False, TrainSettings(steps_per_epoch=7), Budget(epochs=20, steps_per_epoch=7, patience_epochs=10)),
        (True, TrainSettings(epochs=9, steps_per_epoch=7), Budget(epochs=9, steps_per_epoch=7, patience_epochs=10)),
    ],
)
def test_the_budget_is_the_settings_or_the_variants_own(simulated: bool, settings: TrainSettings, expected: Budget) -> None:
    assert budget_for(PROBLEMS["jena"], "gru_baseline", settings=settings, simulated=simulated) == expected


def test_a_sample_has_a_budget_of_its_own() -> None:
    problem = PROBLEMS["jena"]
    budget = budget_for(problem, "gru_baseline", settings=TrainSettings(), simulated=True)
    assert (budget.epochs, budget.steps_per_epoch) == (problem.sample_budget.epochs, problem.sample_budget.steps_per_epoch)


def key(table: TableRef = TABLE, variant: str = "gru_baseline", **settings: Any) -> str:
    return training_key(table, variant=variant, settings=TrainSettings(**settings))


def test_a_key_is_the_same_where_the_training_would_be() -> None:
    assert len(key()) == 16
    assert key() == key(epochs=20, steps_per_epoch=500, patience_epochs=10, seed=0)  # the variant's own values, spelt out
    assert key() == key(threads=1) == key(require_gpu=True)
    assert key(variant="ridge") == key(variant="ridge", threads=2)  # its batch is not sharded
    assert key() == key(TABLE.model_copy(update={"published": False, "uri": "elsewhere", "rows": {"train": 1}}))


def test_a_key_changes_with_all_that_a_training_follows_from(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        key(),
        key(TABLE.model_copy(update={"version": "0123456789ac"})),
        key(SIMULATED),  # another budget
        key(variant="gru_dropout"),
        key(epochs=19),
        key(steps_per_epoch=499),
        key(patience_epochs=9),
        key(seed=1),
    ]
    problem = PROBLEMS["jena"]
    gru_stacked = problem.variants["gru_stacked"].network
    changes = ({"network": gru_stacked}, {"optimizer": adamw}, {"schedule": cosine}, {"batch_size": 64}, {"learning_rate": 0.002})
    for change in changes:
        variants = {**problem.variants, "gru_baseline": replace(problem.variants["gru_baseline"], **change)}
        with monkeypatch.context() as patch:
            patch.setitem(PROBLEMS, "jena", replace(problem, variants=variants))
            keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(identity, "TRAINING_VERSION", identity.TRAINING_VERSION + 1)
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setitem(PROBLEMS, "jena", replace(problem, task={**problem.task, "horizon_rows": 72}))
        keys.append(key())
    assert len(set(keys)) == len(keys) == 15
    assert key() == keys[0]


def test_a_key_sees_no_words_and_finds_a_setting_that_is_the_variants_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = key()
    assert key(batch_size=128, learning_rate=1e-3) == first
    assert key(batch_size=64) != first
    assert key(learning_rate=2e-3) != first
    problem = PROBLEMS["jena"]
    described = replace(problem.variants["gru_baseline"], summary="the same network in other words")
    monkeypatch.setitem(PROBLEMS, "jena", replace(problem, variants={**problem.variants, "gru_baseline": described}))
    assert key() == first


@pytest.mark.parametrize(
    "forecast",
    [{"target": "pressure_mbar"}, {"horizon_rows": 72}, {"lookback_rows": 720}, {"step_rows": 12}],
    ids=lambda forecast: next(iter(forecast)),
)
def test_what_a_forecast_is_asked_is_part_of_the_key(forecast: dict[str, Any]) -> None:
    assert key(forecast=forecast) != key()
    assert key(variant="ridge", forecast=forecast) != key(variant="ridge")


def test_only_another_question_has_another_model_name() -> None:
    def name(**forecast: Any) -> str:
        return model_name(SIMULATED, problem=problem_asked_by(SIMULATED, settings=TrainSettings(forecast=forecast)))

    assert name() == name(lookback_rows=720) == name(step_rows=12) == name(target="temperature_degc") == "jena-sample"
    assert name(target="pressure_mbar") == "jena-pressure-mbar-144-rows-sample"
    assert name(horizon_rows=72) == "jena-temperature-degc-72-rows-sample"


def test_an_unknown_variant_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match=r"unknown variant 'gru_dropot' for jena: choose gru_baseline, .*, gru_stacked, ridge"):
        key(variant="gru_dropot")


# --- training


def quiet(progress: Any) -> None:
    """Take a progress and say nothing."""


def test_a_missing_gpu_is_told_before_any_data_is_read(keras: Any, tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert not store.table_folder(TABLE.dataset, TABLE.version).exists()
    with pytest.raises(DeviceError, match="turn require_gpu off"):
        fit_variant(TABLE, variant="gru_baseline", settings=TrainSettings(require_gpu=True), store=store, on_progress=quiet)
    # Without the demand the same call gets as far as the table that is not there.
    with pytest.raises(DataError, match=r"manifest\.json is not there"):
        fit_variant(TABLE, variant="gru_baseline", settings=TrainSettings(), store=store, on_progress=quiet)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class CutOffError(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize(
    ("variant", "given", "threads"),
    [("gru_baseline", None, 1), ("gru_baseline", 3, 3), ("gru_dropout", 3, 3), ("gru_stacked", 3, 1), ("ridge", 3, 1)],
)
def test_only_a_batch_that_can_be_split_gets_threads(variant: str, given: int | None, threads: int) -> None:
    assert threads_for(variant_named(variant, dataset="jena"), settings=TrainSettings(threads=given)) == threads


@pytest.mark.parametrize(
    ("given", "trainings", "cores", "threads"),
    [(None, 2, 2, 1), (None, 1, 2, 2), (None, 2, 8, 4), (None, 0, 2, 2), (None, 4, 2, 1), (3, 2, 2, 3)],
)
def test_trainings_side_by_side_share_the_cores(given: int | None, trainings: int, cores: int, threads: int) -> None:
    assert TrainSettings(threads=given).with_threads_for(trainings, cores=cores).threads == threads


@pytest.mark.parametrize(("dataset", "variant"), [("jena", "gru_baseline"), pytest.param("imdb", "lstm", marks=pytest.mark.slow)])
def test_threads_change_a_training_by_rounding_alone(keras: Any, samples: Any, dataset: str, variant: str) -> None:
    store, table, found = samples.store, samples.tables[dataset], {}
    for threads in (1, 2):
        settings = TrainSettings(epochs=1, steps_per_epoch=6, seed=5, threads=threads)
        fitted = fit_variant(table, variant=variant, settings=settings, store=store, on_progress=quiet)
        found[threads] = read_json(Path(fitted.folder) / "fitted.json")
        assert found[threads]["execution"]["num_shards"] == threads
        remove_folder(store.checkpoint_folder(table.version, fitted.training_key))
    for figure in ("loss", "val_loss"):
        assert found[2]["curves"][figure] == pytest.approx(found[1]["curves"][figure], rel=1e-5)


def cut_off(progress: Any) -> None:
    """End a training after its first epoch."""
    if progress.metrics:
        raise CutOffError


def test_a_training_that_was_cut_off_resumes_to_the_same_model(keras: Any, trained: Any) -> None:
    """The registered one went through without a stop; this one is cut off after its first epoch, in another folder."""
    settings, table, store = trained.better_settings, trained.table, trained.store
    key = training_key(table, variant="gru_baseline", settings=settings)
    folder = store.checkpoint_folder(table.version, key)
    assert not folder.exists()

    def fit(on_progress: Any) -> FittedRef:
        return fit_variant(table, variant="gru_baseline", settings=settings, store=store, on_progress=on_progress)

    with pytest.raises(CutOffError):
        fit(cut_off)
    assert sorted(path.name for path in folder.iterdir()) == ["attempts", "checkpoint-1.npz"]
    fitted = fit(quiet)
    assert fit(cut_off).folder == fitted.folder  # what is finished is not trained again
    assert sorted(path.name for path in folder.iterdir()) == ["attempts", "fitted.json", "model.keras"]
    version = trained.registry.version("jena-sample", trained.better.version)
    whole = json.loads(trained.registry.read_file(version.run_id, "manifest.json"))["training"]
    resumed = json.loads((folder / "fitted.json").read_text())
    assert (whole["resumed_from"], resumed["resumed_from"]) == (0, 1)
    assert resumed["curves"] == whole["curves"]
    assert resumed["execution"] == {
        "use_cudnn": False,
        "jit_compile": True,
        "steps_per_execution": 1,
        "num_shards": 1,
        "skip_padding_steps": True,
        "notes": ["recurrent layer 1, GRU(32): fast loop"],
    }
    model = keras.saving.load_model(Path(str(folder)) / "model.keras", compile=False, safe_mode=True)
    weights = trained.registry.load_model(version).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    remove_folder(folder)


def test_a_training_that_was_taken_over_is_registered_once(keras: Any, trained: Any) -> None:
    """The first attempt falls asleep before it registers; a second one takes the finished training over."""
    store, registry = trained.store, trained.registry
    settings = TrainSettings(epochs=1, steps_per_epoch=1, seed=77)

    def fit() -> FittedRef:
        return fit_variant(trained.table, variant="gru_baseline", settings=settings, store=store, on_progress=quiet)

    asleep = fit()
    evaluation = scoring.evaluate_fitted(asleep, store=store)
    owner = fit()
    before = registry.versions("jena-sample")

    def register(fitted: FittedRef) -> Any:
        return register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-1")

    with pytest.raises(ReplacedError, match="attempt 1"):
        register(asleep)
    assert registry.versions("jena-sample") == before
    registered = register(owner)
    try:
        for fitted in (asleep, owner):
            with pytest.raises(ReplacedError):
                register(fitted)
        assert [version.version for version in registry.versions("jena-sample") if version not in before] == [registered.version]
    finally:
        registry._client.delete_model_version("jena-sample", str(registered.version))


@pytest.mark.slow
def test_a_network_that_changed_since_a_stop_is_trained_from_the_start(
    keras: Any, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table, settings = samples.store, samples.tables["jena"], TrainSettings(epochs=2, steps_per_epoch=3, seed=9)

    def fit(on_progress: Any) -> FittedRef:
        return fit_variant(table, variant="gru_baseline", settings=settings, store=store, on_progress=on_progress)

    with pytest.raises(CutOffError):
        fit(cut_off)
    problem = PROBLEMS["jena"]
    wider = replace(problem.variants["gru_baseline"], network=partial(gru_stacked_network, FORECAST.task))
    with monkeypatch.context() as patch:
        patch.setitem(PROBLEMS, "jena", replace(problem, variants={**problem.variants, "gru_baseline": wider}))
        changed = fit(quiet)
    described = read_json(Path(changed.folder) / "fitted.json")
    assert (described["resumed_from"], described["epochs_run"]) == (0, 2)
    assert described["execution"]["notes"][0].endswith("; faster: return the last step alone (return_sequences=False)")
    # The first one goes on where it was stopped.
    resumed = fit(quiet)
    assert resumed.folder != changed.folder
    assert read_json(Path(resumed.folder) / "fitted.json")["resumed_from"] == 1
    for fitted in (changed, resumed):
        remove_folder(store.checkpoint_folder(table.version, fitted.training_key))


def test_a_registered_version_carries_all_that_it_came_from(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.better.version)
    assert version.variant == "gru_baseline"
    expected = training_key(trained.table, variant="gru_baseline", settings=trained.better_settings)
    assert {name: version.tags[name] for name in ("training_key", "table_version", "simulated", "source", "flow_run_id")} == {
        "training_key": expected,
        "table_version": trained.table.version,
        "simulated": "true",
        "source": "sample",
        "flow_run_id": "run-1",
    }
    manifest = json.loads(trained.registry.read_file(version.run_id, "manifest.json"))
    assert manifest["table"]["version"] == trained.table.version
    assert manifest["table"]["normalisation"].keys() == {"mean", "std"}
    assert manifest["training"]["settings"]["epochs"] == 2
    assert manifest["training"]["epochs_run"] == len(manifest["training"]["curves"]["val_loss"]) == 2
    assert manifest["code"] == version.tags["code"]
    assert len(manifest["lock"]) == 64
    assert manifest["libraries"]["keras"].startswith("3.")
    assert manifest["scores"] == {name: version.metrics[name] for name in manifest["scores"]}
    best = min(manifest["training"]["curves"]["val_loss"])
    assert version.metrics["val_loss"] == manifest["training"]["validation"]["val_loss"] == best
    # The checkpoint folder has done its work.
    assert not trained.store.checkpoint_folder(trained.table.version, expected).exists()
    with np.load(io.BytesIO(trained.registry.read_file(version.run_id, "examples.npz")), allow_pickle=False) as examples:
        assert examples["inputs"].shape == (scoring.EXAMPLES, 1440, 14)
        assert examples["outputs"].shape == (scoring.EXAMPLES,)


def test_an_equal_training_is_found_and_another_is_not(trained: Any) -> None:
    def find(variant: str = "gru_baseline", **changes: Any) -> Any:
        settings = trained.better_settings.model_copy(update=changes)
        return find_trained(trained.table, variant=variant, settings=settings, registry=trained.registry, store=trained.store)

    assert find() == trained.better.model_copy(update={"trained": False})
    assert find(threads=1) == find()
    assert find(threads=2) is None
    assert find(seed=1) is None
    assert find(epochs=3) is None
    assert find("gru_dropout") is None


def test_where_the_host_chooses_the_threads_any_number_is_found(keras: Any, samples: Any, tmp_path: Path) -> None:
    store, table = samples.store, samples.tables["jena"]
    registry = Registry.open(Store.at(tmp_path))
    settings = TrainSettings(epochs=1, steps_per_epoch=2, seed=77, threads=2)
    fitted = fit_variant(table, variant="gru_baseline", settings=settings, store=store, on_progress=quiet)
    evaluation = scoring.evaluate_fitted(fitted, store=store)
    made = register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-1")

    def find(threads: int | None) -> Any:
        asked = settings.model_copy(update={"threads": threads})
        return find_trained(table, variant="gru_baseline", settings=asked, registry=registry, store=store)

    assert find(2) == find(None) == made.model_copy(update={"trained": False})
    assert find(1) is None


def test_the_folder_of_a_run_that_was_killed_after_registering_is_removed(trained: Any) -> None:
    key = training_key(trained.table, variant="gru_baseline", settings=trained.better_settings)
    folder = trained.store.checkpoint_folder(trained.table.version, key)
    folder.mkdir(parents=True)
    (folder / "fitted.json").write_text("{}")
    other = trained.store.checkpoint_folder(trained.table.version, "0" * 16)
    other.mkdir(parents=True)
    found = find_trained(
        trained.table,
        variant="gru_baseline",
        settings=trained.better_settings,
        registry=trained.registry,
        store=trained.store,
    )
    assert found is not None
    assert not folder.exists()
    assert other.exists()
    other.rmdir()


def test_the_scores_are_those_of_the_kept_predictions(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.better.version)
    evaluation = scoring.evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    seen = scoring.read_predictions(evaluation, table=trained.table, store=trained.store)
    prediction, truth, naive = (seen[name].astype(float) for name in ("prediction", "truth", "naive"))
    mae = np.abs(prediction - truth).mean()
    assert evaluation.scores["mae_degc"] == pytest.approx(mae, rel=1e-6)
    assert evaluation.scores["bias_degc"] == pytest.approx((prediction - truth).mean(), rel=1e-4, abs=1e-6)
    assert evaluation.scores["skill"] == pytest.approx(1 - mae / np.abs(naive - truth).mean(), rel=1e-5)
    # 24 h are 144 rows: within an unbroken test split the naive baseline is the truth of 144 windows before.
    np.testing.assert_array_equal(naive[144:], truth[:-144])


def test_a_version_is_scored_again_where_its_scores_are_lost(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.worse.version)

    def score() -> dict[str, float]:
        return scoring.evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store).scores

    before = score()
    place = trained.store.evaluation(trained.table.version, version.tags["training_key"])
    for suffix in (".json", ".parquet", ".npz"):
        place.with_suffix(suffix).unlink()
    assert score() == pytest.approx(before, rel=1e-5)
    assert place.is_file()


def test_every_view_belongs_to_a_data_set() -> None:
    assert PROBLEMS.keys() == DATASETS.keys()
    for name in DATASETS:
        assert problem_named(name).dataset == name
    with pytest.raises(SettingError, match="unknown data set 'wine' for training: choose imdb, jena"):
        problem_named("wine")


def test_where_the_code_comes_from_is_known() -> None:
    assert identity.code_version()
    assert set(identity.library_versions()) >= {"tensorflow", "keras", "numpy", "mlflow", "prefect"}


def test_a_training_that_takes_too_long_is_given_up() -> None:
    now = [0.0]
    seen: list[int] = []
    report = fitting.with_time_limit(seen.append, limit_s=7200.0, clock_s=lambda: now[0])
    report(1)
    now[0] = 7200.0
    report(2)
    now[0] = 7200.5
    with pytest.raises(RetrainError, match=r"given up after 2 h: raise timeout_hours"):
        report(3)
    assert seen == [1, 2, 3]
