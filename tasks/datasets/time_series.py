"""Splits of a time series: three consecutive spans, the runs that no gap interrupts, and scales from train rows alone.

Every function takes what differs between series (spacing of rows, columns, numbers of rows) as a value. Stamps are int64
seconds since 1970 on the clock of the series, rising.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import DataError
from tasks.datasets.spec import SPLITS, Split, SplitTables

Seconds = npt.NDArray[np.int64]


def iso(seconds: np.int64) -> str:
    """Return a stamp as people write it, such as `2009-01-01T00:10:00`."""
    return str(seconds.astype("datetime64[s]"))


def spacing_facts(seconds: Seconds, *, row_seconds: int) -> dict[str, int]:
    """Return JSON-ready counts of gaps, of the rows missing in them, and of spacings that are not `row_seconds`."""
    spacing = np.diff(seconds)
    gaps = spacing[spacing > row_seconds]
    return {
        "gaps": len(gaps),
        "longest_gap_minutes": int(gaps.max(initial=0)) // 60,
        "missing_rows": int((gaps // row_seconds - 1).sum()),
        "irregular_spacings": int((spacing != row_seconds).sum()),
    }


def run_numbers(seconds: Seconds, *, row_seconds: int) -> npt.NDArray[np.int32]:
    """Return the number of the unbroken run that each row lies in, int32 `(rows,)`: from 0, never falling.

    A run ends where the next row is not `row_seconds` later.
    """
    numbers = np.zeros(len(seconds), dtype=np.int32)
    numbers[1:] = np.cumsum(np.diff(seconds) != row_seconds)
    return numbers


def rows_in_shares(rows: int, *, train: int, val: int, whole: int) -> tuple[int, int]:
    """Return how many of `rows` train and validate in the shares `train` and `val` of `whole`, each rounded."""
    return round(rows * train / whole), round(rows * val / whole)


def normalise(
    table: pa.Table, *, columns: Sequence[str], train_rows: int
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, dict[str, float]]]:
    """Return columns in standard deviations from their mean, and both statistics, which only the first rows determine.

    Args:
        table: Numbers without a missing value.
        columns: The ones that are normalised.
        train_rows: How many rows from the first the statistics are computed from.

    Raises:
        DataError: A value is missing or infinite, or a column does not vary in the train rows.
    """
    mean: dict[str, float] = {}
    std: dict[str, float] = {}
    normalised: dict[str, npt.NDArray[np.float32]] = {}
    for name in columns:
        values = table[name].to_numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"{name} has missing values: correct them upstream, a normalised table cannot hold them")
        train = values[:train_rows]
        mean[name], std[name] = float(train.mean()), float(train.std())
        # A constant column keeps a rounding residue of its mean as its deviation.
        if np.ptp(train) == 0:
            raise DataError(f"{name} is {values[0]:g} in every train row: a column that does not vary cannot be normalised")
        normalised[name] = ((values - mean[name]) / std[name]).astype(np.float32)
    return normalised, {"mean": mean, "std": std}


def split_by_time(
    table: pa.Table,
    *,
    dataset: str,
    timestamp: str,
    columns: Sequence[str],
    row_seconds: int,
    train_rows: int,
    val_rows: int,
) -> SplitTables:
    """Return three consecutive spans: `train_rows`, then `val_rows`, then the rest to test, normalised by the train rows.

    Each table has the time stamp, the columns, and `segment`: the number of the unbroken run that a row lies in, so that
    no window is laid across a gap.

    Args:
        table: The whole series, in the order of time.
        dataset: Its name, for messages.
        timestamp: Column of the time stamps.
        columns: Columns that are normalised and kept, in this order.
        row_seconds: Regular spacing of the rows.
        train_rows: Rows of the first span.
        val_rows: Rows of the second.

    Raises:
        DataError: A split would be empty, a value is missing, or a column does not vary in the train rows.
    """
    edges = (0, train_rows, train_rows + val_rows, table.num_rows)
    if not 0 < train_rows < train_rows + val_rows < table.num_rows:
        raise DataError(f"{dataset} has {table.num_rows} rows, too few for three splits: give a longer span")
    seconds = table[timestamp].to_numpy().astype("datetime64[s]").astype(np.int64)
    normalised, normalisation = normalise(table, columns=columns, train_rows=train_rows)
    arrays = [table[timestamp].combine_chunks(), *(pa.array(normalised[name]) for name in columns)]
    segment = pa.array(run_numbers(seconds, row_seconds=row_seconds))
    whole = pa.table([*arrays, segment], names=[timestamp, *columns, "segment"])

    tables: dict[Split, pa.Table] = {}
    bounds: dict[str, Any] = {}
    for name, start, stop in zip(SPLITS, edges[:-1], edges[1:], strict=True):
        tables[name] = whole.slice(start, stop - start)
        bounds[name] = {
            "first_row": start,
            "rows": stop - start,
            "first_stamp": iso(seconds[start]),
            "last_stamp": iso(seconds[stop - 1]),
        }
    return SplitTables(tables=tables, normalisation=normalisation, bounds=bounds)
