"""Lists of checksums: `SHA256SUMS` of a folder, in the form of coreutils, and one beside a file that is written once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from upath import UPath

from storage.errors import DataError
from storage.io import sha256_of, write_atomically

SUMS = "SHA256SUMS"
CHECKSUMS = "checksums"
"""Under this name a JSON object lists the checksums of the files beside it, by name."""

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def sha256_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a local folder, by its path below; that of a list itself is left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files if path != folder / SUMS}


def sums_text(checksums: Mapping[str, str]) -> bytes:
    """Return a list as `sha256sum` prints it, and `sha256sum --check SHA256SUMS` takes it."""
    return "".join(f"{checksum}  {name}\n" for name, checksum in sorted(checksums.items())).encode()


def parse_sums(data: bytes, *, path: UPath | Path | str) -> dict[str, str]:
    """Return the checksums of a list by name.

    Raises:
        DataError: It is not such a list.
    """
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no list of checksums ({error}): restore it from a backup") from error
    found = [_LINE.fullmatch(line) for line in lines]
    if not data.endswith(b"\n") or not all(found):
        raise DataError(f"{path} has a line that is not '<SHA-256>  <name>': restore it from a backup")
    return {each[2]: each[1] for each in found if each}


def read_sums(path: UPath | Path) -> dict[str, str] | None:
    """Return the checksums of a list by name; None if there is no list.

    Raises:
        DataError: It is not such a list.
    """
    return parse_sums(path.read_bytes(), path=path) if path.is_file() else None


def write_sum_beside(path: UPath | Path) -> None:
    """Write the checksum of a file beside it."""
    write_atomically(sum_beside(path), sums_text({path.name: sha256_of(path)}))


def sum_beside(path: UPath | Path) -> UPath | Path:
    """Return where the checksum of a file is that has one beside it."""
    return path.with_name(f"{path.name}.sha256")


def fault_of(path: UPath | Path, *, sha256: str) -> str:
    """Return how a file differs from its checksum, for people; empty if it does not."""
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    return _fault(found, sha256=sha256)


def fault_of_bytes(data: bytes, *, sha256: str) -> str:
    """Return how some bytes differ from their checksum, for people; empty if they do not."""
    return _fault(sha256_of_bytes(data), sha256=sha256)


def _fault(found: str, *, sha256: str) -> str:
    return "" if found == sha256 else f"its SHA-256 is {found[:12]}..., written was {sha256[:12]}..."
