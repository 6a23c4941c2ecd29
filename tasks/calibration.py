"""Calibrated probabilities of two classes: temperature scaling, fitted on the validation split (Guo et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics import FloatVector, expected_calibration_error, finite_vectors

__all__ = ["Temperature", "expected_calibration_error", "fit_temperature"]

# float32 probabilities saturate at exactly 0 and 1, where the logit has no value.
LOGIT_CLIP = 1e-7
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Temperature:
    """What the logits of a classifier are divided by (Guo et al. 2017).

    Attributes:
        temperature: Above 0. Over 1 draws probabilities towards 0.5, below 1 away from it.
    """

    temperature: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Temperature:
        """Return the temperature of `as_json`."""
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    def calibrated(self, probability: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return probabilities after scaling, float32 of the same shape; each stays on its side of 0.5."""
        raw = np.asarray(probability, dtype=np.float64)
        scaled = _sigmoid(_logit(raw) / self.temperature).astype(np.float32)
        # Rounded to float32, a value next to 0.5 may become 0.5, which is the other label.
        above = np.nextafter(np.float32(0.5), np.float32(1))
        return np.asarray(np.where(raw > 0.5, np.maximum(scaled, above), np.minimum(scaled, np.float32(0.5))))


def fit_temperature(probability: npt.ArrayLike, *, label: npt.ArrayLike) -> Temperature:
    """Return the temperature with the lowest cross-entropy on rows that the model was not fitted on.

    It lies within 0.05 and 20. Where every label is predicted, the cross-entropy has no minimum, and the lower end is taken.

    Args:
        probability: Probability of label 1, `(rows,)`.
        label: 0 or 1, `(rows,)`.

    Raises:
        ScoreError: Shapes differ, or a value is not finite.
    """
    from scipy.optimize import minimize_scalar

    p, y = finite_vectors(probability=probability, label=label)
    signed = np.where(y == 1, 1.0, -1.0) * _logit(p)

    def cross_entropy(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).mean())

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return Temperature(temperature=math.exp(float(found.x)))


def _logit(probability: FloatVector) -> FloatVector:
    clipped = np.clip(probability, LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(logit: FloatVector) -> FloatVector:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)))
