"""Broken sensors are named, and told apart from weather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from monitoring_helpers import DAY, TARGET, watched, weather

from tasks.config import MonitorSettings
from tasks.datasets.jena import physics
from tasks.datasets.spec import FaultSign
from tasks.monitoring.faults import faults_of_days, is_outside, jumps, largest_changes, name_faults
from tasks.monitoring.series import sensor_faults

SETTINGS = MonitorSettings()
LAST_DAY = 80
TIE = FaultSign("a_minus_b", ("a", "b"), -1, 1, "a = b")
OTHER_TIE = FaultSign("a_minus_c", ("a", "c"), -1, 1, "a = c")
INEQUALITY = FaultSign("d_above_b", ("d", "b"), 0, None, "d is not below b", is_equation=False)
STUCK = FaultSign("c_unchanged_h", ("c",), 0, 6, "c changes within 6 h")
SIGNS = (TIE, OTHER_TIE, INEQUALITY, STUCK)
SOUND = {sign.column: 0.0 for sign in SIGNS}


def named(**hours: float) -> list[tuple[str, ...]]:
    return [fault.columns for fault in name_faults(SOUND | hours, signs=SIGNS, day="2020-03-01", max_hours=3)]


def test_the_column_in_every_broken_law_is_at_fault() -> None:
    assert named() == []
    assert named(a_minus_b=3.0) == []
    # Both laws with a are broken: b and c explain one each. One alone is broken, and the other, which holds, speaks for a.
    assert named(a_minus_b=24, a_minus_c=24) == [("a",)]
    assert named(a_minus_b=24) == [("b",)]
    assert named(a_minus_c=24) == [("c",)]
    # The law a = b holds and speaks for b.
    assert named(d_above_b=24) == [("d",)]
    assert named(a_minus_c=24, d_above_b=24) == [("c",), ("d",)]


def test_a_law_of_two_columns_that_are_in_no_other_names_both() -> None:
    (fault,) = name_faults({"a_minus_b": 24.0}, signs=(TIE,), day="2020-03-01", max_hours=3)
    assert (fault.columns, fault.subject) == (("a", "b"), "a or b")


def test_a_stuck_sensor_explains_its_broken_laws() -> None:
    assert named(c_unchanged_h=1, a_minus_c=24) == [("c",)]


def test_a_fault_is_named_once_with_its_first_day() -> None:
    broken = SOUND | {"a_minus_b": 24.0}
    days = {"2020-03-02": broken, "2020-03-01": broken, "2020-02-28": SOUND}
    (fault,) = faults_of_days(days, signs=SIGNS, max_hours=3)
    assert (fault.subject, fault.day) == ("b", "2020-03-01")


def test_a_missing_residual_is_not_outside() -> None:
    values = np.array([-2.0, np.nan, 0.0, 2.0])
    assert is_outside(values, sign=TIE).tolist() == [True, False, False, True]
    assert is_outside(values, sign=INEQUALITY).tolist() == [True, False, False, False]


def test_a_jump_is_twice_the_largest_change_that_is_known() -> None:
    stamp = np.datetime64("2020-01-01T00:00:00") + np.arange(5) * np.timedelta64(600, "s")
    largest = largest_changes({"p": np.array([0.0, 1.0, 3.0, 2.0, 2.0])}, stamp=stamp, row_seconds=600)
    assert largest == {"p": 2.0}

    def jumped(*values: float, at: np.ndarray = stamp) -> list[str]:
        return [fault.subject for fault in jumps({"p": np.array(values)}, stamp=at, row_seconds=600, largest=largest)]

    assert jumped(0, 4, 0, 4, 0) == []
    assert jumped(0, 4.1, 4, 4, 4) == ["p"]
    # Over a gap the weather may have changed.
    assert jumped(0, 9, 9, 9, 9, at=stamp + np.array([0, 3600, 3600, 3600, 3600]) * np.timedelta64(1, "s")) == []


@pytest.fixture(scope="module")
def quarter() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weather of 90 days, of which 30 trained."""
    return weather(90)


def planted(quarter: tuple[np.ndarray, dict[str, np.ndarray]], *, column: str, change: Callable[[np.ndarray], Any]) -> list[str]:
    """Return the columns at fault, as found on the second day of a fault of one column."""
    stamp, columns = quarter
    later = stamp > stamp[0] + LAST_DAY * DAY - 2 * DAY
    values = columns[column].copy()
    values[later] = change(values[later])
    return faults_at(stamp, columns | {column: values})


def faults_at(stamp: np.ndarray, columns: dict[str, np.ndarray]) -> list[str]:
    end = stamp[0].astype("datetime64[D]").astype("datetime64[s]") + LAST_DAY * DAY
    series = watched(stamp, columns, trained_until=stamp[0] + 30 * DAY)
    return [fault.subject for fault in sensor_faults(series, end=end, settings=SETTINGS)[0]]


COLUMNS_OF_LAWS = (
    TARGET,
    "pressure_mbar",
    "relative_humidity_percent",
    "saturation_vapor_pressure_mbar",
    "vapor_pressure_mbar",
    "vapor_pressure_deficit_mbar",
    "potential_temperature_k",
    "dew_point_degc",
    "specific_humidity_g_per_kg",
    "water_vapor_concentration_mmol_per_mol",
    "air_density_g_per_m3",
)


def test_sound_weather_has_no_fault(quarter: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    assert faults_at(*quarter) == []


@pytest.mark.parametrize("column", COLUMNS_OF_LAWS)
def test_a_wrong_scale_of_a_column_names_it(quarter: tuple[np.ndarray, dict[str, np.ndarray]], column: str) -> None:
    assert planted(quarter, column=column, change=lambda values: values * 1.2 + 1)[0] == column


@pytest.mark.parametrize(
    ("column", "change"),
    [
        (TARGET, lambda values: values + 1),
        (TARGET, lambda values: values + 3),
        (TARGET, lambda values: values * 1.8 + 32),
        (TARGET, lambda values: values[0]),
        ("relative_humidity_percent", lambda values: values * 0.9),
        ("relative_humidity_percent", lambda values: values[0]),
        ("wind_speed_m_per_s", lambda values: values[0]),
        ("wind_direction_deg", lambda values: values[0]),
    ],
    ids=["plus_1", "plus_3", "fahrenheit", "stuck", "humidity_scaled", "humidity_stuck", "wind_stuck", "direction_stuck"],
)
def test_a_planted_fault_is_found_within_two_days(
    quarter: tuple[np.ndarray, dict[str, np.ndarray]], column: str, change: Callable[[np.ndarray], Any]
) -> None:
    assert planted(quarter, column=column, change=change) == [column]


def test_a_warm_spell_is_no_fault(quarter: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    stamp, columns = quarter
    days = (stamp - stamp[0]) / DAY
    temperature = columns[TARGET] + 8 * np.clip(days - LAST_DAY + 20, 0, 3).astype(np.float32) / 3
    saturation = physics.saturation_vapor_pressure_mbar(temperature)
    vapor, pressure = saturation * columns["relative_humidity_percent"] / 100, columns["pressure_mbar"]
    moved = {
        TARGET: temperature,
        "saturation_vapor_pressure_mbar": saturation,
        "vapor_pressure_mbar": vapor,
        "vapor_pressure_deficit_mbar": saturation - vapor,
        "dew_point_degc": physics.dew_point_degc(vapor),
        "potential_temperature_k": physics.potential_temperature_k(temperature, pressure_mbar=pressure),
        "specific_humidity_g_per_kg": physics.specific_humidity_g_per_kg(vapor, pressure_mbar=pressure),
        "water_vapor_concentration_mmol_per_mol": physics.water_vapor_concentration_mmol_per_mol(vapor, pressure_mbar=pressure),
        "air_density_g_per_m3": physics.air_density_g_per_m3(temperature, pressure_mbar=pressure, vapor_pressure_mbar=vapor),
    }
    assert faults_at(stamp, columns | moved) == []
