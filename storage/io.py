"""Atomic reading and writing of files, and digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from upath import UPath

from storage.disk import disk_error
from storage.errors import DataError, SettingError
from storage.layout import lock_file

CHECKSUM = "sha256"
"""Under this name a JSON object of the store holds the SHA-256 of all else that it holds."""

_MAX_CONFLICTS = 8
# What a file system answers that has no hard links, such as FAT.
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# File systems of which this process knows that they keep to exclusive creation.
_careful: set[tuple[str, str, str]] = set()


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
    with _written_beside(path, data) as beside:
        beside.replace(path)


def create_exclusively(path: UPath | Path, data: bytes) -> bool:
    """Write a file that is not there, whole or not at all; of several writers, on whatever hosts, one alone creates it.

    Returns:
        False if the file was there: it is left as it is.

    Raises:
        SettingError: The store replaces files although it is asked not to, so that two writers would not notice each other.
    """
    if isinstance(path, Path):
        return _link_exclusively(path, data)
    _refuse_careless(path)
    return _put_if_absent(path, data)


def _link_exclusively(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written_beside(path, data) as beside:
        try:
            os.link(beside, path)  # unlike O_EXCL, no reader ever sees a part
        except FileExistsError:
            return beside.stat().st_nlink == 2  # NFS: the link was made, and the answer lost
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            with locked(path):
                if path.exists():
                    return False
                beside.replace(path)
    return True


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """Yield a file beside a path that holds the data for good, until the block ends."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield beside
    except OSError as error:
        raise (disk_error(error, home=str(path), needed=len(data)) or error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _put_if_absent(path: UPath, data: bytes) -> bool:
    for attempt in range(_MAX_CONFLICTS):
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            status = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 412:  # precondition failed
                return False
            if status != 409 or attempt == _MAX_CONFLICTS - 1:
                raise
            time.sleep(0.02 * 2**attempt)  # S3 has another writer under way, and asks to try again
        else:
            return True
    return False


def _refuse_careless(path: UPath) -> None:
    """Ask a file system once in each process whether it keeps to exclusive creation; some servers that speak S3 do not."""
    key = (path.protocol, str(path.fs.storage_options), path.path.strip("/").partition("/")[0])
    if key in _careful:
        return
    probe = path.with_name(f".probe-{uuid.uuid4().hex}")
    try:
        if not _put_if_absent(probe, b"1") or _put_if_absent(probe, b"2"):
            raise SettingError(
                f"the store at {path.protocol}://{key[2]} replaces a file although asked not to (it ignores If-None-Match): "
                "use a store that knows conditional writes, since several hosts would overwrite each other's decisions"
            )
    finally:
        if probe.exists():
            probe.unlink()
    _careful.add(key)


def read_json(path: UPath | Path) -> Any:
    """Read a JSON file; an object that was written with a checksum is compared with it, and returned without it.

    Raises:
        DataError: The file is not there, is not JSON, or is not as it was written.
    """
    try:
        return without_checksum(json.loads(path.read_bytes()), path=path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: run the step that writes it") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): remove it and run again") from error


def write_json(path: UPath | Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, _indented(value))


def write_record(path: UPath | Path, value: Mapping[str, Any]) -> None:
    """Write an object with its checksum as indented JSON, atomically; `read_json` compares it."""
    write_atomically(path, _indented(with_checksum(value)))


def _indented(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object that also holds the SHA-256 of all that it holds."""
    plain = json.loads(json.dumps(value))  # as it will be read: names are texts, and tuples lists
    return {**plain, CHECKSUM: _checksum(plain)}


def without_checksum(value: Any, *, path: UPath | Path) -> Any:
    """Return a JSON value as it was before `with_checksum`; one without a checksum is returned as it is.

    Raises:
        DataError: An object differs from its checksum.
    """
    if not isinstance(value, dict) or CHECKSUM not in value:
        return value
    plain = _without(value)
    if _checksum(plain) != value[CHECKSUM]:
        raise DataError(
            f"{path} is not as it was written, its {CHECKSUM} says so: restore it from a backup; if it was corrected by hand, "
            f"take {CHECKSUM} out of it"
        )
    return plain


def _without(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name != CHECKSUM}


def _checksum(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_as_written(data: bytes) -> bool | None:
    """Tell whether the bytes of a JSON object are those that were written with its checksum; None if it has none.

    What is not JSON is not as written, and another way to write the same value is damage too.
    """
    try:
        value = json.loads(data)
    except ValueError:
        return False
    if not isinstance(value, dict) or CHECKSUM not in value:
        return None
    return _checksum(_without(value)) == value[CHECKSUM] and data in (_indented(value), json_line(value))


def json_line(value: Any) -> bytes:
    """Return a value as one line of JSON."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


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
    """Return the lock of a path, which other processes of this host respect; of a path on NFS, those of other hosts too."""
    lock = lock_file(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)
