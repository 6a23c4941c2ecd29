"""What writers on many hosts change: each change is an object of its own, and one writer alone can take its number.

An object store has neither locks nor appending, and a lock of a local disk holds on one host. But every store can refuse to
create what is there already (`create_exclusively`). So a change is the object of the next number: whoever has read all numbers up
to N creates N + 1. Of two who do so, one is told that it was not the first. It reads what the other wrote, and decides anew.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from storage.errors import DataError
from storage.io import create_exclusively, json_line, read_json, read_lines, with_checksum, without_checksum

_ID = "id"
_NAME = re.compile(r"(\d{8})\.json")
# A snapshot is removed once so many newer ones exist: far more than are written while anyone reads or adds one.
_KEPT_SNAPSHOTS = 100


class Journal:
    """Entries in one order, to which any host may add. One object is used by one thread.

    An entry is a JSON file `<number>.json` in the folder, which is never changed.
    """

    def __init__(self, folder: UPath, *, beginning: UPath | None = None) -> None:
        """Open a journal; `beginning` is a JSON-lines file with the entries of before, which is only read."""
        self._folder, self._beginning = folder, beginning
        self._old: list[Any] | None = None
        self._entries: dict[int, Any] = {}

    def entries(self) -> list[Any]:
        """Return all entries, oldest first, and remember for `add` which they were.

        Raises:
            DataError: An entry is not JSON, or not as it was written.
        """
        if self._old is None:
            self._old = read_lines(self._beginning) if self._beginning else []
        new = [number for number in _numbers(self._folder) if number not in self._entries]
        paths = [self._folder / _name(number) for number in new]
        for number, path, data in zip(new, paths, _read_all(self._folder, paths), strict=True):
            entry = _parse(data, path=path)
            if not isinstance(entry, dict):
                raise DataError(f"{path} is no JSON object: correct it by hand, or restore it from a backup")
            self._entries[number] = _without_id(entry)
        return self._old + [self._entries[number] for number in sorted(self._entries)]

    def add(self, entry: Mapping[str, Any]) -> bool:
        """Add an entry right after those that `entries` returned last, unless another writer has added one since.

        Returns:
            False if another writer was first: nothing was added.
        """
        number = max(self._entries, default=0) + 1
        path = self._folder / _name(number)
        # No two entries are alike, so that a writer knows its own: where an answer is lost on the way, the client asks again, and
        # then the entry is there already.
        data = json_line(with_checksum({**entry, _ID: uuid.uuid4().hex}))
        if not create_exclusively(path, data) and path.read_bytes() != data:
            return False
        self._entries[number] = _without_id(_parse(data, path=path))
        return True

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry after whatever there is."""
        self.entries()
        while not self.add(entry):
            self.entries()


class SharedValue:
    """A JSON object that any host may change: the newest of its snapshots `<number>.json` in a folder."""

    def __init__(self, folder: UPath, *, beginning: UPath | None = None) -> None:
        """Open a value; `beginning` is a JSON file with the value of before there were snapshots, which is only read."""
        self._folder, self._beginning = folder, beginning

    def read(self) -> dict[str, Any]:
        """Return the value; empty if nobody has set it.

        Raises:
            DataError: It is not JSON, or not as it was written.
        """
        return self._newest()[1]

    def change(self, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Replace the value by what a function makes of it; the function is called again if another writer was first."""
        while True:
            number, value = self._newest()
            if create_exclusively(self._folder / _name(number + 1), json_line(with_checksum(change(value)))):
                break
        for old in _numbers(self._folder):
            if old <= number - _KEPT_SNAPSHOTS:
                (self._folder / _name(old)).unlink(missing_ok=True)

    def _newest(self) -> tuple[int, dict[str, Any]]:
        while True:
            number = max(_numbers(self._folder), default=0)
            if number == 0:
                return 0, dict(read_json(self._beginning)) if self._beginning and self._beginning.is_file() else {}
            path = self._folder / _name(number)
            try:
                value = _parse(path.read_bytes(), path=path)
            except FileNotFoundError:  # removed meanwhile, as there are many newer ones
                continue
            if not isinstance(value, dict):
                raise DataError(f"{path} is no JSON object: correct it by hand, or restore it from a backup")
            return number, value


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _numbers(folder: UPath) -> list[int]:
    """Return the numbers in a folder, rising, as the store has them now and not as they were listed before."""
    folder.fs.invalidate_cache(folder.path)
    try:
        names = [str(name).rstrip("/").rpartition("/")[2] for name in folder.fs.ls(folder.path, detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)


def _read_all(folder: UPath | Path, paths: list[UPath]) -> list[bytes]:
    if isinstance(folder, Path) or len(paths) < 2:
        return [path.read_bytes() for path in paths]
    read = folder.fs.cat([path.path for path in paths])  # side by side
    by_name = {str(name).rpartition("/")[2]: data for name, data in read.items()}
    return [by_name[path.name] for path in paths]


def _parse(data: bytes, *, path: UPath) -> Any:
    try:
        return without_checksum(json.loads(data), path=path)
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): correct it by hand, or restore it from a backup") from error


def _without_id(entry: Any) -> Any:
    return {name: value for name, value in entry.items() if name != _ID}
