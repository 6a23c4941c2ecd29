"""Whole folders: published, replaced and removed, on a local disk or behind an fsspec URL."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from upath import UPath

from storage.errors import DataError
from storage.io import copy_file, locked
from storage.layout import MANIFEST


def publish_folder(staging: Path, *, into: UPath | Path) -> bool:
    """Move a finished folder to its place as a whole, unless that version stands there already.

    The staging folder is gone afterwards in both cases. A remote folder is copied with its manifest last, because what has no
    manifest does not exist.

    Returns:
        False when the version stood there already; it was not touched.

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
            _copy_out(staging, into)
    shutil.rmtree(staging, ignore_errors=True)
    return is_new


def _move_folder(staging: Path, into: Path) -> None:
    if into.exists():
        shutil.rmtree(into)  # without a manifest: a leftover that no reader may count on
    if staging.stat().st_dev == into.parent.stat().st_dev:
        staging.rename(into)
        return
    beside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(staging, beside)
        beside.rename(into)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy_out(staging: Path, into: UPath | Path) -> None:
    files = sorted((path for path in staging.rglob("*") if path.is_file()), key=lambda path: path == staging / MANIFEST)
    for path in files:
        copy_file(path, into / path.relative_to(staging).as_posix())


def replace_folder(folder: Path, *, into: UPath) -> None:
    """Move a local folder's files to the place of an older folder."""
    remove_folder(into)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = into / path.relative_to(folder).as_posix()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    shutil.rmtree(folder)


def remove_folder(folder: UPath) -> None:
    """Remove a folder and all that is in it, if it is there."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)
