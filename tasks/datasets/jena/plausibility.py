"""Signs at Jena of readings that are plausible one by one and wrong together: frozen, shuffled, copied, or of another season.

The bounds rest on the real year 2020, the station's file of 2024, and the reconstructed years 2009 to 2014, whose hours are real.
What cannot be must not be published; what is only unlikely is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

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
        (0, 4),
        mostly=_ALL_BUT_FEW,
        reading="pressure_mbar",
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
    wind, direction = readings["wind_speed_m_per_s"], readings["wind_direction_deg"]
    pressure_step = step_from_row_before(pressure, seconds=seconds, row_seconds=row_seconds)
    temperature_step = step_from_row_before(temperature, seconds=seconds, row_seconds=row_seconds)
    wind_step = step_from_row_before(wind, seconds=seconds, row_seconds=row_seconds)
    has_no_gusts = (readings["max_wind_speed_m_per_s"] <= wind).astype(np.float32)
    is_whole = (temperature == np.rint(temperature)).astype(np.float32)
    signs = (
        frozen_hours(air, row_seconds=row_seconds),
        repeated_hours_of_day(measured, seconds=seconds, row_seconds=row_seconds),
        pressure_step,
        temperature_step,
        spike(temperature, seconds=seconds, row_seconds=row_seconds),
        is_of_repeated_span(air, span_rows=_HALF_DAY_ROWS),
        straight_hours([*air, wind], seconds=seconds, row_seconds=row_seconds, rounding=0.01),
        of_month(temperature_step, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmedian),
        of_month(wind_step, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmedian),
        of_month(direction, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmax),
        of_month(wind, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.nanmean),
        of_month(is_whole, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.mean),
        season_excess(temperature, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, **_SEASON),
        of_month(has_no_gusts, seconds=seconds, min_rows=_ROWS_OF_A_MONTH, reduce=np.mean),
        share_of_month_present(seconds, row_seconds=row_seconds),
        range_of_day(temperature, seconds=seconds, row_seconds=row_seconds),
        seconds / 86_400,
    )
    return dict(zip(COLUMNS, signs, strict=True))
