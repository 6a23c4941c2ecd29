"""Publish, replace and remove whole folders, on a local disk or behind an fsspec URL."""

from __future__ import annotations

import errno
import shutil
import time
import uuid
from collections.abc import Collection
from pathlib import Path

from upath import UPath

from storage.errors import DataError
from storage.io import copy_file, create_exclusively, locked, sha256_of
from storage.layout import MANIFEST

# How long a host that has copied other files of one version is waited for until it counts as dead.
_PATIENCE_S = 60.0
_POLL_S = 0.2


def publish_folder(staging: Path, *, into: UPath | Path) -> bool:
    """Move a finished folder to its final path as a whole, unless that version has been published before.

    The staging folder is removed in both cases. A remote folder is copied with its manifest last, because a folder without
    manifest counts as not published. Of several hosts that publish one version, one alone gets True.

    Returns:
        False when the version had been published before; it is left as it is.

    Raises:
        DataError: The staging folder has no manifest.
    """
    if not (staging / MANIFEST).is_file():
        raise DataError(f"{staging} has no {MANIFEST}: write it last, before publishing")
    into.parent.mkdir(parents=True, exist_ok=True)
    with locked(into):
        is_new = not (into / MANIFEST).exists()
        if is_new:
            is_new = _move_folder(staging, Path(into)) if isinstance(into, Path) else _publish_remotely(staging, into=into)
    shutil.rmtree(staging, ignore_errors=True)
    return is_new


def _move_folder(staging: Path, into: Path) -> bool:
    """Rename a folder to its final path; of two that come at once, from hosts whose locks do not meet, the first stays."""
    source = beside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    if staging.stat().st_dev == into.parent.stat().st_dev:
        source = staging
    else:
        shutil.copytree(staging, beside)
    unfinished = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        if into.exists():
            into.rename(unfinished)  # it had no manifest, so no reader uses it
            if (unfinished / MANIFEST).exists():  # another host has published it in this moment
                unfinished.rename(into)
                return False
        source.rename(into)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (into / MANIFEST).exists():
            return False
        raise
    else:
        return True
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)


def _publish_remotely(staging: Path, *, into: UPath) -> bool:
    """Copy the files, then create the manifest, which one host alone can do.

    Equal content gives equal bytes, so a file that another host has copied already mostly is the same. Where it is not, as after
    the arithmetic of another processor, the other host is waited for; if it does not publish in time, it has died, and its files
    give way.
    """
    files = {into / path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()}
    manifest = files.pop(into / MANIFEST)
    foreign = [target for target, path in files.items() if not _create_or_find(target, path)]
    deadline = time.monotonic() + _PATIENCE_S
    while foreign and time.monotonic() < deadline:
        if (into / MANIFEST).exists():
            return False
        time.sleep(_POLL_S)
    for target in foreign:
        copy_file(files[target], target)
    return create_exclusively(into / MANIFEST, manifest.read_bytes())


def _create_or_find(target: UPath, path: Path) -> bool:
    """Create a file with the content of a local one; False if it is there with another content."""
    return create_exclusively(target, path.read_bytes()) or sha256_of(target) == sha256_of(path)


def copy_folder(folder: Path, *, into: UPath | Path, last: str) -> None:
    """Copy the files of a local folder into another folder; the file `last`, whose presence means that all are there, last."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path == folder / last)
    for path in files:
        copy_file(path, into / path.relative_to(folder).as_posix())


def remove_folder(folder: UPath) -> None:
    """Remove a folder with its content, if it exists."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def put_aside(folder: UPath | Path, *, into: Path) -> None:
    """Take a damaged folder out of its place: a local one is moved, so that it can be looked at, a remote one is removed."""
    if isinstance(folder, Path):
        into.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(into)
    else:
        remove_folder(folder)


def remove_others(folder: UPath, *, keep: Collection[UPath]) -> None:
    """Remove the content of a folder but for some files."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in keep:
            folder.fs.rm(path.path, recursive=True)
