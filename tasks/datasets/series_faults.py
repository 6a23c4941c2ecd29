"""Signs of faults in instruments and clocks of a regular time series, one value a row, so that expectations can judge them.

Values that are all plausible can still be wrong: a sensor repeats its last reading, two columns are exchanged for a week, a
clock is set to summer time. Each function turns one such fault into a number that is small in sound data. Stamps are
seconds since 1970 on the clock of the series, rising.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]]
Hours = npt.NDArray[np.float32]

_DAY_S = 86_400
# The seasons in which the sun drives the temperature: April to June and July to September.
_WARM_QUARTERS = (1, 2)


def unchanged_hours(
    values: Values, *, row_seconds: int, only: float | None = None, but_for: float | None = None, min_hours: float = 1.0
) -> Hours:
    """Return how long the run of equal values is that each row lies in, 0 for runs shorter than `min_hours`.

    Args:
        values: Readings. A missing one equals none.
        row_seconds: Spacing of the rows.
        only: Count runs of this value alone.
        but_for: Leave runs of this value out.
        min_hours: Length of the shortest run that counts.
    """
    equal = values[1:] == values[:-1]
    if only is not None:
        equal &= values[1:] == only
    if but_for is not None:
        equal &= values[1:] != but_for
    return run_hours(equal, rows=len(values), row_seconds=row_seconds, min_hours=min_hours)


def run_hours(equal: npt.NDArray[np.bool_], *, rows: int, row_seconds: int, min_hours: float = 1.0) -> Hours:
    """Return how long the run of equal rows is that each row lies in, 0 for runs shorter than `min_hours`.

    Args:
        equal: Whether each row but the first equals the one before.
        rows: Number of rows.
        row_seconds: Spacing of the rows.
        min_hours: Length of the shortest run that counts.
    """
    hours = np.zeros(rows, dtype=np.float32)
    # Rows that equal the one before are few, so their neighbourhoods are found faster than those of all rows.
    repeats = np.flatnonzero(equal)
    breaks = np.flatnonzero(np.diff(repeats) != 1) + 1
    starts = repeats[np.concatenate(([0], breaks))] if len(repeats) else repeats
    stops = repeats[np.concatenate((breaks - 1, [-1]))] + 2 if len(repeats) else repeats
    counts = (stops - starts) * row_seconds >= min_hours * 3600
    for start, stop in zip(starts[counts], stops[counts], strict=True):
        hours[start:stop] = (stop - start) * row_seconds / 3600
    return hours


def hours_of_day(flags: npt.NDArray[np.bool_], *, seconds: Seconds, row_seconds: int) -> Hours:
    """Return for how many hours of its day each row's flag is set, in all rows of that day together."""
    if not flags.any():
        return np.zeros(len(flags), dtype=np.float32)
    _, edges = _days(seconds)
    counts = np.add.reduceat(flags, edges[:-1], dtype=np.int64)
    return np.repeat((counts * (row_seconds / 3600)).astype(np.float32), np.diff(edges))


def begins_summer_time(seconds: Seconds, *, row_seconds: int) -> npt.NDArray[np.int64]:
    """Return 1 for a row that follows a gap of exactly one hour in the night of the last Sunday of March, else 0.

    In that night clocks of the European Union go from two to three.
    """
    result = np.zeros(len(seconds), dtype=np.int64)
    for row in np.flatnonzero(np.diff(seconds) == row_seconds + 3600) + 1:
        stamp = seconds[row].astype("datetime64[s]")
        april = stamp.astype("datetime64[Y]").astype("datetime64[M]") + 3
        last_of_march = april.astype("datetime64[D]") - 1
        sunday = last_of_march - (last_of_march.astype(np.int64) + 4) % 7  # 1970-01-01, day 0, was a Thursday
        hours = (stamp - sunday.astype("datetime64[s]")).astype(np.int64) / 3600
        result[row] = 3 <= hours <= 3 + row_seconds / 3600
    return result


def daily_peak_hours(values: Values, *, seconds: Seconds, row_seconds: int, min_days: int = 60) -> Hours:
    """Return the hour at which the daily cycle of each row's quarter is highest, NaN where that cannot be told.

    The cycle is the first harmonic of a day, averaged over the complete days of the quarter. It can be told for April to June
    and July to September with at least `min_days` complete days. In winter the sun moves the temperature too little.

    Args:
        values: Readings that follow the sun.
        seconds: Stamps.
        row_seconds: Spacing of the rows, a divisor of a day.
        min_days: Fewest complete days of a quarter.
    """
    peaks = np.full(len(values), np.nan, dtype=np.float32)
    if not len(values):
        return peaks
    days, edges = _days(seconds)
    rows = _DAY_S // row_seconds
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    quarters = months // 3
    is_complete = np.diff(edges) == rows
    angle = 2 * np.pi * np.arange(rows) / rows
    waves = np.stack((np.cos(angle), np.sin(angle)), axis=1).astype(np.float32)
    for quarter in np.unique(quarters[is_complete]):
        if quarter % 4 not in _WARM_QUARTERS:
            continue
        chosen = np.flatnonzero((quarters == quarter) & is_complete)
        with np.errstate(invalid="ignore"):  # a day with a missing reading is left out
            cycles = values[edges[chosen][:, None] + np.arange(rows)] @ waves
        cycles = cycles[np.isfinite(cycles).all(axis=1)]
        if len(cycles) < min_days:
            continue
        cosine, sine = cycles.mean(axis=0)
        first_s = seconds[edges[chosen[0]]] % _DAY_S
        hour = (np.arctan2(sine, cosine) / (2 * np.pi) * 24 + first_s / 3600) % 24
        peaks[np.repeat(quarters == quarter, np.diff(edges))] = hour
    return peaks


def _days(seconds: Seconds) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the day of each run of rows of one day, and the rows at which the runs begin, with the number of rows at the end."""
    days = seconds // _DAY_S
    starts = np.concatenate(([0], np.flatnonzero(days[1:] != days[:-1]) + 1))
    return days[starts], np.append(starts, len(seconds))
