"""What a disk refuses, in one line: the place, the bytes that were needed and those that are free."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from upath import UPath

from storage.errors import DiskError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_BROKEN = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV})
# What SQLite says, which MLflow and SQLAlchemy wrap in errors of their own.
_SAID_BY_SQLITE = (
    ("database or disk is full", _FULL),
    ("attempt to write a readonly database", _FORBIDDEN),
    ("unable to open database file", _FORBIDDEN),
    ("disk I/O error", _BROKEN),
)


# SQLite writes whole pages, and a log beside its file: with less room a server of Prefect ends, or answers 500.
ROOM_OF_A_SERVER_BYTES = 3_000_000


def free_bytes(place: Path) -> int | None:
    """Return the bytes that are free where a file or folder is or would be; None if that cannot be told."""
    for folder in (place, *place.parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def disk_error(error: BaseException, *, home: str, needed: int | None = None) -> DiskError | None:
    """Return an error of one line for what a disk refused; None if the error, and what it was caused by, is another one.

    Args:
        error: What was raised.
        home: Address of the store, for errors that name no file.
        needed: Bytes that were to be written, where that is known.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _FULL | _FORBIDDEN | _BROKEN:
            place = next((str(name) for name in (chain.filename, chain.filename2) if name), home)
            return _refused(place, reason=chain.strerror or str(chain), number=chain.errno, needed=needed)
        for said, numbers in _SAID_BY_SQLITE:
            if said in str(chain):
                return _refused(home, reason=said, number=min(numbers), needed=needed)
        if _is_of_full_server(chain, home=home):
            return _refused(home, reason="its server cannot write", number=errno.ENOSPC, needed=needed)
        chain = chain.__cause__ or chain.__context__
    return None


def _is_of_full_server(error: BaseException, *, home: str) -> bool:
    """Tell whether a server failed whose database has no room: Prefect's own says nothing but that it failed."""
    if "500 Internal Server Error" not in str(error) or "://" in home:
        return False
    free = free_bytes(Path(home).expanduser().absolute())
    return free is not None and free < ROOM_OF_A_SERVER_BYTES


def _refused(place: str, *, reason: str, number: int | None, needed: int | None) -> DiskError:
    free = free_bytes(Path(place)) if "://" not in place else None
    sizes = [f"{needed:,} bytes are needed" if needed else "", f"{free:,} are free" if free is not None else ""]
    told = ", ".join([reason, *(size for size in sizes if size)])
    if number in _FULL:
        remedy = "free the disk (retrain gc), and run again: what is complete is kept"
    elif number in _FORBIDDEN:
        remedy = "let this user write there, or name another place"
    else:
        remedy = "look after the disk, and run again: what is complete is kept"
    return DiskError(f"{place} cannot be used ({told}): {remedy}")


def require_free(folder: UPath, *, needed: int, what: str) -> None:
    """Raise before work is begun that could not be kept; a remote folder is not asked.

    Raises:
        DiskError: Fewer bytes are free than are needed.
    """
    if folder.protocol != "":
        return
    free = free_bytes(Path(str(folder)))
    if free is not None and free < needed:
        raise DiskError(f"{folder} has {free:,} bytes free, {what} needs {needed:,}: free the disk (retrain gc), and run again")
