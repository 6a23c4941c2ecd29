"""Signs of faults at Jena that leave every value plausible: a stuck sensor, a part that is shifted, a clock that jumps.

What cannot be told by them: a wind direction that is off by an angle, both wind speeds off together, and a sensor that
drifts while the logger computes the other columns from its readings. Nothing among the 14 columns contradicts these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.series_faults import Seconds, begins_summer_time, daily_peak_hours, hours_of_day, unchanged_hours
from tasks.datasets.series_suite import between
from tasks.datasets.spec import Expectation, FaultSign, Severity


@dataclass(frozen=True)
class _Sensor:
    """A column that is measured; how long its reading stays the same tells whether the sensor is stuck.

    Attributes:
        max_unchanged_h: For how many hours another reading than the natural one can stay.
        natural: The reading that can stay for days, such as a humidity of 100 %; None if there is none.
    """

    column: str
    max_unchanged_h: float = 6
    natural: float | None = None

    @property
    def unchanged(self) -> str:
        """Column of the hours for which the reading has been the same, and not the natural one."""
        return f"{self.column}_unchanged_h"

    @property
    def at_natural(self) -> str:
        """Column of the hours for which the reading has been the natural one."""
        return f"{self.column}_at_{self.natural:g}_h"


# The other columns are computed from these: one of them alone that stays the same breaks a tie.
_SENSORS = (
    _Sensor("pressure_mbar"),
    _Sensor("temperature_degc"),
    _Sensor("relative_humidity_percent", max_unchanged_h=12, natural=100),
    _Sensor("wind_speed_m_per_s", natural=0),
    _Sensor("max_wind_speed_m_per_s", natural=0),
    _Sensor("wind_direction_deg"),
)
_SATURABLE = tuple(sensor for sensor in _SENSORS if sensor.natural is not None)
# In the real year 2020 no reading stays for more than 1.4 hours, but for a humidity of 100 %. In reconstructed years, whose
# hours are real, a temperature stays for 3.2, a humidity of 99.9 % for 6.2, one of 100 % for 40 and a calm for 30. The
# station's own file of 2024 has an anemometer that is stuck for ten days, 7 % of its rows: such data is published with a
# warning, because the rest of it is sound.
_MAX_NATURAL_H = 120
_MOSTLY_MOVING = 0.8

# Real days have 0.3 hours at most in which a tie is broken, reconstructed ones 1.7. If a month of 20 years is shifted, 0.4 %
# of the rows are, which the limit of a tie itself lets pass.
_BROKEN_TIES = "broken_ties_h_of_day"
_MAX_BROKEN_H = 6
_MOSTLY_WHOLE_DAYS = 0.998

_SUMMER_TIME = "begins_summer_time"
# In 14 quarters, real and reconstructed, the peak lies between 15.16 and 15.62. An hour more or less moves every one of them
# out of these bounds.
_PEAK_HOUR = "temperature_peak_hour_of_quarter"
_PEAK_BOUNDS = (14.7, 16.1)

FAULT_COLUMNS: tuple[str, ...] = (
    _BROKEN_TIES,
    *(sensor.unchanged for sensor in _SENSORS),
    *(sensor.at_natural for sensor in _SATURABLE),
    _SUMMER_TIME,
    _PEAK_HOUR,
)


def fault_columns(
    readings: Mapping[str, Any], *, seconds: Seconds, is_broken: npt.NDArray[np.bool_], row_seconds: int
) -> dict[str, npt.NDArray[Any]]:
    """Return the signs of faults by column, in the order of `FAULT_COLUMNS`.

    Args:
        readings: The columns of the table.
        seconds: Stamps.
        is_broken: Whether a physical tie is broken in the row.
        row_seconds: Spacing of the rows.
    """
    return {
        _BROKEN_TIES: hours_of_day(is_broken, seconds=seconds, row_seconds=row_seconds),
        **{
            sensor.unchanged: unchanged_hours(readings[sensor.column], row_seconds=row_seconds, but_for=sensor.natural)
            for sensor in _SENSORS
        },
        **{
            sensor.at_natural: unchanged_hours(readings[sensor.column], row_seconds=row_seconds, only=sensor.natural)
            for sensor in _SATURABLE
        },
        _SUMMER_TIME: begins_summer_time(seconds, row_seconds=row_seconds),
        _PEAK_HOUR: daily_peak_hours(readings["temperature_degc"], seconds=seconds, row_seconds=row_seconds),
    }


def stuck_signs() -> tuple[FaultSign, ...]:
    """Return the signs of stuck sensors, by which monitoring names the sensor."""
    return (
        *(
            FaultSign(
                sensor.unchanged,
                (sensor.column,),
                0,
                sensor.max_unchanged_h,
                f"{sensor.column} changes within {sensor.max_unchanged_h} h",
            )
            for sensor in _SENSORS
        ),
        *(
            FaultSign(
                sensor.at_natural,
                (sensor.column,),
                0,
                _MAX_NATURAL_H,
                f"{sensor.column} leaves {sensor.natural:g} within {_MAX_NATURAL_H} h",
            )
            for sensor in _SATURABLE
        ),
    )


def fault_expectations() -> tuple[Expectation, ...]:
    """Return what is expected of the signs of faults.

    A sign in a few rows is a warning: the rest of the data is of use. Data of which much is damaged is not published.
    """

    def expect(severity: Severity, meaning: str, column: str, low: float, high: float, **more: Any) -> Expectation:
        arguments = between(column, low, high, **more)
        return Expectation("column_values_to_be_between", arguments, severity, meaning, can_be_accepted=True)

    shifted = "otherwise a column is shifted, or two are exchanged, for a part of the time"
    days = f"a physical tie is broken for more than {_MAX_BROKEN_H} hours"
    return (
        expect("warning", f"on no day {days}; {shifted}", _BROKEN_TIES, 0, _MAX_BROKEN_H),
        expect(
            "critical", f"days on which {days} are rare; {shifted}", _BROKEN_TIES, 0, _MAX_BROKEN_H, mostly=_MOSTLY_WHOLE_DAYS
        ),
        *(
            expect(
                "warning",
                f"{sensor.column} stays the same for {sensor.max_unchanged_h} hours at most; otherwise its sensor is stuck",
                sensor.unchanged,
                0,
                sensor.max_unchanged_h,
            )
            for sensor in _SENSORS
        ),
        *(
            expect(
                "critical",
                f"{sensor.column} moves in four of five rows; otherwise its sensor has been stuck for much of the time",
                sensor.unchanged,
                0,
                sensor.max_unchanged_h,
                mostly=_MOSTLY_MOVING,
            )
            for sensor in _SENSORS
        ),
        *(
            expect(
                "warning",
                f"{sensor.column} stays at {sensor.natural:g} for {_MAX_NATURAL_H} hours at most; otherwise its sensor is stuck",
                sensor.at_natural,
                0,
                _MAX_NATURAL_H,
            )
            for sensor in _SATURABLE
        ),
        expect(
            "warning",
            "the clock does not go from two to three on the last Sunday of March; otherwise it follows summer time",
            _SUMMER_TIME,
            0,
            0,
        ),
        expect(
            "warning",
            "from April to September the day is warmest about half past three; otherwise the clock is an hour or more off",
            _PEAK_HOUR,
            *_PEAK_BOUNDS,
        ),
    )
