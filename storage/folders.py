"""Publish, replace and remove whole folders, on a local disk or behind an fsspec URL."""

from __future__ import annotations

import errno
import shutil
import uuid
from pathlib import Path

from upath import UPath

from storage.errors import DataError
from storage.io import copy_file, create_exclusively, locked, sha256_of
from storage.layout import MANIFEST


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

    Equal content gives equal bytes, so a file that another host has copied already is the same and is not written again. Where it
    is not, as after the arithmetic of another processor, the host that creates the manifest puts its own files in place.
    """
    files = [path for path in sorted(staging.rglob("*")) if path.is_file() and path != staging / MANIFEST]
    _copy_changed(files, folder=staging, into=into)
    if not create_exclusively(into / MANIFEST, (staging / MANIFEST).read_bytes()):
        return False
    _copy_changed(files, folder=staging, into=into)
    return True


def _copy_changed(files: list[Path], *, folder: Path, into: UPath) -> None:
    for path in files:
        target = into / path.relative_to(folder).as_posix()
        if not (target.exists() and target.stat().st_size == path.stat().st_size and sha256_of(target) == sha256_of(path)):
            copy_file(path, target)


def copy_folder(folder: Path, *, into: UPath | Path, last: str) -> None:
    """Copy the files of a local folder into another folder; the file `last`, whose presence means that all are there, last."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path == folder / last)
    for path in files:
        copy_file(path, into / path.relative_to(folder).as_posix())


def remove_folder(folder: UPath) -> None:
    """Remove a folder with its content, if it exists."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def remove_others(folder: UPath, *, keep: UPath) -> None:
    """Remove the content of a folder but for one file."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path != keep:
            folder.fs.rm(path.path, recursive=True)
