"""How the intervals and the calibrated probabilities of the candidate held on the test split, in values for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.intervals import LEVELS, coverage_of, rows_by_season
from tasks.models.spec import Problem, SeriesPlot
from tasks.reporting.run_report import CalibrationResult, IntervalResult
from tasks.training.scoring import Predictions

ALL_SEASONS = "whole test split"


def interval_results(plot_data: object, *, predictions: Predictions, scores: Mapping[str, float]) -> tuple[IntervalResult, ...]:
    """Return how the intervals held on the whole test split and in each season, by level.

    Args:
        plot_data: The series with the stamp of each target; of anything else there are no results.
        predictions: Of an evaluation; without bounds there are no results either.
        scores: Of the same evaluation.
    """
    if not isinstance(plot_data, SeriesPlot) or not has_bounds(predictions):
        return ()
    target_time = plot_data.target_stamp
    parts = {ALL_SEASONS: np.ones(len(predictions["truth"]), dtype=np.bool_)} | rows_by_season(target_time)
    results = []
    for level in LEVELS:
        prefix = f"plain_interval_width_{level}_"
        plain_width = next(value for key, value in scores.items() if key.startswith(prefix))
        for part, rows in parts.items():
            truth, centre = predictions["truth"][rows], predictions["prediction"][rows]
            held = coverage_of(predictions[f"lower_{level}"][rows], predictions[f"upper_{level}"][rows], truth=truth)
            plain = coverage_of(centre - plain_width / 2, centre + plain_width / 2, truth=truth)
            results.append(
                IntervalResult(
                    level=level,
                    part=part,
                    rows=held.rows,
                    coverage=held.share,
                    width=held.width,
                    plain_coverage=plain.share,
                    plain_width=plain_width,
                )
            )
    return tuple(results)


def calibration_result(predictions: Predictions, *, scores: Mapping[str, float]) -> CalibrationResult | None:
    """Return what temperature scaling did on the test split; None for an evaluation without calibrated probabilities."""
    if "calibrated" not in predictions:
        return None
    return CalibrationResult(
        temperature=scores["temperature"],
        error_before=scores["calibration_error_raw"],
        error_after=scores["calibration_error"],
    )


def missing_uncertainty(predictions: Predictions, *, problem: Problem, model: str) -> str:
    """Return what a reader must know of a candidate whose evaluation has neither intervals nor calibrated probabilities.

    Empty if it has them, or if the problem has neither.
    """
    if problem.scored_validation is None or has_bounds(predictions) or "calibrated" in predictions:
        return ""
    return (
        f"{model} was scored before versions kept intervals or calibrated probabilities, so it has none. An equal training is "
        "not repeated: train it under another --seed to have them."
    )


def has_bounds(predictions: Mapping[str, Any]) -> bool:
    """Tell whether an evaluation holds the bounds of its forecasts."""
    return all(f"{side}_{level}" in predictions for level in LEVELS for side in ("lower", "upper"))
