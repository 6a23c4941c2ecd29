"""The Jena weather data set: ten-minute readings of a roof station, from several sources with one canonical table.

Stamps are the station's own local time, kept as they are: no zone is known for certain, and none is needed as long as all
rows come from one clock. A stamp marks the end of its ten minutes. A short hole in the readings is filled; a longer one becomes
a gap of the series.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ConfigDict, Field

from storage.errors import DataError, SettingError, unknown
from tasks.datasets.jena.layout import STATION_LAYOUT
from tasks.datasets.jena.own_file import OwnFileOptions, layout_of, own_files
from tasks.datasets.jena.parse import Seconds, read_file
from tasks.datasets.jena.physics import COLUMNS, FAULT_SIGNS, ROW_SECONDS, TIMESTAMP, expectations, validation_frame
from tasks.datasets.jena.plausibility import STAMP_DAY
from tasks.datasets.jena.sample import SAMPLE_FILE, simulate
from tasks.datasets.jena.station import (
    LATE_DAYS,
    PERIOD_OR_LATEST,
    Period,
    StationOptions,
    goes_on,
    period_asked,
    period_named,
    period_of_file,
    station_files,
)
from tasks.datasets.overlaps import without_known_rows
from tasks.datasets.repairs import Part, fill_holes, repair_row_order
from tasks.datasets.request import TableRequest
from tasks.datasets.series_suite import between
from tasks.datasets.spec import DatasetSpec, Expectation, Parsed, Severity, Source, SourceFile, SourceOptions, SplitTables
from tasks.datasets.time_series import edge_facts, edges_of_facts, iso, spacing_facts, split_by_time, split_edges

__all__ = ["COLUMNS", "REFERENCE_ROWS", "ROW_SECONDS", "SPEC", "TRAIN_ROWS", "VAL_ROWS"]

TRAIN_ROWS = 200_000
VAL_ROWS = 100_000
REFERENCE_ROWS = 420_551

KERAS_SOURCE, STATION_SOURCE, OWN_SOURCE, SAMPLE_SOURCE = "keras-2009-2016", "station", "file", "sample"
SOURCES = (KERAS_SOURCE, STATION_SOURCE, OWN_SOURCE, SAMPLE_SOURCE)

_FULL_SPAN = ("2009-01-01T00:10:00", "2017-01-01T00:00:00")
_FIRST_YEAR_AFTER = "2017"
# The two publications meet at a new year. A sensor may have been off then, for no longer than this.
_MAX_SEAM_DAYS = 7

_SENTINEL = -999.0

SCHEMA = pa.schema([(TIMESTAMP, pa.timestamp("s")), *((name, pa.float32()) for name in COLUMNS)])
_PART_NOTES = b"retrain.part"


class KerasOptions(SourceOptions):
    """How far the years 2009 to 2016 are continued by the station's own files."""

    model_config = ConfigDict(title="Options of keras-2009-2016")

    continue_to: str | None = Field(
        None,
        pattern=PERIOD_OR_LATEST,
        description="Continue the series with the station's files from 2017 to this period, such as 2023b or latest. None: it "
        "ends with 2016.",
        json_schema_extra={"flag": "--to"},
    )


def _station_part(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the station that continue the years 2009 to 2016."""
    return {"from_period": _FIRST_YEAR_AFTER, "to_period": options["continue_to"]}


def keras_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    """Return the one file of the years 2009 to 2016, and the station's files that continue it where that is asked.

    No digest of it is published, so the first one seen is locked, and `parse` checks its row count and span.

    Raises:
        SettingError: The period to which it is continued cannot be.
    """
    hosts = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets", "https://s3.amazonaws.com/keras-datasets")
    urls = tuple(f"{host}/{SAMPLE_FILE}" for host in hosts)
    file = SourceFile(name=SAMPLE_FILE, urls=urls, max_bytes=64_000_000, magic=b"PK")
    last = options.get("continue_to")
    if last is None:
        return (file,)
    if last != "latest" and period_named(last, name="continue_to").first < date(int(_FIRST_YEAR_AFTER), 1, 1):
        raise SettingError(f"continue_to is {last!r}: the file ends with 2016, give {_FIRST_YEAR_AFTER} or later, or latest")
    return (file, *station_files(_station_part(options), today))


def keras_goes_on(options: Mapping[str, Any]) -> bool:
    """Tell whether the station continues the series to now."""
    return options.get("continue_to") == "latest"


def read_part(name: str, path: Path, request: TableRequest) -> pa.Table:
    """Return one file as the canonical columns in its own order, with what else is to be told of it as metadata.

    Raises:
        DataError: The file does not have the known layout, or a value in it cannot be read.
    """
    layout = layout_of(request.options) if request.source == OWN_SOURCE else STATION_LAYOUT
    content = read_file(name, path=path, layout=layout)
    stamps = pa.array(content.seconds.astype("datetime64[s]"))
    table = pa.table([stamps, *(pa.array(content.readings[column]) for column in COLUMNS)], schema=SCHEMA)
    return table.replace_schema_metadata({_PART_NOTES: json.dumps(content.unused).encode()})


def _part(name: str, path: Path, request: TableRequest) -> tuple[Part, list[str]]:
    """Return stamps and readings of a file, or of the part that was read from it before, and the unused columns."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all() if path.suffix == ".part" else read_part(name, path, request)
    unused = json.loads((table.schema.metadata or {}).get(_PART_NOTES, b"[]"))
    seconds = table[TIMESTAMP].to_numpy().astype("datetime64[s]").astype(np.int64)
    return (seconds, {column: table[column].to_numpy() for column in COLUMNS}), unused


def parse(files: Mapping[str, Path], request: TableRequest) -> Parsed:
    """Return the canonical table of the named files, with every repair counted.

    Where files overlap, a file of a period comes before a current file, and a newer current file before an older one. Rows of a
    current file that are known from these are no repeats; the fact `overlapping_rows` counts them.

    Args:
        files: Files by name, or the parts that `read_part` returned for them. The name of an earlier state of a current file
            ends in `@` and some digits of its digest; newer states come first.
        request: Of the source `keras-2009-2016` the file of these years must hold exactly the 420,551 known rows.

    Raises:
        DataError: A file does not have the known layout, holds rows of another period than its name promises, or the full
            file is not full; or the two publications do not meet.
    """
    if request.source not in SOURCES:
        raise unknown("source", request.source, where="jena", choices=SOURCES)
    if not files:
        raise DataError(f"no file was given for jena from {request.source}: fetch it first")
    unused: list[str] = []
    parts: dict[str, Part] = {}
    for name in files:
        parts[name], extras = _part(name, files[name], request)
        unused += [extra for extra in extras if extra not in unused]
        _check_period(name, parts[name][0])
        if request.source == KERAS_SOURCE and name == SAMPLE_FILE:
            _check_full(parts[name][0])
    if request.source == KERAS_SOURCE and len(parts) > 1:
        _check_seam(parts)
    in_order, overlapping_rows = _by_trust(parts)
    rows_read = sum(len(seconds) for seconds, _ in parts.values())
    seconds, readings, order_repairs = repair_row_order(in_order, limits=request.limits)
    seconds, readings = _within(seconds, readings, period=_period_of(request))
    seconds, readings = _until(seconds, readings, until=request.until)
    edges = split_edges(
        seconds,
        # Of one file every row counts, as in the tutorial; an overlap of files must not move the edges.
        rows_read=rows_read if len(parts) == 1 else len(seconds),
        split=request.split,
        row_seconds=ROW_SECONDS,
        shares=(TRAIN_ROWS, VAL_ROWS, REFERENCE_ROWS),
    )
    missing = {name: int((~(np.isfinite(values) & (values > _SENTINEL))).sum()) for name, values in readings.items()}
    seconds, readings, hole_repairs = fill_holes(
        seconds,
        readings=readings,
        row_seconds=ROW_SECONDS,
        limits=request.limits,
        split_edges=edges or (),
        circular=("wind_direction_deg",),
        sentinel=_SENTINEL,
    )
    if not len(seconds):
        raise DataError(f"jena from {request.source} has no row with every reading: check the files")
    stamps = pa.array(seconds.astype("datetime64[s]"))
    table = pa.table([stamps, *(pa.array(readings[name]) for name in COLUMNS)], schema=SCHEMA)
    facts = {
        "rows_read": rows_read,
        **({"overlapping_rows": overlapping_rows} if overlapping_rows else {}),
        "rows": table.num_rows,
        "first_stamp": iso(seconds[0]),
        "last_stamp": iso(seconds[-1]),
        **spacing_facts(seconds, row_seconds=ROW_SECONDS),
        "missing_values": {name: count for name, count in missing.items() if count},
        "unused_columns": unused,
        **edge_facts(edges),
    }
    return Parsed(table=table, repairs=(*order_repairs, *hole_repairs), facts=facts)


def _file_name(name: str) -> str:
    """Return the name of a file without the mark of an earlier state."""
    return name.split("@", maxsplit=1)[0]


def _by_trust(parts: Mapping[str, Part]) -> tuple[list[Part], int]:
    """Return files of a period by name, then current files from the newest with what they add, and how many rows were known.

    Of two current files with the same newest stamp the first that is given comes first.
    """
    is_current = {name: name != SAMPLE_FILE and period_of_file(_file_name(name)) is None for name in parts}
    of_periods = [parts[name] for name in sorted(parts) if not is_current[name]]
    current = [part for name, part in parts.items() if is_current[name]]
    if not current:
        return of_periods, 0
    current.sort(key=lambda part: int(part[0].max()), reverse=True)
    first = min(int(seconds.min()) for seconds, _ in current)
    # Of decades of files only the last ones overlap with a current file.
    overlapping = [part for part in of_periods if int(part[0].max()) >= first]
    added, known_rows = without_known_rows(current, trusted=overlapping, sentinel=_SENTINEL)
    return [*of_periods, *added], known_rows


def _period_of(request: TableRequest) -> Period | None:
    """Return the period that was asked for; None: whatever the files hold."""
    options = request.options
    if request.source == STATION_SOURCE and options:
        return period_asked(options, today=date.max)
    if request.source == KERAS_SOURCE and options.get("continue_to"):
        period = period_asked(_station_part(options), today=date.max)
        return replace(period, first=date(2009, 1, 1))
    return None


def _within(
    seconds: Seconds, readings: dict[str, npt.NDArray[np.float32]], *, period: Period | None
) -> tuple[Seconds, dict[str, npt.NDArray[np.float32]]]:
    """Return the rows of a period: those that end after its first midnight and not after its last."""
    if period is None:
        return seconds, readings
    first = int(np.searchsorted(seconds, _midnight_s(period.first), side="right"))
    last = len(seconds) if period.end is None else int(np.searchsorted(seconds, _midnight_s(period.end), side="right"))
    if first >= last:
        until = "now" if period.end is None else str(period.end - timedelta(days=1))
        raise DataError(f"jena: no row of the files is from {period.first} to {until}: ask for another period")
    return seconds[first:last], {name: values[first:last] for name, values in readings.items()}


def _until(
    seconds: Seconds, readings: dict[str, npt.NDArray[np.float32]], *, until: datetime | None
) -> tuple[Seconds, dict[str, npt.NDArray[np.float32]]]:
    """Return the rows up to a stamp. They are chosen before holes are filled: a later reading must not reach an earlier row."""
    if until is None:
        return seconds, readings
    rows = int(np.searchsorted(seconds, int(np.datetime64(until, "s").astype(np.int64)), side="right"))
    if rows == 0:
        raise DataError(f"jena: no reading is of {until.isoformat()} or before: give a later stamp")
    return seconds[:rows], {name: values[:rows] for name, values in readings.items()}


def _midnight_s(day: date) -> int:
    return int(np.datetime64(day, "s").astype(np.int64))


def _check_period(name: str, seconds: Seconds) -> None:
    """Refuse a file with rows of another period than its name promises; a row at either midnight belongs to it."""
    period = period_of_file(_file_name(name))
    if period is None or period.end is None:
        return
    outside = (seconds < _midnight_s(period.first)) | (seconds > _midnight_s(period.end))
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{name}: {int(outside.sum())} of {len(seconds)} rows are of another period, the first is {iso(seconds[row])}, "
            f"expected {period.first} to {period.end - timedelta(days=1)}: fetch the right file"
        )


def _check_full(seconds: Seconds) -> None:
    span = (len(seconds), iso(seconds[0]), iso(seconds[-1]))
    expected = (REFERENCE_ROWS, *_FULL_SPAN)
    if span != expected:
        raise DataError(
            f"{SAMPLE_FILE} has {span[0]} rows from {span[1]} to {span[2]}, expected {expected[0]} from {expected[1]} to "
            f"{expected[2]}: delete it from the store or mirror and fetch it again"
        )


def _check_seam(parts: Mapping[str, Part]) -> None:
    """Check that the station goes on where the file of the years 2009 to 2016 ends: on the same clock, without a long gap."""
    last = int(parts[SAMPLE_FILE][0].max())
    later = min(int(seconds.min()) for name, (seconds, _) in parts.items() if name != SAMPLE_FILE)
    gap_s = later - last
    if gap_s > _MAX_SEAM_DAYS * 86_400:
        raise DataError(
            f"{SAMPLE_FILE} ends at {iso(np.int64(last))} and the station's files begin at {iso(np.int64(later))}: expected at "
            f"most {_MAX_SEAM_DAYS} days between them, name the periods between"
        )
    if gap_s % ROW_SECONDS:
        raise DataError(
            f"{SAMPLE_FILE} ends at {iso(np.int64(last))} and the station's files begin at {iso(np.int64(later))}, which is no "
            "whole number of ten minutes later: one of them is from another clock"
        )


def suite(request: TableRequest) -> tuple[Expectation, ...]:
    """Return the expectations of the readings, and those of the span of the stamps where it is known which day is today."""
    return (*expectations(request), *_span_expectations(request))


def _span_expectations(request: TableRequest) -> tuple[Expectation, ...]:
    if request.today is None or request.source == SAMPLE_SOURCE:
        return ()
    span: list[Expectation] = []

    def expect(meaning: str, *, low: date | None = None, high: date | None = None, severity: Severity) -> None:
        bounds = [None if day is None else float((day - date(1970, 1, 1)).days) for day in (low, high)]
        arguments = between(STAMP_DAY, *bounds)
        span.append(Expectation("column_max_to_be_between", arguments, severity, meaning, can_be_accepted=True))

    # The clocks of the station and of this host may be in different zones.
    expect("no reading is of the future", high=request.today + timedelta(days=2), severity="critical")
    period = _period_of(request)
    if period and period.end and period.end + timedelta(days=LATE_DAYS) <= request.today:
        end = period.end - timedelta(days=_MAX_SEAM_DAYS)
        expect("the readings reach the end of the period that was asked for", low=end, severity="warning")
    return tuple(span)


def read_input(path: Path, options: Mapping[str, Any], *, until: datetime | None) -> Parsed:
    """Return the readings of a person's own file, repaired as those that train.

    Raises:
        DataError: The file does not have a known layout, or a value in it cannot be read.
        SettingError: An option of it cannot be.
    """
    return parse({path.name: path}, TableRequest(source=OWN_SOURCE, options=options, until=until))


def split(parsed: Parsed) -> SplitTables:
    """Return three consecutive spans, whose edges `parse` has found before it dropped rows, normalised by the train rows.

    The rule `shares` gives 200,000 : 100,000 : rest, the tutorial's shares of the full file. Each table has the time stamp,
    the 14 columns in standard deviations from the train mean, and `segment`: the number of the unbroken 10-minute run that the
    row lies in, so that no window is laid across a gap.

    Raises:
        DataError: A split would be empty, a value is missing, or a column does not vary in the train rows.
    """
    return split_by_time(
        parsed.table,
        dataset="jena",
        timestamp=TIMESTAMP,
        columns=COLUMNS,
        row_seconds=ROW_SECONDS,
        edges=edges_of_facts(parsed.facts),
    )


SPEC = DatasetSpec(
    name="jena",
    title="Jena weather, ten-minute readings",
    licence="Max Planck Institute for Biogeochemistry, Jena, roof weather station; CC BY 4.0 as commonly stated",
    default_source=KERAS_SOURCE,
    sources={
        KERAS_SOURCE: Source(keras_files, KerasOptions, goes_on=keras_goes_on),
        STATION_SOURCE: Source(station_files, StationOptions, goes_on=goes_on),
        OWN_SOURCE: Source(own_files, OwnFileOptions),
    },
    transform_version=2,
    schema=SCHEMA,
    parse=parse,
    expectations=suite,
    validation_frame=validation_frame,
    split=split,
    simulate=simulate,
    sample_source=KERAS_SOURCE,
    split_rules=("shares", "recent"),
    read_part=read_part,
    read_input=read_input,
    intended_use="Forecasts at the station, beside a weather service and not in its place; teaching and comparisons.",
    limits_of_use=(
        "It knows one roof in Jena: at another place or height its errors are not those stated here.",
        "It sees the readings of this station alone, so a front that is still far away comes as a surprise.",
        "It is not made for warnings of frost, storm or heat, where a miss costs more than a false alarm.",
    ),
    fault_signs=FAULT_SIGNS,
    sun_driven="temperature_degc",
)
