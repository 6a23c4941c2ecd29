"""Splits of a time series: three consecutive spans, the runs that no gap interrupts, and scales from train rows alone.

Every function takes what differs between series (spacing of rows, columns, numbers of rows) as a value. Stamps are int64
seconds since 1970 on the clock of the series, rising.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import DataError
from tasks.datasets.request import SplitSettings
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


def edges_in_shares(seconds: Seconds, *, rows_read: int, train: int, val: int, whole: int) -> tuple[int, int] | None:
    """Return the first stamps of validation and test, for `train` and `val` of `whole` of the rows that were read.

    None: a split would be empty.
    """
    train_rows, val_rows = round(rows_read * train / whole), round(rows_read * val / whole)
    if not 0 < train_rows < train_rows + val_rows < len(seconds):
        return None
    return int(seconds[train_rows]), int(seconds[train_rows + val_rows])


def edges_of_months(seconds: Seconds, *, validation_months: int, test_months: int, row_seconds: int) -> tuple[int, int] | None:
    """Return the first stamps of validation and test, for so many of the newest months.

    Test ends with the last day that has begun, and each split holds whole days: a stamp marks the end of its row, so a day is
    from its first row after midnight to the midnight that ends it. None: a split would be empty.
    """
    if not len(seconds):
        return None
    last_day = date.fromisoformat(str((seconds[-1] - row_seconds).astype("datetime64[s]").astype("datetime64[D]")))
    test_day = _months_before(last_day, months=test_months)
    val_day = _months_before(last_day, months=test_months + validation_months)
    first_rows = [int(np.searchsorted(seconds, _midnight_s(day), side="right")) for day in (val_day, test_day)]
    if not 0 < first_rows[0] < first_rows[1] < len(seconds):
        return None
    return int(seconds[first_rows[0]]), int(seconds[first_rows[1]])


def _months_before(day: date, *, months: int) -> date:
    """Return the midnight that begins the day so many months before the day after `day`."""
    following = np.datetime64(day) + 1
    month = following.astype("datetime64[M]") - months
    day_of_month = (following - following.astype("datetime64[M]").astype("datetime64[D]")).astype(int)
    last = ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(int) - 1
    return date.fromisoformat(str(month.astype("datetime64[D]") + min(day_of_month, last)))


def _midnight_s(day: date) -> int:
    return int(np.datetime64(day, "s").astype(np.int64))


def split_edges(
    seconds: Seconds, *, rows_read: int, split: SplitSettings, row_seconds: int, shares: tuple[int, int, int]
) -> tuple[int, int] | None:
    """Return the first stamps of validation and test by the rule of a split; None: a split would be empty.

    Args:
        seconds: Stamps of every row that is there, rising.
        rows_read: Rows from which shares are counted, before repairs dropped any.
        split: Rule and months.
        row_seconds: Regular spacing of the rows.
        shares: Of train, of validation, and the whole, for the rule `shares`.
    """
    if split.rule == "recent":
        return edges_of_months(
            seconds, validation_months=split.validation_months, test_months=split.test_months, row_seconds=row_seconds
        )
    train, val, whole = shares
    return edges_in_shares(seconds, rows_read=rows_read, train=train, val=val, whole=whole)


def edge_facts(edges: tuple[int, int] | None) -> dict[str, str]:
    """Return the first stamps of validation and test as facts of a parsed series, for people and for `edges_of_facts`."""
    return {} if edges is None else {"validation_from": iso(np.int64(edges[0])), "test_from": iso(np.int64(edges[1]))}


def edges_of_facts(facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the edges that `edge_facts` has written."""
    if "test_from" not in facts:
        return None
    val, test = (int(np.datetime64(facts[name], "s").astype(np.int64)) for name in ("validation_from", "test_from"))
    return val, test


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
    edges: tuple[int, int] | None,
) -> SplitTables:
    """Return three consecutive spans, which begin at the edges, normalised by the train rows.

    Each table has the time stamp, the columns, and `segment`: the number of the unbroken run that a row lies in, so that
    no window is laid across a gap.

    Args:
        table: The whole series, in the order of time.
        dataset: Its name, for messages.
        timestamp: Column of the time stamps.
        columns: Columns that are normalised and kept, in this order.
        row_seconds: Regular spacing of the rows.
        edges: First stamps of validation and test, in seconds; None: there are too few rows for three splits.

    Raises:
        DataError: A split would be empty, a value is missing, or a column does not vary in the train rows.
    """
    seconds = table[timestamp].to_numpy().astype("datetime64[s]").astype(np.int64)
    train_rows, first_test_row = (int(row) for row in np.searchsorted(seconds, edges or (0, 0)))
    if not 0 < train_rows < first_test_row < table.num_rows:
        span = f" from {iso(seconds[0])} to {iso(seconds[-1])}" if len(seconds) else ""
        raise DataError(
            f"{dataset} has {table.num_rows} rows{span}, too few for three splits: give a longer span, or split by shares"
        )
    starts = (0, train_rows, first_test_row, table.num_rows)
    normalised, normalisation = normalise(table, columns=columns, train_rows=train_rows)
    arrays = [table[timestamp].combine_chunks(), *(pa.array(normalised[name]) for name in columns)]
    segment = pa.array(run_numbers(seconds, row_seconds=row_seconds))
    whole = pa.table([*arrays, segment], names=[timestamp, *columns, "segment"])

    tables: dict[Split, pa.Table] = {}
    bounds: dict[str, Any] = {}
    for name, start, stop in zip(SPLITS, starts[:-1], starts[1:], strict=True):
        tables[name] = whole.slice(start, stop - start)
        bounds[name] = {
            "first_row": start,
            "rows": stop - start,
            "first_stamp": iso(seconds[start]),
            "last_stamp": iso(seconds[stop - 1]),
        }
    return SplitTables(tables=tables, normalisation=normalisation, bounds=bounds)
