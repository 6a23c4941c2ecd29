"""What depends on a damaged file, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.layout import Store
from storage.records import ModelVersion
from storage.registry import Registry
from tasks.retention.plan import Table, tables_of
from tasks.verification.check import Checked, Kind

REMEDIES: Mapping[Kind, str] = {
    "raw file": "retrain verify --repair puts it aside, and the next retrain ingest fetches it again",
    "table": "retrain verify --repair makes it again from its raw files, and so does the next retrain ingest",
    "report": "retrain verify --repair writes it again",
    "evaluation": "retrain verify --repair scores the version again",
    "checkpoint": "retrain verify --repair puts it aside: the training goes on from the one before, or begins anew",
    "prediction": "restore it from a backup: what was issued is not computed again",
    "monitoring": "restore it from a backup: what was found on that day is not computed again",
    "log": "restore it from a backup: nothing else holds it",
    "model": "restore the registry's files from a backup; or roll back, delete the version and train again",
    "database": "end the service, and restore it from a backup",
}


@dataclass(frozen=True)
class Known:
    """What of a store can depend on a file.

    Attributes:
        tables: Every published table.
        versions: Every complete version of every registered model.
    """

    tables: tuple[Table, ...] = ()
    versions: tuple[ModelVersion, ...] = ()


def known_of(store: Store, *, registry: Registry) -> Known:
    """Return the tables and model versions of a store."""
    return Known(
        tables=tuple(table for table in tables_of(store) if table.rank is not None),
        versions=tuple(version for name in registry.names() for version in registry.versions(name)),
    )


def dependents(found: Checked, *, known: Known) -> tuple[str, ...]:
    """Return what was made from a file or is judged by it, as people name it."""
    if found.kind == "raw file":
        digest = found.owner[1]
        tables = [table for table in known.tables if digest in table.raw]
        versions = [version for table in tables for version in _trained_on(table.version, versions=known.versions)]
        return (*(f"table {table.dataset}/{table.version}" for table in tables), *map(_named, versions))
    if found.kind in ("table", "report"):
        return tuple(map(_named, _trained_on(found.owner[1], versions=known.versions)))
    if found.kind == "evaluation":
        return tuple(_named(each) for each in known.versions if each.tags.get("training_key") == found.owner[1])
    if found.kind == "model":
        model, number = found.owner
        return tuple(_named(each) for each in known.versions if (each.name, str(each.version)) == (model, number))
    if found.kind in ("prediction", "monitoring"):
        return (found.owner[0],)
    return ()


def _trained_on(table: str, *, versions: Iterable[ModelVersion]) -> Sequence[ModelVersion]:
    return [version for version in versions if version.tags.get("table_version") == table]


def _named(version: ModelVersion) -> str:
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return f"{version.name}@{version.version}{aliases}"
