"""How a problem is scored: its metrics, the loss of a row, and the paired test of two models.

Training, promotion and reporting use the `Scoring` of a problem, so they need not know whether it is a forecast or a
classification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.calibration import Temperature, fit_temperature
from tasks.intervals import (
    LEVELS,
    Bounds,
    ConformalIntervals,
    Times,
    calibrate_intervals,
    coverage_of,
    walk_through,
)
from tasks.metrics import (
    FloatVector,
    MetricSpec,
    absolute_errors,
    classification_scores,
    expected_calibration_error,
    forecast_scores,
    multiclass_scores,
    wrong_classes,
    wrong_labels,
)
from tasks.statistics import MIN_BLOCKS, PairedTest, block_rows_for, bootstrap_test, mcnemar_test

WEEK_S = 7 * 24 * 3600
# Two classifiers that disagree on every twentieth row disagree on 25 of these; of so many 18 must speak for the candidate.
MIN_CLASSIFIED_ROWS = 500
# Level at which a paired test decides, where none is named.
USUAL_LEVEL = 0.05


@dataclass(frozen=True)
class FurtherScore:
    """A column of the report's scores table beside the primary metric.

    Attributes:
        key: Key among the scores.
        heading: Heading of the column, with the unit.
        decimals: Digits after the point.
        signed: Whether a plus sign is written.
    """

    key: str
    heading: str
    decimals: int
    signed: bool = False


@dataclass(frozen=True)
class Outcomes:
    """Predictions of one split beside what then happened.

    Attributes:
        prediction: As in `ScoredSplit`.
        truth: As in `ScoredSplit`.
        target_time: Stamp of each target, datetime64 `(rows,)`, rising; None where rows have no time.
    """

    prediction: NDArray[Any]
    truth: NDArray[Any]
    target_time: Times | None = None


@dataclass(frozen=True)
class Uncertainty:
    """How sure the predictions of a model are: learnt on validation rows, tried on test rows.

    Attributes:
        state: What later predictions get their interval or their calibrated probability from.
        columns: Values of every test row: `lower_80`, `upper_80` and so on, or `calibrated`.
        scores: How well they held on the test split.
    """

    state: ConformalIntervals | Temperature
    columns: Mapping[str, NDArray[Any]]
    scores: Mapping[str, float]


class Scoring(Protocol):
    """How the predictions of a problem are scored and compared."""

    @property
    def primary(self) -> MetricSpec:
        """The metric on the test split that people read, and that the reasons of promotion state."""

    @property
    def validation(self) -> MetricSpec:
        """The metric on the validation split by which a candidate is chosen."""

    @property
    def further(self) -> tuple[FurtherScore, ...]:
        """Further scores of the report's table."""

    @property
    def loss_label(self) -> str:
        """Name of the loss in the learning curves, with its unit."""

    def scores(self, prediction: ArrayLike, *, truth: ArrayLike, naive: ArrayLike, scale: float) -> dict[str, float]:
        """Return the scores of predictions, the skill over the naive baseline among them; `scale` is that of `ScoredSplit`."""

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return the scores of the naive baseline, under the keys of the models' scores."""

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return the loss of every row, for paired tests."""

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return the loss of the naive baseline in every row."""

    def uncertainty(self, validation: Outcomes, *, test: Outcomes) -> Uncertainty | None:
        """Return intervals or calibrated probabilities that are learnt on validation rows; None if the problem has neither."""

    def paired_test(
        self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int, level: float = USUAL_LEVEL
    ) -> PairedTest:
        """Compare two models by their losses on the same rows, in order of time if the rows have one.

        The p-value is exact enough to be compared with `level`.
        """

    def min_rows(self, rows: int) -> int:
        """Return how many rows of a test split of `rows` a paired test needs, where some of them cannot be used."""


@dataclass(frozen=True)
class ForecastScoring:
    """Scores a forecast of one quantity by its absolute error.

    Attributes:
        unit: Unit of the quantity, such as °C or MW.
        unit_suffix: The unit at the end of a key, such as `degc`.
        row_seconds: Seconds between rows. The bootstrap draws blocks of a week, within which errors depend on each other.
        naive_label: What the naive baseline predicts, for people.
        decimals: Significant digits after the point.
        horizon_rows: Rows from a window's row to its target; the last reading that a forecast knows is one row earlier.
    """

    unit: str
    unit_suffix: str
    row_seconds: int
    naive_label: str
    decimals: int = 2
    horizon_rows: int = 0

    @property
    def primary(self) -> MetricSpec:
        """Mean absolute error in the unit."""
        return MetricSpec(
            key=f"mae_{self.unit_suffix}",
            label="MAE",
            unit=self.unit,
            lower_is_better=True,
            decimals=self.decimals,
            naive_key=f"naive_mae_{self.unit_suffix}",
            naive_label=self.naive_label,
        )

    @property
    def validation(self) -> MetricSpec:
        """Mean absolute error in standard deviations of the train rows, the unit of the tutorial's scores."""
        return MetricSpec(key="mae_normalised", label="normalised MAE", unit="", lower_is_better=True, decimals=4)

    @property
    def further(self) -> tuple[FurtherScore, ...]:
        """Root mean square error and bias."""
        return (
            FurtherScore(f"rmse_{self.unit_suffix}", f"test RMSE ({self.unit})", self.decimals),
            FurtherScore(f"bias_{self.unit_suffix}", f"test bias ({self.unit})", self.decimals, signed=True),
        )

    @property
    def loss_label(self) -> str:
        """The loss is the validation metric."""
        return "MAE (normalised)"

    def scores(self, prediction: ArrayLike, *, truth: ArrayLike, naive: ArrayLike, scale: float) -> dict[str, float]:
        """Return `metrics.forecast_scores`; `scale` is the standard deviation of the train rows in the unit."""
        return forecast_scores(prediction, truth=truth, naive=naive, std=scale, unit_suffix=self.unit_suffix)

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return the same scores for the naive baseline."""
        return self.scores(naive, truth=truth, naive=naive, scale=scale)

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return |error| in the unit."""
        return absolute_errors(prediction, truth=truth)

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return |error| in the unit."""
        return absolute_errors(naive, truth=truth)

    def uncertainty(self, validation: Outcomes, *, test: Outcomes) -> Uncertainty | None:
        """Return adaptive conformal intervals, and how plain split conformal prediction does on the same rows.

        The scores are `coverage_80`, `interval_width_80_<unit>` and so on; those of plain split conformal begin with `plain_`.
        """
        if validation.target_time is None or test.target_time is None:
            return None
        delay_s = (self.horizon_rows + 1) * self.row_seconds
        rows: dict[str, Any] = {"target_time": validation.target_time, "truth": validation.truth, "delay_s": delay_s}
        calibrated = calibrate_intervals(validation.prediction, **rows)
        plain = calibrate_intervals(validation.prediction, **rows, rate_per_hour=0.0, is_scaled=False)
        bounds, state = walk_through(calibrated, test.prediction, target_time=test.target_time, truth=test.truth)
        plain_bounds = plain.bounds(test.prediction, test.target_time)
        columns = {
            f"{side}_{level}": values for level in LEVELS for side, values in zip(("lower", "upper"), bounds[level], strict=True)
        }
        scores = self._interval_scores(bounds, truth=test.truth)
        scores |= {f"plain_{key}": value for key, value in self._interval_scores(plain_bounds, truth=test.truth).items()}
        return Uncertainty(state=state, columns=columns, scores=scores)

    def _interval_scores(self, bounds: Bounds, *, truth: ArrayLike) -> dict[str, float]:
        scores = {}
        for level, (lower, upper) in bounds.items():
            coverage = coverage_of(lower, upper, truth=truth)
            scores[f"coverage_{level}"] = coverage.share
            scores[f"interval_width_{level}_{self.unit_suffix}"] = coverage.width
        return scores

    @property
    def _max_block_rows(self) -> int:
        return max(1, WEEK_S // self.row_seconds)

    def paired_test(
        self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int, level: float = USUAL_LEVEL
    ) -> PairedTest:
        """Return the moving-block bootstrap of the difference, in blocks of at most a week."""
        return bootstrap_test(
            reference_loss=reference_loss,
            candidate_loss=candidate_loss,
            max_block_rows=self._max_block_rows,
            level=level,
            seed=seed,
        )

    def min_rows(self, rows: int) -> int:
        """Return the rows of ten blocks as long as those of the whole split: ten weeks, where the split is longer.

        Errors depend on each other as long as ever, so fewer rows must not shrink the blocks.
        """
        return MIN_BLOCKS * block_rows_for(rows, max_block_rows=self._max_block_rows)


@dataclass(frozen=True)
class ClassificationScoring:
    """Scores a classifier by its accuracy and by its probabilities.

    Attributes:
        classes: Number of classes. For two, predictions are the probability of the second class, `(rows,)`. For more, they are
            the probability of each class, `(rows, classes)`.
    """

    classes: int = 2

    @property
    def primary(self) -> MetricSpec:
        """Accuracy: the share of correct labels."""
        return MetricSpec(
            key="accuracy",
            label="accuracy",
            unit="",
            lower_is_better=False,
            decimals=3,
            naive_key="majority_accuracy",
            naive_label="the more frequent label",
        )

    @property
    def validation(self) -> MetricSpec:
        """Accuracy, with as many digits as the tutorial's scores have."""
        return MetricSpec(key="accuracy", label="accuracy", unit="", lower_is_better=False, decimals=4)

    @property
    def further(self) -> tuple[FurtherScore, ...]:
        """How well the probabilities rank, and how well they are calibrated."""
        return (
            FurtherScore("auc", "test AUC", 3),
            FurtherScore("log_loss", "test log loss", 3),
            FurtherScore("calibration_error", "test calibration error", 3),
        )

    @property
    def loss_label(self) -> str:
        """The loss is the cross-entropy."""
        return "cross-entropy (nats)"

    def scores(self, prediction: ArrayLike, *, truth: ArrayLike, naive: ArrayLike, scale: float) -> dict[str, float]:
        """Return `metrics.classification_scores` or `metrics.multiclass_scores`; probabilities have no scale."""
        del scale
        share = float(np.mean(np.asarray(naive) == np.asarray(truth)))
        if self.classes > 2:
            return multiclass_scores(prediction, label=truth, classes=self.classes, majority_share=share)
        return classification_scores(prediction, label=truth, majority_share=share)

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return the scores that have a meaning for a constant label, which is no probability."""
        del scale
        is_correct = np.asarray(naive) == np.asarray(truth)
        share = float(np.mean(is_correct))
        return {"accuracy": share, "majority_accuracy": share, "skill": 0.0, "rows": float(is_correct.size)}

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return 1 for a wrong label and 0 for a correct one."""
        if self.classes > 2:
            return wrong_classes(prediction, truth=truth, classes=self.classes)
        return wrong_labels(prediction, truth=truth)

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return 1 for a wrong label and 0 for a correct one. The naive baseline predicts labels, not probabilities."""
        losses: FloatVector = (np.asarray(naive) != np.asarray(truth)).astype(np.float64)
        return losses

    def uncertainty(self, validation: Outcomes, *, test: Outcomes) -> Uncertainty | None:
        """Return the temperature of two classes; None for more.

        `calibration_error` then is that of the calibrated probability, `calibration_error_raw` that of the network's own.
        """
        if self.classes > 2:
            return None
        state = fit_temperature(validation.prediction, label=validation.truth)
        calibrated = state.calibrated(test.prediction)
        scores = {
            "calibration_error": expected_calibration_error(calibrated, label=test.truth),
            "calibration_error_raw": expected_calibration_error(test.prediction, label=test.truth),
            "temperature": state.temperature,
        }
        return Uncertainty(state=state, columns={"calibrated": calibrated}, scores=scores)

    def paired_test(
        self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int, level: float = USUAL_LEVEL
    ) -> PairedTest:
        """Return McNemar's test."""
        del seed, level  # the test draws nothing, and its p-value is exact
        return mcnemar_test(reference_loss=reference_loss, candidate_loss=candidate_loss)

    def min_rows(self, rows: int) -> int:
        """Return 500 rows, or half of a smaller split."""
        return min(MIN_CLASSIFIED_ROWS, rows // 2)
