"""Read every file of a store and of its registry, and compare it with the checksum that it was written with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upath import UPath

from storage.checksums import CHECKSUMS, SUMS, fault_of, read_sums, sum_beside
from storage.errors import DataError, RegistryError
from storage.inventory import Entry, entries
from storage.io import is_as_written, read_json
from storage.layout import MANIFEST, Store
from storage.registry import Registry
from storage.registry_files import file_faults
from storage.tables import read_manifest
from tasks.reporting.collect import PICTURES_FILE
from tasks.training.fitting import whole_checkpoint
from tasks.training.seen import IDS_FILE

Kind = Literal["raw file", "table", "report", "evaluation", "checkpoint", "prediction", "monitoring", "log", "model", "database"]
KINDS: tuple[Kind, ...] = (
    "raw file",
    "table",
    "report",
    "evaluation",
    "checkpoint",
    "prediction",
    "monitoring",
    "log",
    "model",
    "database",
)

_DAMAGED = "it is not as it was written"


@dataclass(frozen=True)
class Checked:
    """A file that was read.

    Attributes:
        name: Where it lies in the store, or which file of which model version it is.
        fault: What is wrong with it; empty if nothing.
        has_checksum: False if there is nothing to compare it with, as with some files of release 0.1.
        owner: What it is a file of, for those who mend it: data set and version, or the like.
    """

    kind: Kind
    name: str
    fault: str = ""
    has_checksum: bool = True
    owner: tuple[str, ...] = ()


def check_store(store: Store, *, registry: Registry) -> Iterator[Checked]:
    """Yield every file of a store and of its registry, as it was found."""
    yield from _raw_files(store)
    yield from _tables(store)
    yield from _reports(store)
    yield from _evaluations(store)
    yield from _checkpoints(store)
    yield from _predictions(store)
    yield from _monitoring(store)
    yield from _logs(store)
    yield from _models(registry)
    yield from _databases(store)


def _raw_files(store: Store) -> Iterator[Checked]:
    for entry in _visible(store.root / "raw", depth=3):
        dataset, digest, name = entry.parts
        if digest == store.locks(dataset).name:
            yield _record("log", f"raw/{entry.name}", entry.path)
        else:
            yield Checked("raw file", f"raw/{entry.name}", fault_of(entry.path, sha256=digest), owner=(dataset, digest, name))


def _tables(store: Store) -> Iterator[Checked]:
    for entry in entries(store.root / "tables", depth=2):
        dataset, version = entry.parts
        if version == store.ingested(dataset).name:
            for time in _visible(entry.path, depth=1):
                yield _record("log", f"tables/{entry.name}/{time.name}", time.path)
        elif not version.startswith(".") and (entry.path / MANIFEST).is_file():
            yield from _table(entry)


def _table(entry: Entry) -> Iterator[Checked]:
    name = f"tables/{entry.name}"
    yield _record("table", f"{name}/{MANIFEST}", entry.path / MANIFEST, owner=entry.parts)
    try:
        files = {each: str(described["sha256"]) for each, described in read_manifest(entry.path)["files"].items()}
    except (DataError, KeyError, TypeError, AttributeError):
        return
    yield from _listed("table", name, entry.path, checksums=files, owner=entry.parts)


def _reports(store: Store) -> Iterator[Checked]:
    for entry in entries(store.root / "reports", depth=2):
        dataset, version = entry.parts
        folder, name = entry.path, f"reports/{entry.name}"
        report = store.validation_report(dataset, version)
        if report.is_file():
            yield from _described("report", name, folder, file=report.name, owner=entry.parts)
        elif store.manifest(dataset, version).is_file():
            yield Checked("report", f"{name}/{report.name}", "it is not there", owner=entry.parts)
        try:
            sums = read_sums(folder / SUMS)
        except DataError:
            yield Checked("report", f"{name}/{SUMS}", _DAMAGED, owner=entry.parts)
        else:
            if sums is None and store.docs_index(dataset, version).is_file():
                yield Checked("report", f"{name}/index.html", has_checksum=False, owner=entry.parts)
            yield from _listed("report", name, folder, checksums=sums or {}, owner=entry.parts)
        yield from _described(
            "report", name, folder, file=PICTURES_FILE, owner=(*entry.parts, PICTURES_FILE, "report.md", "report.html")
        )


def _evaluations(store: Store) -> Iterator[Checked]:
    for entry in _visible(store.root / "evaluations", depth=2):
        if entry.name.endswith(".json") and not entry.name.endswith(".uncertainty.json"):
            version, file = entry.parts
            owner = (version, file.removesuffix(".json"))
            yield from _described("evaluation", f"evaluations/{version}", entry.path.parent, file=file, owner=owner)


def _checkpoints(store: Store) -> Iterator[Checked]:
    for entry in entries(store.root / "checkpoints", depth=1):
        folder, name = entry.path, f"checkpoints/{entry.name}"
        for each in _visible(folder, depth=1):
            path = folder / each.name
            if path.name.startswith("checkpoint") and path.suffix == ".npz":
                fault = "" if whole_checkpoint(path.read_bytes()) is not None else _DAMAGED
                yield Checked("checkpoint", f"{name}/{path.name}", fault, owner=(entry.name, path.name))
        for attempt in _visible(folder / "attempts", depth=1):
            yield _record("checkpoint", f"{name}/attempts/{attempt.name}", attempt.path, owner=(entry.name, "attempts"))
        if not (folder / "fitted.json").is_file():
            continue
        yield _record("checkpoint", f"{name}/fitted.json", folder / "fitted.json", owner=(entry.name, "fitted.json"))
        try:
            written = read_json(folder / "fitted.json")
            digests = {"model.keras": written.get("model_sha256"), IDS_FILE: written.get("ids_sha256")}
        except (DataError, AttributeError):
            continue
        known = {file: str(digest) for file, digest in digests.items() if digest}
        yield from _listed("checkpoint", name, folder, checksums=known, owner=(entry.name, "fitted.json"))


def _predictions(store: Store) -> Iterator[Checked]:
    for entry in _visible(store.root / "predictions", depth=3):
        if not entry.name.endswith(".parquet"):
            continue
        name, beside = f"predictions/{entry.name}", sum_beside(entry.path)
        try:
            sums = read_sums(beside)
        except DataError:
            yield Checked("prediction", f"predictions/{entry.name}.sha256", _DAMAGED, owner=entry.parts)
            continue
        digest = (sums or {}).get(entry.parts[-1], "")
        fault = fault_of(entry.path, sha256=digest) if sums is not None else ""
        yield Checked("prediction", name, fault, has_checksum=sums is not None, owner=entry.parts)


def _monitoring(store: Store) -> Iterator[Checked]:
    for entry in entries(store.root / "monitoring", depth=2):
        if entry.parts[1].startswith(".") or not (entry.path / MANIFEST).is_file():
            continue
        name = f"monitoring/{entry.name}"
        yield from _described("monitoring", name, entry.path, file=MANIFEST, owner=entry.parts)
        for each in _visible(entry.path, depth=1):
            if each.name.endswith(".json") and each.name != MANIFEST:
                yield _record("monitoring", f"{name}/{each.name}", each.path, owner=entry.parts)


def _logs(store: Store) -> Iterator[Checked]:
    for entry in _visible(store.root / "promotions", depth=2):
        yield _record("log", f"promotions/{entry.name}", entry.path, owner=entry.parts)


def _models(registry: Registry) -> Iterator[Checked]:
    for name in registry.names():
        for version in registry.versions(name):
            owner = (version.name, str(version.version))
            where = f"{version.name}@{version.version}"
            try:
                faults = file_faults(version, registry=registry)
            except (RegistryError, DataError) as error:
                yield Checked("model", where, str(error), owner=owner)
                continue
            if faults is None:
                yield Checked("model", where, has_checksum=False, owner=owner)
            for file, fault in (faults or {}).items():
                yield Checked("model", f"{where}/{file}", fault, owner=owner)


def _databases(store: Store) -> Iterator[Checked]:
    """Ask SQLite whether its files are whole; a server of PostgreSQL looks after its own pages."""
    for path in (store.host_folder / "mlflow" / "mlflow.db", store.host_folder / "prefect" / "prefect.db"):
        if path.is_file():
            yield Checked("database", f"{path.parent.name}/{path.name}", _fault_of_database(path), owner=(path.parent.name,))


def _fault_of_database(path: Path) -> str:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"SQLite cannot read it ({error})"
    return "" if said == "ok" else f"SQLite says {str(said).splitlines()[0]}"


def _visible(folder: UPath | Path, *, depth: int) -> tuple[Entry, ...]:
    """Return what lies at a depth below a folder, without what is just being written."""
    return tuple(entry for entry in entries(folder, depth=depth) if not entry.parts[-1].startswith("."))


def _record(kind: Kind, name: str, path: UPath | Path, *, owner: tuple[str, ...] = ()) -> Checked:
    """Return what is found of a JSON object that holds its own checksum."""
    try:
        as_written = is_as_written(path.read_bytes())
    except OSError as error:
        return Checked(kind, name, f"it cannot be read ({error.strerror or error})", owner=owner)
    return Checked(kind, name, _DAMAGED if as_written is False else "", has_checksum=as_written is not None, owner=owner)


def _described(kind: Kind, name: str, folder: UPath | Path, *, file: str, owner: tuple[str, ...]) -> Iterator[Checked]:
    """Yield a JSON object, if it is there, and the files whose checksums it lists."""
    if not (folder / file).is_file():
        return
    found = _record(kind, f"{name}/{file}", folder / file, owner=owner)
    yield found
    if not found.fault:
        checksums = read_json(folder / file).get(CHECKSUMS, {})
        yield from _listed(kind, name, folder, checksums=checksums, owner=owner)


def _listed(
    kind: Kind, name: str, folder: UPath | Path, *, checksums: Mapping[str, Any], owner: tuple[str, ...]
) -> Iterator[Checked]:
    for file, checksum in checksums.items():
        yield Checked(kind, f"{name}/{file}", fault_of(folder / file, sha256=str(checksum)), owner=owner)
