"""The Jena columns, the physics that ties them together, and the suite that rests on both.

The station measures pressure, temperature, humidity and wind; its logger computes the other columns from these. A swapped
column, a wrong unit or a shifted column therefore breaks a tie even where every value stays inside its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.datasets.jena.faults import FAULT_COLUMNS, fault_columns, fault_expectations, stuck_signs
from tasks.datasets.jena.plausibility import COLUMNS as PLAUSIBILITY_COLUMNS
from tasks.datasets.jena.plausibility import SIGNS as PLAUSIBILITY_SIGNS
from tasks.datasets.jena.plausibility import plausibility_columns
from tasks.datasets.request import TableRequest
from tasks.datasets.series_suite import between, series_expectations, series_frame
from tasks.datasets.signs import expectations_of
from tasks.datasets.spec import Expectation, FaultSign, Parsed

ROW_SECONDS = 600
TIMESTAMP = "timestamp"
STAMP_HEADER = "Date Time"
MIN_ROWS = 10_000

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Column:
    """One reading of the station.

    Attributes:
        name: Canonical name with its unit.
        header: Name in the upstream files.
        unit: Unit as people write it.
        minimum: Smallest plausible value at Jena, wider than the records of 2009 to 2020.
        maximum: Largest plausible value.
    """

    name: str
    header: str
    unit: str
    minimum: float
    maximum: float


LAYOUT = (
    Column("pressure_mbar", "p (mbar)", "mbar", 900, 1060),
    Column("temperature_degc", "T (degC)", "°C", -40, 45),
    Column("potential_temperature_k", "Tpot (K)", "K", 225, 325),
    Column("dew_point_degc", "Tdew (degC)", "°C", -45, 30),
    Column("relative_humidity_percent", "rh (%)", "%", 0, 100.1),
    Column("saturation_vapor_pressure_mbar", "VPmax (mbar)", "mbar", 0.1, 100),
    Column("vapor_pressure_mbar", "VPact (mbar)", "mbar", 0.05, 45),
    Column("vapor_pressure_deficit_mbar", "VPdef (mbar)", "mbar", -0.1, 90),
    Column("specific_humidity_g_per_kg", "sh (g/kg)", "g/kg", 0.03, 30),
    Column("water_vapor_concentration_mmol_per_mol", "H2OC (mmol/mol)", "mmol/mol", 0.05, 48),
    Column("air_density_g_per_m3", "rho (g/m**3)", "g/m³", 950, 1550),
    Column("wind_speed_m_per_s", "wv (m/s)", "m/s", 0, 35),
    Column("max_wind_speed_m_per_s", "max. wv (m/s)", "m/s", 0, 50),
    Column("wind_direction_deg", "wd (deg)", "°", 0, 360),
)
COLUMNS: tuple[str, ...] = tuple(column.name for column in LAYOUT)
UNITS: dict[str, str] = {column.name: column.unit for column in LAYOUT}


def saturation_vapor_pressure_mbar(temperature_degc: Values) -> Values:
    """Return the Magnus saturation pressure over water; the constants (6.1078, 17.08085, 234.175) reproduce the logger's."""
    return 6.1078 * np.exp(17.08085 * temperature_degc / (234.175 + temperature_degc))


def dew_point_degc(vapor_pressure_mbar: Values) -> Values:
    """Return the temperature at which the vapour saturates: the inverse of `saturation_vapor_pressure_mbar`."""
    # The smallest reading is 0.01 mbar: below it the logarithm has no meaning here.
    logarithm = np.log(np.maximum(vapor_pressure_mbar, 0.01) / 6.1078)
    return 234.175 * logarithm / (17.08085 - logarithm)


def potential_temperature_k(temperature_degc: Values, *, pressure_mbar: Values) -> Values:
    """Return the temperature of the air brought to 1000 mbar without exchange of heat (R/cp = 0.2857 for dry air)."""
    return (temperature_degc + 273.15) * (1000 / pressure_mbar) ** 0.2857


def specific_humidity_g_per_kg(vapor_pressure_mbar: Values, *, pressure_mbar: Values) -> Values:
    """Return grams of vapour in a kilogram of moist air (0.622: molar mass of water over that of dry air)."""
    return 622 * vapor_pressure_mbar / (pressure_mbar - 0.378 * vapor_pressure_mbar)


def water_vapor_concentration_mmol_per_mol(vapor_pressure_mbar: Values, *, pressure_mbar: Values) -> Values:
    """Return the mole fraction of vapour: its share of the pressure."""
    return 1000 * vapor_pressure_mbar / pressure_mbar


def air_density_g_per_m3(temperature_degc: Values, *, pressure_mbar: Values, vapor_pressure_mbar: Values) -> Values:
    """Return the density of moist air as an ideal gas (287.05 J/kg/K for dry air, 100 Pa a mbar, 1000 g a kg)."""
    dry_equivalent_mbar = pressure_mbar - 0.378 * vapor_pressure_mbar
    return dry_equivalent_mbar * 1e5 / (287.05 * (temperature_degc + 273.15))


def validation_frame(parsed: Parsed) -> pd.DataFrame:
    """Return the table with the spacing of its rows, the residual of each physical tie, and signs of stuck sensors and clocks.

    The spacing of the first row counts as regular. A residual is the reading minus the formula, NaN where one of its readings
    is missing.
    """
    frame = series_frame(parsed.table, timestamp=TIMESTAMP, row_seconds=ROW_SECONDS)
    data: dict[str, Any] = {name: frame[name].to_numpy() for name in frame}
    pressure, temperature, vapor = data["pressure_mbar"], data["temperature_degc"], data["vapor_pressure_mbar"]
    saturation = data["saturation_vapor_pressure_mbar"]
    # Readings that cannot be (a pressure of 0) must reach the suite and be refused there, not end here in a warning.
    with np.errstate(all="ignore"):
        data["vapor_pressure_deficit_residual_mbar"] = data["vapor_pressure_deficit_mbar"] - (saturation - vapor)
        data["vapor_pressure_residual_mbar"] = vapor - saturation * data["relative_humidity_percent"] / 100
        data["saturation_vapor_pressure_residual_percent"] = 100 * (saturation / saturation_vapor_pressure_mbar(temperature) - 1)
        data["dew_point_excess_degc"] = data["dew_point_degc"] - temperature
        data["dew_point_residual_degc"] = data["dew_point_degc"] - dew_point_degc(vapor)
        data["potential_temperature_residual_k"] = data["potential_temperature_k"] - potential_temperature_k(
            temperature, pressure_mbar=pressure
        )
        data["specific_humidity_residual_g_per_kg"] = data["specific_humidity_g_per_kg"] - specific_humidity_g_per_kg(
            vapor, pressure_mbar=pressure
        )
        data["water_vapor_concentration_residual_mmol_per_mol"] = data[
            "water_vapor_concentration_mmol_per_mol"
        ] - water_vapor_concentration_mmol_per_mol(vapor, pressure_mbar=pressure)
        data["air_density_residual_g_per_m3"] = data["air_density_g_per_m3"] - air_density_g_per_m3(
            temperature, pressure_mbar=pressure, vapor_pressure_mbar=vapor
        )
        data["gust_excess_m_per_s"] = data["max_wind_speed_m_per_s"] - data["wind_speed_m_per_s"]
    seconds = data[TIMESTAMP].astype(np.int64)
    signs = fault_columns(data, seconds=seconds, is_broken=_broken_ties(data), row_seconds=ROW_SECONDS)
    signs |= plausibility_columns(data, seconds=seconds, row_seconds=ROW_SECONDS)
    return pd.DataFrame(data | signs, copy=False)


def _broken_ties(data: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Tell of each row whether one of its residuals lies outside the interval of its tie; a missing residual does not."""
    broken = np.zeros(len(data[TIMESTAMP]), dtype=np.bool_)
    for tie in _TIES:
        residual = data[tie.column]
        if tie.minimum is not None:
            broken |= residual < tie.minimum
        if tie.maximum is not None:
            broken |= residual > tie.maximum
    return broken


@dataclass(frozen=True)
class _Tie:
    """A residual column of `validation_frame`, the interval it must lie in, the law it stands for, and the readings it ties."""

    column: str
    minimum: float | None
    maximum: float
    law: str
    readings: tuple[str, ...]
    is_equation: bool = True


# Readings are rounded to 0.01 (humidity to 0.1 in some years): on the real year 2020 every residual stays below half of its
# tolerance. Interpolated and averaged readings stray further, so one row in a hundred may (`mostly`).
_TIES = (
    _Tie(
        "vapor_pressure_deficit_residual_mbar",
        -0.05,
        0.05,
        "vapour pressure deficit = saturation - vapour pressure",
        ("vapor_pressure_deficit_mbar", "saturation_vapor_pressure_mbar", "vapor_pressure_mbar"),
    ),
    _Tie(
        "vapor_pressure_residual_mbar",
        -0.05,
        0.05,
        "vapour pressure = saturation x relative humidity / 100",
        ("vapor_pressure_mbar", "saturation_vapor_pressure_mbar", "relative_humidity_percent"),
    ),
    _Tie(
        "saturation_vapor_pressure_residual_percent",
        -1.0,
        1.0,
        "saturation vapour pressure follows temperature (Magnus)",
        ("saturation_vapor_pressure_mbar", "temperature_degc"),
    ),
    _Tie(
        "dew_point_excess_degc",
        None,
        0.05,
        "the dew point is not above the temperature",
        ("dew_point_degc", "temperature_degc"),
        is_equation=False,
    ),
    _Tie(
        "dew_point_residual_degc",
        -0.5,
        0.5,
        "the dew point follows vapour pressure (Magnus)",
        ("dew_point_degc", "vapor_pressure_mbar"),
    ),
    _Tie(
        "potential_temperature_residual_k",
        -0.05,
        0.05,
        "potential temperature follows temperature and pressure",
        ("potential_temperature_k", "temperature_degc", "pressure_mbar"),
    ),
    _Tie(
        "specific_humidity_residual_g_per_kg",
        -0.03,
        0.03,
        "specific humidity follows vapour pressure and pressure",
        ("specific_humidity_g_per_kg", "vapor_pressure_mbar", "pressure_mbar"),
    ),
    _Tie(
        "water_vapor_concentration_residual_mmol_per_mol",
        -0.03,
        0.03,
        "vapour concentration = vapour pressure / pressure",
        ("water_vapor_concentration_mmol_per_mol", "vapor_pressure_mbar", "pressure_mbar"),
    ),
    _Tie(
        "air_density_residual_g_per_m3",
        -0.5,
        0.5,
        "air density follows pressure, temperature and vapour pressure",
        ("air_density_g_per_m3", "temperature_degc", "pressure_mbar", "vapor_pressure_mbar"),
    ),
    _Tie(
        "gust_excess_m_per_s",
        0.0,
        50.0,
        "the strongest wind of ten minutes is not below their mean",
        ("max_wind_speed_m_per_s", "wind_speed_m_per_s"),
        is_equation=False,
    ),
)
_MOSTLY = 0.99


# What tells a fault of one sensor from weather: warm air moves every tied reading, and a wrong offset only its own.
FAULT_SIGNS: tuple[FaultSign, ...] = (
    *(FaultSign(tie.column, tie.readings, tie.minimum, tie.maximum, tie.law, is_equation=tie.is_equation) for tie in _TIES),
    *stuck_signs(),
)
DERIVED: tuple[str, ...] = (*(tie.column for tie in _TIES), *FAULT_COLUMNS, *PLAUSIBILITY_COLUMNS)


def expectations(request: TableRequest) -> tuple[Expectation, ...]:
    """Return the suite for the frame of `validation_frame`; parsing checks the number of rows."""
    # The wind direction has no partner among the other columns: only its range can be checked.
    return (
        *series_expectations(
            {column.name: (column.minimum, column.maximum) for column in LAYOUT},
            timestamp=TIMESTAMP,
            row_seconds=ROW_SECONDS,
            min_rows=MIN_ROWS,
            max_missing_rows=request.limits.missing_rows,
            derived=DERIVED,
            where="Jena",
        ),
        *(
            Expectation(
                "column_values_to_be_between",
                between(tie.column, tie.minimum, tie.maximum, mostly=_MOSTLY),
                "critical",
                f"{tie.law}: a swapped or shifted column or a wrong unit breaks this",
                can_be_accepted=True,
            )
            for tie in _TIES
        ),
        *fault_expectations(),
        *expectations_of(PLAUSIBILITY_SIGNS),
    )
