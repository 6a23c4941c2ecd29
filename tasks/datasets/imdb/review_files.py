"""A person's own labelled reviews: a csv, a Parquet file, a folder with `pos/` and `neg/`, or a .tar.gz of such a folder.

Whatever they come in, they are written as one table, sorted, so that the same reviews give the same bytes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from storage.download import local_source
from storage.errors import DataError, SettingError, SourceError
from tasks.datasets.imdb.keras_files import WORD_INDEX, keras_files
from tasks.datasets.imdb.review_tree import MAX_REVIEW_BYTES, Review, place_in_tree, read_archive, text_of
from tasks.datasets.spec import SourceFile, SourceOptions

REVIEWS = "reviews.parquet"
MAX_REVIEWS = 1_000_000
MAX_BYTES = 2**30

_SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.int8()), pa.field("part", pa.string())])
_COLUMNS = ("review", "sentiment")
_LABELS = {"positive": 1, "pos": 1, "1": 1, "negative": 0, "neg": 0, "0": 0}
_EXPECTED_LABEL = "positive or negative, pos or neg, 1 or 0"
_USE = "use"

Use = Literal["add", "replace"]


class ReviewFilesOptions(SourceOptions):
    """Where a person's own reviews are, and what they are for."""

    model_config = ConfigDict(title="Options of files")

    path: str | None = Field(
        None,
        min_length=1,
        description="A csv or Parquet file with the columns review and sentiment (positive or negative, pos or neg, 1 or 0); or "
        "a folder with pos/ and neg/, or with train/ and test/ that hold them, of one text file a review; or a .tar.gz of one.",
        json_schema_extra={"flag": "--input", "address": True},
    )
    use: Use = Field(
        "add",
        description="add: train on them too, beside the published reviews, which alone validate and test. replace: train, "
        "validate and test on them alone.",
        json_schema_extra={"flag": "--use"},
    )


@dataclass(frozen=True)
class OwnReviews:
    """Gathered reviews.

    Attributes:
        labels: 1 for a positive review, else 0.
        parts: `train`, `test`, or None for a review that stands in neither.
    """

    texts: list[str]
    labels: list[int]
    parts: list[str | None]
    use: Use


def review_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    """Return the published files that a person's own reviews need: the word index, and what they are added to.

    Raises:
        SettingError: An option is unknown, or no path is named.
    """
    unknown = sorted(set(options) - set(ReviewFilesOptions.model_fields))
    if unknown:
        raise SettingError(f"unknown option {unknown[0]!r} for the imdb source files: it takes path and use")
    if not options.get("path"):
        raise SettingError("path is None: name a csv, a Parquet file, a .tar.gz, or a folder with pos/ and neg/")
    return tuple(file for file in keras_files({}, today) if options.get(_USE) != "replace" or file.name == WORD_INDEX)


def gather_reviews(options: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write `reviews.parquet`, the same bytes for the same reviews in whatever files and order they come.

    Raises:
        SettingError: There is nothing at the path.
        DataError: It holds no reviews, or something that is no labelled review.
    """
    source = local_source(str(options["path"]))
    reviews = sorted(_read(source), key=lambda review: (review.part or "", review.label, review.text))
    if not reviews:
        raise DataError(f"{source} holds no review: expected a header and rows, or text files in pos/ and neg/")
    columns = [[review.text for review in reviews], [review.label for review in reviews], [review.part for review in reviews]]
    schema = _SCHEMA.with_metadata({_USE: str(options.get(_USE, "add"))})
    path = folder / REVIEWS
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd", row_group_size=len(reviews))
    return (path,)


def read_gathered(path: Path) -> OwnReviews:
    """Return what `gather_reviews` wrote.

    Raises:
        DataError: The file is another.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not readable ({_one_line(error)}): run again, which gathers it anew") from error
    use = (table.schema.metadata or {}).get(_USE.encode(), b"").decode()
    if use not in ("add", "replace") or not table.schema.equals(_SCHEMA):
        raise DataError(f"{path.name} is no table of gathered reviews: run again, which gathers it anew")
    texts, labels, parts = (table[name].to_pylist() for name in _SCHEMA.names)
    return OwnReviews(texts=texts, labels=labels, parts=parts, use="add" if use == "add" else "replace")


def _read(source: Path) -> list[Review]:
    if source.is_dir():
        return _bounded(_folder_reviews(source), where=str(source))
    if not source.is_file():
        raise SettingError(f"there is nothing at {source}: name a csv, a Parquet file, a .tar.gz, or a folder with pos/ and neg/")
    if source.stat().st_size > MAX_BYTES:
        raise DataError(f"{source} has {source.stat().st_size:,} bytes, {MAX_BYTES:,} are allowed: split it")
    with source.open("rb") as stream:
        head = stream.read(4)
    if head == b"PAR1":
        return _bounded(_parquet_reviews(source), where=source.name)
    if head.startswith(b"\x1f\x8b"):
        return _bounded(read_archive(source, max_bytes=MAX_BYTES), where=source.name)
    if head.startswith(b"PK"):
        raise DataError(f"{source.name} is a zip: unpack it, and name the csv or the folder in it")
    return _bounded(_csv_reviews(source), where=source.name)


def _bounded(reviews: Iterator[Review], *, where: str) -> list[Review]:
    """Return the reviews; more than a training could hold are refused before they are all read."""
    read: list[Review] = []
    n_characters = 0
    try:
        for review in reviews:
            read.append(review)
            n_characters += len(review.text)
            if len(read) > MAX_REVIEWS or n_characters > MAX_BYTES:
                raise DataError(f"{where} has more than {MAX_REVIEWS:,} reviews or {MAX_BYTES:,} characters: name a part of it")
    except OSError as error:
        raise SourceError(f"{where} cannot be read ({_one_line(error)}): give this user the right to") from error
    return read


def _label(value: object, *, where: str) -> int:
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise DataError(f"sentiment {str(value)[:40]!r} in {where}: expected {_EXPECTED_LABEL}")
    return label


def _check_columns(names: list[str], *, where: str) -> None:
    missing = [name for name in _COLUMNS if names.count(name) != 1]
    if missing:
        listed = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
        raise DataError(f"{where} has the columns {listed}: expected {' and '.join(missing)} once; name the columns so")


def _csv_reviews(path: Path) -> Iterator[Review]:
    text = text_of(path.read_bytes(), where=path.name)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for row in rows:
            where = f"line {line:,} of {path.name}"
            line = rows.line_num + 1
            if not row:
                continue
            if not header:
                header = [name.strip().lower() for name in row]
                _check_columns(header, where=path.name)
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{where} has {len(row)} values: expected {len(header)}, those of the header; is a quote missing?"
                )
            review, sentiment = (row[header.index(name)] for name in _COLUMNS)
            yield Review(text=review, label=_label(sentiment, where=where), part=None)
    except csv.Error as error:
        raise DataError(
            f"line {line:,} of {path.name} is no csv ({error}): expected quotes around a review, doubled in it"
        ) from None
    if not header:
        _check_columns([], where=path.name)


def _parquet_reviews(path: Path) -> Iterator[Review]:
    try:
        file = pq.ParquetFile(path)
        schema, metadata = file.schema_arrow, file.metadata
        _check_columns(schema.names, where=path.name)
        kind = schema.field("review").type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(f"the column review of {path.name} is of {kind}: expected text")
        n_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if n_bytes > MAX_BYTES:
            raise DataError(f"{path.name} unpacks to {n_bytes:,} bytes, {MAX_BYTES:,} are allowed: name a part of it")
        row = 0
        for batch in file.iter_batches(columns=list(_COLUMNS)):
            for review, sentiment in zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True):
                row += 1
                where = f"row {row:,} of {path.name}"
                if review is None:
                    raise DataError(f"{where} has no review: remove the row")
                if "\0" in review:
                    raise DataError(f"the review in {where} holds a NUL character: expected text")
                yield Review(text=review, label=_label(sentiment, where=where), part=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} is not readable as Parquet ({_one_line(error)}): save it again") from error


def _folder_reviews(folder: Path) -> Iterator[Review]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            inside = path.relative_to(folder)
            place = place_in_tree(inside.parts)
            if place is None or not path.is_file():
                continue
            if path.stat().st_size > MAX_REVIEW_BYTES:
                raise DataError(
                    f"{inside} in {folder} has {path.stat().st_size:,} bytes, {MAX_REVIEW_BYTES:,} are allowed: split it"
                )
            label, part = place
            yield Review(text=text_of(path.read_bytes(), where=f"{inside} in {folder}"), label=label, part=part)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
