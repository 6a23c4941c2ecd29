"""Scores of one set of predictions, compared with those of a naive baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.errors import RetrainError

FloatVector = NDArray[np.float64]

# float32 probabilities saturate at exactly 0 and 1, where the logarithm has no value.
LOG_LOSS_CLIP = 1e-7
# Bins of equal width, as many as Guo et al. (2017) have.
CALIBRATION_BINS = 15


class ScoreError(RetrainError):
    """Raised for predictions that cannot be scored: they have the wrong shape, are not finite, or are outside their range."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric: its key among the scores, its name for people, its unit and its direction.

    Attributes:
        key: Key in a dictionary of scores.
        label: Name for people, without the unit.
        unit: Unit; empty for a share.
        decimals: Significant digits after the point.
        naive_key: Key of the naive baseline's value among the same scores; empty if there is none.
        naive_label: What the naive baseline predicts, for people.
    """

    key: str
    label: str
    unit: str
    lower_is_better: bool
    decimals: int
    naive_key: str = ""
    naive_label: str = ""

    @property
    def axis_label(self) -> str:
        """Label with the unit in parentheses, for axes and column headings."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float, *, decimals: int | None = None) -> str:
        """Return the rounded value with its unit."""
        number = f"{value:.{self.decimals if decimals is None else decimals}f}"
        return f"{number} {self.unit}" if self.unit else number

    def better(self, value: float, *, than: float) -> bool:
        """Return whether a value is strictly better than another."""
        return value < than if self.lower_is_better else value > than


def finite_vectors(**named: ArrayLike) -> list[FloatVector]:
    """Return the arguments as float64 vectors of one length.

    Raises:
        ScoreError: An argument is not a vector, is empty, has another length than the first, or is not finite.
    """
    vectors: list[FloatVector] = []
    first = next(iter(named))
    for name, values in named.items():
        vector = np.asarray(values, dtype=np.float64)
        if vector.ndim != 1 or vector.size == 0:
            raise ScoreError(
                f"{name} has shape {vector.shape}, expected (rows,) with at least one row: flatten it before scoring"
            )
        if vectors and vector.size != vectors[0].size:
            raise ScoreError(
                f"{name} has {vector.size} rows, expected {vectors[0].size} as in {first}: score both on the same rows"
            )
        not_finite = np.flatnonzero(~np.isfinite(vector))
        if not_finite.size:
            raise ScoreError(
                f"{name} holds {not_finite.size} values of {vector.size} that are not finite (first at row {not_finite[0]}), "
                "expected numbers: such a model is not scored, look at its training loss"
            )
        vectors.append(vector)
    return vectors


def forecast_scores(
    prediction: ArrayLike, *, truth: ArrayLike, naive: ArrayLike, std: float, unit_suffix: str
) -> dict[str, float]:
    """Score a forecast in the unit of its quantity, and in standard deviations of the train rows.

    All arrays have shape (rows,). The bias is the mean of prediction minus truth; `skill` is 1 - MAE / naive MAE.

    Args:
        prediction: The forecast.
        truth: The measured values.
        naive: The forecast of the naive baseline.
        std: Standard deviation of the train rows, in the unit.
        unit_suffix: The unit at the end of a key, such as `degc` in `mae_degc`.

    Raises:
        ScoreError: Shapes differ, a value is not finite, `std` is not positive, or the naive baseline has no error.
    """
    forecast, measured, naive_forecast = finite_vectors(prediction=prediction, truth=truth, naive=naive)
    if not (math.isfinite(std) and std > 0):
        raise ScoreError(f"std is {std}, expected a positive number: take it from the table's normalisation")
    error = forecast - measured
    mae = float(np.mean(np.abs(error)))
    rmse = float(np.sqrt(np.mean(error**2)))
    naive_mae = float(np.mean(np.abs(naive_forecast - measured)))
    if naive_mae == 0:
        raise ScoreError("naive equals truth in every row, expected some error: skill is undefined, check the test split")
    return {
        f"mae_{unit_suffix}": mae,
        f"rmse_{unit_suffix}": rmse,
        f"bias_{unit_suffix}": float(np.mean(error)),
        "mae_normalised": mae / std,
        "rmse_normalised": rmse / std,
        f"naive_mae_{unit_suffix}": naive_mae,
        "skill": 1 - mae / naive_mae,
        "rows": float(error.size),
    }


def classification_scores(probability: ArrayLike, *, label: ArrayLike, majority_share: float) -> dict[str, float]:
    """Score probabilities of label 1 against labels 0 and 1.

    The predicted label is 1 above a probability of 0.5, as in Keras's binary accuracy. `log_loss` is in nats, of
    probabilities clipped to [1e-7, 1 - 1e-7]. `auc` is the rank statistic of Mann and Whitney (1947), with ties at their mean
    rank. `calibration_error` is that of `expected_calibration_error`. `skill` is the share of the naive baseline's errors that
    the model avoids; the baseline always predicts the majority label.

    Args:
        probability: Shape (rows,), within [0, 1].
        label: Shape (rows,).
        majority_share: Share of the scored rows whose label is the more frequent one of the train rows.

    Raises:
        ScoreError: Shapes differ, a value is not finite or outside its range, or all labels are the same.
    """
    p, y = _probabilities(probability, label)
    if not 0 <= majority_share < 1:
        raise ScoreError(f"majority_share is {majority_share}, expected a share in [0, 1): check the labels of the test split")
    accuracy = float(np.mean((p > 0.5) == (y == 1)))
    clipped = np.clip(p, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return {
        "accuracy": accuracy,
        "auc": _auc(p, label=y),
        "log_loss": float(-np.mean(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))),
        "brier": float(np.mean((p - y) ** 2)),
        "calibration_error": expected_calibration_error(p, label=y),
        "majority_accuracy": float(majority_share),
        "skill": 1 - (1 - accuracy) / (1 - majority_share),
        "rows": float(p.size),
    }


def multiclass_scores(probability: ArrayLike, *, label: ArrayLike, classes: int, majority_share: float) -> dict[str, float]:
    """Score the probabilities of several classes against the true class.

    The predicted class is the most probable one, the first among equals. `log_loss` is in nats, of the probability of the
    true class, clipped as for two classes. `brier` is the mean over rows of the squared differences, summed over the classes
    (Brier 1950). `auc` is the mean over the classes of the AUC of this class against the rest. `calibration_error` is the
    expected calibration error of the probability of the predicted class (Guo et al. 2017).

    Args:
        probability: Shape (rows, classes); every row sums to 1.
        label: Shape (rows,): number of the true class, from 0.
        classes: Number of classes.
        majority_share: Share of the scored rows whose class is the most frequent one of the train rows.

    Raises:
        ScoreError: Shapes differ, a value is outside its range, or a class has no row.
    """
    from sklearn.metrics import roc_auc_score

    p, y = _class_probabilities(probability, label=label, classes=classes)
    if not 0 <= majority_share < 1:
        raise ScoreError(f"majority_share is {majority_share}, expected a share in [0, 1): check the labels of the test split")
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise ScoreError(f"label holds no {missing[0]}, expected every class: AUC is undefined, check the test split")
    rows = np.arange(len(y))
    predicted = p.argmax(axis=1)
    accuracy = float(np.mean(predicted == y))
    one_hot = np.eye(classes)[y]
    confidence, is_right = p[rows, predicted], (predicted == y).astype(np.float64)
    return {
        "accuracy": accuracy,
        "auc": float(np.mean([roc_auc_score(one_hot[:, k], p[:, k]) for k in range(classes)])),
        "log_loss": float(-np.mean(np.log(np.clip(p[rows, y], LOG_LOSS_CLIP, 1)))),
        "brier": float(np.mean(((p - one_hot) ** 2).sum(axis=1))),
        "calibration_error": expected_calibration_error(confidence.clip(0, 1), label=is_right),
        "majority_accuracy": float(majority_share),
        "skill": 1 - (1 - accuracy) / (1 - majority_share),
        "rows": float(len(y)),
    }


def wrong_classes(probability: ArrayLike, *, truth: ArrayLike, classes: int) -> FloatVector:
    """Return 1 for every row whose most probable class is wrong, and 0 for the others.

    Raises:
        ScoreError: Shapes differ, or a value is outside its range.
    """
    p, y = _class_probabilities(probability, label=truth, classes=classes)
    losses: NDArray[Any] = p.argmax(axis=1) != y
    return losses.astype(np.float64)


def _class_probabilities(
    probability: ArrayLike, *, label: ArrayLike, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return both as arrays after checking their shapes and ranges."""
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if p.shape != (len(y), classes) or y.ndim != 1 or not len(y):
        raise ScoreError(
            f"probability has shape {p.shape} and label {y.shape}, expected (rows, {classes}) and (rows,): "
            "score both on the same rows"
        )
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise ScoreError("probability has a row that is no distribution, expected a sum of 1: score the softmax, not its logits")
    if not np.isin(y, np.arange(classes)).all():
        raise ScoreError(f"label holds a value that is no class, expected 0 to {classes - 1}: check the parsed labels")
    return p, y.astype(np.intp)


@dataclass(frozen=True)
class CalibrationBin:
    """The rows whose probability lies in [low, high); the last bin includes its upper end."""

    low: float
    high: float
    rows: int
    mean_probability: float
    positive_share: float


def calibration_curve(probability: ArrayLike, *, label: ArrayLike, bins: int = CALIBRATION_BINS) -> tuple[CalibrationBin, ...]:
    """Return the bins of equal width that hold rows, in order of probability.

    Raises:
        ScoreError: Shapes differ, or a value is not finite or outside its range.
    """
    p, y = _probabilities(probability, label)
    # Comparing with the edges puts 0.3 into the bin that begins at 0.3. Multiplying by 10 may round it into the bin below.
    edges = np.arange(bins + 1) / bins
    position = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    rows = np.bincount(position, minlength=bins)
    sum_probability = np.bincount(position, weights=p, minlength=bins)
    sum_label = np.bincount(position, weights=y, minlength=bins)
    return tuple(
        CalibrationBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            rows=int(rows[index]),
            mean_probability=float(sum_probability[index] / rows[index]),
            positive_share=float(sum_label[index] / rows[index]),
        )
        for index in np.flatnonzero(rows)
    )


def expected_calibration_error(probability: ArrayLike, *, label: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Return the mean over rows of |mean probability - share of label 1| of the row's bin (Naeini et al. 2015).

    Args:
        probability: Probability of label 1, `(rows,)`.
        label: 0 or 1, `(rows,)`.
        bins: Number of bins of equal width.

    Raises:
        ScoreError: Shapes differ, or a value is not finite or outside its range.
    """
    curve = calibration_curve(probability, label=label, bins=bins)
    rows = sum(part.rows for part in curve)
    return sum(part.rows / rows * abs(part.mean_probability - part.positive_share) for part in curve)


def _probabilities(probability: ArrayLike, label: ArrayLike) -> tuple[FloatVector, FloatVector]:
    """Return both as float64 vectors after checking their ranges."""
    p, y = finite_vectors(probability=probability, label=label)
    outside = p[(p < 0) | (p > 1)]
    if outside.size:
        raise ScoreError(f"probability holds {outside[0]}, expected values in [0, 1]: score the sigmoid's output, not its logit")
    other = y[(y != 0) & (y != 1)]
    if other.size:
        raise ScoreError(f"label holds {other[0]:g}, expected 0 or 1: check the parsed labels")
    return p, y


def _auc(probability: FloatVector, *, label: FloatVector) -> float:
    """Return the share of (positive, negative) pairs that the probability orders correctly; a tie counts one half."""
    from sklearn.metrics import roc_auc_score

    positives = int(np.sum(label))
    negatives = label.size - positives
    if positives == 0 or negatives == 0:
        raise ScoreError(
            f"label holds {positives} ones and {negatives} zeros, expected both labels: AUC is undefined, check the test split"
        )
    return float(roc_auc_score(label, probability))


def absolute_errors(prediction: ArrayLike, *, truth: ArrayLike) -> FloatVector:
    """Return |prediction - truth| of every row.

    Raises:
        ScoreError: Shapes differ, or a value is not finite.
    """
    forecast, measured = finite_vectors(prediction=prediction, truth=truth)
    return np.abs(forecast - measured)


def wrong_labels(probability: ArrayLike, *, truth: ArrayLike) -> FloatVector:
    """Return 1 for every row whose predicted label is wrong, and 0 for the others.

    Raises:
        ScoreError: Shapes differ, or a value is not finite or outside its range.
    """
    p, y = _probabilities(probability, truth)
    losses: NDArray[Any] = (p > 0.5) != (y == 1)
    return losses.astype(np.float64)
