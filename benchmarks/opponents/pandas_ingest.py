"""What one writes without thinking: pandas reads the csv, turns stamps to dates, checks what comes to mind, writes Parquet.

python pandas_ingest.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet  # noqa: F401  (an import is no part of ingestion)
from turns import answer_requests

# Lowest and highest value that a reading may have, in the order of the columns.
BOUNDS = (
    (900, 1100),
    (-40, 50),
    (230, 330),
    (-50, 40),
    (0, 100),
    (0, 100),
    (0, 100),
    (-1, 100),
    (0, 50),
    (0, 100),
    (1000, 1600),
    (0, 60),
    (0, 80),
    (0, 360),
)


def checked(frame: pd.DataFrame) -> int:
    """Check a frame and return the number of checks.

    Raises:
        ValueError: A check failed.
    """
    stamps, readings = frame["Date Time"], frame.drop(columns="Date Time")
    checks = {
        "no value is missing": not frame.isna().any().any(),
        "stamps differ": not stamps.duplicated().any(),
        "stamps rise": bool(stamps.is_monotonic_increasing),
        "stamps are ten minutes apart": bool((stamps.diff().dropna() == pd.Timedelta(minutes=10)).mean() > 0.99),
        "rows differ": not frame.duplicated().any(),
    }
    for name, (low, high) in zip(readings.columns, BOUNDS, strict=True):
        checks[f"{name} is a number"] = pd.api.types.is_numeric_dtype(readings[name])
        checks[f"{name} is within bounds"] = bool(readings[name].between(low, high).all())
    failed = [name for name, passed in checks.items() if not passed]
    if failed:
        raise ValueError(f"{failed[0]}: expected so of every row")
    return len(checks)


def train(file: str) -> dict[str, Any]:
    """Take one turn."""
    laps: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        frame = pd.read_csv(file)
        laps["read_csv"] = time.perf_counter() - started
        frame["Date Time"] = pd.to_datetime(frame["Date Time"], format="%d.%m.%Y %H:%M:%S")
        laps["to_datetime"] = time.perf_counter() - started - sum(laps.values())
        count = checked(frame)
        laps["checks"] = time.perf_counter() - started - sum(laps.values())
        frame.to_parquet(Path(folder, "table.parquet"))
        laps["to_parquet"] = time.perf_counter() - started - sum(laps.values())
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"laps": laps, "seconds": sum(laps.values()), "rows": {"all": len(frame)}, "checks": count, "peak_bytes": peak_bytes}


if __name__ == "__main__":
    answer_requests({"train": train})
