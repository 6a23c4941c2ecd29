"""What a version keeps of how sure its predictions are: made when a training is scored, read from the registry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.tables import read_splits
from tasks.calibration import Temperature
from tasks.intervals import LEVELS, ConformalIntervals, coverage_of
from tasks.models import PROBLEMS
from tasks.training.scoring import evaluate_version, read_predictions
from tasks.training.uncertainty import (
    UNCERTAINTY_FILE,
    UNCERTAINTY_TAG,
    uncertainty_from_json,
    uncertainty_json,
    uncertainty_of,
)


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
