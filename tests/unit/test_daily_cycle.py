"""The daily cycle on waves whose hours and shapes are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets.daily_cycle import DailyCycle, amplitude_at, biphase_deg, highest_hour

HOUR_S, DAY_ROWS = 3_600, 24


def wave(days: int, *, hour: float, amplitude: float = 4, saw: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hourly readings that are highest at an hour; `saw` is a second harmonic that makes them rise fast."""
    rows = np.arange(days * DAY_ROWS)
    angle = 2 * np.pi * (rows % DAY_ROWS - hour) / DAY_ROWS
    # A saw tooth that rises at once and falls slowly is the sum of sin(n x) / n; here x is 90 degrees at the highest hour.
    readings = amplitude * np.cos(angle) + saw * np.sin(2 * (angle + np.pi / 2))
    return readings, rows * HOUR_S


def test_the_hour_and_the_amplitude_of_a_wave_are_found_under_a_trend() -> None:
    readings, seconds = wave(7, hour=15, amplitude=4)
    once = DailyCycle.of(readings + 0.02 * np.arange(len(readings)), seconds=seconds, row_seconds=HOUR_S).once_a_day(days=3)
    # A day around row i is of the rows i - 12 to i + 11, three days are of i - 36 to i + 35: 48 rows before, 46 behind.
    whole = np.flatnonzero(np.isfinite(once))
    assert (whole[0], whole[-1]) == (48, len(readings) - 47)
    assert highest_hour(once)[whole] == pytest.approx(15)
    assert np.abs(once)[whole] == pytest.approx(4)
    assert amplitude_at(once, hour=15)[whole] == pytest.approx(4)
    assert amplitude_at(once, hour=3)[whole] == pytest.approx(-4)
    assert amplitude_at(once, hour=21)[whole] == pytest.approx(0, abs=1e-6)


@given(hour=st.integers(0, 23), cut=st.integers(0, 23))
def test_rows_that_run_backwards_turn_the_biphase_round_wherever_they_begin(hour: int, cut: int) -> None:
    readings, seconds = wave(8, hour=hour, saw=1)
    biphases = []
    for values in (readings[cut:], readings[cut:][::-1]):
        cycle = DailyCycle.of(values, seconds=seconds[: len(values)], row_seconds=HOUR_S)
        biphases.append(biphase_deg(cycle.once_a_day(days=2), cycle.twice_a_day(days=2), min_amplitude=0.5))
    forward, backward = (values[np.isfinite(values)] for values in biphases)
    assert forward == pytest.approx(90, abs=1e-3)
    # -90 and 270 are one angle.
    assert (backward + 90) % 360 == pytest.approx(0, abs=1e-3) or (backward + 90) % 360 == pytest.approx(360, abs=1e-3)


def test_a_small_second_harmonic_tells_no_shape() -> None:
    readings, seconds = wave(8, hour=15, saw=0.2)
    cycle = DailyCycle.of(readings, seconds=seconds, row_seconds=HOUR_S)
    harmonics = cycle.once_a_day(days=2), cycle.twice_a_day(days=2)
    assert np.isnan(biphase_deg(*harmonics, min_amplitude=0.21)).all()
    assert np.isfinite(biphase_deg(*harmonics, min_amplitude=0.19)).sum() == len(readings) - (24 - 1) - (48 - 1)


def test_days_with_a_gap_or_without_a_reading_are_not_judged() -> None:
    readings, seconds = wave(9, hour=15)
    missing = readings.copy()
    missing[100] = np.nan
    later = np.where(np.arange(len(seconds)) >= 100, seconds + HOUR_S, seconds)
    whole = len(readings) - 2 * (24 - 1)
    # The missing row 100 lies in the days around rows 89 to 112, and one of these in the windows around rows 78 to 124; the gap
    # before it lies in the days around rows 89 to 111, and so in the windows around rows 78 to 123.
    for values, times, lost, hours in ((missing, seconds, 47, {15}), (readings, later, 46, {15, 16})):
        once = DailyCycle.of(values, seconds=times, row_seconds=HOUR_S).once_a_day(days=1)
        judged = np.isfinite(once)
        assert judged.sum() == whole - lost
        assert set(highest_hour(once)[judged].round(4).tolist()) == hours


@pytest.mark.parametrize("rows", [0, 1, 23, 24])
def test_short_series_are_not_judged(rows: int) -> None:
    readings, seconds = wave(1, hour=15)
    cycle = DailyCycle.of(readings[:rows], seconds=seconds[:rows], row_seconds=HOUR_S)
    once, twice = cycle.once_a_day(days=1), cycle.twice_a_day(days=1)
    assert len(once) == len(twice) == rows
    assert np.isnan(once).all()
    assert np.isnan(highest_hour(once)).all()
