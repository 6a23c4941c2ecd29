"""Texts without labels, to be classified: a csv or Parquet file, a text file with a review a line, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from storage.errors import DataError, SettingError
from tasks.datasets.imdb.review_tree import MAX_REVIEW_BYTES

COLUMNS = ("review", "text")
STANDARD_INPUT = "-"
# Texts of a part, so that a file of any length is read in bounded memory.
PART_TEXTS = 4096
_MAX_SHOWN = 40


def read_texts(path: str, options: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the texts of a file in its order, some thousands at a time.

    Args:
        path: A csv or Parquet file with a column `review` or `text`, or a text file with a review a line; `-` is standard
            input, a review a line.
        options: `columns` may name the column: {"review": "its name"}.

    Raises:
        DataError: The file is damaged, lacks the column, has no text, or one that `checked_texts` refuses.
        SettingError: There is no such file, or an option is unknown.
    """
    column = _column(options)
    first = 1
    for part in _parts(path, column=column):
        for start in range(0, len(part), PART_TEXTS):
            texts = part[start : start + PART_TEXTS]
            yield checked_texts(texts, where=_name(path), first=first)
            first += len(texts)
    if first == 1:
        raise DataError(f"{_name(path)} holds no text: expected a review a line, or a column {' or '.join(COLUMNS)}")


def checked_texts(texts: Iterable[Any], *, where: str = "the input", first: int = 1) -> tuple[str, ...]:
    """Return the texts.

    Args:
        texts: Texts that a person gave.
        where: Where they stand, for messages.
        first: Number of the first of them there.

    Raises:
        DataError: A text is missing, blank, binary, or longer than a review can be.
    """
    checked = []
    for number, text in enumerate(texts, start=first):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"text {number} of {where} is empty: expected a review, leave it out")
        size = len(text) if text.isascii() else len(text.encode(errors="replace"))
        if size > MAX_REVIEW_BYTES:
            raise DataError(f"text {number} of {where} has {size:,} bytes, {MAX_REVIEW_BYTES:,} are allowed: split it")
        if "\0" in text or "\ufffd" in text[:_MAX_SHOWN]:
            raise DataError(f"text {number} of {where} is binary or in another encoding: expected UTF-8")
        checked.append(text)
    return tuple(checked)


def _name(path: str) -> str:
    return "standard input" if path == STANDARD_INPUT else Path(path).name


def _column(options: Mapping[str, Any]) -> str | None:
    columns = options.get("columns") or {}
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise SettingError(f"unknown column {unknown[0]!r} for texts: name review, such as review=body")
    stray = sorted(name for name, value in options.items() if name != "columns" and value is not None)
    if stray:
        raise SettingError(f"{stray[0]} is {options[stray[0]]!r}, but texts have no such option: leave it out")
    return next(iter(columns.values()), None)


def _parts(path: str, *, column: str | None) -> Iterator[list[Any]]:
    """Yield the values of the column, or the lines, as they are stored."""
    if path == STANDARD_INPUT:
        yield from _line_parts(sys.stdin.buffer, where=_name(path))
        return
    file = Path(path)
    if not file.is_file():
        raise SettingError(f"{path} is not there: name a csv, a Parquet file or a text file, or - for standard input")
    with file.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        if head == b"PAR1":
            yield from _parquet_parts(file, column=column)
        elif file.suffix.lower() == ".csv":
            yield from _csv_parts(file, column=column)
        else:
            yield from _line_parts(stream, where=_name(path))


def _line_parts(lines: Iterable[bytes], *, where: str) -> Iterator[list[Any]]:
    """Yield lines; blank ones are no text."""
    stream = iter(lines)
    number = 0
    while part := list(islice(stream, PART_TEXTS)):
        texts = []
        for line in part:
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"line {number} of {where} is no UTF-8 text: save the file as UTF-8") from error
            if text.strip():
                texts.append(text)
        yield texts


def _parquet_parts(file: Path, *, column: str | None) -> Iterator[list[Any]]:
    try:
        parquet = pq.ParquetFile(file)
        name = _chosen(parquet.schema_arrow.names, column=column, where=file.name)
        for batch in parquet.iter_batches(batch_size=PART_TEXTS, columns=[name]):
            yield batch.column(0).to_pylist()
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(f"{file.name} is not readable as Parquet ({_one_line(error)}): write it again") from error


def _csv_parts(file: Path, *, column: str | None) -> Iterator[list[Any]]:
    try:
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        read = pa_csv.ReadOptions(block_size=16 * MAX_REVIEW_BYTES)
        with pa_csv.open_csv(file, read_options=read, parse_options=parse) as header:
            name = _chosen(header.schema.names, column=column, where=file.name)
        convert = pa_csv.ConvertOptions(
            include_columns=[name], column_types={name: pa.string()}, strings_can_be_null=False, quoted_strings_can_be_null=False
        )
        with pa_csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert) as batches:
            for batch in batches:
                yield batch.column(0).to_pylist()
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(f"{file.name} is not readable as csv ({_one_line(error)}): expected a header and UTF-8 rows") from error


def _chosen(names: list[str], *, column: str | None, where: str) -> str:
    """Return the column of the texts."""
    wanted = (column,) if column else COLUMNS
    name = next((name for name in names if name.strip().lower() in {each.lower() for each in wanted}), None)
    if name is None:
        raise DataError(f"{where} has the columns {', '.join(names)}, expected {' or '.join(wanted)}: name its column")
    return name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
