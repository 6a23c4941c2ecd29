"""Simulated years of weather, and tables of issued predictions, for the tests of monitoring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tasks.datasets.jena.physics import LAYOUT, ROW_SECONDS, STAMP_HEADER
from tasks.datasets.jena.sample import simulated_weather
from tasks.datasets.jena.spec import SPEC
from tasks.monitoring.series import WatchedSeries
from tasks.prediction.issued import SERIES_SCHEMA, TABLE

TARGET = "temperature_degc"
DAY = np.timedelta64(86_400, "s")


def weather(days: int, *, seed: int = 3, start: str = "2009-01-01T00:10:00") -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return stamps and readings of simulated weather."""
    frame = simulated_weather(days * 144, seed=seed, start=start)
    columns = {column.name: frame[column.header].to_numpy().astype(np.float32) for column in LAYOUT}
    return frame[STAMP_HEADER].to_numpy().astype("datetime64[s]"), columns


def watched(
    stamp: np.ndarray,
    columns: dict[str, np.ndarray],
    *,
    trained_until: np.datetime64,
    issued: pa.Table | None = None,
    usual: Any = None,
) -> WatchedSeries:
    return WatchedSeries(
        spec=SPEC,
        stamp=stamp,
        columns=columns,
        row_seconds=ROW_SECONDS,
        target=TARGET,
        trained_until=trained_until,
        issued=SERIES_SCHEMA.empty_table() if issued is None else issued,
        usual=usual,
    )


def issued_table(
    target: np.ndarray,
    *,
    prediction: Any,
    persistence: Any,
    half_width: Any = 2.0,
    version: Any = 1,
    horizon: np.timedelta64 = DAY,
) -> pa.Table:
    """Return issued forecasts with central intervals: 80 % of a half width, 95 % of twice as much."""
    count = len(target)
    prediction = np.broadcast_to(np.asarray(prediction, dtype=np.float32), count)
    columns = {
        "model": ["jena"] * count,
        "model_version": np.broadcast_to(np.asarray(version, dtype=np.int32), count),
        "input_digest": ["0" * 8] * count,
        "issued_at": target - horizon,
        "origin": [TABLE] * count,
        "as_of": target - horizon,
        "target_time": target,
        "prediction": prediction,
        "persistence": np.broadcast_to(np.asarray(persistence, dtype=np.float32), count),
    }
    for level, times in ((80, 1), (95, 2)):
        columns[f"lower_{level}"] = prediction - times * np.asarray(half_width)
        columns[f"upper_{level}"] = prediction + times * np.asarray(half_width)
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in SERIES_SCHEMA], schema=SERIES_SCHEMA)
