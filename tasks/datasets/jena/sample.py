"""Simulated Jena weather: physically consistent, deterministic, and in the layout of the upstream files.

Temperature is the sum of a yearly cycle, a daily cycle and the weather. The weather is mostly what pressure and wind
direction announced a day before (fronts that come and go within about two days), so a forecast 24 hours ahead can be
learnt, which is what the sample is for. It is no claim about the real series.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tasks.datasets.jena.physics import (
    LAYOUT,
    ROW_SECONDS,
    STAMP_HEADER,
    air_density_g_per_m3,
    dew_point_degc,
    potential_temperature_k,
    saturation_vapor_pressure_mbar,
    specific_humidity_g_per_kg,
    water_vapor_concentration_mmol_per_mol,
)

SAMPLE_FILE = "jena_climate_2009_2016.csv.zip"
SAMPLE_ROWS = 26_000
# From mid-April the seasons of validation and test lie within those of the train rows.
SAMPLE_START = "2009-04-15 00:10:00"
SAMPLE_SEED = 20_090_415

_ROWS_PER_DAY = 86_400 // ROW_SECONDS
_STAMP_FORMAT = "%d.%m.%Y %H:%M:%S"

Series = npt.NDArray[np.float64]


def _relaxed(values: Series, *, hours: float) -> Series:
    """Return the first-order relaxation of a series with that time constant."""
    decay = np.exp(-ROW_SECONDS / 3600 / hours)
    smoothed = pd.Series(values).ewm(alpha=1 - decay, adjust=False).mean()
    return np.asarray(smoothed, dtype=np.float64)


def _wandering(rng: np.random.Generator, rows: int, *, hours: float) -> Series:
    """Return a stationary AR(1) series of mean 0 and variance 1 that forgets within that time constant."""
    decay = np.exp(-ROW_SECONDS / 3600 / hours)
    gain = np.sqrt((1 + decay) / (1 - decay))
    noise = rng.standard_normal(rows)
    # The first value must have the variance of the stationary state, not that of the driving noise.
    noise[:1] /= gain
    return np.asarray(gain * _relaxed(noise, hours=hours), dtype=np.float64)


def simulated_weather(rows: int, *, seed: int, start: str) -> pd.DataFrame:
    """Return simulated readings, ten minutes apart, with the upstream column names and units, rounded to 0.01.

    Args:
        rows: Number of rows, at least 1.
        seed: The same seed gives the same weather.
        start: First stamp in ISO form.
    """
    rng = np.random.default_rng(seed)
    stamps = np.datetime64(start, "s") + np.arange(rows) * np.timedelta64(ROW_SECONDS, "s")
    days = (stamps - stamps.astype("datetime64[Y]").astype("datetime64[s]")).astype(np.float64) / 86_400
    season = np.cos(2 * np.pi * (days - 200) / 365.25)
    afternoon = np.cos(2 * np.pi * (days - 15 / 24))

    # Bounded, so that a century of rows stays within the plausible ranges too.
    front = np.clip(_relaxed(_wandering(rng, rows + _ROWS_PER_DAY, hours=30), hours=3), -3, 3)
    front_now, front_of_yesterday = front[_ROWS_PER_DAY:], front[:rows]
    swing = afternoon * (3 + 1.5 * season)
    temperature = 9 + 8 * season + swing + 4.5 * front_of_yesterday + _wandering(rng, rows, hours=24)
    pressure = 989 - 7 * front_now + 1.5 * _wandering(rng, rows, hours=72)
    direction = np.mod(250 - 80 * np.tanh(front_now) + 12 * _wandering(rng, rows, hours=2), 360)
    dryness = 3.5 * swing + 4 * season + 3 * front_of_yesterday
    humidity = np.clip(74 - dryness + 9 * _wandering(rng, rows, hours=12), 18, 100)
    wind = np.minimum(1.9 * np.exp(0.5 * _wandering(rng, rows, hours=6)) * (1 + 0.25 * afternoon), 25)
    gust = np.minimum(wind * (1.4 + 0.2 * np.abs(_wandering(rng, rows, hours=1))) + 0.1, 45)

    saturation = saturation_vapor_pressure_mbar(temperature)
    vapor = saturation * humidity / 100
    readings = (
        pressure,
        temperature,
        potential_temperature_k(temperature, pressure_mbar=pressure),
        dew_point_degc(vapor),
        humidity,
        saturation,
        vapor,
        saturation - vapor,
        specific_humidity_g_per_kg(vapor, pressure_mbar=pressure),
        water_vapor_concentration_mmol_per_mol(vapor, pressure_mbar=pressure),
        air_density_g_per_m3(temperature, pressure_mbar=pressure, vapor_pressure_mbar=vapor),
        wind,
        gust,
        direction,
    )
    columns = {column.header: np.round(values, 2) for column, values in zip(LAYOUT, readings, strict=True)}
    return pd.DataFrame({STAMP_HEADER: stamps, **columns})


def write_csv_zip(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame with upstream columns as the one csv member of a zip; equal frames give equal bytes.

    Args:
        frame: `Date Time` (datetime64) first, then numbers; a missing number is written as an empty value.
        path: Name of the zip; the member has the same name, ending in `.csv`.
    """
    stamps = pc.strftime(pa.array(frame.iloc[:, 0].to_numpy().astype("datetime64[s]")), format=_STAMP_FORMAT)
    numbers = [
        pc.cast(pc.round(pa.array(frame[name].to_numpy(), from_pandas=True), ndigits=2), pa.decimal128(12, 2))
        for name in frame.columns[1:]
    ]
    table = pa.table([stamps, *numbers], names=[str(name) for name in frame.columns])
    body = io.BytesIO()
    body.write((",".join(f'"{name}"' for name in frame.columns) + "\n").encode("latin-1"))
    pa_csv.write_csv(table, body, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    # A fixed time and system make the bytes depend on the frame alone.
    member = zipfile.ZipInfo(path.name.removesuffix(".zip").removesuffix(".csv") + ".csv", date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr, member.compress_type = 3, 0o644 << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, body.getvalue(), compresslevel=6)
    return path


def simulate(folder: Path) -> tuple[Path, ...]:
    """Write the sample into a folder as `jena_climate_2009_2016.csv.zip`, the same bytes each time.

    Known faults are put in, as the real file has them: two repeated stamps, one gap of 80 minutes (seven rows missing), and one
    `-9999` in the wind speed.
    """
    weather = simulated_weather(SAMPLE_ROWS, seed=SAMPLE_SEED, start=SAMPLE_START)
    weather.loc[9_000, "wv (m/s)"] = -9999.0
    positions = np.arange(SAMPLE_ROWS)
    repeated = np.insert(positions, (2_001, 4_001), (2_000, 4_000))
    without_gap = repeated[(repeated < 6_000) | (repeated >= 6_007)]
    folder.mkdir(parents=True, exist_ok=True)
    return (write_csv_zip(weather.iloc[without_gap], folder / SAMPLE_FILE),)
