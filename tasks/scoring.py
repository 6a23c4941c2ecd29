"""What a problem knows of its scores: the metrics people read, the loss of a row, and the paired test of two models.

A forecast and a classification are scored otherwise. Training, promotion and reporting ask the `Scoring` of a problem, and name
neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from tasks.metrics import (
    FloatVector,
    MetricSpec,
    absolute_errors,
    classification_scores,
    forecast_scores,
    multiclass_scores,
    wrong_classes,
    wrong_labels,
)
from tasks.statistics import PairedTest, bootstrap_test, mcnemar_test

WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class FurtherScore:
    """A score of the report's table beside the primary metric.

    Attributes:
        key: Key among the scores.
        heading: Head of the column, with the unit.
        decimals: Digits after the point.
        signed: Whether the sign is written.
    """

    key: str
    heading: str
    decimals: int
    signed: bool = False


class Scoring(Protocol):
    """How the predictions of a problem are scored and compared."""

    @property
    def primary(self) -> MetricSpec:
        """The metric on the test split by which people read a model and promotion words its reasons."""

    @property
    def validation(self) -> MetricSpec:
        """The metric on the validation split by which a candidate is chosen."""

    @property
    def further(self) -> tuple[FurtherScore, ...]:
        """Further scores of the report's table."""

    @property
    def loss_label(self) -> str:
        """What the loss of the learning curves is, with its unit."""

    def scores(self, prediction: ArrayLike, *, truth: ArrayLike, naive: ArrayLike, scale: float) -> dict[str, float]:
        """Return the scores of predictions beside the naive baseline; `scale` is as in `ScoredSplit`."""

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return the scores of the naive baseline, keyed as the models' are."""

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return the loss of every row, for paired tests."""

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return the loss of every row of the naive baseline."""

    def paired_test(self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int) -> PairedTest:
        """Compare two models by their losses on the same rows, in order of time where they have one."""


@dataclass(frozen=True)
class ForecastScoring:
    """Scores a forecast of one quantity by its absolute error.

    Attributes:
        unit: Unit of the quantity, such as °C or MW.
        unit_suffix: The unit as it ends a key, such as `degc`.
        row_seconds: Spacing of the rows: errors of a week stay alike, so the bootstrap draws blocks of a week.
        naive_label: What the naive baseline answers.
        decimals: Digits of the unit that mean something.
    """

    unit: str
    unit_suffix: str
    row_seconds: int
    naive_label: str
    decimals: int = 2

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
        """Mean absolute error in standard deviations of the training rows, in which the tutorial states its figures."""
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
        """Return `metrics.forecast_scores`; `scale` is the standard deviation of the training rows in the unit."""
        return forecast_scores(prediction, truth=truth, naive=naive, std=scale, unit_suffix=self.unit_suffix)

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return the same scores of the naive baseline."""
        return self.scores(naive, truth=truth, naive=naive, scale=scale)

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return |error| in the unit."""
        return absolute_errors(prediction, truth=truth)

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return |error| in the unit."""
        return absolute_errors(naive, truth=truth)

    def paired_test(self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int) -> PairedTest:
        """Return the moving-block bootstrap of the difference, in blocks of a week or less."""
        return bootstrap_test(
            reference_loss=reference_loss,
            candidate_loss=candidate_loss,
            max_block_rows=max(1, WEEK_S // self.row_seconds),
            seed=seed,
        )


@dataclass(frozen=True)
class ClassificationScoring:
    """Scores a classifier by the share of right labels, and its probabilities.

    Attributes:
        classes: Number of classes. Of two, a model gives the probability of the second, `(rows,)`; of more, that of each,
            `(rows, classes)`.
    """

    classes: int = 2

    @property
    def primary(self) -> MetricSpec:
        """Share of right labels."""
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
        """The same, with the digits in which the tutorial states its figures."""
        return MetricSpec(key="accuracy", label="accuracy", unit="", lower_is_better=False, decimals=4)

    @property
    def further(self) -> tuple[FurtherScore, ...]:
        """How the probabilities rank, and how far they can be believed."""
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
        """Return `metrics.classification_scores`; probabilities have no scale."""
        del scale
        share = float(np.mean(np.asarray(naive) == np.asarray(truth)))
        if self.classes > 2:
            return multiclass_scores(prediction, label=truth, classes=self.classes, majority_share=share)
        return classification_scores(prediction, label=truth, majority_share=share)

    def naive_scores(self, naive: ArrayLike, *, truth: ArrayLike, scale: float) -> dict[str, float]:
        """Return what means something of a constant answer, which is no probability."""
        del scale
        right = np.asarray(naive) == np.asarray(truth)
        share = float(np.mean(right))
        return {"accuracy": share, "majority_accuracy": share, "skill": 0.0, "rows": float(right.size)}

    def row_losses(self, prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return 1 for a wrong label and 0 for a right one."""
        if self.classes > 2:
            return wrong_classes(prediction, truth=truth, classes=self.classes)
        return wrong_labels(prediction, truth=truth)

    def naive_row_losses(self, naive: ArrayLike, *, truth: ArrayLike) -> FloatVector:
        """Return 1 for a wrong label and 0 for a right one; the naive baseline gives labels, not probabilities."""
        losses: FloatVector = (np.asarray(naive) != np.asarray(truth)).astype(np.float64)
        return losses

    def paired_test(self, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int) -> PairedTest:
        """Return McNemar's test."""
        del seed  # nothing is drawn
        return mcnemar_test(reference_loss=reference_loss, candidate_loss=candidate_loss)
