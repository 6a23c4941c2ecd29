"""What a data set is: sources, parsing, repairs, expectations and splits, in one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tasks.choices import SplitRule
from tasks.datasets.request import TableRequest

Severity = Literal["critical", "warning", "info"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: File name, the same at every host and in every mirror.
        urls: Upstream addresses in the order in which they are tried.
        sha256: Pinned digest, or None to lock the first one seen.
        size_bytes: Exact size where it is known.
        max_bytes: Above this the download stops.
        magic: First bytes that the file must have (an HTML page in its stead is found by them).
        growing: True while the publisher still appends to the file: its digest may change.
        rolling: True for a file that loses old rows as it gains new ones: its earlier states remain part of the data.
        optional: True for a file that its publisher may not have put there yet: it is no fault if no host has it, as long as
            not all optional files of a request are missing.
        instead: Files that hold the same rows, fetched where no host has this one.
        own: A person's own file: never sought in a mirror, never replaced by the sample.
    """

    name: str
    urls: tuple[str, ...]
    max_bytes: int
    sha256: str | None = None
    size_bytes: int | None = None
    magic: bytes = b""
    growing: bool = False
    rolling: bool = False
    optional: bool = False
    instead: tuple[SourceFile, ...] = ()
    own: bool = False


class SourceOptions(BaseModel):
    """What a person can set of one source; a source without options has this model itself.

    The fields become part of the form in the UI. A field with `json_schema_extra={"flag": "--from"}` is set by that option of
    the command; one with `"address": True` says where files are, and nothing about what is in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def flags(cls) -> dict[str, str]:
        """Return the names of the fields by the option of the command that sets them."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {str(extra["flag"]): name for name, extra in extras.items() if isinstance(extra, dict) and "flag" in extra}

    @classmethod
    def address_fields(cls) -> frozenset[str]:
        """Return the names of the fields that only say where files are: tables of equal files are the same without them."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return frozenset(name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("address"))


@dataclass(frozen=True)
class Source:
    """One place that a data set can be fetched from.

    Attributes:
        files: Its files, from plain values of its options and the day that counts as today. Raises `SettingError` for options
            that cannot be.
        options: What a person can set of it.
        goes_on: Whether it brings new rows as time passes, with these options: its table is then split by `recent` where a
            person sets nothing else, and is stale when nothing new has come for long.
        gather: Writes files made from what the options name into a folder and returns their paths, which are stored as if
            they were fetched; None: nothing is made.
    """

    files: Callable[[Mapping[str, Any], date], tuple[SourceFile, ...]]
    options: type[SourceOptions] = SourceOptions
    goes_on: Callable[[Mapping[str, Any]], bool] = lambda _: False
    gather: Callable[[Mapping[str, Any], Path], tuple[Path, ...]] | None = None


@dataclass(frozen=True)
class Repair:
    """A change to the data by a written rule, counted.

    Attributes:
        name: Identifier such as `repeated_stamps`.
        rule: One sentence that says what was done.
        count: Number of rows, or of values, that were changed.
        share: `count` over the number of rows read.
        limit: Largest share that is still a repair; data above it is rejected, as by a critical expectation.
    """

    name: str
    rule: str
    count: int
    share: float
    limit: float

    @property
    def is_within_limit(self) -> bool:
        """Whether the data may be published with this repair."""
        return self.share <= self.limit


@dataclass(frozen=True)
class Parsed:
    """A parsed and repaired data set.

    Attributes:
        table: Canonical columns in canonical order (schema: `DatasetSpec.schema`).
        repairs: Every repair rule of the data set, those that found nothing too (count 0).
        facts: JSON-ready counts for the report, such as `rows_read`, `gaps`, `first_stamp`.
        extras: Further small tables that are published beside the splits, by file stem.
    """

    table: pa.Table
    repairs: tuple[Repair, ...]
    facts: Mapping[str, Any]
    extras: Mapping[str, pa.Table] = field(default_factory=dict)


class ReadInput(Protocol):
    """Reads a person's own file for a forecast from it."""

    def __call__(self, path: Path, options: Mapping[str, Any], *, until: datetime | None) -> Parsed:
        """Return its readings up to a stamp, repaired."""


@dataclass(frozen=True)
class Expectation:
    """One expectation, in words that need no Great Expectations to read.

    Attributes:
        kind: Great Expectations' snake-case name without `expect_`, such as `column_values_to_be_between`.
        arguments: Keyword arguments of that expectation.
        severity: `critical` stops the run before anything is published.
        meaning: What a person reads when it fails.
        can_be_accepted: Whether a person may accept its critical failure for one table version: it is about the quality of
            readings, and nothing that is built on the table breaks.
        is_about_training: Whether it asks for what only a training needs, such as rows for every split; the input of a
            prediction is not held to it.
        reading: Column of which the judged one is computed, for the picture of a failure; empty: none, or several.
    """

    kind: str
    arguments: Mapping[str, Any]
    severity: Severity
    meaning: str
    can_be_accepted: bool = False
    is_about_training: bool = False
    reading: str = ""


@dataclass(frozen=True)
class FaultSign:
    """A column of the validation frame that tells a fault of an instrument from weather: sound rows keep within its bounds.

    Attributes:
        column: Column of `DatasetSpec.validation_frame`.
        readings: Columns of the table that a law ties together, or the one column whose sensor is stuck.
        minimum: Smallest sound value; None: no bound.
        maximum: Largest sound value; None: no bound.
        meaning: What sound rows fulfil, in words.
        is_equation: Whether a wrong value of any of the readings breaks the law; an inequality may hold all the same.
    """

    column: str
    readings: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    meaning: str
    is_equation: bool = True


@dataclass(frozen=True)
class TextProfile:
    """What the training texts were like, one value a text, by the columns of issued predictions.

    Attributes:
        values: Arrays `(texts,)` by column; under `probability` the label, 0 or 1.
        largest: Values above which training cuts a text, by column: a longer one is counted as this.
    """

    values: Mapping[str, npt.NDArray[Any]]
    largest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitTables:
    """The three splits, normalised, with what is needed to undo it.

    Attributes:
        tables: One Arrow table a split, ready to be written.
        normalisation: JSON-ready statistics, computed from train rows only.
        bounds: JSON-ready description of each split, such as first and last stamp or row.
    """

    tables: Mapping[Split, pa.Table]
    normalisation: Mapping[str, Any]
    bounds: Mapping[str, Any]


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: everything that ingestion must know of it.

    Attributes:
        name: Registry name, `[a-z]+`.
        title: Name for people.
        licence: Licence and origin, one line.
        default_source: Source taken when a person names none.
        sources: The sources by name.
        transform_version: Raised by hand whenever parse, repair, split or normalisation change what they return.
        schema: Arrow schema of the parsed table.
        parse: Files by name (local paths), and what is asked of the table, to the parsed table; raises `DataError`.
        expectations: The suite, for what is asked of the table.
        validation_frame: The parsed table as the frame the suite runs on, with derived columns (residuals of the physical ties).
        split: The parsed table to its splits; `parse` has chosen the edges of a series.
        simulate: Writes the deterministic sample into a folder as files of the upstream layout and returns their paths.
        sample_source: Name of the source whose layout `simulate` writes.
        split_rules: The rules that `split` knows, the usual one first.
        read_part: Reads one file (its name, its local path, what is asked) to a table that `parse` takes in the place of the
            file, as an Arrow file whose name ends in `.part`. These tables are kept by digest of the file, so that a file that
            is known is not read again. None: `parse` reads the files.
        part_version: Raised by hand whenever `read_part` returns something else for the same file.
        read_input: Reads a person's own file (its path, its options, and the stamp of the newest reading that is read) to what
            `parse` returns, for a forecast from it; None: it cannot be forecast from a file. Raises `DataError`.
        read_texts: Reads a person's own file of texts (its path, or - for standard input, and its options) in parts, for
            their classification; None: there are no texts. Raises `DataError`.
        check_texts: Returns texts that a person gave, as they are; None: there are no texts. Raises `DataError`.
        intended_use: What models of this data are for, a sentence of the model card.
        limits_of_use: What they are not for, a sentence each.
        fault_signs: What tells a broken sensor from weather while the model is at work; empty: nothing can.
        sun_driven: Column whose daily cycle follows the sun, by which a shifted clock is noticed; empty: there is none.
        train_profile: The splits' tables to what the texts that trained were like; None: there are no texts.
    """

    name: str
    title: str
    licence: str
    default_source: str
    sources: Mapping[str, Source]
    transform_version: int
    schema: pa.Schema
    parse: Callable[[Mapping[str, Path], TableRequest], Parsed]
    expectations: Callable[[TableRequest], tuple[Expectation, ...]]
    validation_frame: Callable[[Parsed], pd.DataFrame]
    split: Callable[[Parsed], SplitTables]
    simulate: Callable[[Path], tuple[Path, ...]]
    sample_source: str
    split_rules: tuple[SplitRule, ...] = ("shares",)
    read_part: Callable[[str, Path, TableRequest], pa.Table] | None = None
    part_version: int = 1
    read_input: ReadInput | None = None
    read_texts: Callable[[str, Mapping[str, Any]], Iterator[tuple[str, ...]]] | None = None
    check_texts: Callable[[Sequence[str]], tuple[str, ...]] | None = None
    intended_use: str = "To be stated by whoever added the data set."
    limits_of_use: tuple[str, ...] = ()
    fault_signs: tuple[FaultSign, ...] = ()
    sun_driven: str = ""
    train_profile: Callable[[Mapping[str, pa.Table]], TextProfile] | None = None
