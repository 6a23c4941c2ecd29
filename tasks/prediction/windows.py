"""Which windows of a series are forecast from: the newest one, that of a stamp, or many in a row. Pure."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from tasks.config import PredictSettings
from tasks.datasets.time_series import run_numbers
from tasks.models.forecast import WindowTask

Stamps = npt.NDArray[np.datetime64]
Rows = npt.NDArray[np.int64]


def stamp_of(text: str | None) -> datetime | None:
    """Return a stamp that a person wrote."""
    return datetime.fromisoformat(text) if text else None


def rows_asked(stamp: Stamps, *, task: WindowTask, row_seconds: int, settings: PredictSettings) -> Rows:
    """Return the rows before which the windows end that a person asks for, rising.

    Row `r` stands for the readings `[r - lookback_rows, r)`; `len(stamp)` is the newest window. The forecast is issued as of
    the stamp of row `r - 1`.

    Args:
        stamp: datetime64[s] of every reading, rising, none later than the stamp as of which is asked.
        task: How long a window is.
        row_seconds: Spacing of the readings.
        settings: What was asked.

    Raises:
        DataError: There is no whole window where one is asked for.
    """
    if settings.at is not None:
        _refuse_late(stamp, at=np.datetime64(settings.at.replace(" ", "T"), "s"), row_seconds=row_seconds)
    whole = _rows_with_a_window(stamp, task=task, row_seconds=row_seconds)
    if settings.first is None and settings.every_rows is None:
        _refuse_broken_window(stamp, whole=whole, task=task, row_seconds=row_seconds)
        return np.array([len(stamp)], dtype=np.int64)
    step = settings.every_rows or 1
    whole = whole[(len(stamp) - whole) % step == 0]
    as_of = stamp[whole - 1]
    if settings.first is not None:
        last = stamp[-1] if settings.last is None else np.datetime64(settings.last.replace(" ", "T"), "s")
        is_asked = (as_of >= np.datetime64(settings.first.replace(" ", "T"), "s")) & (as_of <= last)
        whole = np.asarray(whole[is_asked])
    if not len(whole):
        raise DataError(
            f"there is no whole window of {task.lookback_rows:,} rows among the {len(stamp):,} readings that are asked for: give "
            "more readings, or an earlier first stamp"
        )
    return whole


def _rows_with_a_window(stamp: Stamps, *, task: WindowTask, row_seconds: int) -> Rows:
    """Return the rows that have `lookback_rows` readings before them without a gap."""
    run = run_numbers(stamp.astype(np.int64), row_seconds=row_seconds)
    rows = np.arange(task.lookback_rows, len(stamp) + 1, dtype=np.int64)
    whole: Rows = rows[run[rows - task.lookback_rows] == run[rows - 1]]
    return whole


def _refuse_late(stamp: Stamps, *, at: np.datetime64, row_seconds: int) -> None:
    """Refuse to forecast as of a stamp that no reading is of."""
    if at - stamp[-1] >= np.timedelta64(row_seconds, "s"):
        raise DataError(f"there is no reading of {at}: the last one before it is of {stamp[-1]}, give that or an earlier stamp")


def _refuse_broken_window(stamp: Stamps, *, whole: Rows, task: WindowTask, row_seconds: int) -> None:
    """Refuse a newest window that is too short or has a gap."""
    rows = len(stamp)
    if rows < task.lookback_rows:
        raise DataError(f"there are {rows:,} readings up to {stamp[-1]}, and a window has {task.lookback_rows:,}: give more")
    if len(whole) and whole[-1] == rows:
        return
    spacing = np.diff(stamp[rows - task.lookback_rows :].astype(np.int64))
    gap = int(np.flatnonzero(spacing != row_seconds)[-1])
    before, after = stamp[rows - task.lookback_rows + gap], stamp[rows - task.lookback_rows + gap + 1]
    newest = f"; the newest whole window ends at {stamp[whole[-1] - 1]}: give that stamp" if len(whole) else ""
    raise DataError(
        f"the window of {task.lookback_rows:,} readings up to {stamp[-1]} has a gap from {before} to {after}, which no forecast "
        f"may bridge{newest or ': wait until enough readings have come'}"
    )
