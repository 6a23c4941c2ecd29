"""The inputs of a forecast compared with the same weeks of the years that it was trained on.

A window of some weeks is not compared with all of the training rows, because July differs from the mean of a year without
anything being wrong. It is compared with the same weeks of the other years. How far a sound year lies from the others is seen in
the training span itself: each of its years is compared with its other years, window by window. A threshold is a multiple of the
largest such distance, so that it is one for this column of this station.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.config import MonitorSettings
from tasks.monitoring.drift import population_stability_index, wasserstein_in_std

Stamps = npt.NDArray[np.datetime64]
Values = npt.NDArray[np.float32]

DAY_S = 86_400
DAY = np.timedelta64(DAY_S, "s")
YEAR_DAYS = 365.2425
# The same weeks of another year are widened by so much on both sides: a season may come early or late.
MARGIN_DAYS = 10
# Every tenth day of the training span ends a window from which thresholds are taken.
THRESHOLD_STRIDE_DAYS = 10
# The clock is at fault if the daily cycle peaks so many times further off than in any training year at this time of the year.
CLOCK_FACTOR, CLOCK_SEASON_DAYS = 1.5, 30
# A window counts with at least this share of its rows.
MIN_SHARE = 0.5
HOUR_S = 3600


@dataclass(frozen=True)
class Hourly:
    """A series thinned to one row an hour, or as it is where its rows are rarer: its rows hardly differ within an hour.

    Attributes:
        stamp: datetime64[s], rising.
        columns: float32 `(rows,)` by name, in their own units.
        row_seconds: Spacing of the rows after thinning.
    """

    stamp: Stamps
    columns: Mapping[str, Values]
    row_seconds: int

    @classmethod
    def thinned(cls, stamp: Stamps, *, columns: Mapping[str, Values], row_seconds: int) -> Hourly:
        """Return the rows of a series whose stamps are whole hours, or all rows where an hour has none or one."""
        seconds = stamp.astype("datetime64[s]").astype(np.int64)
        keep = slice(None) if HOUR_S % row_seconds or row_seconds >= HOUR_S else seconds % HOUR_S == 0
        kept_seconds = row_seconds if isinstance(keep, slice) else HOUR_S
        return cls(
            stamp=seconds[keep].astype("datetime64[s]"),
            columns={name: values[keep] for name, values in columns.items()},
            row_seconds=kept_seconds,
        )

    def window(self, first: np.datetime64, last: np.datetime64) -> slice:
        """Return the rows after the first stamp and not after the last."""
        start, stop = np.searchsorted(self.stamp, [first, last], side="right")
        return slice(int(start), int(stop))


@dataclass(frozen=True)
class Thresholds:
    """Distances of one column above which it has drifted, and from how many comparisons within the training span they are."""

    psi: float
    wasserstein_std: float
    comparisons: int


@dataclass(frozen=True)
class Distance:
    """The distance of one column's window from the same weeks of the training years.

    Attributes:
        mean, reference_mean: Means of both, in the column's unit.
        years: How many training years have these weeks.
    """

    psi: float
    wasserstein_std: float
    mean: float
    reference_mean: float
    years: int

    def excess(self, thresholds: Thresholds) -> float:
        """Return the smaller of both distances in units of its threshold: above 1 both say that the column has drifted."""
        return min(self.psi / thresholds.psi, self.wasserstein_std / thresholds.wasserstein_std)


class SeasonalReference:
    """The training span of a series as what its windows are compared with."""

    def __init__(self, series: Hourly, *, last: np.datetime64, window_days: int) -> None:
        """Take the rows of a series up to the last one that trained."""
        self.series, self.last, self.window_days = series, last, window_days
        self._first = series.stamp[0]
        self._sound_shifts: dict[tuple[str, int], list[tuple[np.datetime64, float]]] = {}

    def other_years(self, end: np.datetime64) -> list[slice]:
        """Return the rows of the same weeks of every training year but the window's own."""
        return [self._widened(moved, days=self.window_days) for moved in self._moved(end)]

    def _moved(self, end: np.datetime64) -> list[np.datetime64]:
        """Return the ends of the same window in other years, where the training span has at least half of it."""
        earliest = math.ceil(float((self._first - end) / DAY) / YEAR_DAYS)
        latest = math.floor(float((self.last - end) / DAY) / YEAR_DAYS)
        ends = [end + round(years * YEAR_DAYS) * DAY for years in range(earliest, latest + 1) if years]
        return [moved for moved in ends if self._is_whole(moved, days=self.window_days)]

    def _is_whole(self, end: np.datetime64, *, days: int) -> bool:
        """Tell whether the series has enough of the rows of a window."""
        rows = self.series.window(end - days * DAY, end)
        return bool(rows.stop - rows.start >= MIN_SHARE * (days * DAY / np.timedelta64(self.series.row_seconds, "s")))

    def _widened(self, end: np.datetime64, *, days: int) -> slice:
        """Return the rows of a window and of some days around it, none after the training span."""
        return self.series.window(end - (days + MARGIN_DAYS) * DAY, min(end + MARGIN_DAYS * DAY, self.last))

    def distance(self, column: str, *, end: np.datetime64, values: Values | None = None) -> Distance | None:
        """Return how far a column's window lies from the same weeks of other years, or None if one of both is not there.

        Args:
            column: Column of the series.
            end: Last stamp of the window.
            values: What is compared in the place of the column's own window, such as predictions of it.
        """
        others = self.other_years(end)
        if not others or (values is None and not self._is_whole(end, days=self.window_days)):
            return None
        readings = self.series.columns[column]
        current = readings[self.series.window(end - self.window_days * DAY, end)] if values is None else values
        reference = np.concatenate([readings[other] for other in others])
        return Distance(
            psi=population_stability_index(current, reference=reference),
            wasserstein_std=wasserstein_in_std(current, reference=reference),
            mean=float(np.mean(current, dtype=np.float64)),
            reference_mean=float(np.mean(reference, dtype=np.float64)),
            years=len(others),
        )

    def threshold_ends(self) -> list[np.datetime64]:
        """Return the ends of the windows of the training span from which thresholds are taken."""
        count = int((self.last - self._first) / DAY)
        return [self._first + day * DAY for day in range(self.window_days, count, THRESHOLD_STRIDE_DAYS)]

    def thresholds(self, settings: MonitorSettings) -> dict[str, Thresholds]:
        """Return the thresholds of every column; empty if no two years of the training span have a week in common."""
        found: dict[str, Thresholds] = {}
        for column in self.series.columns:
            distances = [self.distance(column, end=end) for end in self.threshold_ends()]
            known = [distance for distance in distances if distance is not None]
            if known:
                found[column] = Thresholds(
                    psi=max(settings.min_psi, settings.drift_factor * max(distance.psi for distance in known)),
                    wasserstein_std=max(
                        settings.min_wasserstein_std,
                        settings.drift_factor * max(distance.wasserstein_std for distance in known),
                    ),
                    comparisons=len(known),
                )
        return found

    def peak_shift_hours(self, column: str, *, end: np.datetime64, days: int, min_years: int = 1) -> float | None:
        """Return how much later than in the same weeks of other years the column's daily cycle peaks, or None if unknown.

        Args:
            column: Column that follows the sun.
            end: Last stamp of the window.
            days: Length of the window.
            min_years: Fewest other years that tell it.
        """
        own = self._peak(column, first=end - days * DAY, last=end)
        others = [
            self._peak(column, first=moved - (days + MARGIN_DAYS) * DAY, last=min(moved + MARGIN_DAYS * DAY, self.last))
            for moved in self._moved(end)
        ]
        hours = [hour for hour in others if hour is not None]
        if own is None or len(hours) < min_years:
            return None
        turns = np.exp(2j * np.pi * np.asarray(hours) / 24).mean()
        usual = float(np.angle(turns)) * 24 / (2 * np.pi)
        return (own - usual + 12) % 24 - 12

    def _peak(self, column: str, *, first: np.datetime64, last: np.datetime64) -> float | None:
        """Return the hour at which the first harmonic of the day is highest, or None for too few rows."""
        if not self._is_whole(last, days=int((last - first) / DAY)):
            return None
        rows = self.series.window(first, last)
        angle = 2 * np.pi * (self.series.stamp[rows].astype(np.int64) % DAY_S) / DAY_S
        values = self.series.columns[column][rows].astype(np.float64)
        wave = np.sum((values - values.mean()) * np.exp(1j * angle))
        return float(np.angle(wave) * 24 / (2 * np.pi)) % 24

    def sound_peak_shifts(self, column: str, *, days: int) -> list[tuple[np.datetime64, float]]:
        """Return the shift of the daily cycle at the end of windows of the training span, in hours, without its sign."""
        if (column, days) not in self._sound_shifts:
            shifts = [(end, self.peak_shift_hours(column, end=end, days=days)) for end in self.threshold_ends()]
            self._sound_shifts[column, days] = [(end, abs(shift)) for end, shift in shifts if shift is not None]
        return self._sound_shifts[column, days]

    def take_sound_shifts(self, other: SeasonalReference) -> None:
        """Take what another reference with the same training span has computed."""
        self._sound_shifts = other._sound_shifts


def clock_threshold_hours(
    sound: Sequence[tuple[np.datetime64, float]], *, end: np.datetime64, settings: MonitorSettings
) -> float | None:
    """Return the largest sound shift of the daily cycle at a time of the year, or None if the training span does not tell it.

    In winter the sun hardly moves the temperature and the cycle peaks anywhere, so the threshold is one of the season.

    Args:
        sound: What `SeasonalReference.sound_peak_shifts` returned.
        end: Last stamp of the window that is judged.
        settings: The smallest threshold.
    """
    near = [shift for stamp, shift in sound if days_between_seasons(stamp, end) <= CLOCK_SEASON_DAYS]
    return max(settings.min_clock_shift_hours, CLOCK_FACTOR * max(near)) if near else None


def days_between_seasons(one: Stamps | np.datetime64, other: np.datetime64) -> npt.NDArray[np.float64]:
    """Return how many days of the year lie between stamps and another stamp, whatever their years: at most half a year."""
    days = np.abs((one - other) / DAY) % YEAR_DAYS
    return np.asarray(np.minimum(days, YEAR_DAYS - days))


def days_watched(stamp: Stamps, *, after: np.datetime64, at_most: int) -> Sequence[np.datetime64]:
    """Return the midnights that end each whole day after a stamp, the newest last.

    Args:
        stamp: Stamps of the series, rising; each marks the end of its reading.
        after: Days that begin before this stamp are left out.
        at_most: How many of the newest days are returned.
    """
    if not len(stamp):
        return []
    last = stamp[-1].astype("datetime64[D]")
    first = (after - np.timedelta64(1, "s")).astype("datetime64[D]") + 1
    ends = np.arange(first + 1, last + 1).astype("datetime64[s]")
    return list(ends[-at_most:])
