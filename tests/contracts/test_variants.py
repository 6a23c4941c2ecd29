"""What every variant of every data set promises; a new one is covered by standing in the registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_contracts import check
from problem_contracts import PROBLEM_CONTRACTS, ProblemCase, tables_with_gaps

from tasks.config import DEFAULT_VARIANTS
from tasks.datasets import DATASETS
from tasks.metrics import PRIMARY_METRIC, VALIDATION_METRIC
from tasks.models import VIEWS, build_learner, with_references
from tasks.models.device import Device
from tasks.models.load_check import predict_file
from tasks.models.spec import Variant, View, Weather
from tasks.models.training_loop import fit_at_once

CPU = Device(kind="cpu", count=1, backend="tensorflow")

every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=lambda view: view.dataset)
every_variant = pytest.mark.parametrize(
    ("view", "variant"),
    [
        pytest.param(view, variant, id=f"{view.dataset}-{variant.name}")
        for view in VIEWS.values()
        for variant in view.variants.values()
    ],
)


@every_view
def test_a_view_is_described(view: View) -> None:
    assert view.dataset in DATASETS
    assert VIEWS[view.dataset] is view
    assert view.kind in PRIMARY_METRIC
    assert view.kind in VALIDATION_METRIC
    assert view.naive
    assert view.validation_metric.startswith("val_")
    assert view.sample_budget.epochs >= 1
    assert set(DEFAULT_VARIANTS) <= set(view.variants)


@every_variant
def test_a_variant_is_described(view: View, variant: Variant) -> None:
    assert view.variants[variant.name] is variant
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", variant.name)
    assert variant.summary.strip()
    assert 1 <= variant.epochs <= 1000
    assert 1 <= variant.batch_size <= 4096
    assert variant.steps_per_epoch is None or 1 <= variant.steps_per_epoch <= 100_000
    assert 0 < variant.learning_rate < 1
    assert variant.tutorial_best is None or 0 < variant.tutorial_best < 1
    summaries = [other.summary for other in view.variants.values()]
    assert summaries.count(variant.summary) == 1


@every_view
def test_the_simple_references_come_with_every_run(view: View) -> None:
    assert view.references
    names = with_references(DEFAULT_VARIANTS, dataset=view.dataset)
    assert names == (*DEFAULT_VARIANTS, *view.references)
    assert with_references((*view.references, "gru_baseline"), dataset=view.dataset) == ("gru_baseline", *view.references)
    assert not set(DEFAULT_VARIANTS) & set(view.references)


def new_learner(view: View, variant: Variant, *, splits: Any, normalisation: Any) -> Any:
    return build_learner(splits, normalisation=normalisation, dataset=view.dataset, variant=variant, device=CPU, seed=0)


def takes_a_step(learner: Any) -> None:
    """One step changes every weight."""
    before = [np.copy(weight) for weight in learner.network.get_weights()]
    count, batches = learner.batches(seed=0, epoch=0, steps=1)
    batch = next(batches)
    assert count == 1
    logs = batch.model.train_on_batch(batch.inputs, batch.targets, return_dict=True)
    assert np.isfinite(logs["loss"])
    after = learner.network.get_weights()
    assert all(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))


@every_variant
def test_a_variant_trains_exports_and_predicts(
    keras: Any, tiny: Callable[[str], Any], tmp_path: Path, view: View, variant: Variant
) -> None:
    splits, normalisation = tiny(view.dataset)
    learner = new_learner(view, variant, splits=splits, normalisation=normalisation)
    if variant.fit_closed_form:
        fitted = fit_at_once(learner, fit_closed_form=variant.fit_closed_form)
        assert np.isfinite(fitted.validation[view.validation_metric])
    else:
        takes_a_step(learner)
    after = learner.network.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)

    file = tmp_path / "model.keras"
    learner.export().save(file)
    loaded = keras.saving.load_model(file, compile=False, safe_mode=True)
    assert loaded.output_shape == (None, 1)
    stored = loaded.get_layer("network").get_weights()
    assert all(np.array_equal(new, kept) for new, kept in zip(after, stored, strict=True))

    restored = view.restore(splits, normalisation, loaded)
    assert restored.predict("test").shape == restored.targets("test").shape == learner.targets("test").shape
    inputs, outputs = view.examples(restored, 3)
    assert outputs.shape == (len(inputs),) == (3,)
    # The learner runs compiled and, for reviews, with a shared prefix; the file as it is.
    np.testing.assert_allclose(predict_file(file, inputs=inputs), outputs, atol=1e-3)
    seen = view.test_view(restored)
    assert seen.prediction.shape == seen.truth.shape == seen.naive.shape == learner.targets("test").shape
    assert np.isfinite(seen.prediction).all()
    assert seen.scale > 0


@every_view
def test_what_pictures_show_is_what_was_predicted(keras: Any, tiny: Callable[[str], Any], view: View) -> None:
    splits, normalisation = tiny(view.dataset)
    variant = view.variants["gru_baseline"]
    seen = view.test_view(new_learner(view, variant, splits=splits, normalisation=normalisation))
    background = view.background(splits, normalisation)
    if isinstance(background, Weather):
        assert (np.diff(background.stamp) > np.timedelta64(0)).all()
        rows = np.searchsorted(background.stamp, background.target_stamp)
        assert (background.stamp[rows] == background.target_stamp).all()
        np.testing.assert_allclose(background.temperature_degc[rows], seen.truth, atol=1e-3)
        assert rows.min() >= background.first_test_row
    else:
        assert background.lengths.max() <= background.read_tokens
        assert len(background.lengths) == splits["train"].num_rows
        words = dict(zip(splits["words"]["rank"].to_pylist(), splits["words"]["word"].to_pylist(), strict=True))
        review = splits["test"]["tokens"][3].as_py()
        assert background.text(3).split() == [words.get(token - 3, "…") for token in review if token != 1]


@pytest.fixture(scope="module")
def cases(keras: Any, tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProblemCase]:
    """One case a data set, whose learners all its contracts read; a series has gaps."""
    made = {}
    for name, view in VIEWS.items():
        splits, normalisation = tiny(name)
        if "horizon_rows" in view.task:
            files = {path.name: path for path in DATASETS[name].simulate(tmp_path_factory.mktemp(name))}
            gapped = tables_with_gaps(DATASETS[name], DATASETS[name].parse(files, "sample"), rows=12_000)
            splits, normalisation = dict(gapped.tables), gapped.normalisation
        baseline = view.variants[view.references[0]]
        made[name] = ProblemCase(view, splits, normalisation, view.variants["gru_baseline"], baseline)
    return made


@every_view
@pytest.mark.parametrize("contract", PROBLEM_CONTRACTS)
def test_a_view_holds_the_contract(cases: dict[str, ProblemCase], view: View, contract: str) -> None:
    check(contract, cases[view.dataset], PROBLEM_CONTRACTS)
