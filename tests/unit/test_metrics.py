"""Scores against values worked out by hand."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring_helpers import CLASSES, FORECAST

from storage.errors import RetrainError
from tasks.metrics import (
    ScoreError,
    calibration_curve,
    classification_scores,
    forecast_scores,
    multiclass_scores,
)
from tasks.scoring import ClassificationScoring, ForecastScoring


def test_forecast_scores_of_three_rows() -> None:
    # Errors +1, -1, +3; the naive baseline errs by 2, 2 and 4 °C.
    scores = forecast_scores([11.0, 9.0, 3.0], truth=[10.0, 10.0, 0.0], naive=[12.0, 8.0, -4.0], std=5.0, unit_suffix="degc")
    assert scores == pytest.approx(
        {
            "mae_degc": 5 / 3,
            "rmse_degc": math.sqrt(11 / 3),
            "bias_degc": 1.0,
            "mae_normalised": 1 / 3,
            "rmse_normalised": math.sqrt(11 / 3) / 5,
            "naive_mae_degc": 8 / 3,
            "skill": 3 / 8,
            "rows": 3.0,
        }
    )


def test_scores_are_plain_floats() -> None:
    one, two = np.ones(2, dtype=np.float32), np.full(2, 2, dtype=np.float32)
    forecast = forecast_scores(two, truth=one, naive=two, std=1.0, unit_suffix="degc")
    classes = classification_scores(np.array([0.2, 0.8], dtype=np.float32), label=np.array([0, 1]), majority_share=0.5)
    assert {type(value) for value in (*forecast.values(), *classes.values())} == {float}


def test_bias_is_prediction_minus_truth() -> None:
    scores = forecast_scores([1.0, 1.0], truth=[3.0, 3.0], naive=[0.0, 0.0], std=1.0, unit_suffix="degc")
    assert scores["bias_degc"] == -2.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_forecast_that_is_not_finite_is_not_scored(broken: float) -> None:
    with pytest.raises(RetrainError, match=r"prediction holds 1 values of 3 .* \(first at row 2\)"):
        forecast_scores([1.0, 2.0, broken], truth=[1.0] * 3, naive=[2.0] * 3, std=1.0, unit_suffix="degc")


def test_a_column_of_predictions_is_not_broadcast() -> None:
    with pytest.raises(ScoreError, match=r"prediction has shape \(2, 1\), expected \(rows,\)"):
        forecast_scores([[1.0], [2.0]], truth=[1.0, 2.0], naive=[2.0, 3.0], std=1.0, unit_suffix="degc")


def test_rows_must_agree() -> None:
    with pytest.raises(ScoreError, match=r"naive has 1 rows, expected 2 as in prediction"):
        forecast_scores([1.0, 2.0], truth=[1.0, 2.0], naive=[2.0], std=1.0, unit_suffix="degc")


def test_no_rows_are_not_scored() -> None:
    with pytest.raises(ScoreError, match=r"shape \(0,\)"):
        forecast_scores([], truth=[], naive=[], std=1.0, unit_suffix="degc")


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_standard_deviation_is_positive(std: float) -> None:
    with pytest.raises(ScoreError, match="std"):
        forecast_scores([1.0], truth=[1.0], naive=[2.0], std=std, unit_suffix="degc")


def test_skill_against_a_perfect_reference_is_undefined() -> None:
    with pytest.raises(ScoreError, match="skill is undefined"):
        forecast_scores([1.0], truth=[2.0], naive=[2.0], std=1.0, unit_suffix="degc")


def test_classification_scores_of_four_rows() -> None:
    # Right, wrong, right, right. Of the 4 pairs (positive, negative) 0.35 < 0.4 is the one in the wrong order.
    scores = classification_scores([0.1, 0.4, 0.35, 0.8], label=[0, 0, 1, 1], majority_share=0.5)
    assert scores["accuracy"] == 0.75
    assert scores["auc"] == 0.75
    assert scores["brier"] == pytest.approx((0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4)
    assert scores["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4)
    # Every row is alone in its fifteenth: they begin at 0.067, 0.4, 0.333 and 0.8.
    assert scores["calibration_error"] == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)
    assert scores["majority_accuracy"] == 0.5
    assert scores["skill"] == 0.5
    assert scores["rows"] == 4.0


def test_a_half_is_label_0() -> None:
    assert classification_scores([0.5] * 4, label=[0, 0, 0, 1], majority_share=0.5)["accuracy"] == 0.75
    assert CLASSES.row_losses([0.5, 0.5], truth=[0, 1]).tolist() == [0.0, 1.0]


def test_skill_counts_the_errors_of_the_majority_rule() -> None:
    # The rule errs in 1 of 5 rows, and so does the model: no skill, at 0.8 accuracy.
    scores = classification_scores([0.1, 0.1, 0.1, 0.1, 0.2], label=[0, 0, 0, 0, 1], majority_share=0.8)
    assert scores["accuracy"] == 0.8
    assert scores["skill"] == pytest.approx(0.0)


def test_ties_count_half_in_the_auc() -> None:
    # Pairs: 0.5 against 0.5 (half), 0.5 against 0.2 (right), 0.9 against both (right): 3.5 of 4.
    assert classification_scores([0.5, 0.2, 0.5, 0.9], label=[0, 0, 1, 1], majority_share=0.5)["auc"] == 0.875
    assert classification_scores([0.3] * 6, label=[0, 1, 0, 1, 1, 0], majority_share=0.5)["auc"] == 0.5


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=30).filter(
        lambda rows: len({y for _, y in rows}) == 2
    )
)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, int]]) -> None:
    pairs = [(p, q) for p, y in rows for q, z in rows if y == 1 and z == 0]
    share = sum((p > q) + 0.5 * (p == q) for p, q in pairs) / len(pairs)
    scores = classification_scores([p / 5 for p, _ in rows], label=[y for _, y in rows], majority_share=0.5)
    assert scores["auc"] == pytest.approx(share)


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    # Both rows cost -log(1e-7) = 16.118...
    scores = classification_scores([0.0, 1.0], label=[1, 0], majority_share=0.5)
    assert scores["log_loss"] == pytest.approx(7 * math.log(10))


def test_auc_of_many_rows_compares_no_pairs() -> None:
    rng, rows = np.random.default_rng(0), 200_000
    scores, label = rng.random(rows), rng.integers(0, 2, rows)
    tracemalloc.start()
    auc = classification_scores(scores, label=label, majority_share=0.5)["auc"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert auc == pytest.approx(0.5, abs=0.01)
    # Some columns of eight bytes a row; the pairs would be 10^10.
    assert peak_bytes < 200 * rows


def test_calibration_bins_hold_their_lower_edge_and_the_last_its_upper() -> None:
    curve = calibration_curve([0.3, 0.3, 0.39, 1.0, 0.95], label=[1, 0, 0, 1, 0], bins=10)
    assert [(part.low, part.high, part.rows) for part in curve] == [(0.3, 0.4, 3), (0.9, 1.0, 2)]
    assert curve[0].mean_probability == pytest.approx(0.33)
    assert curve[0].positive_share == pytest.approx(1 / 3)
    assert curve[1].mean_probability == pytest.approx(0.975)
    assert curve[1].positive_share == 0.5


@pytest.mark.parametrize("edge", range(11))
def test_no_edge_slips_into_the_bin_below(edge: int) -> None:
    (only,) = calibration_curve([edge / 10], label=[1], bins=10)
    assert only.low == min(edge, 9) / 10


@pytest.mark.parametrize(
    ("probability", "label", "message"),
    [
        ([0.1, 1.5], [0, 1], r"probability holds 1.5, expected values in \[0, 1\]"),
        ([-0.1, 0.5], [0, 1], r"probability holds -0.1"),
        ([0.1, math.nan], [0, 1], r"probability holds 1 values of 2 that are not finite"),
        ([0.1, 0.5], [0, 2], r"label holds 2, expected 0 or 1"),
        ([0.1, 0.5], [1, 1], r"label holds 2 ones and 0 zeros"),
        ([0.1, 0.5], [1], r"label has 1 rows, expected 2"),
        ([[0.1], [0.5]], [0, 1], r"probability has shape \(2, 1\)"),
    ],
)
def test_probabilities_that_cannot_be_scored(probability: list[float], label: list[int], message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        classification_scores(probability, label=label, majority_share=0.5)


@pytest.mark.parametrize("majority_share", [1.0, -0.1, math.nan])
def test_majority_share_is_a_share(majority_share: float) -> None:
    with pytest.raises(ScoreError, match="majority_share"):
        classification_scores([0.1, 0.9], label=[0, 1], majority_share=majority_share)


def test_row_losses_average_to_the_metric() -> None:
    assert FORECAST.row_losses([1.0, 5.0], truth=[2.0, 2.0]).tolist() == [1.0, 3.0]
    assert CLASSES.row_losses([0.9, 0.1, 0.6], truth=[1, 1, 0]).tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(ScoreError, match="prediction holds 1 values"):
        FORECAST.row_losses([1.0, math.nan], truth=[2.0, 2.0])


def test_metrics_are_keys_of_the_scores() -> None:
    forecast = forecast_scores([1.0], truth=[1.0], naive=[2.0], std=1.0, unit_suffix="degc")
    classes = classification_scores([0.1, 0.9], label=[0, 1], majority_share=0.5)
    assert {FORECAST.primary.key, FORECAST.primary.naive_key, FORECAST.validation.key} <= set(forecast)
    assert {CLASSES.primary.key, CLASSES.primary.naive_key} <= set(classes)
    assert CLASSES.validation.key in classes


def test_a_metric_knows_its_unit_and_its_direction() -> None:
    mae, accuracy = FORECAST.primary, CLASSES.primary
    assert (mae.text(2.346), mae.axis_label, mae.better(1.0, than=2.0)) == ("2.35 °C", "MAE (°C)", True)
    assert (accuracy.text(0.87649), accuracy.axis_label, accuracy.better(1.0, than=2.0)) == ("0.876", "accuracy", False)


def test_a_forecast_in_another_unit_has_keys_and_words_of_its_own() -> None:
    load = ForecastScoring(unit="MW", unit_suffix="mw", row_seconds=3600, naive_label="load of the day before", decimals=1)
    scores = load.scores([3.0, 5.0], truth=[2.0, 2.0], naive=[4.0, 4.0], scale=2.0)
    assert scores == pytest.approx(
        {
            "mae_mw": 2.0,
            "rmse_mw": math.sqrt(5),
            "bias_mw": 2.0,
            "mae_normalised": 1.0,
            "rmse_normalised": math.sqrt(5) / 2,
            "naive_mae_mw": 2.0,
            "skill": 0.0,
            "rows": 2.0,
        }
    )
    assert load.primary.text(2.0) == "2.0 MW"
    assert {load.primary.key, load.primary.naive_key, *(further.key for further in load.further)} <= set(scores)
    # A week of hourly rows, where the series is long enough.
    losses = {"reference_loss": np.linspace(1, 2, 5000), "candidate_loss": np.linspace(0.9, 1.9, 5000)}
    assert "blocks of 168 rows" in load.paired_test(**losses, seed=0).method
    assert "blocks of 500 rows" in FORECAST.paired_test(**losses, seed=0).method


THREE = ClassificationScoring(classes=3)
# The most probable classes are 0, 2, 1 and 2 of the classes 0, 1, 1 and 2: one of four is wrong.
DISTRIBUTIONS = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.5, 0.25], [0.0, 0.2, 0.8]]


def test_scores_of_three_classes_by_hand() -> None:
    scores = multiclass_scores(DISTRIBUTIONS, label=[0, 1, 1, 2], classes=3, majority_share=0.5)
    assert scores["accuracy"] == 0.75
    assert scores["skill"] == 0.5
    assert scores["log_loss"] == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.5) + math.log(0.8)) / 4)
    rows = (0.09 + 0.04 + 0.01, 0.01 + 0.49 + 0.36, 0.0625 + 0.25 + 0.0625, 0.04 + 0.04)
    assert scores["brier"] == pytest.approx(sum(rows) / 4)
    # One against the rest: class 0 ranks 0.7 over 0.1, 0.25 and 0 (1); class 1 ranks 0.3 and 0.5 over 0.2 and 0.2 (1);
    # class 2 ranks 0.8 over 0.1, 0.6 and 0.25 (1).
    assert scores["auc"] == 1.0
    # Confidences 0.7, 0.5 and 0.8 are right, 0.6 is wrong; each is alone in its bin.
    assert scores["calibration_error"] == pytest.approx((0.3 + 0.6 + 0.5 + 0.2) / 4)
    assert THREE.row_losses(DISTRIBUTIONS, truth=[0, 1, 1, 2]).tolist() == [0, 1, 0, 0]
    assert THREE.naive_row_losses([1, 1, 1, 1], truth=[0, 1, 1, 2]).tolist() == [1, 0, 0, 1]
    assert THREE.naive_scores([1, 1, 1, 1], truth=[0, 1, 1, 2], scale=1.0)["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("probability", "label", "words"),
    [
        ([[0.5, 0.5]], [0], r"expected \(rows, 3\)"),
        ([[0.5, 0.2, 0.2]], [0], "no distribution"),
        ([[1.2, -0.2, 0.0]], [0], "no distribution"),
        ([[1.0, 0.0, 0.0]], [3], "no class, expected 0 to 2"),
        ([[1.0, 0.0, 0.0]], [0], "holds no 1, expected every class"),
    ],
)
def test_what_is_no_distribution_over_three_classes_is_refused(probability: Any, label: Any, words: str) -> None:
    with pytest.raises(ScoreError, match=words):
        multiclass_scores(probability, label=label, classes=3, majority_share=0.5)
