"""Reading the station's files in every form they are known in, and files of a person's own: columns are found by name.

What a file leaves open is refused: no number, stamp or column is guessed that could be read in two ways.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from storage.errors import DataError
from tasks.datasets.jena.layout import STATION_LAYOUT, ColumnPositions, Layout, find_columns, header_key
from tasks.datasets.jena.numbers import Place, count_overflows, numbers_of_text
from tasks.datasets.jena.physics import TIMESTAMP
from tasks.datasets.jena.stamps import Seconds, seconds_of
from tasks.datasets.jena.unpack import MAX_UNPACKED_BYTES, PARQUET, REMEDY, first_bytes, read_text, refuse_page

__all__ = ["STATION_LAYOUT", "FileContent", "Layout", "Readings", "Seconds", "read_file"]

Readings = dict[str, npt.NDArray[np.float32]]

_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = ",;\t"
# A logger fills a field with stars; runs of another length, or among blanks, are found more slowly.
_OVERFLOWS = tuple("*" * length for length in range(1, 17))
_BLOCK_BYTES = 4 << 20
_MAX_HEADER_BYTES = 100_000


@dataclass(frozen=True)
class FileContent:
    """The rows of one file, in its order.

    Attributes:
        seconds: Stamps, int64 seconds since 1970 on the station's clock.
        readings: Float32 by canonical name, NaN where there is no number. A value of -999 and below is kept as it is.
        unused: Names of the columns that are not used.
        overflows: Number of fields that are a run of `*`, for each reading that has any.
        empties: Number of fields that are empty or a word such as `NaN`, for each reading that has any.
    """

    seconds: Seconds
    readings: Readings
    unused: tuple[str, ...]
    overflows: Mapping[str, int] = field(default_factory=dict)
    empties: Mapping[str, int] = field(default_factory=dict)


def read_file(name: str, *, path: Path, layout: Layout = STATION_LAYOUT) -> FileContent:
    """Return what one file has: a csv, a zip or gz with one csv, or a Parquet file; its first bytes tell which.

    Args:
        name: File name for messages.
        path: The file.
        layout: Names of its columns, and how stamps and missing values are written.

    Raises:
        DataError: The file is damaged or too large, a column is missing or occurs twice, or a stamp or a number in it cannot
            be read with certainty.
    """
    head = first_bytes(name, path=path)
    refuse_page(name, head=head)
    if head.startswith(PARQUET):
        return _read_parquet(name, path=path, layout=layout)
    body = read_text(name, path=path, head=head)
    refuse_page(name, head=body)
    return _read_csv(_find_header(name, body=body, layout=layout), layout=layout)


def _content(seconds: Seconds, *, readings: Readings, overflows: Mapping[str, int], columns: ColumnPositions) -> FileContent:
    empties = {name: int(np.isnan(values).sum()) - overflows.get(name, 0) for name, values in readings.items()}
    return FileContent(
        seconds=seconds,
        readings=readings,
        unused=columns.unused,
        overflows=dict(overflows),
        empties={name: count for name, count in empties.items() if count},
    )


# A csv.


@dataclass(frozen=True)
class _Csv:
    """A csv whose header is understood.

    Attributes:
        rows: The lines below the header, without blank lines at their end.
        first_line: Number of the first of these lines in the file, from 1.
        width: Number of columns.
    """

    name: str
    rows: memoryview
    first_line: int
    separator: str
    width: int
    columns: ColumnPositions

    def place(self, row: int) -> str:
        """Return file and line of a row; blank lines are no rows."""
        # A quoted field of a column that is not used may have line ends of its own.
        reader = csv.reader(io.StringIO(str(self.rows, "latin-1"), newline=""), delimiter=self.separator)
        line = self.first_line
        try:
            for fields in reader:
                if fields and row == 0:
                    break
                row -= bool(fields)
                line = self.first_line + reader.line_num
        except csv.Error:  # a field of more than 128 KiB on the way there
            return self.name
        return f"{self.name}, line {line}"

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        for line, text in enumerate(str(self.rows, "latin-1").split("\n"), start=self.first_line):
            if text.rstrip("\r"):
                yield line, text.rstrip("\r")

    def read(self, types: Mapping[str, pa.DataType], *, missing: Sequence[str] = (), decimal_mark: str = ".") -> pa.Table:
        """Return columns by canonical name.

        Raises:
            pa.ArrowInvalid: A row has another number of fields, or a field does not have its type.
        """
        names = [str(position) for position in range(self.width)]
        names[self.columns.stamp] = TIMESTAMP
        for name, position in self.columns.readings.items():
            names[position] = name
        return pa_csv.read_csv(
            pa.BufferReader(pa.py_buffer(self.rows)),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=self.separator),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict(types),
                include_columns=list(types),
                null_values=["", *missing, *_OVERFLOWS],
                decimal_point=decimal_mark,
            ),
        )


def _find_header(name: str, *, body: bytes, layout: Layout) -> _Csv:
    """Return the csv with its separator and the positions of its columns, from the first line that is not blank."""
    if body.startswith(_UTF16_MARKS) or b"\0" in body:
        line = body.count(b"\n", 0, max(body.find(b"\0"), 0)) + 1
        raise DataError(f"{name}, line {line}: the text is neither UTF-8 nor latin-1: save the file as UTF-8")
    if b"\n" not in body:
        body = body.replace(b"\r", b"\n")
    body = body.removeprefix(_UTF8_MARK)
    first = re.search(rb"\S", body)
    if first is None:
        raise DataError(f"{name} is empty, expected readings: {REMEDY}")
    start = body.rfind(b"\n", 0, first.start()) + 1
    end = body.find(b"\n", start)
    end = len(body) if end < 0 else end
    if end - start > _MAX_HEADER_BYTES:
        raise DataError(f"{name} has a first line of {end - start} bytes, expected the names of columns: {REMEDY}")
    line = body.count(b"\n", 0, start) + 1
    where = f"{name}, line {line}"
    separator, header = _header_fields(_decoded(body[start:end], where=where), layout=layout, where=where)
    columns = find_columns(header, layout=layout, where=where)
    stop = _end_of_rows(body)
    if stop <= end:
        raise DataError(f"{name} has a header and no rows: {REMEDY}")
    return _Csv(
        name=name,
        rows=memoryview(body)[end + 1 : stop],
        first_line=line + 1,
        separator=separator,
        width=len(header),
        columns=columns,
    )


def _decoded(line: bytes, *, where: str) -> str:
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        text = line.decode("latin-1").rstrip("\r")
    # Latin-1 has no letters there, so every file would be latin-1 otherwise.
    if re.search(r"[\x80-\x9f]", text):
        raise DataError(f"{where}: the header is neither UTF-8 nor latin-1: save the file as UTF-8")
    return text


def _header_fields(line: str, *, layout: Layout, where: str) -> tuple[str, list[str]]:
    """Return the separator and the names: of the separators that give a stamp, else of all, the one with the most names."""
    if line.count('"') % 2:
        raise DataError(f"{where}: a quote in the header is not closed: correct the header")
    stamps = {header_key(name) for name in layout.stamp_columns}
    candidates = []
    for separator in _SEPARATORS:
        try:
            fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except csv.Error as error:  # such as a carriage return in the middle
            raise DataError(f"{where}: the names of the columns cannot be read ({error}): {REMEDY}") from error
        candidates.append((any(header_key(name) in stamps for name in fields), len(fields), separator, fields))
    _, _, separator, fields = max(candidates, key=lambda candidate: candidate[:2])
    return separator, fields


def _end_of_rows(body: bytes) -> int:
    """Return where the last line ends that has a field; a spreadsheet writes empty rows as separators alone."""
    end = len(body)
    while True:
        start = body.rfind(b"\n", 0, end) + 1
        if start == 0 or body[start:end].strip(b' \t\r,;"'):
            return end
        end = start - 1


def _read_csv(text: _Csv, *, layout: Layout) -> FileContent:
    """Return the rows: at once if every field is plainly a number or missing, else column by column as text."""
    names = list(text.columns.readings)
    # With decimal commas no field may have a point, and the other way round, so a wrong mark ends in an error.
    has_commas = text.separator != "," and b"," in bytes(text.rows[:1000])
    try:
        table = text.read(
            {TIMESTAMP: pa.binary(), **dict.fromkeys(names, pa.float32())},
            missing=layout.missing,
            decimal_mark="," if has_commas else ".",
        )
    except pa.ArrowInvalid:
        table = _read_as_text(text, names=names)
        readings, overflows = numbers_of_text(
            {name: table[name] for name in names},
            headers=text.columns.headers,
            missing=layout.missing,
            may_have_commas=text.separator != ",",
            place=text.place,
        )
    else:
        readings = {name: table[name].to_numpy() for name in names}
        with_nulls = [name for name in names if table[name].null_count]
        overflows = _overflows(text, names=with_nulls) if with_nulls else {}
    seconds = seconds_of(
        table[TIMESTAMP].combine_chunks(),
        stamp_format=layout.stamp_format,
        header=text.columns.headers[TIMESTAMP],
        place=text.place,
    )
    return _content(seconds, readings=readings, overflows=overflows, columns=text.columns)


def _overflows(text: _Csv, *, names: Sequence[str]) -> dict[str, int]:
    table = text.read(dict.fromkeys(names, pa.binary()))
    counts = {name: count_overflows(table[name]) for name in names}
    return {name: count for name, count in counts.items() if count}


def _read_as_text(text: _Csv, *, names: Sequence[str]) -> pa.Table:
    try:
        return text.read(dict.fromkeys([TIMESTAMP, *names], pa.binary()))
    except pa.ArrowInvalid as error:
        _raise_uneven(text, message=str(error))


def _raise_uneven(text: _Csv, *, message: str) -> NoReturn:
    """Say which row is the first that does not have a field for each column."""
    remedy = "correct or remove this row upstream"
    for line, row in text.lines():
        where = f"{text.name}, line {line}"
        try:
            fields = next(csv.reader([row], delimiter=text.separator, strict=True))
        except csv.Error:
            raise DataError(f"{where}: a quote is not closed: {remedy}") from None
        if len(fields) == text.width:
            continue
        if text.separator == "," and len(fields) > text.width and all(re.fullmatch(r"\s*-?\d*\s*", part) for part in fields[1:]):
            remedy = "if these are decimal commas, write decimal points, or ; between the fields"
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise DataError(f"{where}: the row has {count}, expected {text.width} as in the header: {remedy}")
    detail = re.sub(r"\s+", " ", message)[:200]
    raise DataError(f"{text.name}: the rows do not fit the layout ({detail}): {remedy}")


# A Parquet file.


def _read_parquet(name: str, *, path: Path, layout: Layout) -> FileContent:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        # A column of one value takes next to nothing in the file, and as much as any other in memory.
        size = max(size, 4 * (1 + len(layout.columns)) * file.metadata.num_rows)
        if size > MAX_UNPACKED_BYTES:
            raise DataError(f"{name} unpacks to {size} bytes, expected at most {MAX_UNPACKED_BYTES}: give a shorter span")
        header = file.schema_arrow.names
        columns = find_columns(header, layout=layout, where=name)
        table = file.read(columns=[header[position] for position in (columns.stamp, *columns.readings.values())])
    except (pa.ArrowException, OSError, UnicodeError, KeyError) as error:
        raise DataError(f"{name} is not a sound Parquet file ({error}): write it again") from error
    if table.num_rows == 0:
        raise DataError(f"{name} has a header and no rows: write it again")

    def place(row: int) -> str:
        return f"{name}, row {row + 1}"

    cells = {canonical: table[header[position]] for canonical, position in columns.readings.items()}
    texts, readings = {}, {}
    for canonical, column in cells.items():
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts[canonical] = column.cast(pa.string())
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            readings[canonical] = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
        else:
            raise DataError(f"{name}: {columns.headers[canonical]!r} ({canonical}) has type {kind}, expected numbers: convert it")
    from_text, overflows = numbers_of_text(
        texts, headers=columns.headers, missing=layout.missing, may_have_commas=True, place=place
    )
    seconds = _parquet_seconds(
        table[header[columns.stamp]], layout=layout, header=columns.headers[TIMESTAMP], name=name, place=place
    )
    readings |= from_text
    return _content(
        seconds, readings={canonical: readings[canonical] for canonical in cells}, overflows=overflows, columns=columns
    )


def _parquet_seconds(column: pa.ChunkedArray, *, layout: Layout, header: str, name: str, place: Place) -> Seconds:
    """Return seconds of stamps that are text or times without a zone."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if column.null_count:
        row = int(np.argmax(np.asarray(column.combine_chunks().is_null())))
        raise DataError(f"{place(row)}: {TIMESTAMP} ({header}) is missing: correct or remove this row")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = column.cast(pa.string()).cast(pa.binary()).combine_chunks()
        return seconds_of(text, stamp_format=layout.stamp_format, header=header, place=place)
    where = f"{name}: {header!r} ({TIMESTAMP})"
    if not pa.types.is_timestamp(kind):
        raise DataError(f"{where} has type {kind}, expected text or times: convert it")
    if kind.tz:
        raise DataError(f"{where} has the zone {kind.tz}, expected the station's clock without one: convert it and drop the zone")
    try:
        seconds: Seconds = column.cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise DataError(f"{where} has parts of a second, expected whole seconds: round them") from None
    return seconds
