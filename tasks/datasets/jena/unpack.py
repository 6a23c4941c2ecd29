"""The text of a file of readings: a csv, or one csv in a zip or in a gz, in memory and within bounds."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from storage.errors import DataError

# The largest known file unpacks to 43 MB at a ratio of 3; a file of ten times its rows still passes.
MAX_UNPACKED_BYTES = 500_000_000
_MAX_RATIO = 50
_MAX_MEMBERS = 8
REMEDY = "correct it if it is your own, else delete it from the store or mirror and fetch it again"

# What `zipfile` and the methods of compression raise for a damaged file, or for a method that is none.
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    struct.error,
    IndexError,  # a member without a name
)

_ZIP, _GZIP, PARQUET = b"PK", b"\x1f\x8b", b"PAR1"
_HEAD_BYTES = 512


def first_bytes(name: str, *, path: Path) -> bytes:
    """Return the beginning of a file.

    Raises:
        DataError: It cannot be read or is empty.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}): {REMEDY}") from error
    if not head:
        raise DataError(f"{name} is empty, expected readings: {REMEDY}")
    return head


def refuse_page(name: str, *, head: bytes) -> None:
    """Refuse what a host sends in place of a file, such as a form to log in.

    Raises:
        DataError: The bytes begin as HTML or XML does.
    """
    if head[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise DataError(f"{name} is an HTML page, expected readings: open the address in a browser, and save the file itself")


def read_text(name: str, *, path: Path, head: bytes) -> bytes:
    """Return the bytes of the csv that a file is or holds: nothing is unpacked to disk.

    Args:
        name: File name for messages; one in `.zip` must be a zip.
        path: The file.
        head: What `first_bytes` returned; it tells a zip and a gz.

    Raises:
        DataError: It is damaged, holds anything but one csv, or is larger than the bounds allow.
    """
    size = path.stat().st_size
    if head.startswith(_ZIP) or name.lower().endswith(".zip"):
        limit = min(MAX_UNPACKED_BYTES, _MAX_RATIO * size)
        body = _unzip(name, path=path, limit=limit)
    elif head.startswith(_GZIP):
        limit = min(MAX_UNPACKED_BYTES, _MAX_RATIO * size)
        body = _gunzip(name, path=path, limit=limit)
    else:
        if size > MAX_UNPACKED_BYTES:
            raise DataError(f"{name} has {size} bytes, expected at most {MAX_UNPACKED_BYTES}: give a shorter span")
        return path.read_bytes()
    if len(body) > limit:
        raise DataError(f"{name} unpacks to more than {limit} bytes ({_MAX_RATIO} times its size at most): {REMEDY}")
    return body


def _unzip(name: str, *, path: Path, limit: int) -> bytes:
    """Return the one csv of a zip; the limit holds for the bytes really read, whatever the zip says of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if any(info.filename == "[Content_Types].xml" for info in infos):
                raise DataError(f"{name} is a spreadsheet or a document, expected one csv: export it as csv")
            if len(infos) > _MAX_MEMBERS:
                raise DataError(f"{name} has {len(infos)} members, expected one csv: {REMEDY}")
            for info in infos:
                member = PurePosixPath(info.filename.replace("\\", "/"))
                if member.is_absolute() or ".." in member.parts or ":" in info.filename:
                    raise DataError(f"{name} has the unsafe member name {info.filename!r}, expected one csv: {REMEDY}")
            # The upstream zip was made on a Mac and carries a resource fork beside the csv.
            members = [info for info in infos if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
            if len(members) != 1 or not members[0].filename.lower().endswith(".csv"):
                listed = ", ".join(repr(info.filename) for info in members) or "nothing"
                raise DataError(f"{name} holds {listed}, expected exactly one csv: {REMEDY}")
            with archive.open(members[0]) as stream:
                return stream.read(limit + 1)
    except _DAMAGES as error:
        raise DataError(f"{name} is not a sound zip file ({error}): {REMEDY}") from error


def _gunzip(name: str, *, path: Path, limit: int) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(limit + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{name} is not a sound gz file ({error}): {REMEDY}") from error
