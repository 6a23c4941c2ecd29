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

from tasks.datasets import DATASETS
from tasks.datasets.request import TableRequest
from tasks.models import PROBLEMS, build_learner, with_baselines
from tasks.models.device import Device
from tasks.models.load_check import predict_file
from tasks.models.spec import Problem, SeriesPlot, Variant
from tasks.models.training_loop import fit_at_once

CPU = Device(kind="cpu", count=1, backend="tensorflow")

every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda problem: problem.dataset)
every_variant = pytest.mark.parametrize(
    ("problem", "variant"),
    [
        pytest.param(problem, variant, id=f"{problem.dataset}-{variant.name}")
        for problem in PROBLEMS.values()
        for variant in problem.variants.values()
    ],
)

# `make test` trains the networks of a plain run and the baselines; `make test-all` every variant.
every_trained_variant = pytest.mark.parametrize(
    ("problem", "variant"),
    [
        pytest.param(
            problem,
            variant,
            id=f"{problem.dataset}-{variant.name}",
            marks=() if variant.is_baseline or variant.name in problem.default_variants else pytest.mark.slow,
        )
        for problem in PROBLEMS.values()
        for variant in problem.variants.values()
    ],
)


@every_problem
def test_a_problem_is_described(problem: Problem) -> None:
    assert problem.dataset in DATASETS
    assert PROBLEMS[problem.dataset] is problem
    assert problem.scoring.primary.naive_key
    assert problem.naive
    assert problem.validation_metric.startswith("val_")
    assert problem.sample_budget.epochs >= 1
    assert problem.default_variants
    assert set(problem.default_variants) <= set(problem.variants) - set(problem.baselines)


@every_variant
def test_a_variant_is_described(problem: Problem, variant: Variant) -> None:
    assert problem.variants[variant.name] is variant
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", variant.name)
    assert variant.summary.strip()
    assert 1 <= variant.epochs <= 1000
    assert 1 <= variant.batch_size <= 4096
    assert variant.steps_per_epoch is None or 1 <= variant.steps_per_epoch <= 100_000
    assert 0 < variant.learning_rate < 1
    assert variant.tutorial_best is None or 0 < variant.tutorial_best < 1
    summaries = [other.summary for other in problem.variants.values()]
    assert summaries.count(variant.summary) == 1


@every_problem
def test_the_linear_baselines_come_with_every_run(problem: Problem) -> None:
    assert problem.baselines
    names = with_baselines(problem.default_variants, dataset=problem.dataset)
    assert names == (*problem.default_variants, *problem.baselines)
    network = problem.default_variants[0]
    assert with_baselines((*problem.baselines, network), dataset=problem.dataset) == (network, *problem.baselines)


def new_learner(problem: Problem, variant: Variant, *, splits: Any, normalisation: Any) -> Any:
    return build_learner(splits, normalisation=normalisation, problem=problem, variant=variant, device=CPU, seed=0)


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


@every_trained_variant
def test_a_variant_trains_exports_and_predicts(
    keras: Any, tiny: Callable[[str], Any], tmp_path: Path, problem: Problem, variant: Variant
) -> None:
    splits, normalisation = tiny(problem.dataset)
    learner = new_learner(problem, variant, splits=splits, normalisation=normalisation)
    if variant.fit_closed_form:
        fitted = fit_at_once(learner, fit_closed_form=variant.fit_closed_form)
        assert np.isfinite(fitted.validation[problem.validation_metric])
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

    restored = problem.restore(splits, normalisation, loaded)
    assert restored.predict("test").shape == restored.targets("test").shape == learner.targets("test").shape
    inputs, outputs = problem.examples(restored, 3)
    assert outputs.shape == (len(inputs),) == (3,)
    # The learner runs compiled and, for reviews, with a shared prefix; the file as it is.
    np.testing.assert_allclose(predict_file(file, inputs=inputs), outputs, atol=1e-3)
    seen = problem.scored_split(restored)
    assert seen.prediction.shape == seen.truth.shape == seen.naive.shape == learner.targets("test").shape
    assert np.isfinite(seen.prediction).all()
    assert seen.scale > 0


@every_problem
def test_what_pictures_show_is_what_was_predicted(keras: Any, tiny: Callable[[str], Any], problem: Problem) -> None:
    splits, normalisation = tiny(problem.dataset)
    variant = problem.variants[problem.default_variants[0]]
    seen = problem.scored_split(new_learner(problem, variant, splits=splits, normalisation=normalisation))
    plot_data = problem.plot_data(splits, normalisation)
    if isinstance(plot_data, SeriesPlot):
        assert (np.diff(plot_data.stamp) > np.timedelta64(0)).all()
        rows = np.searchsorted(plot_data.stamp, plot_data.target_stamp)
        assert (plot_data.stamp[rows] == plot_data.target_stamp).all()
        np.testing.assert_allclose(plot_data.value[rows], seen.truth, atol=1e-3)
        assert rows.min() >= plot_data.first_test_row
    else:
        assert plot_data.lengths.max() <= plot_data.read_tokens
        assert len(plot_data.lengths) == splits["train"].num_rows
        words = dict(zip(splits["words"]["rank"].to_pylist(), splits["words"]["word"].to_pylist(), strict=True))
        review = splits["test"]["tokens"][3].as_py()
        assert plot_data.text(3).split() == [words.get(token - 3, "…") for token in review if token != 1]


@pytest.fixture(scope="module")
def cases(keras: Any, tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProblemCase]:
    """One case a data set, whose learners all its contracts read; a series has gaps."""
    cases = {}
    for name, problem in PROBLEMS.items():
        splits, normalisation = tiny(name)
        if "horizon_rows" in problem.task:
            files = {path.name: path for path in DATASETS[name].simulate(tmp_path_factory.mktemp(name))}
            gapped = tables_with_gaps(DATASETS[name], DATASETS[name].parse(files, TableRequest(source="sample")))
            splits, normalisation = dict(gapped.tables), gapped.normalisation
        baseline = problem.variants[problem.baselines[0]]
        cases[name] = ProblemCase(problem, splits, normalisation, problem.variants[problem.default_variants[0]], baseline)
    return cases


@every_problem
@pytest.mark.parametrize("contract", PROBLEM_CONTRACTS)
def test_a_problem_holds_the_contract(cases: dict[str, ProblemCase], problem: Problem, contract: str) -> None:
    check(contract, cases[problem.dataset], PROBLEM_CONTRACTS)
