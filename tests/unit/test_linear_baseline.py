"""What is said of a network beside a linear baseline."""

from __future__ import annotations

import numpy as np
import pytest
from scoring_helpers import CLASSES, FORECAST

from tasks.reporting.linear_baseline import compare_with_baseline

ROWS = 2000


def said(network_misses: int, baseline_misses: int) -> str:
    """A network and a baseline that are wrong on the first so many of 2,000 reviews."""
    misses = [(np.arange(ROWS) < count).astype(float) for count in (network_misses, baseline_misses)]
    return compare_with_baseline(
        CLASSES,
        network="gru_baseline v1",
        network_scores={"accuracy": 1 - network_misses / ROWS},
        network_loss=misses[0],
        baseline="tfidf_logistic v3",
        baseline_scores={"accuracy": 1 - baseline_misses / ROWS},
        baseline_loss=misses[1],
    )


@pytest.mark.parametrize(
    ("network_misses", "baseline_misses", "begins"),
    [
        (200, 250, "gru_baseline v1 beats tfidf_logistic v3 (accuracy 0.900 against 0.875, p < 0.001)"),
        (250, 200, "gru_baseline v1 is worse than tfidf_logistic v3 (accuracy 0.875 against 0.900, p < 0.001)"),
        # Two reviews on which one alone is right: mid-p is P(X = 2) / 2 = 1/8.
        (200, 202, "gru_baseline v1 is ahead of, but does not clearly beat, tfidf_logistic v3 (accuracy 0.900 against 0.899"),
        (202, 200, "gru_baseline v1 does not beat tfidf_logistic v3 (accuracy 0.899 against 0.900, p = 0.12)"),
        (200, 200, "gru_baseline v1 does not beat tfidf_logistic v3 (accuracy 0.900 against 0.900, p = 1.00)"),
    ],
)
def test_the_sentence_is_an_honest_one(network_misses: int, baseline_misses: int, begins: str) -> None:
    text = said(network_misses, baseline_misses)
    assert text.startswith(begins), text
    assert ("the simple model is the one to use" in text) == (network_misses >= baseline_misses)


def test_a_forecast_is_better_when_its_error_is_smaller() -> None:
    rng = np.random.default_rng(0)
    error = rng.uniform(1, 2, ROWS)
    text = compare_with_baseline(
        FORECAST,
        network="gru_baseline v1",
        network_scores={"mae_degc": float(error.mean()) - 0.5},
        network_loss=error - 0.5,
        baseline="ridge v2",
        baseline_scores={"mae_degc": float(error.mean())},
        baseline_loss=error,
    )
    assert text.startswith("gru_baseline v1 beats ridge v2 (MAE 1.0")
    assert "°C" in text
