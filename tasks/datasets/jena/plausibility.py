"""Signs at Jena of readings that are plausible one by one and wrong together: frozen, shuffled, copied, or of another season.

The bounds rest on the real year 2020, the station's file of 2024, and the reconstructed years 2009 to 2014, whose hours are real.
What cannot be must not be published; what is only unlikely is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.daily_cycle import DailyCycle, amplitude_at, biphase_deg, highest_hour
from tasks.datasets.series_faults import Seconds
from tasks.datasets.series_plausibility import (
    frozen_hours,
    is_of_repeated_span,
    of_month,
    range_of_day,
    repeated_hours_of_day,
    season_excess,
    share_of_month_present,
    spike,
    step_from_row_before,
    straight_hours,
)
from tasks.datasets.signs import Sign

_MEASURED = (
    "pressure_mbar",
    "temperature_degc",
    "relative_humidity_percent",
    "wind_speed_m_per_s",
    "max_wind_speed_m_per_s",
    "wind_direction_deg",
)
_AIR = ("pressure_mbar", "temperature_degc", "relative_humidity_percent")
# The mean temperature of a month follows this cosine at Jena; the coldest and the warmest months known stray by 5 to 6 K.
_SEASON = {"mean": 9.5, "amplitude": 9.5, "warmest_day": 201.0}
_ROWS_OF_A_MONTH = 20 * 144
_HALF_DAY_ROWS = 72
# A barometer of the reconstructed years jumps by 10 mbar once: such a reading is a warning, many of them are another series.
_ALL_BUT_FEW = 0.9998
# Of three weeks the hour at which the temperature is highest lies between 14.0 and 18.0 at Jena, in winter too.
_HOUR_DAYS, _WARMEST_HOUR = 21, 15.5
# Of four weeks the biphase lies between 10 and 184 degrees. Weather alone makes a second harmonic of 0.3 K, of any biphase.
_BIPHASE_DAYS, _MIN_AMPLITUDE_DEGC = 28, 0.35
# The largest steps of pressure come with gusts: 2.1 mbar in ten minutes with 11 m/s, 1.7 mbar with 16 m/s.
_STEP_MBAR_PER_M_PER_S = 0.13


STAMP_DAY = "stamp_day"
"""Column of the days from 1970 to the stamp, with their fraction."""

SIGNS = (
    Sign(
        "air_frozen_h",
        "pressure, temperature and humidity do not stay the same together",
        (0, 6),
        (0, 2),
        reading="temperature_degc",
    ),
    Sign(
        "repeated_rows_h_of_day",
        "rows do not repeat the row before in every reading, as hourly values would",
        (0, 12),
        (0, 2),
        reading="temperature_degc",
    ),
    Sign(
        "pressure_step_mbar",
        "pressure moves by little in ten minutes; otherwise parts of the series are out of place",
        (0, 5),
        None,
        mostly=_ALL_BUT_FEW,
        reading="pressure_mbar",
    ),
    Sign(
        "pressure_step_over_gusts_mbar",
        "pressure jumps in gusts only; otherwise parts of the series are out of place",
        None,
        (0, 1),
        reading="pressure_mbar",
    ),
    Sign(
        "vapor_pressure_step_mbar",
        "the moisture of the air moves by little in ten minutes; otherwise parts of the series are out of place",
        None,
        (0, 4.5),
        reading="vapor_pressure_mbar",
    ),
    Sign(
        "temperature_step_degc",
        "temperature moves by little in ten minutes; otherwise readings are out of place",
        (0, 8),
        (0, 6.5),
        mostly=_ALL_BUT_FEW,
        reading="temperature_degc",
    ),
    Sign(
        "temperature_spike_degc",
        "no single reading of temperature stands out from both neighbours",
        (0, 4),
        (0, 2.5),
        mostly=_ALL_BUT_FEW,
        reading="temperature_degc",
    ),
    Sign(
        "is_repeated_half_day",
        "no half day comes again with the same readings; otherwise a part was copied",
        (0, 0),
        None,
        reading="temperature_degc",
    ),
    Sign(
        "straight_h",
        "air and wind do not follow straight lines together; otherwise a hole was filled",
        (0, 24),
        (0, 4),
        reading="temperature_degc",
    ),
    Sign(
        "temperature_roughness_degc_of_month",
        "temperature changes smoothly from row to row",
        (0.005, 0.6),
        (0.02, 0.35),
        reading="temperature_degc",
    ),
    Sign(
        "wind_roughness_m_per_s_of_month",
        "the wind is never smooth for a whole month",
        (0.005, 3),
        (0.03, 1),
        reading="wind_speed_m_per_s",
    ),
    Sign(
        "max_wind_direction_deg_of_month",
        "the wind comes from everywhere in a month; otherwise its direction has another unit",
        (200, 360),
        (300, 360),
        reading="wind_direction_deg",
    ),
    Sign(
        "mean_wind_speed_m_per_s_of_month",
        "the mean wind of a month is that of Jena; otherwise it has another unit",
        (0.2, 8),
        (0.8, 4.2),
        reading="wind_speed_m_per_s",
    ),
    Sign(
        "whole_degrees_share_of_month",
        "temperatures have decimals; otherwise they were rounded",
        (0, 0.9),
        (0, 0.1),
        reading="temperature_degc",
    ),
    Sign(
        "season_excess_degc_of_month",
        "the mean temperature of a month is that of its season at Jena",
        (-14, 14),
        (-9, 9),
        reading="temperature_degc",
    ),
    Sign(
        "warmest_hour_of_three_weeks",
        "the temperature is highest in the afternoon; otherwise readings are hours early or late",
        (11, 21),
        (12.5, 19.5),
        reading="temperature_degc",
    ),
    Sign(
        "temperature_biphase_deg_of_four_weeks",
        "the temperature rises faster than it falls; otherwise readings run backwards",
        None,
        (-20, 205),
        reading="temperature_degc",
    ),
    Sign(
        "afternoon_amplitude_degc_of_day",
        "no day is much warmer in its night than in its afternoon",
        None,
        (-2, 15),
        reading="temperature_degc",
    ),
    Sign(
        "calm_gusts_share_of_month",
        "gusts are stronger than the mean wind in most rows",
        None,
        (0, 0.3),
        reading="max_wind_speed_m_per_s",
    ),
    Sign("share_of_month_present", "no month lacks more than a tenth of its rows", None, (0.9, 1)),
    Sign(
        "temperature_range_degc_of_day",
        "the temperature of a day has a range, and not that of a desert",
        (0.2, 35),
        (0.4, 28),
        reading="temperature_degc",
    ),
)
COLUMNS: tuple[str, ...] = (*(sign.column for sign in SIGNS), STAMP_DAY)


def plausibility_columns(readings: Mapping[str, Any], *, seconds: Seconds, row_seconds: int) -> dict[str, npt.NDArray[Any]]:
    """Return the signs by column, in the order of `COLUMNS`.

    Args:
        readings: The columns of the table.
        seconds: Stamps.
        row_seconds: Spacing of the rows.
    """
    measured, air = [readings[name] for name in _MEASURED], [readings[name] for name in _AIR]
    pressure, temperature = readings["pressure_mbar"], readings["temperature_degc"]
    wind, direction, gusts = (readings[name] for name in ("wind_speed_m_per_s", "wind_direction_deg", "max_wind_speed_m_per_s"))
    times: Any = {"seconds": seconds, "row_seconds": row_seconds}
    pressure_step = step_from_row_before(pressure, **times)
    temperature_step = step_from_row_before(temperature, **times)
    wind_step = step_from_row_before(wind, **times)
    cycle = DailyCycle.of(temperature, **times)
    first, second = cycle.once_a_day(days=_BIPHASE_DAYS), cycle.twice_a_day(days=_BIPHASE_DAYS)
    has_no_gusts = (gusts <= wind).astype(np.float32)
    is_whole = (temperature == np.rint(temperature)).astype(np.float32)
    signs = (
        frozen_hours(air, row_seconds=row_seconds),
        repeated_hours_of_day(measured, **times),
        pressure_step,
        _over_gusts(pressure_step, gusts),
        step_from_row_before(readings["vapor_pressure_mbar"], **times),
        temperature_step,
        spike(temperature, **times),
        is_of_repeated_span(air, span_rows=_HALF_DAY_ROWS),
        straight_hours([*air, wind], rounding=0.01, **times),
        of_month(temperature_step, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmedian),
        of_month(wind_step, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmedian),
        of_month(direction, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmax),
        of_month(wind, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmean),
        of_month(is_whole, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.mean),
        season_excess(temperature, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, **_SEASON),
        highest_hour(cycle.once_a_day(days=_HOUR_DAYS)),
        biphase_deg(first, second, min_amplitude=_MIN_AMPLITUDE_DEGC),
        amplitude_at(cycle.once_a_day(days=1), hour=_WARMEST_HOUR),
        of_month(has_no_gusts, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.mean),
        share_of_month_present(seconds, row_seconds=row_seconds),
        range_of_day(temperature, **times),
        seconds / 86_400,
    )
    return dict(zip(COLUMNS, signs, strict=True))


def _over_gusts(pressure_step: npt.NDArray[np.float32], gusts: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return what is left of each step of pressure when what the gusts of its two rows explain is taken off; 0: nothing."""
    strongest = np.nan_to_num(gusts)
    strongest[1:] = np.maximum(strongest[1:], strongest[:-1])
    left: npt.NDArray[np.float32] = np.maximum(pressure_step - np.float32(_STEP_MBAR_PER_M_PER_S) * strongest, 0)
    return left
