"""Predictors: exported models that predict raw input fast, windows of readings or texts.

A predictor gives what the exported model gives, to rounding. It runs the network's fast copy in batches of few shapes, each of
which is compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from storage.errors import SettingError
from tasks.models.engine.accelerated import accelerate_for_scoring
from tasks.models.engine.train_step import predict
from tasks.models.forecast import Forecast, quantity_and_unit
from tasks.models.spec import Floats, restored

if TYPE_CHECKING:
    import keras

# Windows of a batch; a batch that is not full is filled up to the next of these.
BATCH_SIZES = (1, 8, 64, 512)


@dataclass(frozen=True)
class PredictedTexts:
    """What a model says of texts.

    Attributes:
        probability: float32 `(texts,)`: of a positive text, as the model gives it.
        tokens: int64 `(texts,)`: tokens of each whole text, the start token among them.
        unknown_share: float32 `(texts,)`: share of its words that are outside the vocabulary, 1 for a text without a word.
    """

    probability: Floats
    tokens: npt.NDArray[np.int64]
    unknown_share: Floats


class TextPredictor(Protocol):
    """Predicts texts."""

    def predict_texts(self, texts: Sequence[str]) -> PredictedTexts:
        """Return what the model says of each text."""

    def warm_up(self, max_rows: int) -> None:
        """Compile what predicting up to so many texts at once needs, so that no call waits for it."""


class WindowPredictor:
    """Predicts windows of raw readings.

    Attributes:
        task: What is forecast from what.
        quantity: Name of what is forecast, such as temperature.
        unit: Its unit, such as °C.
        decimals: Digits of the unit that mean something.
        row_seconds: Spacing of the readings.
    """

    def __init__(self, exported: keras.Model, *, forecast: Forecast) -> None:
        """Take an exported model apart: its normalisation is done here, its network by a fast copy.

        Raises:
            SettingError: The model reads other windows than the task has.
        """
        task = forecast.task
        expected = (None, task.lookback_rows, len(task.columns))
        if exported.input_shape != expected:
            raise SettingError(
                f"a model of {forecast.dataset} reads windows of (rows, columns) {exported.input_shape[1:]}, and its task has "
                f"{expected[1:]}: columns were added or taken away since, make another version champion"
            )
        self.task, self.row_seconds, self.decimals = task, forecast.row_seconds, forecast.decimals
        self.quantity, self.unit = quantity_and_unit(task.target)[0], forecast.units[task.target]
        layer = exported.get_layer("normalise")
        self._mean = np.asarray(layer.mean, dtype=np.float32).reshape(-1)
        self._std = np.sqrt(np.asarray(layer.variance, dtype=np.float32)).reshape(-1)
        network = exported.get_layer("network")
        accelerated = accelerate_for_scoring(network, variant=restored(network))
        self._network = accelerated.fast
        self._network.compile(jit_compile=accelerated.execution.jit_compile)

    def warm_up(self, max_rows: int) -> None:
        """Compile what predicting up to so many windows at once needs, so that no call waits for it."""
        sizes = [size for size in BATCH_SIZES if size < max_rows]
        for size in (*sizes, *BATCH_SIZES[len(sizes) : len(sizes) + 1]):
            self._predict_thinned(np.zeros((size, *self.task.shape), dtype=np.float32))

    def predict_windows(self, windows: Floats) -> Floats:
        """Return the forecasts of windows, float32 `(windows, lookback_rows, columns)`, in the target's unit."""
        return self._predict_thinned(windows[:, :: self.task.step_rows])

    def predict_rows(self, readings: Floats, rows: npt.NDArray[np.integer]) -> Floats:
        """Return the forecasts of the windows that end before some rows, in the target's unit.

        Args:
            readings: float32 `(rows, columns)`, raw, in the order of the task's columns.
            rows: Row `r` stands for the inputs `[r - lookback_rows, r)`; it may be the number of rows.
        """
        offsets = np.arange(-self.task.lookback_rows, 0, self.task.step_rows)
        size = BATCH_SIZES[-1]
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        parts = [self._predict_thinned(readings[chunk[:, None] + offsets]) for chunk in chunks]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _predict_thinned(self, windows: Floats) -> Floats:
        """Return the forecasts of windows float32 `(windows, steps, columns)` as the network sees them, but raw."""
        target = self.task.target_index
        normalised = (windows - self._mean) / self._std
        parts = []
        for start in range(0, len(normalised), BATCH_SIZES[-1]):
            batch = normalised[start : start + BATCH_SIZES[-1]]
            size = next(size for size in BATCH_SIZES if size >= len(batch))
            filled = batch if len(batch) == size else np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            parts.append(predict(self._network, filled)[: len(batch)])
        forecasts = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
        return np.asarray(forecasts * self._std[target] + self._mean[target], dtype=np.float32)


Predictor = WindowPredictor | TextPredictor
