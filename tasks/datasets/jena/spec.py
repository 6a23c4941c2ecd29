"""The Jena weather data set: ten-minute readings of a roof station, from two sources with one canonical table.

Stamps are the station's own local time, kept as they are: no zone is known for certain, and none is needed as long as all
rows come from one clock. A reading that is empty, not a number or infinite is not repaired: it stays null, and the suite's
critical null expectations refuse the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ConfigDict, Field

from storage.errors import DataError, SettingError, unknown
from tasks.datasets.jena.parse import Readings, Seconds, read_file
from tasks.datasets.jena.physics import COLUMNS, ROW_SECONDS, TIMESTAMP, expectations, validation_frame
from tasks.datasets.jena.sample import SAMPLE_FILE, simulate
from tasks.datasets.repairs import counted_repair, repair_row_order
from tasks.datasets.spec import DatasetSpec, Parsed, Repair, Source, SourceFile, SourceOptions, SplitTables
from tasks.datasets.time_series import iso, rows_in_shares, spacing_facts, split_by_time

__all__ = ["COLUMNS", "REFERENCE_ROWS", "ROW_SECONDS", "SPEC", "TRAIN_ROWS", "VAL_ROWS"]

TRAIN_ROWS = 200_000
VAL_ROWS = 100_000
REFERENCE_ROWS = 420_551

KERAS_SOURCE, STATION_SOURCE, SAMPLE_SOURCE = "keras-2009-2016", "station", "sample"
FIRST_STATION_YEAR = 2004
# The publisher completes a half-year some days after its end.
_GROWING_DAYS = 14

_FULL_SPAN = ("2009-01-01T00:10:00", "2017-01-01T00:00:00")

_SENTINEL = -999.0
_MAX_HOLE_ROWS = 36
_SENTINEL_LIMIT = 0.005

SCHEMA = pa.schema([(TIMESTAMP, pa.timestamp("s")), *((name, pa.float32()) for name in COLUMNS)])


HALF_YEAR = r"^\d{4}[ab]$"


class StationOptions(SourceOptions):
    """Which of the station's half-year files are read; a is January to June, b is July to December."""

    model_config = ConfigDict(title="Options of station")

    first_half_year: str | None = Field(
        None, pattern=HALF_YEAR, description="First half-year, such as 2009a.", json_schema_extra={"flag": "--from"}
    )
    last_half_year: str | None = Field(
        None, pattern=HALF_YEAR, description="Last half-year, such as 2014a.", json_schema_extra={"flag": "--to"}
    )


def keras_files(options: Mapping[str, Any]) -> tuple[SourceFile, ...]:
    """Return the one file of the years 2009 to 2016; it has no options.

    No digest of it is published, so the first one seen is locked, and `parse` checks its row count and span.
    """
    del options
    hosts = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets", "https://s3.amazonaws.com/keras-datasets")
    urls = tuple(f"{host}/{SAMPLE_FILE}" for host in hosts)
    return (SourceFile(name=SAMPLE_FILE, urls=urls, max_bytes=64_000_000, magic=b"PK"),)


def station_files(options: Mapping[str, Any]) -> tuple[SourceFile, ...]:
    """Return one file for each half-year of a range.

    Args:
        options: `first_half_year` and `last_half_year`, such as `2009a` and `2014a` (a: January to June, b: July to
            December), both included; `today` in ISO form stands in for the clock.

    Raises:
        SettingError: A half-year is missing, malformed, before 2004a, in the future, or the range is reversed.
    """
    today = _today(options.get("today"))
    first, last = (_half_year(options.get(name), name=name, today=today) for name in ("first_half_year", "last_half_year"))
    if last < first:
        asked = f"{options['first_half_year']!r} to {options['last_half_year']!r}"
        raise SettingError(f"half-years {asked} are reversed: give the earlier one as first_half_year")
    files = []
    for half in range(first, last + 1):
        name = f"mpi_roof_{half // 2}{'ab'[half % 2]}.zip"
        files.append(
            SourceFile(
                name=name,
                urls=(f"https://www.bgc-jena.mpg.de/wetter/{name}",),
                max_bytes=16_000_000,
                magic=b"PK",
                growing=today < _start(half + 1) + timedelta(days=_GROWING_DAYS),
            )
        )
    return tuple(files)


def _today(value: Any) -> date:
    if value is None:
        return datetime.now().astimezone().date()
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise SettingError(f"today is {value!r}: give a date such as 2024-01-31") from None


def _start(half: int) -> date:
    return date(half // 2, 7 if half % 2 else 1, 1)


def _half_year(value: Any, *, name: str, today: date) -> int:
    """Return the half-year as a number that counts half-years (year x 2, plus 1 for b)."""
    match = re.fullmatch(r"([0-9]{4})([ab])", str(value))
    if match is None:
        raise SettingError(f"{name} is {value!r}: give a year and a or b, such as 2009a")
    half = int(match[1]) * 2 + "ab".index(match[2])
    if half < FIRST_STATION_YEAR * 2:
        raise SettingError(f"{name} is {value!r}: the station's files begin with {FIRST_STATION_YEAR}a")
    if _start(half) > today:
        raise SettingError(f"{name} is {value!r}, which is in the future on {today}: give a half-year that has begun")
    return half


def parse(files: Mapping[str, Path], source: str) -> Parsed:
    """Return the canonical table of the named zips, joined in the order of their names, with every repair counted.

    Args:
        files: Zips by file name.
        source: `keras-2009-2016` must hold exactly the 420,551 known rows; `station` and `sample` may hold any number.

    Raises:
        DataError: A file is not a sound zip with one csv of the known layout, a value cannot be read, a repair is needed
            more often than its limit allows, or the full file is not full.
    """
    if source not in (KERAS_SOURCE, STATION_SOURCE, SAMPLE_SOURCE):
        raise unknown("source", source, where="jena", choices=(KERAS_SOURCE, STATION_SOURCE, SAMPLE_SOURCE))
    if not files:
        raise DataError(f"no file was given for jena from {source}: fetch it first")
    unused: list[str] = []
    parts = []
    for name in sorted(files):
        content = read_file(name, path=files[name])
        parts.append((content.seconds, content.readings))
        unused += [extra for extra in content.unused if extra not in unused]
    seconds = np.concatenate([part_seconds for part_seconds, _ in parts])
    readings = {name: np.concatenate([part[name] for _, part in parts]) for name in COLUMNS}
    rows_read = len(seconds)
    if source == KERAS_SOURCE:
        _check_full(seconds)

    seconds, readings, row_repairs = repair_row_order(seconds, readings=readings, dataset="jena")
    readings, value_repair, sentinels = _repair_sentinels(seconds, readings=readings, rows_read=rows_read)
    stamps = pa.array(seconds.astype("datetime64[s]"))
    table = pa.table([stamps, *(pa.array(readings[name], from_pandas=True) for name in COLUMNS)], schema=SCHEMA)
    facts = {
        "rows_read": rows_read,
        "rows": table.num_rows,
        "first_stamp": iso(seconds[0]),
        "last_stamp": iso(seconds[-1]),
        **spacing_facts(seconds, row_seconds=ROW_SECONDS),
        "sentinels": sentinels,
        "null_values": {name: table[name].null_count for name in COLUMNS if table[name].null_count},
        "unused_columns": unused,
    }
    return Parsed(table=table, repairs=(*row_repairs, value_repair), facts=facts)


def _check_full(seconds: Seconds) -> None:
    span = (len(seconds), iso(seconds[0]), iso(seconds[-1]))
    expected = (REFERENCE_ROWS, *_FULL_SPAN)
    if span != expected:
        raise DataError(
            f"{SAMPLE_FILE} has {span[0]} rows from {span[1]} to {span[2]}, expected {expected[0]} from {expected[1]} to "
            f"{expected[2]}: delete it from the store or mirror and fetch it again"
        )


def _repair_sentinels(seconds: Seconds, *, readings: Readings, rows_read: int) -> tuple[Readings, Repair, dict[str, int]]:
    """Return the readings with holes filled, the repair, and the number of sentinels of each column that has any."""
    repaired, counts = {}, {}
    for name, values in readings.items():
        finite = np.where(np.isfinite(values), values, np.float32(np.nan))
        sentinel = finite <= _SENTINEL
        if sentinel.any():
            counts[name] = int(sentinel.sum())
            finite = _filled(finite, sentinel=sentinel, seconds=seconds, circular=name == "wind_direction_deg")
        repaired[name] = finite
    rule = (
        "values of -999 and below (-9999: sensor off) are interpolated linearly in time, wind direction along the shorter arc, "
        f"between the nearest readings if at most {_MAX_HOLE_ROWS} rows are missing between them, else left null"
    )
    repair = counted_repair(
        "sentinel_values",
        dataset="jena",
        rule=rule,
        count=sum(counts.values()),
        rows_read=rows_read,
        limit=_SENTINEL_LIMIT,
    )
    return repaired, repair, counts


def _filled(
    values: npt.NDArray[np.float32], *, sentinel: npt.NDArray[np.bool_], seconds: Seconds, circular: bool
) -> npt.NDArray[np.float32]:
    holes = np.flatnonzero(sentinel)
    valid = np.flatnonzero(~sentinel & ~np.isnan(values))
    filled = values.copy()
    filled[holes] = np.nan
    after = np.searchsorted(valid, holes)
    inside = (after > 0) & (after < len(valid))
    holes, left, right = holes[inside], valid[after[inside] - 1], valid[after[inside]]
    # Measured in time, so that no value is invented across a gap of the series.
    near = seconds[right] - seconds[left] <= (_MAX_HOLE_ROWS + 1) * ROW_SECONDS
    holes, left, right = holes[near], left[near], right[near]
    weight = (seconds[holes] - seconds[left]) / (seconds[right] - seconds[left])
    step = values[right].astype(np.float64) - values[left]
    if circular:
        step = (step + 180) % 360 - 180
    result = values[left] + weight * step
    filled[holes] = result % 360 if circular else result
    return filled


def split(parsed: Parsed) -> SplitTables:
    """Return three consecutive spans in the shares 200,000 : 100,000 : rest of the full file, normalised by the train rows.

    Each table has the time stamp, the 14 columns in standard deviations from the train mean, and `segment`: the number of
    the unbroken 10-minute run that the row lies in, so that no window is laid across a gap.

    Raises:
        DataError: A split would be empty, a value is missing, or a column does not vary in the train rows.
    """
    train_rows, val_rows = rows_in_shares(int(parsed.facts["rows_read"]), train=TRAIN_ROWS, val=VAL_ROWS, whole=REFERENCE_ROWS)
    return split_by_time(
        parsed.table,
        dataset="jena",
        timestamp=TIMESTAMP,
        columns=COLUMNS,
        row_seconds=ROW_SECONDS,
        train_rows=train_rows,
        val_rows=val_rows,
    )


SPEC = DatasetSpec(
    name="jena",
    title="Jena weather, ten-minute readings",
    licence="Max Planck Institute for Biogeochemistry, Jena, roof weather station; CC BY 4.0 as commonly stated",
    default_source=KERAS_SOURCE,
    sources={KERAS_SOURCE: Source(keras_files), STATION_SOURCE: Source(station_files, StationOptions)},
    transform_version=1,
    schema=SCHEMA,
    parse=parse,
    expectations=expectations,
    validation_frame=validation_frame,
    split=split,
    simulate=simulate,
    sample_source=KERAS_SOURCE,
)
