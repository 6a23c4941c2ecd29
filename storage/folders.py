"""Publish, replace and remove whole folders, on a local disk or behind an fsspec URL."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from upath import UPath

from storage.errors import DataError
from storage.io import copy_file, locked
from storage.layout import MANIFEST


def publish_folder(staging: Path, *, into: UPath | Path) -> bool:
    """Move a finished folder to its final path as a whole, unless that version has been published before.

    The staging folder is removed in both cases. A remote folder is copied with its manifest last, because a folder without
    manifest counts as not published.

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
        if is_new and isinstance(into, Path):
            _move_folder(staging, Path(into))
        elif is_new:
            copy_folder(staging, into=into, last=MANIFEST)
    shutil.rmtree(staging, ignore_errors=True)
    return is_new


def _move_folder(staging: Path, into: Path) -> None:
    if into.exists():
        shutil.rmtree(into)  # it has no manifest, so no reader uses it
    if staging.stat().st_dev == into.parent.stat().st_dev:
        staging.rename(into)
        return
    beside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(staging, beside)
        beside.rename(into)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def copy_folder(folder: Path, *, into: UPath | Path, last: str) -> None:
    """Copy the files of a local folder into another folder; the file `last`, whose presence means that all are there, last."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path == folder / last)
    for path in files:
        copy_file(path, into / path.relative_to(folder).as_posix())


def remove_folder(folder: UPath) -> None:
    """Remove a folder with its content, if it exists."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)
