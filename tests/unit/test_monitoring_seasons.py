"""Inputs are compared with the same weeks of other years, so that a season is no drift."""

from __future__ import annotations

import numpy as np
import pytest
from monitoring_helpers import DAY, TARGET, watched, weather

from tasks.config import MonitorSettings
from tasks.monitoring.drift import population_stability_index, wasserstein_in_std
from tasks.monitoring.faults import Fault
from tasks.monitoring.findings import WEATHER, Finding
from tasks.monitoring.seasons import (
    Distance,
    Hourly,
    SeasonalReference,
    Thresholds,
    clock_threshold_hours,
    days_between_seasons,
    days_watched,
)
from tasks.monitoring.series import clock_fault, drift_history, drifted_inputs

SETTINGS = MonitorSettings()
YEARS = 4
TRAINED_UNTIL = np.datetime64("2012-01-01T00:00:00")


def hourly(values: np.ndarray, *, start: str) -> Hourly:
    stamp = np.datetime64(start, "s") + np.arange(len(values)) * np.timedelta64(3600, "s")
    return Hourly(stamp=stamp, columns={"x": values.astype(np.float32)}, row_seconds=3600)


def test_ten_minute_rows_are_thinned_to_hours_and_rare_rows_are_kept() -> None:
    stamp = np.datetime64("2009-01-01T00:10:00") + np.arange(12) * np.timedelta64(600, "s")
    thinned = Hourly.thinned(stamp, columns={"x": np.arange(12, dtype=np.float32)}, row_seconds=600)
    assert (thinned.columns["x"].tolist(), thinned.row_seconds) == ([5.0, 11.0], 3600)
    days = np.datetime64("2009-01-01T09:00:00") + np.arange(3) * DAY
    kept = Hourly.thinned(days, columns={"x": np.arange(3, dtype=np.float32)}, row_seconds=86_400)
    assert (kept.columns["x"].tolist(), kept.row_seconds) == ([0.0, 1.0, 2.0], 86_400)


def test_the_days_that_are_watched_are_whole_and_begin_after_the_training() -> None:
    stamp = np.datetime64("2020-01-01T00:10:00") + np.arange(4 * 144) * np.timedelta64(600, "s")  # to January 5th, midnight

    def days(after: str, *, at_most: int = 9) -> list[str]:
        return [str(day)[:10] for day in days_watched(stamp, after=np.datetime64(after, "s"), at_most=at_most)]

    # A reading that ends at midnight belongs to the day before.
    assert days("2020-01-02T00:00:00") == ["2020-01-03", "2020-01-04", "2020-01-05"]
    assert days("2020-01-02T00:10:00") == ["2020-01-04", "2020-01-05"]
    assert days("2020-01-02T00:00:00", at_most=1) == ["2020-01-05"]
    assert days("2020-01-05T00:00:00") == []
    assert days_watched(stamp[:0], after=stamp[0], at_most=3) == []


def test_seasons_lie_at_most_half_a_year_apart() -> None:
    march = np.datetime64("2020-03-01T00:00:00")
    assert float(days_between_seasons(np.datetime64("2010-03-01T00:00:00"), march)) == pytest.approx(0, abs=1)
    assert float(days_between_seasons(np.datetime64("2031-04-01T00:00:00"), march)) == pytest.approx(31, abs=1)
    assert float(days_between_seasons(np.datetime64("2020-12-31T00:00:00"), march)) == pytest.approx(60, abs=1)


def test_a_window_is_compared_with_the_same_weeks_of_the_other_years_that_trained() -> None:
    # x is the number of its year, the same in every hour: 0, 1, 2, and 7 in the year that is watched.
    values = np.repeat([0.0, 1.0, 2.0, 7.0], [8760, 8760, 8760, 8784])
    reference = SeasonalReference(hourly(values, start="2009-01-01T01:00:00"), last=TRAINED_UNTIL, window_days=30)
    distance = reference.distance("x", end=np.datetime64("2012-06-01T00:00:00"))
    assert distance is not None
    assert (distance.mean, distance.reference_mean, distance.years) == (7.0, 1.0, 3)
    # (7 + 6 + 5) / 3 = 6 from there to here; the standard deviation of 0, 1, 2 is sqrt(2 / 3).
    assert distance.wasserstein_std == pytest.approx(6 / np.sqrt(2 / 3), rel=1e-3)
    # A window within the training span is not compared with itself.
    within = reference.distance("x", end=np.datetime64("2010-06-01T00:00:00"))
    assert within is not None
    assert (within.mean, within.reference_mean, within.years) == (1.0, 1.0, 2)


def test_a_span_of_less_than_a_year_compares_nothing() -> None:
    reference = SeasonalReference(hourly(np.arange(6000.0), start="2009-01-01T01:00:00"), last=TRAINED_UNTIL, window_days=30)
    assert reference.distance("x", end=np.datetime64("2009-07-01T00:00:00")) is None
    assert reference.thresholds(SETTINGS) == {}


def test_a_gap_is_no_window() -> None:
    values = np.zeros(4 * 8766)
    series = hourly(values, start="2009-01-01T01:00:00")
    kept = (series.stamp < np.datetime64("2012-05-10")) | (series.stamp > np.datetime64("2012-06-05"))
    with_gap = Hourly(series.stamp[kept], {"x": series.columns["x"][kept]}, 3600)
    reference = SeasonalReference(with_gap, last=TRAINED_UNTIL, window_days=30)
    assert reference.distance("x", end=np.datetime64("2012-06-05T00:00:00")) is None
    assert reference.distance("x", end=np.datetime64("2012-08-01T00:00:00")) is not None


def test_both_distances_must_exceed_their_thresholds() -> None:
    limits = Thresholds(psi=0.5, wasserstein_std=2.0, comparisons=9)
    assert Distance(psi=1.0, wasserstein_std=3.0, mean=0, reference_mean=0, years=3).excess(limits) == 1.5
    assert Distance(psi=0.4, wasserstein_std=9.0, mean=0, reference_mean=0, years=3).excess(limits) == pytest.approx(0.8)


@pytest.fixture(scope="module")
def years() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return weather(round(YEARS * 365.25))


@pytest.fixture(scope="module")
def reference(years: tuple[np.ndarray, dict[str, np.ndarray]]) -> SeasonalReference:
    return reference_of(*years)


def reference_of(stamp: np.ndarray, columns: dict[str, np.ndarray]) -> SeasonalReference:
    thinned = Hourly.thinned(stamp, columns=columns, row_seconds=600)
    return SeasonalReference(thinned, last=TRAINED_UNTIL, window_days=SETTINGS.drift_days)


@pytest.fixture(scope="module")
def thresholds(reference: SeasonalReference) -> dict[str, Thresholds]:
    return reference.thresholds(SETTINGS)


def test_no_season_trips_the_thresholds_though_all_differ_from_the_whole_year(
    years: tuple[np.ndarray, dict[str, np.ndarray]], reference: SeasonalReference, thresholds: dict[str, Thresholds]
) -> None:
    stamp, columns = years
    ends = days_watched(stamp, after=TRAINED_UNTIL, at_most=366)[29::20]
    history = drift_history(reference, thresholds=thresholds, ends=ends)
    assert len(history) == len(ends) * len(columns)
    assert max(entry["excess"] for entry in history) < 1
    # The same windows against all that trained: the yearly cycle alone is far above what is called another sample.
    trained = columns[TARGET][stamp <= TRAINED_UNTIL]
    windows = [columns[TARGET][(stamp > end - 30 * DAY) & (stamp <= end)] for end in ends]
    assert max(population_stability_index(window, reference=trained) for window in windows) > 1
    assert max(wasserstein_in_std(window, reference=trained) for window in windows) > 1


def warmer(columns: dict[str, np.ndarray], *, stamp: np.ndarray) -> dict[str, np.ndarray]:
    return columns | {TARGET: columns[TARGET] + 9 * (stamp > TRAINED_UNTIL).astype(np.float32)}


def drifted(
    columns: dict[str, np.ndarray], *, stamp: np.ndarray, thresholds: dict[str, Thresholds], faults: tuple[Fault, ...] = ()
) -> dict[str, Finding]:
    findings = drifted_inputs(
        watched(stamp, columns, trained_until=TRAINED_UNTIL),
        reference=reference_of(stamp, columns),
        thresholds=thresholds,
        faults=faults,
        ends=[np.datetime64("2012-06-01T00:00:00")],
        settings=SETTINGS,
    )
    return {finding.subject: finding for finding in findings}


def test_a_season_that_is_nine_degrees_warmer_is_unusual_weather_unless_the_sensor_is_at_fault(
    years: tuple[np.ndarray, dict[str, np.ndarray]], thresholds: dict[str, Thresholds]
) -> None:
    stamp, columns = years
    moved = warmer(columns, stamp=stamp)
    (finding,) = drifted(moved, stamp=stamp, thresholds=thresholds).values()
    assert (finding.subject, finding.verdict, finding.cause) == (TARGET, WEATHER, "weather")
    assert finding.numbers["mean"] - finding.numbers["mean of the same weeks"] == pytest.approx(9, abs=3)
    assert finding.numbers["years"] == 3
    fault = Fault(columns=(TARGET,), day="2012-05-20", reason="it has stayed the same", numbers={})
    (told,) = drifted(moved, stamp=stamp, thresholds=thresholds, faults=(fault,)).values()
    assert (told.verdict, told.cause) == (f"fault of {TARGET}", "fault")


def test_a_column_that_no_law_ties_has_drifted_for_a_reason_that_nothing_tells(
    years: tuple[np.ndarray, dict[str, np.ndarray]], thresholds: dict[str, Thresholds]
) -> None:
    stamp, columns = years
    turned = np.where(stamp > TRAINED_UNTIL, 20.0, columns["wind_direction_deg"]).astype(np.float32)
    (finding,) = drifted(columns | {"wind_direction_deg": turned}, stamp=stamp, thresholds=thresholds).values()
    assert (finding.subject, finding.verdict) == ("wind_direction_deg", "drift")


def test_two_years_do_not_show_how_far_years_differ(
    years: tuple[np.ndarray, dict[str, np.ndarray]], thresholds: dict[str, Thresholds]
) -> None:
    stamp, columns = years
    later = stamp > np.datetime64("2010-01-01T00:00:00")
    moved = {name: values[later] for name, values in warmer(columns, stamp=stamp).items()}
    assert drifted(moved, stamp=stamp[later], thresholds=thresholds) == {}


def test_a_clock_that_is_an_hour_ahead_is_found_in_summer(years: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    stamp, columns = years
    end = np.datetime64("2012-07-15T00:00:00")
    sound = reference_of(stamp, columns)
    assert clock_fault(sound, column=TARGET, end=end, settings=SETTINGS) is None
    ahead = np.where(stamp > np.datetime64("2012-06-01"), stamp + np.timedelta64(3600, "s"), stamp)
    shifted = reference_of(ahead, columns)
    hours = shifted.peak_shift_hours(TARGET, end=end, days=30)
    usual = sound.peak_shift_hours(TARGET, end=end, days=30)
    assert hours is not None
    assert usual is not None
    assert hours - usual == pytest.approx(1, abs=0.05)
    fault = clock_fault(shifted, column=TARGET, end=end, settings=SETTINGS)
    assert fault is not None
    assert fault.subject == "the clock"
    assert clock_fault(shifted, column="", end=end, settings=SETTINGS) is None


def test_the_threshold_of_the_clock_is_that_of_the_season() -> None:
    january, july = np.datetime64("2010-01-15T00:00:00"), np.datetime64("2010-07-15T00:00:00")
    sound = [(january, 2.0), (january, 1.0), (july, 0.2)]
    assert clock_threshold_hours(sound, end=np.datetime64("2012-01-20T00:00:00"), settings=SETTINGS) == 3.0
    assert clock_threshold_hours(sound, end=np.datetime64("2012-07-20T00:00:00"), settings=SETTINGS) == 0.6
    assert clock_threshold_hours(sound, end=np.datetime64("2012-10-20T00:00:00"), settings=SETTINGS) is None
