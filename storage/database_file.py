"""The SQLite file of MLflow or Prefect: made beside its place, checked, and renamed to it.

Both libraries make their tables by hundreds of statements outside of one transaction. Whoever is killed in between would leave
a file that the library can neither use nor complete.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from storage.errors import SettingError
from storage.layout import cache_folder
from storage.schema import CONTENT, Library, migrations_of, revision_of

logger = logging.getLogger("retrain")

_JOURNALS = ("-journal", "-wal", "-shm")


def make_file(database: Path, *, library: Library, make: Callable[[Path], None]) -> None:
    """Make the database of a library unless it is there; the caller holds its lock. A half-made one is put aside.

    An empty database of the installed version is kept in the user's cache folder, and copied for every further store.

    Args:
        database: Its place.
        library: Whose database it is.
        make: Makes all tables in a file that is not there yet.

    Raises:
        SettingError: It cannot be made, as on a full disk; nothing is in its place then.
    """
    remove_copies(database)
    if database.exists():
        if not is_half_made(database, library=library):
            return
        _put_aside(database)
    beside = database.with_name(f".{database.name}.{uuid.uuid4().hex}")
    try:
        if not _copy_template(library, into=beside):
            make(beside)
            if not _is_whole(beside, library=library):
                raise SettingError(f"{library} made no whole database at {database}: make the environment anew (make clean)")
            _keep_template(beside, library=library)
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(database)
    except OSError as error:
        raise SettingError(f"{database} cannot be made ({error.strerror or error}): free the disk, or mend its rights") from error
    finally:
        _remove(beside)


def remove_copies(database: Path) -> None:
    """Remove what a killed process has left that made or migrated a database; the caller holds its lock."""
    copy = re.compile(rf"\.{re.escape(database.name)}\.(\w+\.backup\.)?[0-9a-f]{{32}}(-\w+)?")
    for path in database.parent.iterdir():
        if copy.fullmatch(path.name):
            path.unlink(missing_ok=True)


def is_half_made(database: Path, *, library: Library) -> bool:
    """Tell whether a file lacks tables of the library and holds nothing; one that is no database is not said to be half made."""
    migrations = migrations_of(library, dialect="sqlite")
    try:
        # Opened to be written: SQLite then takes back the statement in whose middle a process was killed.
        with closing(sqlite3.connect(database)) as connection:
            tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            row = (
                connection.execute("SELECT version_num FROM alembic_version").fetchone() if "alembic_version" in tables else None
            )
            if row and migrations.state_of(str(row[0])) in ("current", "newer"):
                return False
            content = [table for table in CONTENT[library] if table in tables]
            return not any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in content)
    except sqlite3.Error:
        return False


def template(library: Library) -> Path:
    """Return the path of the empty database of the installed version of a library."""
    return cache_folder() / library / f"{importlib.metadata.version(library)}.db"


def _put_aside(database: Path) -> None:
    """Rename a half-made file; one without a byte is removed. SQLite's journals belong to its name, and go."""
    for end in _JOURNALS:
        Path(f"{database}{end}").unlink(missing_ok=True)
    if not database.stat().st_size:
        database.unlink()
        return
    aside = database.with_name(f"{database.name}.{uuid.uuid4().hex[:8]}.half-made")
    database.rename(aside)
    logger.warning(
        "%s was half made by a run that was killed, and held nothing: it is %s now, and is made anew", database, aside.name
    )


def _is_whole(path: Path, *, library: Library) -> bool:
    return revision_of(f"sqlite:///{path}") == migrations_of(library, dialect="sqlite").head


def _copy_template(library: Library, *, into: Path) -> bool:
    """Copy the template of a library; False if there is none, or none that is whole."""
    if not template(library).is_file():
        return False
    shutil.copyfile(template(library), into)
    with suppress(OSError):
        if _is_whole(into, library=library):
            return True
    template(library).unlink(missing_ok=True)
    _remove(into)
    return False


def _keep_template(made: Path, *, library: Library) -> None:
    """Copy a database that was just made into the cache."""
    path = template(library)
    with suppress(OSError):  # a cache that cannot be written: the next new store makes its own again
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            shutil.copyfile(made, beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for end in ("", *_JOURNALS):
        Path(f"{path}{end}").unlink(missing_ok=True)
