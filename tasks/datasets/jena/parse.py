"""Reading the Jena files: a zip with one csv, within bounds, whose columns are exactly those that are known."""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from storage.errors import DataError
from tasks.datasets.jena.physics import COLUMNS, LAYOUT, STAMP_HEADER, TIMESTAMP

Seconds = npt.NDArray[np.int64]
Readings = dict[str, npt.NDArray[np.float32]]

_HEADER = (STAMP_HEADER, *(column.header for column in LAYOUT))
_STATION_EXTRAS = (
    "rain (mm)",
    "raining (s)",
    "SWDR (W/m²)",
    "PAR (µmol/m²/s)",
    "max. PAR (µmol/m²/s)",
    "Tlog (degC)",
    "CO2 (ppm)",
)
# The largest known file unpacks to 43 MB at a ratio of 3; a file of ten times its rows still passes.
_MAX_UNPACKED_BYTES = 500_000_000
_MAX_RATIO = 50
_MAX_MEMBERS = 8


def read_file(name: str, *, path: Path, station: bool) -> tuple[Seconds, Readings, tuple[str, ...]]:
    """Return one file's stamps (seconds since 1970 on the station's clock), readings by canonical name, and unused columns.

    Args:
        name: File name for messages.
        path: The zip.
        station: Whether the seven further columns of the station's own files may follow the canonical ones.

    Raises:
        DataError: It is not a sound zip with one csv of the known layout, or a value in it cannot be read.
    """
    body = _read_plain(name, path=path) if name.split("@", maxsplit=1)[0].endswith(".csv") else _unzip(name, path=path)
    extras = _check_header(name, body=body, station=station)
    seconds, readings = _read_csv(name, body=body, extras=extras)
    return seconds, readings, extras


def _read_plain(name: str, *, path: Path) -> bytes:
    """Return a csv that is not packed, as the station's current file."""
    with path.open("rb") as stream:
        body = stream.read(_MAX_UNPACKED_BYTES + 1)
    if len(body) > _MAX_UNPACKED_BYTES:
        raise DataError(f"{name} has more than {_MAX_UNPACKED_BYTES} bytes: delete it from the store and fetch it again")
    return body


def _unzip(name: str, *, path: Path) -> bytes:
    """Return the one csv of a zip, in memory: nothing is unpacked to disk, and the bounds hold for the bytes really read."""
    remedy = "delete it from the store or mirror and fetch it again"
    try:
        limit = min(_MAX_UNPACKED_BYTES, _MAX_RATIO * path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > _MAX_MEMBERS:
                raise DataError(f"{name} has {len(infos)} members, expected one csv: {remedy}")
            for info in infos:
                member = PurePosixPath(info.filename.replace("\\", "/"))
                if member.is_absolute() or ".." in member.parts or ":" in info.filename:
                    raise DataError(f"{name} has the unsafe member name {info.filename!r}, expected one csv: {remedy}")
            # The upstream zip was made on a Mac and carries a resource fork beside the csv.
            members = [info for info in infos if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
            if len(members) != 1 or not members[0].filename.lower().endswith(".csv"):
                listed = ", ".join(repr(info.filename) for info in members) or "nothing"
                raise DataError(f"{name} holds {listed}, expected exactly one csv: {remedy}")
            with archive.open(members[0]) as stream:
                body = stream.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{name} is not a sound zip file ({error}): {remedy}") from error
    if len(body) > limit:
        raise DataError(f"{name} unpacks to more than {limit} bytes ({_MAX_RATIO} times its size at most): {remedy}")
    return body


def _check_header(name: str, *, body: bytes, station: bool) -> tuple[str, ...]:
    """Return the columns beyond the canonical ones, after comparing every column with the known layout."""
    line = body.split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    header = next(csv.reader([text]), [])
    expected = _HEADER + _STATION_EXTRAS if station and len(header) > len(_HEADER) else _HEADER
    for position in range(max(len(expected), len(header))):
        expected_column = repr(expected[position]) if position < len(expected) else "no further column"
        actual_name = repr(header[position][:60]) if position < len(header) else "nothing"
        if expected_column != actual_name:
            raise DataError(
                f"{name}: column {position + 1} is {actual_name}, expected {expected_column}: restore the upstream layout"
            )
    return expected[len(_HEADER) :]


def _read_csv(name: str, *, body: bytes, extras: tuple[str, ...]) -> tuple[Seconds, Readings]:
    def read(*, use_threads: bool) -> pa.Table:
        return pa_csv.read_csv(
            io.BytesIO(body),
            read_options=pa_csv.ReadOptions(
                column_names=[TIMESTAMP, *COLUMNS, *extras], skip_rows=1, use_threads=use_threads, block_size=4 << 20
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={TIMESTAMP: pa.binary(), **dict.fromkeys(COLUMNS, pa.float32())},
                include_columns=[TIMESTAMP, *COLUMNS],
            ),
        )

    try:
        table = read(use_threads=True)
    except pa.ArrowInvalid:
        # Row numbers are only known to a reader that goes through the file in order.
        try:
            table = read(use_threads=False)
        except pa.ArrowInvalid as error:
            _raise_unreadable(name, message=str(error))
    if table.num_rows == 0:
        raise DataError(f"{name} has a header and no rows: delete it from the store or mirror and fetch it again")
    seconds = _seconds(name, stamps=table[TIMESTAMP].combine_chunks())
    return seconds, {column: table[column].to_numpy() for column in COLUMNS}


def _raise_unreadable(name: str, *, message: str) -> NoReturn:
    column = re.search(r"CSV column #(\d+)", message)
    row = re.search(r"Row #(\d+)", message)
    value = re.search(r"invalid value '(.*)'", message, re.DOTALL)
    where = f"{name}, line {row[1]}" if row else name
    if column and value:
        canonical = (TIMESTAMP, *COLUMNS)[int(column[1])]
        header = _HEADER[int(column[1])]
        raise DataError(f"{where}: {value[1]!r} in {canonical} ({header}) is not a number: correct or remove this row upstream")
    detail = re.sub(r"\s+", " ", message)[:200]
    raise DataError(f"{where}: the row does not fit the layout ({detail}): correct or remove this row upstream")


def _seconds(name: str, *, stamps: pa.Array) -> Seconds:
    """Return seconds since 1970 of `dd.mm.yyyy HH:MM:SS`; strict, where Arrow's own parser takes 31.02. for 03.03."""
    lengths = np.asarray(pc.binary_length(stamps).fill_null(0))
    bad = lengths != 19
    if not bad.any():
        # All stamps have 19 bytes, so they lie side by side in one buffer.
        start = stamps.offset * 19
        raw = np.frombuffer(stamps.buffers()[2], dtype=np.uint8, count=start + len(stamps) * 19)[start:].reshape(-1, 19)
        marks = raw[:, [2, 5, 10, 13, 16]] != np.frombuffer(b".. ::", dtype=np.uint8)
        digits = raw[:, [0, 1, 3, 4, 6, 7, 8, 9, 11, 12, 14, 15, 17, 18]].astype(np.int32) - ord("0")
        bad = marks.any(axis=1) | ((digits < 0) | (digits > 9)).any(axis=1)
        day, month = digits[:, 0] * 10 + digits[:, 1], digits[:, 2] * 10 + digits[:, 3]
        year = digits[:, 4:8] @ np.array([1000, 100, 10, 1], dtype=np.int32)
        hour, minute, second = (digits[:, i] * 10 + digits[:, i + 1] for i in (8, 10, 12))
        months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
        month_days = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
        bad |= (month < 1) | (month > 12) | (day < 1) | (day > month_days) | (hour > 23) | (minute > 59) | (second > 59)
    if bad.any():
        row = int(np.argmax(bad))
        value = (stamps[row].as_py() or b"").decode("latin-1")[:60]
        expected = "expected dd.mm.yyyy HH:MM:SS such as 01.01.2009 00:10:00"
        raise DataError(f"{name}, line {row + 2}: {value!r} in timestamp ({STAMP_HEADER}), {expected}: correct this row upstream")
    days = months.astype("datetime64[D]").astype(np.int64) + day - 1
    seconds: Seconds = days * 86_400 + hour.astype(np.int64) * 3600 + minute * 60 + second
    return seconds
