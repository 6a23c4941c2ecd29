"""How good issued forecasts turned out to be: errors, bias and coverage beside persistence, over time, by season and by hour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.config import MonitorSettings
from tasks.intervals import LEVELS
from tasks.monitoring.seasons import DAY, days_between_seasons

Stamps = npt.NDArray[np.datetime64]
Values = npt.NDArray[np.float64]

# Test errors of the same weeks of the year, so many days to both sides, say what is usual. The whole test split says it where
# it has fewer than this many of them.
SEASON_DAYS = 30
MIN_SEASON_ROWS = 200
# The errors of neighbouring days are alike, so that a coverage strays further than chance alone lets it.
STANDARD_ERRORS = 4
# Meteorological seasons of the northern half of the world, by month.
SEASONS: Mapping[str, tuple[int, ...]] = {
    "December to February": (12, 1, 2),
    "March to May": (3, 4, 5),
    "June to August": (6, 7, 8),
    "September to November": (9, 10, 11),
}


@dataclass(frozen=True)
class Outcomes:
    """Forecasts whose target time has come, each beside what was measured then, in the order of the target times.

    Attributes:
        target: datetime64[s] `(rows,)`.
        error: Forecast minus measurement, in the target's unit.
        naive_error: The same of persistence.
        covered: Whether the measurement lies within the central interval, by its percent; NaN where none was issued.
        version: Model version that issued the forecast.
    """

    target: Stamps
    error: Values
    naive_error: Values
    covered: Mapping[int, Values]
    version: npt.NDArray[np.int64]

    def since(self, first: np.datetime64, last: np.datetime64) -> npt.NDArray[np.bool_]:
        """Return which targets lie after the first stamp and not after the last."""
        flags: npt.NDArray[np.bool_] = (self.target > first) & (self.target <= last)
        return flags


def join_outcomes(issued: pa.Table, *, stamp: Stamps, measured: npt.NDArray[np.floating[Any]]) -> Outcomes:
    """Return the forecasts whose target was measured. Of several versions' forecasts from one window the newest version's counts.

    Args:
        issued: Schema `SERIES_SCHEMA`.
        stamp: datetime64 of the rows of the table, rising.
        measured: The target's column at these stamps, in its unit.
    """
    rows = np.lexsort((issued["model_version"].to_numpy(), _seconds(issued["as_of"]), _seconds(issued["target_time"])))
    table = issued.take(pa.array(rows))
    target, as_of = _seconds(table["target_time"]), _seconds(table["as_of"])
    is_last = np.ones(len(rows), dtype=np.bool_)
    is_last[:-1] = (target[1:] != target[:-1]) | (as_of[1:] != as_of[:-1])
    known = stamp.astype("datetime64[s]").astype(np.int64)
    place = np.searchsorted(known, target).clip(max=max(len(known) - 1, 0))
    keep = is_last & (known[place] == target) if len(known) else np.zeros(len(rows), dtype=np.bool_)
    truth = np.asarray(measured, dtype=np.float64)[place[keep]]

    def column(name: str) -> Values:
        return np.asarray(table[name].to_numpy()[keep], dtype=np.float64)

    covered = {}
    for level in LEVELS:
        lower, upper = column(f"lower_{level}"), column(f"upper_{level}")
        inside = ((truth >= lower) & (truth <= upper)).astype(np.float64)
        covered[level] = np.where(np.isfinite(lower) & np.isfinite(upper), inside, np.nan)
    return Outcomes(
        target=target[keep].astype("datetime64[s]"),
        error=column("prediction") - truth,
        naive_error=column("persistence") - truth,
        covered=covered,
        version=table["model_version"].to_numpy()[keep].astype(np.int64),
    )


def _seconds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(column.to_numpy().astype("datetime64[s]").astype(np.int64))


@dataclass(frozen=True)
class UsualErrors:
    """Absolute errors of the champion on its test split, which say what is usual at a time of the year.

    Attributes:
        target: Stamp of each target.
        error: |forecast - measured|.
        naive_error: The same of persistence.
    """

    target: Stamps
    error: Values
    naive_error: Values

    def usual(self, end: np.datetime64, *, days: int) -> tuple[float, float]:
        """Return the mean absolute errors of model and persistence in the weeks of the year around a window."""
        middle = end - (days * DAY) // 2
        near = days_between_seasons(self.target, middle) <= SEASON_DAYS + days / 2
        rows = near if np.sum(near) >= MIN_SEASON_ROWS else np.ones(len(self.target), dtype=np.bool_)
        return float(np.mean(self.error[rows])), float(np.mean(self.naive_error[rows]))


def rolling(outcomes: Outcomes, *, ends: Sequence[np.datetime64], settings: MonitorSettings) -> list[dict[str, float]]:
    """Return the scores of the last `error_days` days at the end of each day; days with too few forecasts are left out.

    Each entry has `day` (days since 1970 of the last day), `forecasts`, `mae`, `naive_mae`, `bias`, and `coverage_<percent>`
    where intervals were issued.
    """
    found = []
    for end in ends:
        rows = outcomes.since(end - settings.error_days * DAY, end)
        if np.sum(rows) < settings.min_predictions:
            continue
        entry = {"day": float((end.astype("datetime64[D]") - np.datetime64(0, "D")).astype(int) - 1)}
        found.append(entry | scores(outcomes, rows=rows))
    return found


def scores(outcomes: Outcomes, *, rows: npt.NDArray[Any]) -> dict[str, float]:
    """Return number, mean absolute errors, bias and coverage of some outcomes, at least one."""
    values = {
        "forecasts": float(np.sum(rows)),
        "mae": float(np.mean(np.abs(outcomes.error[rows]))),
        "naive_mae": float(np.mean(np.abs(outcomes.naive_error[rows]))),
        "bias": float(np.mean(outcomes.error[rows])),
    }
    for level, covered in outcomes.covered.items():
        issued = covered[rows][np.isfinite(covered[rows])]
        if len(issued):
            values[f"coverage_{level}"] = float(np.mean(issued))
    return values


def by_season(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return the scores by season of the target; a season without targets is left out."""
    month = outcomes.target.astype("datetime64[M]").astype(int) % 12 + 1
    groups = {name: np.isin(month, months) for name, months in SEASONS.items()}
    return {name: scores(outcomes, rows=rows) for name, rows in groups.items() if rows.any()}


def by_hour(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return the scores by hour of day of the target, on the clock of the series."""
    hour = outcomes.target.astype("datetime64[h]").astype(int) % 24
    return {f"{value:02d}": scores(outcomes, rows=hour == value) for value in np.unique(hour)}


def error_excess(
    entry: Mapping[str, float], *, usual_mae: float, usual_naive_mae: float, settings: MonitorSettings
) -> tuple[float, dict[str, float]]:
    """Return by how much an error is too large, above 1 if it is, with the numbers that this rests on.

    An error is too large only if it is above `max_error_ratio` times both the usual error of these weeks of the year, and the
    error that these days lead to expect: that of persistence, in the usual proportion. Weather that is hard to forecast makes
    persistence worse too.
    """
    expected = entry["naive_mae"] * usual_mae / usual_naive_mae
    numbers = {
        "mae": entry["mae"],
        "mae of these weeks in the test split": usual_mae,
        "mae that persistence leads to expect": expected,
    }
    return entry["mae"] / (settings.max_error_ratio * max(usual_mae, expected)), numbers


def low_coverage(entry: Mapping[str, float], *, settings: MonitorSettings) -> dict[str, float]:
    """Return the coverages of rolling scores that are too small, by name."""
    found = {}
    for level in LEVELS:
        promised, covered = level / 100, entry.get(f"coverage_{level}")
        standard_error = math.sqrt(promised * (1 - promised) / entry["forecasts"])
        smallest = promised - max(settings.max_coverage_gap, STANDARD_ERRORS * standard_error)
        if covered is not None and covered < smallest:
            found[f"coverage_{level}"] = covered
    return found
