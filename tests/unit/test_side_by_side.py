"""Two versions side by side: scores and test on the same rows, and what was different when they were made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.errors import RegistryError
from tasks.promotion.comparison import score_version
from tasks.promotion.side_by_side import Difference, differences_of, side_by_side
from tasks.training.identity import problem_answered_by
from tasks.training.seen import ids_of_test_rows


def test_the_better_one_is_better_by_the_difference_of_the_mean_errors(trained: Any) -> None:
    first, second = (trained.registry.version(model.name, model.version) for model in (trained.worse, trained.better))
    result = side_by_side(first, second, table=trained.table, registry=trained.registry, store=trained.store)
    assert (result.first.version, result.second.version) == (first.version, second.version)
    problem = problem_answered_by(first, dataset="jena")
    test_ids = ids_of_test_rows(trained.table, problem=problem, store=trained.store)
    losses = [
        score_version(each, test_ids=test_ids, table=trained.table, registry=trained.registry, store=trained.store).loss
        for each in (first, second)
    ]
    assert result.test is not None
    assert result.rows == result.fair_rows == len(losses[0])
    np.testing.assert_allclose(result.test.mean_gain, losses[0].mean() - losses[1].mean(), rtol=1e-6)
    assert result.test.mean_gain > 0
    assert result.p_value == pytest.approx(min(1, 2 * result.test.p_value))
    turned = side_by_side(second, first, table=trained.table, registry=trained.registry, store=trained.store)
    assert turned.test is not None
    np.testing.assert_allclose(turned.test.mean_gain, -result.test.mean_gain, rtol=1e-6)


def test_what_was_different_is_told_and_nothing_else(trained: Any) -> None:
    first, second = (trained.registry.version(model.name, model.version) for model in (trained.worse, trained.better))
    result = side_by_side(first, second, table=trained.table, registry=trained.registry, store=trained.store)
    manifests = [trained.registry.read_json(each.run_id, "manifest.json") for each in (first, second)]
    for difference in result.differences:
        values = []
        for manifest in manifests:
            value: Any = manifest
            for name in difference.name.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            values.append(value)
        assert values == [difference.first, difference.second]
        assert difference.first != difference.second
    assert result.differences
    assert not [each for each in result.differences if each.part == "data"]
    alone = side_by_side(first, first, table=trained.table, registry=trained.registry, store=trained.store)
    assert alone.differences == ()
    assert alone.test is not None
    assert alone.test.mean_gain == 0


def test_differences_are_found_at_every_depth() -> None:
    first = {
        "variant": "gru",
        "training": {"settings": {"seed": 0, "forecast": {"target": None}}},
        "libraries": {"keras": "3.15"},
    }
    second = {"variant": "gru", "training": {"settings": {"seed": 1, "forecast": {"target": "p"}}}, "code": "0f3c"}
    assert list(differences_of(first, second)) == [
        Difference("settings", "training.settings.seed", 0, 1),
        Difference("settings", "training.settings.forecast.target", None, "p"),
        Difference("code", "code", None, "0f3c"),
        Difference("code", "libraries.keras", "3.15", None),
    ]


def test_versions_of_two_models_are_not_compared(trained: Any) -> None:
    version = trained.registry.version(trained.better.name, trained.better.version)
    other = replace(version, name="imdb-sample")
    with pytest.raises(
        RegistryError, match="jena-sample@1 and imdb-sample@1 answer two questions: compare versions of one model"
    ):
        side_by_side(version, other, table=trained.table, registry=trained.registry, store=trained.store)
