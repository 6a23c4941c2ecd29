"""What lies in a folder, how large it is and when it was last changed; on a local disk or behind an fsspec URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upath import UPath

from storage.folders import remove_folder

# What file systems call the time of the last change; of one that tells none, nothing counts as old.
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")


@dataclass(frozen=True)
class Entry:
    """A file or folder at a given depth of a tree.

    Attributes:
        parts: Its names below the folder that was listed.
        size_bytes: Of all its files.
        modified: When its newest file was changed.
    """

    parts: tuple[str, ...]
    path: UPath | Path
    size_bytes: int
    modified: datetime

    @property
    def name(self) -> str:
        """Its names below the listed folder, joined."""
        return "/".join(self.parts)

    def with_files_of(self, other: Entry) -> Entry:
        """Return the entry with the files of another one too."""
        return replace(self, size_bytes=self.size_bytes + other.size_bytes, modified=max(self.modified, other.modified))


def entries(folder: UPath | Path, *, depth: int) -> tuple[Entry, ...]:
    """Return what lies at a depth below a folder, in the order of the names; what lies higher, and locks, are left out."""
    found: dict[tuple[str, ...], Entry] = {}
    for parts, size_bytes, modified in _files(folder):
        if len(parts) < depth or parts[-1].endswith(".lock"):
            continue
        key = parts[:depth]
        entry = Entry(key, folder.joinpath(*key), size_bytes, modified)
        found[key] = found[key].with_files_of(entry) if key in found else entry
    return tuple(found[key] for key in sorted(found))


def size_of(folder: UPath | Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(size_bytes for _, size_bytes, _ in _files(folder))


def remove(path: UPath | Path, *, first: str = "") -> None:
    """Remove a file, or a folder with its content; what is not there stays away.

    Args:
        path: The file or folder.
        first: File of the folder that is removed before all others, because a folder without it does not count.
    """
    if first:
        with suppress(FileNotFoundError):
            (path / first).unlink()
    if path.is_dir():
        with suppress(FileNotFoundError):  # another process removes it too
            remove_folder(UPath(path))
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _files(folder: UPath | Path) -> Iterator[tuple[tuple[str, ...], int, datetime]]:
    """Yield names below the folder, size and last change of every file; one that vanishes meanwhile is left out."""
    if isinstance(folder, Path):
        for parent, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    state = Path(parent, name).lstat()
                    yield Path(parent, name).relative_to(folder).parts, state.st_size, _at(state.st_mtime)
        return
    prefix = folder.path.rstrip("/") + "/"
    with suppress(FileNotFoundError):
        folder.fs.invalidate_cache()
        for path, state in folder.fs.find(folder.path, detail=True).items():
            name = f"/{path}" if prefix.startswith("/") and not path.startswith("/") else path
            below = name.removeprefix(prefix).strip("/")
            # An object store may keep a mark of a folder whose objects are gone.
            if name.startswith(prefix) and below and state.get("type") != "directory":
                yield tuple(below.split("/")), int(state.get("size") or 0), _modified(state)


def _modified(state: Mapping[str, Any]) -> datetime:
    for name in _TIMES:
        value = state.get(name)
        if isinstance(value, int | float):
            return _at(value)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.now(tz=UTC)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
