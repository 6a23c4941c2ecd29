"""What a version has seen: the rows that its weights were fitted on, and those that chose its epochs.

A model is not judged on such rows, because its errors there are too small. The rows of `train` fit the weights, and the rows
of `val` choose the epoch, so both count as seen. For a series the record holds the first and the last stamp of each split,
for any other data set the ids of its rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.layout import Store
from storage.records import ModelVersion
from storage.references import TableRef
from storage.registry import Registry
from storage.tables import exists, read_table
from tasks.datasets.row_ids import RowIds
from tasks.datasets.time_series import iso
from tasks.models.spec import Problem

IDS_FILE = "seen_rows.npy"
SPLITS_OF_A_TRAINING = ("train", "val")

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeenRows:
    """A set of rows of one data set.

    Attributes:
        spans: First and last id of each span of a series; every row between them belongs to the set, also one that was missing
            from the table.
        ids: Ids of single rows, rising.
        is_known: False where nobody can say which rows a version has seen.
    """

    spans: tuple[tuple[int, int], ...] = ()
    ids: RowIds = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    is_known: bool = True

    def among(self, row_ids: RowIds) -> Flags:
        """Return which of some rows belong to the set, bool `(rows,)`."""
        flags: Flags = np.isin(row_ids, self.ids)
        for first, last in self.spans:
            flags |= (row_ids >= first) & (row_ids <= last)
        return flags


def describe_rows(row_ids: RowIds, *, problem: Problem) -> dict[str, Any]:
    """Return JSON-ready values of some rows: their number, and for a series their first and last stamp."""
    described: dict[str, Any] = {"rows": len(row_ids)}
    if problem.is_series:
        described |= {"first_stamp": iso(row_ids.min()), "last_stamp": iso(row_ids.max())}
    return described


def describe_seen(splits: Mapping[str, pa.Table], *, names: Sequence[str], problem: Problem) -> tuple[dict[str, Any], RowIds]:
    """Return what a training on these splits has seen: JSON-ready counts and stamps by split, and the ids of single rows."""
    description: dict[str, Any] = {}
    ids: list[RowIds] = []
    for name in names:
        row_ids = problem.row_ids(splits[name])
        description[name] = describe_rows(row_ids, problem=problem)
        if not problem.is_series:
            ids.append(row_ids)
    return description, np.unique(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)


def seen_by(version: ModelVersion, *, problem: Problem, registry: Registry, store: Store) -> SeenRows:
    """Return the rows that a version has seen.

    A version of before this record has what its manifest tells of its table: the stamps of its splits, or else the table itself
    while it is in the store. Where neither is left, nobody knows.
    """
    manifest = registry.read_json(version.run_id, "manifest.json")
    recorded = manifest["training"].get("seen")
    if recorded and not problem.is_series:
        return SeenRows(ids=np.load(io.BytesIO(registry.read_file(version.run_id, IDS_FILE)), allow_pickle=False))
    bounds = manifest["table"].get("bounds", {})
    described = recorded or {name: bounds.get(name, {}) for name in SPLITS_OF_A_TRAINING}
    if problem.is_series and all("first_stamp" in split for split in described.values()):
        return SeenRows(spans=spans_of(described))
    table_version = manifest["table"]["version"]
    if not exists(store, problem.dataset, table_version):
        return SeenRows(is_known=False)
    folder = store.table_folder(problem.dataset, table_version)
    splits = {name: read_table(folder / f"{name}.parquet") for name in SPLITS_OF_A_TRAINING}
    described, ids = describe_seen(splits, names=SPLITS_OF_A_TRAINING, problem=problem)
    return SeenRows(spans=spans_of(described) if problem.is_series else (), ids=ids)


def spans_of(described: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the first and last stamp of each described split, in seconds since 1970."""
    return tuple((_seconds(split["first_stamp"]), _seconds(split["last_stamp"])) for split in described.values())


def ids_of_test_rows(table: TableRef, *, problem: Problem, store: Store) -> RowIds:
    """Return the id of every row of a table's test split, in its order."""
    return problem.row_ids(read_table(store.table_folder(table.dataset, table.version) / "test.parquet"))


def _seconds(stamp: str) -> int:
    return int(np.datetime64(stamp, "s").astype(np.int64))
