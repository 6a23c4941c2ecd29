"""Faults that leave the Jena file well-formed and every reading plausible: what an instrument, a copy or a script can do.

Each function takes readings by column and their stamps, and returns them with one fault. Where a sensor is wrong, the columns
that the logger computes from it follow, unless the fault is that they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.jena.physics import (
    COLUMNS,
    air_density_g_per_m3,
    dew_point_degc,
    potential_temperature_k,
    saturation_vapor_pressure_mbar,
    specific_humidity_g_per_kg,
    water_vapor_concentration_mmol_per_mol,
)

Readings = dict[str, npt.NDArray[np.float32]]
Stamps = npt.NDArray[np.datetime64]
Rng = np.random.Generator
Fault = Callable[[Readings, Stamps, Rng], tuple[Readings, Stamps]]

DAY = 144
P, T, RH, WIND, GUST, DIRECTION = (
    "pressure_mbar",
    "temperature_degc",
    "relative_humidity_percent",
    "wind_speed_m_per_s",
    "max_wind_speed_m_per_s",
    "wind_direction_deg",
)
MEASURED = (P, T, RH, WIND, GUST, DIRECTION)


def with_derived(readings: Mapping[str, Any]) -> Readings:
    """Return readings whose computed columns follow from pressure, temperature and humidity, rounded as the logger does."""
    pressure, temperature, humidity = (np.asarray(readings[name], dtype=np.float64) for name in (P, T, RH))
    saturation = saturation_vapor_pressure_mbar(temperature)
    vapor = np.maximum(saturation * humidity / 100, 0.06)
    computed = {
        "potential_temperature_k": potential_temperature_k(temperature, pressure_mbar=pressure),
        "dew_point_degc": dew_point_degc(vapor),
        "saturation_vapor_pressure_mbar": saturation,
        "vapor_pressure_mbar": vapor,
        "vapor_pressure_deficit_mbar": saturation - vapor,
        "specific_humidity_g_per_kg": specific_humidity_g_per_kg(vapor, pressure_mbar=pressure),
        "water_vapor_concentration_mmol_per_mol": water_vapor_concentration_mmol_per_mol(vapor, pressure_mbar=pressure),
        "air_density_g_per_m3": air_density_g_per_m3(temperature, pressure_mbar=pressure, vapor_pressure_mbar=vapor),
    }
    whole = {**readings, **computed}
    return {name: np.round(np.asarray(whole[name], dtype=np.float64), 2).astype(np.float32) for name in COLUMNS}


def changed(readings: Readings, **columns: Any) -> Readings:
    """Return readings with some columns replaced, and the computed ones made anew."""
    return with_derived({**readings, **columns})


def some_days(rows: int, days: float, rng: Rng) -> slice:
    """Return so many days from a random row on, not at the very beginning or end."""
    length = int(days * DAY)
    start = int(rng.integers(DAY, max(rows - length - DAY, DAY + 1)))
    return slice(start, start + length)


def put(values: Any, rows: Any, new: Any) -> Any:
    """Return a copy of values with some rows replaced."""
    copy = np.array(values)
    copy[rows] = new
    return copy


# Sensors that stand still.


def frozen(days: float, *columns: str) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = some_days(len(stamps), days, rng)
        first = {name: readings[name][rows.start] for name in columns}
        # The natural values of a sensor at rest may stay for days.
        if RH in first:
            first[RH] = min(first[RH], np.float32(87.5))
        for name in (WIND, GUST):
            if name in first:
                first[name] = max(first[name], np.float32(1.5))
        if columns == (WIND,):
            first[WIND] = np.float32(0.3)
        if columns == (GUST,):
            first[GUST] = readings[WIND][rows].max() + np.float32(1)
        return changed(readings, **{name: put(readings[name], rows, value) for name, value in first.items()}), stamps

    return plant


def calm(days: float) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = some_days(len(stamps), days, rng)
        return changed(readings, **{name: put(readings[name], rows, 0) for name in (WIND, GUST)}), stamps

    return plant


def at(column: str, value: float, days: float) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = some_days(len(stamps), days, rng)
        return changed(readings, **{column: put(readings[column], rows, value)}), stamps

    return plant


def held(every: int, days: float | None = None) -> Fault:
    """Every reading is written so often as hourly values in ten-minute rows are."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = slice(0, len(stamps)) if days is None else some_days(len(stamps), days, rng)
        source = np.arange(len(stamps))
        source[rows] = source[rows] // every * every
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


# Readings that are not at their time.


def permuted(groups: Callable[[Stamps], npt.NDArray[np.int64]], *, days: float | None = None) -> Fault:
    """Rows are shuffled within groups; the stamps keep their order."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        source = np.arange(len(stamps))
        chosen = slice(0, len(stamps)) if days is None else some_days(len(stamps), days, rng)
        numbers = groups(stamps)[chosen]
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number) + chosen.start
            source[rows] = rng.permutation(rows)
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


def whole(stamps: Stamps) -> npt.NDArray[np.int64]:
    return np.zeros(len(stamps), dtype=np.int64)


def by_day(stamps: Stamps) -> npt.NDArray[np.int64]:
    return stamps.astype("datetime64[D]").astype(np.int64)


def by_hour(stamps: Stamps) -> npt.NDArray[np.int64]:
    return stamps.astype("datetime64[h]").astype(np.int64)


def by_month(stamps: Stamps) -> npt.NDArray[np.int64]:
    return stamps.astype("datetime64[M]").astype(np.int64)


def days_permuted(days: float | None = None) -> Fault:
    """Whole days change places; within a day nothing changes."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        count = len(stamps) // DAY
        order = np.arange(count)
        if days is None:
            rng.shuffle(order)
        else:
            start = int(rng.integers(1, count - int(days) - 1))
            order[start : start + int(days)] = rng.permutation(order[start : start + int(days)])
        rows = (order[:, None] * DAY + np.arange(DAY)).ravel()
        source = np.concatenate([rows, np.arange(count * DAY, len(stamps))])
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


def copied(days: int) -> Fault:
    """Some days are written again over those that follow."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        length = days * DAY
        start = int(rng.integers(1, max(len(stamps) // DAY - 2 * days - 1, 2))) * DAY
        source = np.arange(len(stamps))
        end = min(start + 2 * length, len(stamps))
        source[start + length : end] = np.arange(start, start + end - start - length)
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


def exchanged(days: int) -> Fault:
    """Two spans of some days change places."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        length, count = days * DAY, len(stamps)
        one = int(rng.integers(1, count // 2 // DAY - days)) * DAY
        other = int(rng.integers(count // 2 // DAY + 1, count // DAY - days)) * DAY
        source = np.arange(count)
        source[one : one + length], source[other : other + length] = (
            np.arange(other, other + length),
            np.arange(one, one + length),
        )
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


def backwards(days: float | None = None) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = slice(0, len(stamps)) if days is None else some_days(len(stamps), days, rng)
        source = np.arange(len(stamps))
        source[rows] = source[rows][::-1]
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


def shifted(**by: int) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        del rng
        days, hours = by.get("days", 0), by.get("hours", 0)
        return readings, stamps + np.timedelta64(days * 24 + hours, "h").astype("timedelta64[s]")

    return plant


def late(hours: int, days: float) -> Fault:
    """The readings of some days come hours too late, as from a logger with another clock."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = some_days(len(stamps), days, rng)
        source = np.arange(len(stamps))
        source[rows] -= hours * 6
        return {name: values[source] for name, values in readings.items()}, stamps

    return plant


# Single readings and levels.


def some_rows(share: float, column: str, change: Callable[[Any, Rng], Any]) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = rng.random(len(stamps)) < share
        return changed(readings, **{column: put(readings[column], rows, change(readings[column][rows], rng))}), stamps

    return plant


def whole_column(column: str, change: Callable[[Any, Rng], Any], *, days: float | None = None) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = slice(0, len(stamps)) if days is None else some_days(len(stamps), days, rng)
        return changed(readings, **{column: put(readings[column], rows, change(readings[column][rows], rng))}), stamps

    return plant


def alone(column: str, change: Callable[[Any], Any], *, days: float | None = None) -> Fault:
    """A column changes, and those that are computed from it do not follow."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = slice(0, len(stamps)) if days is None else some_days(len(stamps), days, rng)
        return {**readings, column: put(readings[column], rows, change(readings[column][rows]))}, stamps

    return plant


def wind_in(factor: float) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        del rng
        return changed(readings, **{name: np.minimum(readings[name] * np.float32(factor), 34) for name in (WIND, GUST)}), stamps

    return plant


def smoothed(column: str, rows: int) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        del rng
        values = np.convolve(np.pad(readings[column], rows // 2, mode="edge"), np.ones(rows) / rows, mode="same")
        return changed(readings, **{column: values[rows // 2 : rows // 2 + len(stamps)]}), stamps

    return plant


def means_of_days(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
    del rng
    day = by_day(stamps)
    _, inverse = np.unique(day, return_inverse=True)
    means = np.bincount(inverse, weights=readings[T]) / np.bincount(inverse)
    return changed(readings, **{T: means[inverse].astype(np.float32)}), stamps


def straight(days: float) -> Fault:
    """A hole of some days is filled by straight lines."""

    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        rows = some_days(len(stamps), days, rng)
        length = rows.stop - rows.start
        lines = {
            name: put(values, rows, np.linspace(values[rows.start], values[rows.stop], length))
            for name, values in readings.items()
        }
        return changed(lines), stamps

    return plant


# Rows that are not there.


def without(is_lost: Callable[[Stamps, Rng], npt.NDArray[np.bool_]]) -> Fault:
    def plant(readings: Readings, stamps: Stamps, rng: Rng) -> tuple[Readings, Stamps]:
        kept = ~is_lost(stamps, rng)
        return {name: values[kept] for name, values in readings.items()}, stamps[kept]

    return plant


def hours_of(stamps: Stamps) -> npt.NDArray[np.int64]:
    return stamps.astype("datetime64[h]").astype(np.int64) % 24


FAULTS: Mapping[str, Fault] = {
    "every sensor frozen for 2 days": frozen(2, *MEASURED),
    "every sensor frozen for 20 days": frozen(20, *MEASURED),
    "every sensor frozen for 60 days": frozen(60, *MEASURED),
    "air frozen for a day, wind moves": frozen(1, P, T, RH),
    "barometer frozen for 2 days": frozen(2, P),
    "thermometer frozen for 2 days": frozen(2, T),
    "hygrometer frozen for 3 days": frozen(3, RH),
    "anemometer frozen for 2 days": frozen(2, WIND),
    "gusts frozen for 2 days": frozen(2, GUST),
    "vane frozen for 2 days": frozen(2, DIRECTION),
    "wind nought for 20 days": calm(20),
    "wind nought for 7 days": calm(7),
    "humidity 100 for 20 days": at(RH, 100, 20),
    "temperature 0 for 2 days": at(T, 0, 2),
    "hourly values written six times": held(6),
    "hourly values written six times for a month": held(6, 30),
    "values of three hours held for a month": held(18, 30),
    "values shuffled over all rows": permuted(whole),
    "values shuffled within months": permuted(by_month),
    "values shuffled within days": permuted(by_day),
    "values shuffled within days for a month": permuted(by_day, days=30),
    "values shuffled within hours": permuted(by_hour),
    "days shuffled": days_permuted(),
    "days of a month shuffled": days_permuted(30),
    "a day copied over the next": copied(1),
    "a week copied over the next": copied(7),
    "a month copied over the next": copied(30),
    "a quarter copied over the next": copied(90),
    "two days exchanged": exchanged(1),
    "two months exchanged": exchanged(30),
    "all rows backwards": backwards(),
    "a month backwards": backwards(30),
    "a day backwards": backwards(1),
    "stamps six months later": shifted(days=182),
    "stamps three months later": shifted(days=91),
    "stamps six months earlier": shifted(days=-182),
    "stamps 12 hours later": shifted(hours=12),
    "stamps 2 hours earlier": shifted(hours=-2),
    "stamps an hour later": shifted(hours=1),
    "readings 6 hours late for a month": late(6, 30),
    "stamps in the future": shifted(days=365 * 40),
    "temperature 0 where it was missing, 0.5 %": some_rows(0.005, T, lambda values, rng: 0 * values),
    "20 K more in 0.1 % of the rows": some_rows(0.001, T, lambda values, rng: np.minimum(values + 20, 44)),
    "20 K less in 0.1 % of the rows": some_rows(0.001, T, lambda values, rng: values - 20),
    "spikes of 8 K in 0.05 % of the rows": some_rows(0.0005, T, lambda values, rng: values + 8),
    "a pressure of 900 for a day": at(P, 900.5, 1),
    "pressure 20 mbar more for a month": whole_column(P, lambda values, rng: values + 20, days=30),
    "pressure 15 mbar more in 0.1 % of the rows": some_rows(0.001, P, lambda values, rng: values + 15),
    "humidity 100 in 2 % of the rows": some_rows(0.02, RH, lambda values, rng: 0 * values + 100),
    "temperature 10 K more for a month": whole_column(T, lambda values, rng: np.minimum(values + 10, 44), days=30),
    "temperature 15 K less for a month": whole_column(T, lambda values, rng: values - 15, days=30),
    "temperature with the other sign for a month": whole_column(T, lambda values, rng: -values, days=30),
    "temperature rounded to degrees": whole_column(T, lambda values, rng: np.rint(values)),
    "temperature in steps of 5 K": whole_column(T, lambda values, rng: np.rint(values / 5) * 5),
    "temperature in the clip of 5 to 15 degrees": whole_column(T, lambda values, rng: np.clip(values, 5, 15)),
    "noise of 2 K on the temperature": whole_column(T, lambda values, rng: values + rng.normal(0, 2, len(values))),
    "temperature averaged over a day": smoothed(T, 144),
    "temperature averaged over two hours": smoothed(T, 12),
    "wind averaged over a day": smoothed(WIND, 144),
    "means of days in every row": means_of_days,
    "a hole of 5 days filled by straight lines": straight(5),
    "wind in km/h": wind_in(3.6),
    "wind in knots": wind_in(1.94),
    "wind half as strong": wind_in(0.5),
    "wind in cm/s by 100": wind_in(0.01),
    "direction in radians": whole_column(DIRECTION, lambda values, rng: np.deg2rad(values)),
    "direction of the half circle": whole_column(DIRECTION, lambda values, rng: values / 2),
    "humidity as a share of 1": whole_column(RH, lambda values, rng: values / 100),
    "temperature 1 K off alone for a month": alone(T, lambda values: values + 1, days=29),
    "pressure 3 mbar off alone for a month": alone(P, lambda values: values + 3, days=29),
    "gusts equal the mean wind": lambda readings, stamps, rng: ({**readings, GUST: readings[WIND]}, stamps),
    "half of a month lost": without(
        lambda stamps, rng: (by_month(stamps) == by_month(stamps)[len(stamps) // 2]) & (rng.random(len(stamps)) < 0.5)
    ),
    "three weeks lost": without(
        lambda stamps, rng: (np.arange(len(stamps)) > len(stamps) // 2) & (np.arange(len(stamps)) < len(stamps) // 2 + 21 * DAY)
    ),
    "nights lost": without(lambda stamps, rng: hours_of(stamps) < 5),
    "noons lost for two months": without(
        lambda stamps, rng: (np.abs(hours_of(stamps) - 12) < 2) & (np.abs(np.arange(len(stamps)) - len(stamps) // 2) < 30 * DAY)
    ),
}
"""By what was done."""

# What nothing within the file contradicts.
NOT_TO_BE_SEEN: Mapping[str, tuple[Fault, str]] = {
    "temperature 1 K more for ever": (
        whole_column(T, lambda values, rng: values + 1),
        "an offset that everything computed follows; a month of weather differs by more",
    ),
    "temperature drifts by 2 K over the years": (
        lambda readings, stamps, rng: (changed(readings, **{T: readings[T] + np.linspace(0, 2, len(stamps))}), stamps),
        "slower than the weather",
    ),
    "pressure 2 mbar more for ever": (
        whole_column(P, lambda values, rng: values + 2),
        "an offset that everything computed follows; two stations at heights 16 m apart differ so",
    ),
    "direction off by 30 degrees": (
        whole_column(DIRECTION, lambda values, rng: (values + 30) % 360),
        "the direction has no partner among the columns",
    ),
    "wind a fifth weaker": (wind_in(0.8), "both speeds off together; months differ by more"),
    "readings of the same days of another year": (
        shifted(days=365),
        "the season is right; only the table before could tell, if it holds these stamps",
    ),
}
"""By what was done: the fault, and why it cannot be found."""
