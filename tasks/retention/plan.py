"""What of a store, its registry and Prefect can go: everything old that `needed` does not keep. Nothing is removed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from storage.errors import DataError
from storage.inventory import Entry, entries
from storage.io import read_json
from storage.layout import MANIFEST, Store
from storage.records import ModelVersion
from storage.tables import ingested_times
from tasks.promotion.log import Line
from tasks.retention.needed import Waiting, needed_keys, needed_tables, needed_versions
from tasks.retention.settings import RetentionSettings

Kind = Literal["scratch", "checkpoint", "evaluation", "report", "table", "model version", "MLflow run", "Prefect run"]
KINDS: tuple[Kind, ...] = (
    "model version",
    "MLflow run",
    "table",
    "report",
    "evaluation",
    "checkpoint",
    "scratch",
    "Prefect run",
)


@dataclass(frozen=True)
class Item:
    """One thing that can go.

    Attributes:
        name: Below the folder of its kind, or as people call it.
        uri: Where it lies; the id of a run.
        size_bytes: What its removal frees; 0 of a row in a database.
        reason: Why nothing needs it.
        dataset: Data set that it belongs to; empty where that is unknown.
        version: Table version that it belongs to; empty if none.
    """

    kind: Kind
    name: str
    uri: str
    size_bytes: int
    reason: str
    dataset: str = ""
    version: str = ""


@dataclass(frozen=True)
class Table:
    """A folder of `tables`.

    Attributes:
        used: When it was published, or found unchanged by an ingest since.
        rank: Orders the published tables of a data set, the newest last, as `newest_version` does; None without a manifest.
        simulated: Whether it is of the sample.
        raw: Digests of its raw files.
    """

    entry: Entry
    used: datetime
    rank: tuple[str, str, str] | None = None
    simulated: bool = False
    raw: frozenset[str] = frozenset()

    @property
    def dataset(self) -> str:
        """Its data set."""
        return self.entry.parts[0]

    @property
    def version(self) -> str:
        """Its version."""
        return self.entry.parts[1]


@dataclass(frozen=True)
class Known:
    """What refers to things in a store.

    Attributes:
        versions: Every complete version of every registered model.
        lines: The log of decisions, by model.
        issued: Numbers of the versions that issued predictions, by model.
        waiting: What waiting and running flows need.
    """

    versions: tuple[ModelVersion, ...]
    lines: Mapping[str, Sequence[Line]]
    issued: Mapping[str, Collection[int]]
    waiting: Waiting


def tables_of(store: Store) -> tuple[Table, ...]:
    """Return every folder of `tables`, published or not."""
    folders = [entry for entry in entries(store.root / "tables", depth=2) if not entry.parts[1].startswith(".")]
    times = {dataset: ingested_times(store, dataset) for dataset in {entry.parts[0] for entry in folders}}
    return tuple(_table(entry, ingested=times[entry.parts[0]].get(entry.parts[1], "")) for entry in folders)


def _table(entry: Entry, *, ingested: str) -> Table:
    used = max(entry.modified, datetime.fromisoformat(ingested)) if ingested else entry.modified
    try:
        manifest = read_json(entry.path / MANIFEST)
        rank = (str(manifest["facts"].get("last_stamp", "")), ingested, entry.parts[1])
        raw = frozenset(str(file["sha256"]) for file in manifest.get("raw", ()))
        return Table(entry, used=used, rank=rank, simulated=bool(manifest["simulated"]), raw=raw)
    except (DataError, KeyError, TypeError, AttributeError):  # none, or one that is not whole
        return Table(entry, used=used)


def newest_tables(tables: Iterable[Table], *, keep: int) -> dict[tuple[str, bool], tuple[str, ...]]:
    """Return so many of the newest table versions of each data set, and of its sample, the newest first."""
    by_kind: dict[tuple[str, bool], list[tuple[tuple[str, str, str], str]]] = {}
    for table in tables:
        if table.rank is not None:
            by_kind.setdefault((table.dataset, table.simulated), []).append((table.rank, table.version))
    return {kind: tuple(version for _, version in sorted(ranked, reverse=True)[:keep]) for kind, ranked in by_kind.items()}


def old_versions(
    known: Known, *, tables: Sequence[Table], settings: RetentionSettings, now: datetime
) -> tuple[ModelVersion, ...]:
    """Return the versions that can go; none without `keep_versions`."""
    if settings.keep_versions is None:
        return ()
    newest = {versions[0] for versions in newest_tables(tables, keep=1).values()}
    old: list[ModelVersion] = []
    for name in sorted({version.name for version in known.versions}):
        own = sorted((each for each in known.versions if each.name == name), key=lambda each: -each.version)
        stays = {each.version for each in own if not _is_older(each, settings=settings, now=now)}
        stays |= {each.version for each in own[: settings.keep_versions]}
        needed = needed_versions(
            own,
            lines=known.lines.get(name, ()),
            issued={*known.issued.get(name, ()), *stays},
            newest_tables=newest,
            words=known.waiting.words,
        )
        if dataset_of_model(name) not in known.waiting.datasets:
            old += [version for version in own if version.version not in needed]
    return tuple(old)


def _is_older(version: ModelVersion, *, settings: RetentionSettings, now: datetime) -> bool:
    return now - datetime.fromisoformat(version.created) > timedelta(days=settings.older_than_days)


def dataset_of_model(name: str) -> str:
    """Return the data set of a registered model, with whose name that of the model begins."""
    return name.partition("-")[0]


def store_items(
    store: Store,
    *,
    known: Known,
    gone: Collection[ModelVersion],
    tables: Sequence[Table],
    settings: RetentionSettings,
    now: datetime,
) -> tuple[Item, ...]:
    """Return what can go of the files of a store.

    Args:
        store: The store.
        known: What refers to them.
        gone: Versions that go, and so refer to nothing.
        tables: The folders of `tables`.
        settings: Ages and counts.
        now: The time.
    """
    going = {(version.name, version.version) for version in gone}
    staying = tuple(version for version in known.versions if (version.name, version.version) not in going)
    newest = {version for versions in newest_tables(tables, keep=settings.keep).values() for version in versions}
    needed = needed_tables(staying, lines=known.lines, newest_tables=newest, words=known.waiting.words)
    old = now - timedelta(days=settings.older_than_days)
    going_tables = tuple(
        table
        for table in tables
        if table.version not in needed and table.used < old and table.dataset not in known.waiting.datasets
    )
    sweep = _Sweep(
        store=store,
        waiting=known.waiting,
        needed=frozenset(needed),
        going=going_tables,
        staying=tuple(table for table in tables if table not in going_tables),
        keys=frozenset(needed_keys(staying)),
        old=old,
        leftover=now - timedelta(days=settings.leftover_days),
    )
    return (*sweep.tables(), *sweep.reports(), *sweep.evaluations(), *sweep.checkpoints(), *sweep.scratch())


@dataclass(frozen=True)
class _Sweep:
    """The files of a store, beside what must stay.

    Attributes:
        needed: Table versions that something refers to, in the store or not.
        going: Tables that go.
        staying: Tables that stay.
        keys: Training keys whose evaluations are read.
        old: What was changed before this is old.
        leftover: What was changed before this, and is unfinished, is left over.
    """

    store: Store
    waiting: Waiting
    needed: frozenset[str]
    going: tuple[Table, ...]
    staying: tuple[Table, ...]
    keys: frozenset[str]
    old: datetime
    leftover: datetime

    def tables(self) -> Iterator[Item]:
        for table in self.going:
            reason = "no version, test or run refers to it" if table.rank else "it was never published"
            yield _item("table", table.entry, reason, dataset=table.dataset, version=table.version)

    def reports(self) -> Iterator[Item]:
        standing = self.needed | {table.version for table in self.staying}
        for entry in entries(self.store.root / "reports", depth=2):
            dataset, version = entry.parts
            if version not in standing and entry.modified < self.old and dataset not in self.waiting.datasets:
                yield _item("report", entry, "its table is gone, or was rejected", dataset=dataset, version=version)

    def evaluations(self) -> Iterator[Item]:
        standing = {table.version for table in self.staying}
        for entry in grouped_evaluations(self.store):
            version, key = entry.parts
            is_read = version in standing and key in self.keys
            if not is_read and not self._is_waited_for(version) and entry.modified < self.old:
                reason = "of no version in use; it is made again when needed"
                yield _item("evaluation", entry, reason, dataset=self._dataset_of(version), version=version)

    def checkpoints(self) -> Iterator[Item]:
        for entry in entries(self.store.root / "checkpoints", depth=1):
            version = entry.parts[0].partition("-")[0]
            if not self._is_waited_for(version) and entry.modified < self.leftover:
                reason = "nobody has gone on with this training"
                yield _item("checkpoint", entry, reason, dataset=self._dataset_of(version), version=version)

    def scratch(self) -> Iterator[Item]:
        digests = {digest for table in self.staying for digest in table.raw}
        for entry in scratch_entries(self.store):
            # The first name below the kind is a data set, its sample's, or a digest.
            dataset = dataset_of_model(entry.parts[1])
            is_cached = any(part.partition("-")[0] in digests for part in entry.parts)
            if not is_cached and dataset not in self.waiting.datasets and entry.modified < self.leftover:
                yield _item("scratch", entry, "unfinished work, or a cache, that nobody has touched", dataset=dataset)

    def _dataset_of(self, version: str) -> str:
        """Return the data set of a table; empty if the table is not there."""
        return next((table.dataset for table in (*self.staying, *self.going) if table.version == version), "")

    def _is_waited_for(self, version: str) -> bool:
        """Tell whether a run names a table, or works on its data set, which nobody knows of one that is gone."""
        dataset, busy = self._dataset_of(version), self.waiting.datasets
        return version in self.waiting.words or (dataset in busy if dataset else bool(busy))


def grouped_evaluations(store: Store) -> tuple[Entry, ...]:
    """Return the evaluations by table and training key; each has several files, whose path is that without their endings."""
    grouped: dict[tuple[str, ...], Entry] = {}
    for entry in entries(store.root / "evaluations", depth=2):
        version, key = entry.parts[0], entry.parts[1].partition(".")[0]
        group = replace(entry, parts=(version, key), path=store.root / "evaluations" / version / key)
        grouped[group.parts] = grouped[group.parts].with_files_of(group) if group.parts in grouped else group
    return tuple(grouped.values())


def scratch_entries(store: Store) -> tuple[Entry, ...]:
    """Return the unfinished work and the caches of this host: a folder of staging, any other file for itself."""
    depths = {"staging": 2, "damaged": 2, "partial": 3, "copies": 2, "parts": 2}
    folders = sorted(path for path in store.scratch.iterdir() if path.is_dir()) if store.scratch.is_dir() else []
    return tuple(
        replace(entry, parts=(folder.name, *entry.parts))
        for folder in folders
        for entry in entries(folder, depth=depths.get(folder.name, 1))
    )


def _item(kind: Kind, entry: Entry, reason: str, *, dataset: str = "", version: str = "") -> Item:
    return Item(kind, entry.name, str(entry.path), entry.size_bytes, reason, dataset=dataset, version=version)
