"""Atomic reading and writing of files, and digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock
from upath import UPath

from storage.errors import DataError
from storage.layout import lock_file


def sha256_of(path: UPath | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of_json(value: Any, *, length: int | None = None) -> str:
    """Return the SHA-256 of a JSON-ready value, the same for every order of its keys.

    Raises:
        TypeError: The value is not JSON-ready.
        ValueError: It holds NaN or an infinity, which JSON does not know.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_atomically(path: UPath | Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(path, Path):
        path.write_bytes(data)  # an object store shows an object only once it is complete
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: UPath | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is not there, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: run the step that writes it") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): remove it and run again") from error


def write_json(path: UPath | Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def append_line(path: UPath | Path, value: Any) -> None:
    """Append one value to a JSON-lines file; lines of concurrent writers never mix.

    A last line without its newline was never complete, because its writer was killed: it is cut off first.
    """
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        before = path.read_bytes() if path.exists() else b""
        complete = before.rfind(b"\n") + 1
        if not isinstance(path, Path):
            path.write_bytes(before[:complete] + line)  # an object store cannot append
            return
        with path.open("ab") as stream:
            stream.truncate(complete)
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


def read_lines(path: UPath | Path) -> list[Any]:
    """Read a JSON-lines file, oldest line first; a file that is not there has no lines.

    A last line without its newline is left out: its writer was killed, and what it would have said did not happen.

    Raises:
        DataError: A line is not JSON.
    """
    try:
        content = path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise DataError(
            f"{path} has a line that is not JSON ({error}): correct that line by hand, the log is append-only"
        ) from error


def copy_file(source: UPath | Path, target: UPath | Path) -> None:
    """Copy a file between local and remote paths."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def locked(path: UPath | Path) -> FileLock:
    """Return the lock of a path, which other processes of this host respect."""
    lock = lock_file(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)
