"""The readings that a forecast is made from: of the newest table's raw files, or of a person's own file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import DataError, RejectedError, SettingError
from storage.layout import Store
from storage.tables import read_manifest
from tasks.config import InputSettings
from tasks.datasets import dataset_named
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed
from tasks.ingestion.acceptance import excess_text
from tasks.ingestion.fetching import today
from tasks.ingestion.outcomes import rejected_message
from tasks.ingestion.pipeline import raw_of_table, read_raw
from tasks.ingestion.validation import run_suite
from tasks.models.spec import Floats
from tasks.prediction.issued import DIGEST_DIGITS, TABLE

TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Readings:
    """Readings in the order of time.

    Attributes:
        stamp: datetime64[s] `(rows,)`, rising; on the clock of the series.
        values: float32 `(rows, columns)`, raw, in the order in which the model reads them.
        origin: `TABLE`, or a file with its digest.
    """

    stamp: npt.NDArray[np.datetime64]
    values: Floats
    origin: str


def readings_of_table(dataset: str, version: str, *, columns: Sequence[str], until: datetime | None, store: Store) -> Readings:
    """Return the readings of a table's raw files up to a stamp, as they were known then.

    The raw files are read again and not the table, whose holes are filled with later readings too.

    Raises:
        DataError: A raw file is no longer in the store, or no reading is that old.
    """
    manifest = read_manifest(store.table_folder(dataset, version))
    parsed = read_raw(raw_of_table(dataset, manifest=manifest, store=store), until=until, store=store)
    return _readings(parsed, columns=columns, until=until, origin=TABLE)


def readings_of_file(dataset: str, file: InputSettings, *, columns: Sequence[str], until: datetime | None) -> Readings:
    """Return the readings of a person's own file, held to the expectations of the data that trains.

    Raises:
        SettingError: The data set is not forecast from files, there is no such file, or an option of it cannot be.
        DataError: The file does not have a known layout, or has no reading that old, or one of the future.
        RejectedError: A critical expectation failed, or more had to be repaired than a limit allows.
    """
    spec = dataset_named(dataset)
    if spec.read_input is None:
        raise SettingError(f"{dataset} is not forecast from a file: leave the input out, which takes the newest table")
    path = Path(str(file.path)).expanduser()
    if not path.is_file():
        raise SettingError(f"{file.path} is not there: name a csv, a zip with one csv, or a Parquet file")
    options = file.model_dump(exclude_none=True, exclude={"path"})
    parsed = spec.read_input(path, options, until=until)
    newest = parsed.table[TIMESTAMP][-1].as_py()
    if newest.date() > today() + timedelta(days=1):
        raise DataError(
            f"{path.name}: the newest reading is of {newest.isoformat()}, which is in the future: check the stamps and their form"
        )
    _refuse_bad(parsed, dataset=dataset, name=path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_DIGITS]
    return _readings(parsed, columns=columns, until=until, origin=f"file {digest}")


def _refuse_bad(parsed: Parsed, *, dataset: str, name: str) -> None:
    """Refuse readings that a training would be refused."""
    spec = dataset_named(dataset)
    expectations = tuple(
        expectation
        for expectation in spec.expectations(TableRequest(source=next(iter(spec.sources))))
        if not expectation.is_about_training
    )
    report = run_suite(spec.validation_frame(parsed), name=name, expectations=expectations)
    reasons = [f"{name}: {excess_text(repair)}" for repair in parsed.repairs if not repair.is_within_limit]
    if any(outcome.severity == "critical" for outcome in report.failed):
        reasons.append(rejected_message(report))
    if reasons:
        raise RejectedError("; ".join(reasons) + "; correct the file, nothing was predicted")


def _readings(parsed: Parsed, *, columns: Sequence[str], until: datetime | None, origin: str) -> Readings:
    table: pa.Table = parsed.table
    stamp = table[TIMESTAMP].to_numpy().astype("datetime64[s]")
    values = np.column_stack([table[name].to_numpy() for name in columns]).astype(np.float32, copy=False)
    # A data set whose own code does not stop at the stamp is stopped here.
    rows = len(stamp) if until is None else int(np.searchsorted(stamp, np.datetime64(until, "s"), side="right"))
    return Readings(stamp=stamp[:rows], values=values[:rows], origin=origin)


def digest_of(values: npt.NDArray[Any]) -> str:
    """Return the digest of readings."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:DIGEST_DIGITS]
