"""Who works on a folder: each attempt has a number there, and the last one owns the folder.

A host that fell silent may come back after its work was taken over. It cannot know that by itself, so it asks: an attempt that is
not the last one any more has been replaced, and must write nothing. Numbers are given by creating a file that was not there,
which disks and object stores do for one of several writers alone.
"""

from __future__ import annotations

import json
import uuid

from upath import UPath

from storage.errors import ReplacedError
from storage.io import create_exclusively, json_line, with_checksum
from storage.references import Reference

_FOLDER = "attempts"
_DIGITS = 6


class Attempt(Reference):
    """One attempt at the work of a folder.

    Attributes:
        number: Counted from 1; a folder that was removed and made again begins anew.
        mark: Its own, so that equal numbers of two lives of a folder differ.
    """

    number: int
    mark: str


def begin_attempt(folder: UPath) -> Attempt:
    """Take a folder over from every earlier attempt."""
    mark = uuid.uuid4().hex
    while True:
        number = _last_number(folder) + 1
        if create_exclusively(_file(folder, number), json_line(with_checksum({"mark": mark}))):
            return Attempt(number=number, mark=mark)


def is_last(attempt: Attempt, *, folder: UPath) -> bool:
    """Tell whether nobody has taken a folder over since an attempt began, or finished its work and removed it."""
    if _last_number(folder) != attempt.number:
        return False
    try:
        return bool(json.loads(_file(folder, attempt.number).read_bytes())["mark"] == attempt.mark)
    except FileNotFoundError:
        return False


def require_last(attempt: Attempt, *, folder: UPath) -> None:
    """Raise if a folder was taken over since an attempt began.

    Raises:
        ReplacedError: It was, or its work is finished.
    """
    if not is_last(attempt, folder=folder):
        raise ReplacedError(
            f"attempt {attempt.number} at {folder} was replaced while its host was not heard of: "
            "the run that took it over goes on, and this one has written nothing since"
        )


def _last_number(folder: UPath) -> int:
    attempts = folder / _FOLDER
    try:
        names = [path.name for path in attempts.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(name.removesuffix(".json")) for name in names if name.endswith(".json")), default=0)


def _file(folder: UPath, number: int) -> UPath:
    return folder / _FOLDER / f"{number:0{_DIGITS}d}.json"
