"""From predictions to answers. Here a prediction meets its intervals, or its calibration."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.calibration import Temperature
from tasks.config import ServeSettings
from tasks.intervals import ConformalIntervals
from tasks.models.predictor import WindowPredictor
from tasks.prediction.uncertainty import calibrated
from tasks.serving.schemas import (
    InputShape,
    ModelName,
    TextPrediction,
    TextsResponse,
    Version,
    WindowPrediction,
    WindowsResponse,
)
from tasks.serving.served import ServedModel

LIBRARIES = ("retrain", "tensorflow", "keras", "mlflow")


def texts_response(model: ServedModel, predictions: Sequence[tuple[float, float]]) -> TextsResponse:
    """Return the answer for texts.

    Args:
        model: Predicted them.
        predictions: Probability of a positive text, and share of unknown words, of each.
    """
    raw = np.array([probability for probability, _ in predictions], dtype=np.float32)
    temperature = model.uncertainty if isinstance(model.uncertainty, Temperature) else None
    answers = [
        TextPrediction(
            label="positive" if network > 0.5 else "negative",
            probability=_digits(probability),
            raw_probability=_digits(network),
            unknown_word_share=_digits(unknown),
        )
        for network, probability, (_, unknown) in zip(raw, calibrated(temperature, raw), predictions, strict=True)
    ]
    return TextsResponse(model=model_name(model), predictions=answers)


def windows_response(
    model: ServedModel, forecasts: Sequence[float], *, stamps: npt.NDArray[np.datetime64] | None
) -> WindowsResponse:
    """Return the answer for windows.

    Args:
        model: Predicted them.
        forecasts: In the target's unit.
        stamps: Of the last reading of each window. Without them there are no intervals: their width follows the target's time.
    """
    predictor = model.window_predictor
    horizon_s = (predictor.task.horizon_rows + 1) * predictor.row_seconds
    values: dict[str, Sequence[Any]] = {"prediction": [_digits(forecast) for forecast in forecasts]}
    if stamps is not None:
        times = stamps + np.timedelta64(horizon_s, "s")
        values["target_timestamp"] = times.tolist()
        if isinstance(model.uncertainty, ConformalIntervals):
            for level, sides in model.uncertainty.bounds(forecasts, times).items():
                for name, side in zip(("lower", "upper"), sides, strict=True):
                    values[f"{name}_{level}"] = [_digits(bound) for bound in side]
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return WindowsResponse(
        model=model_name(model),
        target=predictor.task.target,
        unit=predictor.unit,
        horizon_seconds=horizon_s,
        predictions=[WindowPrediction(**row) for row in rows],
    )


def version_response(model: ServedModel, *, settings: ServeSettings) -> Version:
    """Return what answers, and what it takes."""
    shape = None
    if isinstance(model.predictor, WindowPredictor):
        task = model.predictor.task
        shape = InputShape(rows=task.lookback_rows, columns=list(task.columns), row_seconds=model.predictor.row_seconds)
    return Version(
        model=model_name(model),
        variant=model.version.variant,
        uri=model.version.uri,
        run_id=model.version.run_id,
        created=model.version.created,
        table_version=model.table_version,
        window=shape,
        has_uncertainty=model.uncertainty is not None,
        max_rows=settings.max_rows,
        max_body_bytes=settings.max_body_bytes,
        max_text_characters=settings.max_text_characters,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
    )


def model_name(model: ServedModel) -> ModelName:
    """Return which version answers."""
    return ModelName(name=model.version.name, version=model.version.version)


def _digits(value: float) -> float:
    """Return a number with the digits of a 32-bit float."""
    return float(f"{value:.7g}")
