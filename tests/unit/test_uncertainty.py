"""What a version keeps of how sure its predictions are: made when a training is scored, read from the registry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scoring_helpers import CLASSES, FORECAST

from storage.tables import read_splits
from tasks.calibration import Temperature
from tasks.intervals import LEVELS, ConformalIntervals, coverage_of
from tasks.models import PROBLEMS
from tasks.scoring import ClassificationScoring, Outcomes
from tasks.training.scoring import evaluate_version, read_predictions
from tasks.training.uncertainty import (
    UNCERTAINTY_FILE,
    UNCERTAINTY_TAG,
    uncertainty_from_json,
    uncertainty_json,
    uncertainty_of,
)


def test_two_classes_have_a_temperature_and_the_error_before_and_after() -> None:
    # Of rows with 0.9 three in four are positive, on validation as on test: the error 0.15 goes to 0.
    rows = Outcomes(
        prediction=np.array([0.9] * 8 + [0.1] * 8, dtype=np.float32),
        truth=np.array([1] * 6 + [0] * 2 + [0] * 6 + [1] * 2, dtype=np.float32),
    )
    uncertainty = CLASSES.uncertainty(rows, test=rows)
    assert uncertainty
    assert uncertainty.scores["calibration_error_raw"] == pytest.approx(0.15)
    assert uncertainty.scores["calibration_error"] == pytest.approx(0.0, abs=1e-3)
    assert uncertainty.scores["temperature"] == pytest.approx(2.0, abs=1e-3)
    assert uncertainty.columns["calibrated"][[0, 8]] == pytest.approx([0.75, 0.25], abs=1e-3)


def test_several_classes_and_forecasts_without_stamps_have_neither() -> None:
    rows = Outcomes(prediction=np.full((4, 3), 1 / 3), truth=np.array([0, 1, 2, 0]))
    assert ClassificationScoring(classes=3).uncertainty(rows, test=rows) is None
    rows = Outcomes(prediction=np.zeros(4), truth=np.ones(4))
    assert FORECAST.uncertainty(rows, test=rows) is None


def test_intervals_of_a_forecast_are_scored_beside_plain_ones() -> None:
    # Every second validation row errs by 1, the others by 3; those of the test split by 2.
    stamps = np.datetime64("2010-01-01", "s") + 600 * np.arange(400)
    validation = Outcomes(np.zeros(200), np.tile([1.0, 3.0], 100), stamps[:200])
    test = Outcomes(np.zeros(200), np.full(200, 2.0), stamps[200:])
    uncertainty = FORECAST.uncertainty(validation, test=test)
    assert uncertainty
    assert set(uncertainty.columns) == {"lower_80", "upper_80", "lower_95", "upper_95"}
    # Plain bounds at 80 % are the larger errors: 3 to either side, which always holds.
    assert uncertainty.scores["plain_interval_width_80_degc"] == pytest.approx(6.0)
    assert uncertainty.scores["plain_coverage_80"] == uncertainty.scores["plain_coverage_95"] == 1.0
    assert uncertainty.scores["coverage_95"] == 1.0
    assert isinstance(uncertainty.state, ConformalIntervals)
    # 33 hours of hits, each of which gives 0.01 * 0.4 * 0.2.
    assert uncertainty.state.miscoverage[80] == pytest.approx(0.2 + 0.0008 * 200 / 6)
    assert uncertainty.state.delay_s == 600


def test_a_version_keeps_its_intervals_as_of_the_end_of_its_test_split(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.better.version)
    state = uncertainty_of(version, registry=trained.registry)
    assert isinstance(state, ConformalIntervals)
    assert state.levels == LEVELS
    splits, _ = read_splits(trained.table, store=trained.store)
    assert state.last_outcome_s == PROBLEMS["jena"].row_ids(splits["test"])[-1]
    # A row behind the target's, 144 of them, lies the last reading of the window.
    assert state.delay_s == 145 * 600
    assert len(trained.registry.read_file(version.run_id, UNCERTAINTY_FILE)) < 50_000


def test_the_scores_of_the_intervals_are_those_of_the_kept_bounds(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.better.version)
    evaluation = evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    predictions = read_predictions(evaluation, table=trained.table, store=trained.store)
    for level in LEVELS:
        held = coverage_of(predictions[f"lower_{level}"], predictions[f"upper_{level}"], truth=predictions["truth"])
        assert evaluation.scores[f"coverage_{level}"] == version.metrics[f"coverage_{level}"] == held.share
        assert evaluation.scores[f"interval_width_{level}_degc"] == held.width
        assert 0 <= evaluation.scores[f"plain_coverage_{level}"] <= 1
    assert (predictions["lower_95"] <= predictions["lower_80"]).all()
    np.testing.assert_allclose((predictions["lower_80"] + predictions["upper_80"]) / 2, predictions["prediction"], atol=1e-4)


def test_a_version_of_before_has_none(trained: Any) -> None:
    version = trained.registry.version("jena-sample", trained.better.version)
    tags = {name: value for name, value in version.tags.items() if name != UNCERTAINTY_TAG}
    assert uncertainty_of(replace(version, tags=tags), registry=trained.registry) is None


@pytest.mark.parametrize("state", [Temperature(1.25), "intervals"], ids=["temperature", "intervals"])
def test_the_file_holds_which_of_the_two_it_is(state: Any, trained: Any) -> None:
    if state == "intervals":
        state = uncertainty_of(trained.registry.version("jena-sample", 1), registry=trained.registry)
    assert uncertainty_from_json(json.loads(json.dumps(uncertainty_json(state)))) == state
