"""Small made-up stores whose things have the ages that a test says, and a registry without Keras."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upath import UPath

from storage.layout import Store
from storage.records import ModelVersion
from tasks.retention.needed import Waiting
from tasks.retention.plan import Known

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def write(path: UPath | Path, *, age_days: float, text: str = "x") -> None:
    """Write a file as if it had been so many days ago."""
    at = NOW - timedelta(days=age_days)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if isinstance(path, Path):
        os.utime(path, (at.timestamp(), at.timestamp()))
    elif hasattr(path.fs, "store"):  # the file system of tests in memory; an object store gives its own time
        path.fs.store[path.path].created = at


def version(
    name: str,
    number: int,
    *,
    age_days: float = 0,
    aliases: Sequence[str] = (),
    table: str = "",
    key: str = "",
    links: Mapping[str, int] | None = None,
) -> ModelVersion:
    tags = {"table_version": table, "training_key": key or f"key{number}", **{tag: str(n) for tag, n in (links or {}).items()}}
    return ModelVersion(
        name=name,
        version=number,
        variant="gru_baseline",
        run_id=f"{name}-{number}",
        uri=f"models:/{name}/{number}",
        aliases=tuple(aliases),
        tags=tags,
        metrics={},
        created=(NOW - timedelta(days=age_days)).isoformat(),
    )


@dataclass
class MadeUp:
    """A store that is written thing by thing, and what refers to its things."""

    store: Store
    versions: list[ModelVersion] = field(default_factory=list)
    lines: dict[str, list[Any]] = field(default_factory=dict)
    issued: dict[str, set[int]] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)

    @property
    def known(self) -> Known:
        return Known(versions=tuple(self.versions), lines=self.lines, issued=self.issued, waiting=self.waiting)

    def table(
        self,
        dataset: str,
        name: str,
        *,
        age_days: float,
        stamp: str = "",
        simulated: bool = False,
        published: bool = True,
        raw: Sequence[str] = (),
    ) -> None:
        folder = self.store.table_folder(dataset, name)
        write(folder / "test.parquet", age_days=age_days)
        if published:
            files = [{"name": "a.zip", "sha256": digest} for digest in raw]
            manifest = {"facts": {"last_stamp": stamp}, "simulated": simulated, "raw": files}
            write(folder / "manifest.json", age_days=age_days, text=json.dumps(manifest))

    def report(self, dataset: str, name: str, *, age_days: float) -> None:
        write(self.store.docs_index(dataset, name), age_days=age_days)
        write(self.store.report_folder(dataset, name) / "static/style.css", age_days=age_days)

    def evaluation(self, table: str, key: str, *, age_days: float) -> None:
        path = self.store.evaluation(table, key)
        for suffix in (".parquet", ".npz", ".json", ".uncertainty.json"):
            write(path.with_suffix(suffix), age_days=age_days)

    def checkpoint(self, table: str, key: str, *, age_days: float) -> None:
        write(self.store.checkpoint_folder(table, key) / "checkpoint.npz", age_days=age_days)

    def files(self) -> set[str]:
        """Return every file of the store, locks left out."""
        root = self.store.root
        if isinstance(root, Path):
            return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}
        return {name.removeprefix(root.path).strip("/") for name in root.fs.find(root.path)}
