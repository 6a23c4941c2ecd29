"""Whole folders: replaced and removed, on a local disk or behind an fsspec URL."""

from __future__ import annotations

import shutil
from pathlib import Path

from upath import UPath


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
