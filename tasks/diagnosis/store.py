"""Check the store: whether it can be read and written, what lies in it, and how much space is left. Nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from upath import UPath

from storage.layout import MANIFEST
from storage.redaction import without_secrets
from tasks.diagnosis.finding import Finding

# What the store of this project has at its top, as docs/reference/store.md lists it.
FOLDERS = frozenset(
    (
        "raw",
        "tables",
        "reports",
        "checkpoints",
        "evaluations",
        "promotions",
        "predictions",
        "monitoring",
        "mlflow",
        "prefect",
        "service",
        ".scratch",
    )
)
LOW_BYTES, LEAST_BYTES = 5 * 10**9, 10**9


def check_store(address: str) -> Iterator[Finding]:
    """Look at the folders of the store."""
    root = UPath(address) if "://" in address else UPath(Path(address).expanduser().absolute())
    is_local = root.protocol in ("", "file", "local")
    where = str(root) if is_local else without_secrets(address)
    if is_local:
        fault = _fault_of_folder(Path(root.path))
        if fault:
            yield fault
            return
    try:
        names = sorted(path.name for path in root.iterdir()) if root.exists() else []
    except Exception as error:  # each file system has errors of its own, and their words may hold a key
        remedy = "look at its address, its rights and AWS_*" if not is_local else "give this user the right to read it"
        yield Finding("store", "fault", f"{where} cannot be read ({type(error).__name__})", remedy)
        return
    if not names:
        yield Finding("store", "ok", f"{where} is empty: the first run fills it")
        return
    yield Finding(
        "store", "ok", f"{where} can be read" + (" and written" if is_local else "; whether it can be written is not tried")
    )
    unknown = [name for name in names if name not in FOLDERS and not name.endswith(".lock")]
    if unknown:
        listed = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        yield Finding(
            "store",
            "warning",
            f"{where} has what is none of a store: {listed}",
            "see whether RETRAIN_HOME names the right folder",
        )
    yield from _check_tables(root)


def _fault_of_folder(folder: Path) -> Finding | None:
    """Return what is wrong with a local folder; None if nothing is, or it is yet to be made."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if not existing.is_dir():
        return Finding("store", "fault", f"{existing} is no folder", "name another in RETRAIN_HOME")
    is_read_only = bool(os.statvfs(existing).f_flag & os.ST_RDONLY)
    if is_read_only or not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "store", "fault", f"{existing} cannot be written", "give this user the right, or name another in RETRAIN_HOME"
        )
    return None


def _check_tables(root: UPath) -> Iterator[Finding]:
    """Count the table versions, and those that are not whole."""
    tables = root / "tables"
    if not tables.exists():
        return
    datasets = [dataset for dataset in tables.iterdir() if dataset.is_dir()]
    # When a table was ingested stands beside the tables, in a folder whose name begins with a dot.
    folders = [path for dataset in datasets for path in dataset.iterdir() if path.is_dir() and not path.name.startswith(".")]
    incomplete = [folder.name for folder in folders if not (folder / MANIFEST).is_file()]
    yield Finding("store", "ok", f"{len(folders) - len(incomplete)} published tables")
    if incomplete:
        listed = ", ".join(incomplete[:3])
        yield Finding(
            "store", "warning", f"{len(incomplete)} tables have no manifest ({listed}): nobody reads them", "retrain gc --apply"
        )


def check_space(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Tell the free space of each disk that a folder is on, once for each disk.

    Args:
        folders: By what is kept there.
    """
    disks: dict[int, list[str]] = {}
    places: dict[int, Path] = {}
    for name, folder in folders.items():
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        disks.setdefault(existing.stat().st_dev, []).append(name)
        places.setdefault(existing.stat().st_dev, existing)
    for disk, names in disks.items():
        free = shutil.disk_usage(places[disk]).free
        text = f"{free / 1e9:.1f} GB free for {', '.join(names)}"
        if free < LEAST_BYTES:
            yield Finding("space", "fault", text, "free the disk: retrain gc says what can go")
        elif free < LOW_BYTES:
            yield Finding("space", "warning", text, "free the disk before it is full: retrain gc says what can go")
        else:
            yield Finding("space", "ok", text)
