"""The daily cycle of a reading that follows the sun: its harmonics over some days, and what they tell of the order of the rows.

Rows at another time of the day move the hour at which the cycle is highest. Rows that run backwards turn its shape round: what
rises fast and falls slowly then rises slowly and falls fast, which the biphase of the first two harmonics tells, wherever the
days begin. Stamps are seconds since 1970 on the clock of the series, rising.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.datasets.series_faults import Hours, Seconds, Values

Harmonic = npt.NDArray[np.complex128]
"""A row's harmonic of the days around it: half the range as its magnitude, minus the phase of its maximum as its angle."""

_DAY_S = 86_400


@dataclass(frozen=True)
class DailyCycle:
    """The daily cycle of a regular series.

    Attributes:
        once: A row's reading less the mean of the day around it, times the wave of one cycle a day.
        twice: The same with the wave of two.
    """

    once: Harmonic
    twice: Harmonic
    seconds: Seconds
    row_seconds: int

    @classmethod
    def of(cls, values: Values, *, seconds: Seconds, row_seconds: int) -> Self:
        """Take what is slower than a day from readings, and multiply the rest by the waves."""
        day_means = _means_around(values, seconds=seconds, row_seconds=row_seconds, rows=_DAY_S // row_seconds)
        wave = np.exp(-2j * np.pi * (seconds % _DAY_S) / _DAY_S)
        once = (values - day_means) * wave
        return cls(once, once * wave, seconds, row_seconds)

    def once_a_day(self, *, days: int) -> Harmonic:
        """Return the wave of one cycle a day over the `days` days around each row, NaN where a row of them is missing."""
        return self._harmonic(self.once, days=days)

    def twice_a_day(self, *, days: int) -> Harmonic:
        """Return the wave of two cycles a day over the `days` days around each row, NaN where a row of them is missing."""
        return self._harmonic(self.twice, days=days)

    def _harmonic(self, products: Harmonic, *, days: int) -> Harmonic:
        rows = days * _DAY_S // self.row_seconds
        return 2 * _means_around(products, seconds=self.seconds, row_seconds=self.row_seconds, rows=rows)


def highest_hour(once_a_day: Harmonic) -> Hours:
    """Return the hour of the day, from 0 to 24, at which the wave of one cycle a day is highest."""
    hours: Hours = (-np.angle(once_a_day) * 24 / (2 * np.pi) % 24).astype(np.float32)
    return hours


def amplitude_at(once_a_day: Harmonic, *, hour: float) -> npt.NDArray[np.float32]:
    """Return the part of the wave of one cycle a day that is highest at an hour; below 0 where the cycle stands against it."""
    part: npt.NDArray[np.float32] = (once_a_day * np.exp(2j * np.pi * hour / 24)).real.astype(np.float32)
    return part


def biphase_deg(once_a_day: Harmonic, twice_a_day: Harmonic, *, min_amplitude: float) -> npt.NDArray[np.float32]:
    """Return the biphase of the daily cycle in degrees, from -90 to 270.

    The biphase is twice the phase of the first harmonic less that of the second; Elgar and Guza (1985) tell the asymmetry of
    waves by it. It is 90 of a saw tooth that rises at once and falls slowly, and -90 of one that rises slowly and falls at once.
    Where the day begins does not change it; the other direction of time changes its sign.

    Args:
        once_a_day: The first harmonic.
        twice_a_day: The second.
        min_amplitude: Where the second is smaller, the shape is not judged: NaN.
    """
    angle = np.degrees(-np.angle(once_a_day**2 * np.conj(twice_a_day)))
    is_large = np.abs(twice_a_day) >= min_amplitude
    biphase: npt.NDArray[np.float32] = np.where(is_large, (angle + 90) % 360 - 90, np.nan).astype(np.float32)
    return biphase


def _means_around(values: npt.NDArray[Any], *, seconds: Seconds, row_seconds: int, rows: int) -> npt.NDArray[Any]:
    """Return the mean of the `rows` rows around each row, NaN where one of them is missing or has no reading."""
    means = np.full(len(values), np.nan, dtype=np.result_type(values.dtype, np.float64))
    if len(values) < rows:
        return means
    is_missing = np.isnan(values)
    sums = _running_sums(np.where(is_missing, 0, values).astype(means.dtype), rows=rows)
    is_whole = seconds[rows - 1 :] - seconds[: len(seconds) - rows + 1] == (rows - 1) * row_seconds
    is_whole &= _running_sums(is_missing.astype(np.int64), rows=rows) == 0
    means[rows // 2 : rows // 2 + len(sums)] = np.where(is_whole, sums / rows, np.nan)
    return means


def _running_sums(values: npt.NDArray[Any], *, rows: int) -> npt.NDArray[Any]:
    sums = np.concatenate((np.zeros(1, dtype=values.dtype), np.cumsum(values)))
    differences: npt.NDArray[Any] = sums[rows:] - sums[:-rows]
    return differences
