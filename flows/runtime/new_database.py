"""The Prefect database of a new store: a copy of an empty one, because Prefect takes 7 s to make it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from storage.database import named_database
from storage.errors import SettingError
from storage.io import locked
from storage.layout import cache_folder
from storage.upgrade import upgrade_prefect

DATABASE = "prefect.db"
# Prefect puts its database elsewhere if one of these is set.
DATABASE_VARIABLES = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")


@contextmanager
def new_database(home: Path, *, cache: bool) -> Iterator[None]:
    """Copy the cached empty database into a new store; the block starts the server and ends when it is healthy.

    Until then this process holds the lock of the database, so no other run or service of this project starts a server on it.
    The database that the first server makes is therefore still empty at the end of the block. It is cached without a look
    at Prefect's tables, and holds no run and no key. An existing database stays as it is.

    A database of an older Prefect is migrated, and its backup lies beside it; one that is shared is refused.

    Args:
        home: Prefect's folder, usually in the store.
        cache: Whether to cache the database that the server makes, where none is cached yet.

    Raises:
        SettingError: The folder cannot be written, or its database is of a newer Prefect.
    """
    if named := shared_database():
        upgrade_prefect(named)
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(home / DATABASE))
        except OSError as error:
            raise SettingError(
                f"PREFECT_HOME is {str(home)!r}, expected a folder that can be written ({error.strerror or error}): name another"
            ) from error
        upgrade_prefect(f"sqlite:///{(home / DATABASE).absolute()}")
        is_first = not (home / DATABASE).exists() and not _copy_cached(home)
        yield
        if is_first and cache:
            _cache(home)


def shared_database() -> str | None:
    """Return the address of Prefect's database where the environment names one, in Prefect's words or the project's."""
    own = next((os.environ[name] for name in DATABASE_VARIABLES if os.environ.get(name)), None)
    return own or named_database("prefect")


def names_prefect_database() -> bool:
    """Tell whether the environment names a database in Prefect's own words."""
    return any(name in os.environ for name in DATABASE_VARIABLES)


def cached_database() -> Path:
    """Return the path of the empty database of this version of Prefect."""
    return cache_folder() / "prefect" / f"{importlib.metadata.version('prefect')}.db"


def _copy_cached(home: Path) -> bool:
    """Copy the cached database into a store and tell whether there was one."""
    if not cached_database().is_file():
        return False
    with suppress(OSError), tempfile.TemporaryDirectory(dir=home) as folder:  # where it fails, Prefect makes its own
        # Unlike a move, a link never replaces a database that another program has made meanwhile.
        os.link(shutil.copy(cached_database(), folder), home / DATABASE)
    return True


def _cache(home: Path) -> None:
    """Cache a copy of the database that the server of a new store has just made."""
    cached = cached_database()
    with suppress(OSError, sqlite3.Error):  # a cache that cannot be written: the next new store makes its own database again
        cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            copy = Path(folder, DATABASE)
            with closing(sqlite3.connect(f"{(home / DATABASE).absolute().as_uri()}?mode=ro", uri=True)) as database:
                database.execute("vacuum into ?", (str(copy),))
            copy.replace(cached)
