"""What sound readings never do: freeze together, jump, come twice, lose their noise, or keep to another season.

Each function turns readings of a regular time series into a number a row that expectations can judge; a number that is of a day
or a month stands in all of its rows. Stamps are seconds since 1970 on the clock of the series, rising.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.series_faults import Hours, Seconds, Values, hours_of_day, run_hours

_DAY_S = 86_400
_DAYS_OF_YEAR = 365.25
# Odd, so that they have inverses modulo 2**64; digits of the golden ratio and of e.
_BASE, _MIX = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0x2B7E_1516_28AE_D2A7)


def frozen_hours(columns: Sequence[Values], *, row_seconds: int) -> Hours:
    """Return how long all columns together have stayed the same, 0 for runs shorter than an hour."""
    return run_hours(_equals_row_before(columns), rows=len(columns[0]), row_seconds=row_seconds)


def repeated_hours_of_day(columns: Sequence[Values], *, seconds: Seconds, row_seconds: int) -> Hours:
    """Return for how many hours of its day the rows repeat the row before in every column, as hourly values written often do."""
    flags = np.zeros(len(seconds), dtype=np.bool_)
    flags[1:] = _equals_row_before(columns)
    return hours_of_day(flags, seconds=seconds, row_seconds=row_seconds)


def _equals_row_before(columns: Sequence[Values]) -> npt.NDArray[np.bool_]:
    equal = np.ones(max(len(columns[0]) - 1, 0), dtype=np.bool_)
    for values in columns:
        equal &= values[1:] == values[:-1]
    return equal


def step_from_row_before(values: Values, *, seconds: Seconds, row_seconds: int) -> npt.NDArray[np.float32]:
    """Return by how much each reading differs from the one before, 0 after a gap."""
    steps = np.zeros(len(values), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        steps[1:] = np.where(np.diff(seconds) == row_seconds, np.abs(np.diff(values)), 0)
    return steps


def spike(values: Values, *, seconds: Seconds, row_seconds: int) -> npt.NDArray[np.float32]:
    """Return by how much each reading lies above both neighbours, or below both; 0 where it lies between them or at a gap."""
    spikes = np.zeros(len(values), dtype=np.float32)
    regular = np.diff(seconds) == row_seconds
    with np.errstate(invalid="ignore"):
        before, after = values[1:-1] - values[:-2], values[1:-1] - values[2:]
        height = np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0)
    spikes[1:-1] = np.where(regular[1:] & regular[:-1], height, 0)
    return spikes


def is_of_repeated_span(columns: Sequence[Values], *, span_rows: int) -> npt.NDArray[np.int64]:
    """Return 1 for the rows of a span of `span_rows` rows that comes again elsewhere with the same readings, else 0.

    Spans are compared by a polynomial hash of their rows that slides over the series (Karp and Rabin, 1987), modulo 2**64: two
    spans of a million have the same by chance with a probability of 1e-7.
    """
    rows = len(columns[0])
    flags = np.zeros(rows, dtype=np.int64)
    if rows <= span_rows:
        return flags
    with np.errstate(over="ignore"):
        codes = np.zeros(rows, dtype=np.uint64)
        for values in columns:
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
            codes = (codes ^ (codes >> np.uint64(29))) * _MIX + bits
        powers = np.full(rows, _BASE, dtype=np.uint64)
        powers[0] = 1
        powers = np.multiply.accumulate(powers)
        sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.add.accumulate(codes * powers)))
        # Every span is brought to the same power, so that equal spans have equal hashes wherever they begin.
        hashes = (sums[span_rows:] - sums[:-span_rows]) * powers[::-1][span_rows - 1 :]
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    starts = np.union1d(order[1:][same], order[:-1][same])
    changes = np.zeros(rows + 1, dtype=np.int64)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + span_rows, -1)
    flags[np.cumsum(changes[:-1]) > 0] = 1
    return flags


def straight_hours(columns: Sequence[Values], *, seconds: Seconds, row_seconds: int, rounding: float) -> Hours:
    """Return how long all columns together have run along straight lines, as where a hole was filled, 0 for less than an hour.

    Args:
        columns: Readings that never keep to a line together.
        seconds: Stamps.
        row_seconds: Spacing of the rows.
        rounding: Step to which readings are rounded; on a line the second difference is twice that at most.
    """
    is_straight = np.zeros(max(len(seconds) - 1, 0), dtype=np.bool_)
    if len(seconds) > 2:
        regular = np.diff(seconds) == row_seconds
        straight = regular[1:] & regular[:-1]
        with np.errstate(invalid="ignore"):
            for values in columns:
                straight &= np.abs(np.diff(values, n=2)) <= 2.1 * rounding
        is_straight[1:] = straight
    return run_hours(is_straight, rows=len(seconds), row_seconds=row_seconds)


def of_month(values: Values, *, seconds: Seconds, min_rows: int, reduce: Callable[[Values], float]) -> npt.NDArray[np.float32]:
    """Return in every row a number that is computed of the readings of its month, NaN for one of fewer than `min_rows` rows."""
    edges = _edges(months_of(seconds))
    numbers = [reduce(values[start:stop]) if stop - start >= min_rows else np.nan for start, stop in itertools.pairwise(edges)]
    return np.repeat(np.asarray(numbers, dtype=np.float32), np.diff(edges))


def range_of_day(values: Values, *, seconds: Seconds, row_seconds: int) -> npt.NDArray[np.float32]:
    """Return in every row the difference between the largest and the smallest reading of its day, NaN for an incomplete day."""
    if not len(values):
        return np.zeros(0, dtype=np.float32)
    edges = _edges(seconds // _DAY_S)
    ranges = np.fmax.reduceat(values, edges[:-1]) - np.fmin.reduceat(values, edges[:-1])
    ranges = np.where(np.diff(edges) == _DAY_S // row_seconds, ranges, np.nan)
    return np.repeat(ranges.astype(np.float32), np.diff(edges))


def share_of_month_present(seconds: Seconds, *, row_seconds: int) -> npt.NDArray[np.float32]:
    """Return the share of the rows of its month that are there; 1 in the first and the last month, which may be in part."""
    months = months_of(seconds)
    edges = _edges(months)
    first = months[edges[:-1]].astype("datetime64[M]")
    length_s = ((first + 1).astype("datetime64[s]") - first.astype("datetime64[s]")).astype(np.int64)
    shares = np.diff(edges) * row_seconds / length_s
    shares[[0, -1]] = 1.0
    return np.repeat(shares.astype(np.float32), np.diff(edges))


def season_excess(
    values: Values,
    *,
    seconds: Seconds,
    mean: float,
    amplitude: float,
    warmest_day: float,
    min_rows: int,
) -> npt.NDArray[np.float32]:
    """Return by how much the mean of a month differs from a yearly cosine, NaN for a month of fewer than `min_rows` rows.

    Args:
        values: Readings that follow the season.
        seconds: Stamps.
        mean: Mean of the year.
        amplitude: Half the difference between the warmest and the coldest time.
        warmest_day: Day of the year, from 0, at which the cosine is highest.
        min_rows: Fewest rows of a month that are judged.
    """
    edges = _edges(months_of(seconds))
    excess = np.full(len(edges) - 1, np.nan, dtype=np.float32)
    days = seconds / _DAY_S
    year_starts = seconds.astype("datetime64[s]").astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    expected = mean + amplitude * np.cos(2 * np.pi * (days - year_starts - warmest_day) / _DAYS_OF_YEAR)
    for month, (start, stop) in enumerate(itertools.pairwise(edges)):
        if stop - start >= min_rows:
            excess[month] = np.nanmean(values[start:stop]) - expected[start:stop].mean()
    return np.repeat(excess, np.diff(edges))


def months_of(seconds: Seconds) -> npt.NDArray[np.int64]:
    """Return the calendar month of each stamp, counted from January 1970; midnight ends the last row of a month."""
    stamps: Any = (seconds - 1).astype("datetime64[s]")
    months: npt.NDArray[np.int64] = stamps.astype("datetime64[M]").astype(np.int64)
    return months


def _edges(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows at which runs of equal numbers begin, with the number of rows at the end."""
    starts = np.flatnonzero(np.diff(groups)) + 1
    return np.concatenate(([0], starts, [len(groups)])) if len(groups) else np.zeros(1, dtype=np.int64)
