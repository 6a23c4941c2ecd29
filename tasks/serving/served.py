"""A version that is loaded, compiled and ready to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from storage.errors import SettingError
from storage.records import ModelVersion
from storage.registry import Registry
from tasks.calibration import Temperature
from tasks.intervals import ConformalIntervals
from tasks.models.device import prepare_device
from tasks.models.predictor import TextPredictor, WindowPredictor
from tasks.models.serialization import register_layers
from tasks.models.spec import Problem
from tasks.training.identity import problem_answered_by
from tasks.training.uncertainty import uncertainty_of


@dataclass(frozen=True)
class ServedModel:
    """One version in memory.

    Attributes:
        version: Which one.
        problem: What it predicts.
        predictor: Predicts raw input.
        uncertainty: Intervals of a forecast, or the temperature that calibrates probabilities; None: it has neither.
        table_version: Table that it was trained on.
        loaded_at: When it was ready, UTC.
    """

    version: ModelVersion
    problem: Problem
    predictor: WindowPredictor | TextPredictor
    uncertainty: ConformalIntervals | Temperature | None
    table_version: str
    loaded_at: datetime

    @property
    def window_predictor(self) -> WindowPredictor:
        """The predictor of a model that forecasts.

        Raises:
            TypeError: The model classifies texts.
        """
        if not isinstance(self.predictor, WindowPredictor):
            raise TypeError(f"{self.version.name} reads texts")
        return self.predictor

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        """Return one prediction a row.

        Args:
            rows: Windows float32 `(lookback_rows, columns)` in the order of the task's columns, or texts.

        Returns:
            Forecasts in the target's unit, or `(probability, unknown_share)`.
        """
        if isinstance(self.predictor, WindowPredictor):
            return list(self.predictor.predict_windows(np.stack(rows)).tolist())
        texts = self.predictor.predict_texts(rows)
        return list(zip(texts.probability.tolist(), texts.unknown_share.tolist(), strict=True))


def load_served(version: ModelVersion, *, registry: Registry, max_rows: int) -> ServedModel:
    """Load a version and compile all that requests of up to `max_rows` rows need, so that none of them has to wait for it.

    Raises:
        RegistryError: Its files are not there, or are refused.
        SettingError: It cannot be served, or its problem has changed since.
    """
    manifest = registry.read_json(version.run_id, "manifest.json")
    problem = problem_answered_by(version, dataset=manifest["table"]["dataset"])
    if problem.predictor is None:
        raise SettingError(f"{version.name} cannot be served: expected a forecast of a series, or a classifier of texts")
    prepare_device(1, require_gpu=False)
    register_layers()
    predictor = problem.predictor(registry.load_model(version))
    predictor.warm_up(max_rows)
    return ServedModel(
        version=version,
        problem=problem,
        predictor=predictor,
        uncertainty=uncertainty_of(version, registry=registry),
        table_version=version.tags.get("table_version", ""),
        loaded_at=datetime.now(tz=UTC),
    )
