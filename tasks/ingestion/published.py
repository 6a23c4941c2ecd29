"""List and open the tables that were published: for the command, for notebooks, and for code of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from storage.errors import SettingError
from storage.layout import Store
from storage.references import TableRef
from storage.tables import ingested_times, newest_version, published_versions, read_manifest, read_splits
from tasks.datasets import DATASETS, dataset_named
from tasks.ingestion.pipeline import table_ref

MIN_DIGITS = 4
# As in the names of models.
SAMPLE_SUFFIX = "-sample"


@dataclass(frozen=True)
class PublishedTable:
    """A published table, as its manifest describes it.

    Attributes:
        version: First digits of the digest of all that it follows from.
        source: Source of the data set, or `sample`.
        origin: Where the files came from: `upstream`, `mirror`, `own` or `sample`.
        rows: Number of rows by split.
        newest: ISO stamp of the newest reading of a series; empty for another kind of data set.
        ingested: When it was ingested last, ISO 8601, UTC; empty where that is not recorded.
        accepted: Whether a person accepted critical failures of it.
    """

    dataset: str
    version: str
    title: str
    simulated: bool
    source: str
    origin: str
    rows: Mapping[str, int]
    newest: str
    ingested: str
    accepted: bool


def published_tables(dataset: str | None = None, *, store: Store) -> tuple[PublishedTable, ...]:
    """Return every published table of one data set, or of all, the newest reading last.

    Raises:
        SettingError: There is no such data set.
    """
    names = list(DATASETS) if dataset is None else [dataset_named(dataset).name]
    tables = []
    for name in names:
        times = ingested_times(store, name)
        own = [_described(name, version=version, times=times, store=store) for version in published_versions(store, name)]
        tables += sorted(own, key=lambda table: (table.newest, table.ingested, table.version))
    return tuple(tables)


def _described(dataset: str, *, version: str, times: Mapping[str, str], store: Store) -> PublishedTable:
    manifest = read_manifest(store.table_folder(dataset, version))
    return PublishedTable(
        dataset=dataset,
        version=version,
        title=str(manifest["title"]),
        simulated=bool(manifest["simulated"]),
        source=str(manifest["source"]),
        origin=str(manifest.get("origin", "")),
        rows={name.removesuffix(".parquet"): described["rows"] for name, described in manifest["files"].items()},
        newest=str(manifest["facts"].get("last_stamp", "")),
        ingested=str(times.get(version, "")),
        accepted=bool(manifest.get("acceptance")),
    )


def find_table(name: str, *, store: Store) -> TableRef:
    """Return the reference to a table.

    Args:
        name: Data set and version, such as `load@2a89f785c4d2`, of which four digits are enough; the data set alone for its
            newest real data, and with `-sample` for the newest of the simulation.
        store: Store that holds it.

    Raises:
        SettingError: There is no such data set, or no such version, or several begin so.
        DataError: The data set has no table yet.
    """
    named, _, version = name.partition("@")
    dataset = dataset_named(named.removesuffix(SAMPLE_SUFFIX)).name
    if not version:
        version = newest_version(store, dataset, simulated=named != dataset)
        return table_ref(dataset, version=version, store=store, published=False)
    versions = published_versions(store, dataset)
    matching = [each for each in versions if each.startswith(version)] if len(version) >= MIN_DIGITS else []
    if len(matching) != 1:
        listed = ", ".join(versions) or f"none yet: run `retrain ingest {dataset}` first"
        problem = "begins several versions" if matching else "is no version"
        raise SettingError(f"{version!r} {problem} of a table of {dataset}: published are {listed}")
    return table_ref(dataset, version=matching[0], store=store, published=False)


def open_table(name: str, *, store: Store) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Return the splits of a table by name, normalised as the networks see them, and its manifest.

    Every byte is compared with the manifest. `manifest["normalisation"]` has the mean and the standard deviation of each column
    of a series, with which values become units again.

    Args:
        name: As for `find_table`.
        store: Store that holds it.

    Raises:
        SettingError: There is no such table.
        DataError: The data set has no table yet, or a file is not what the manifest says.
    """
    return read_splits(find_table(name, store=store), store=store)
