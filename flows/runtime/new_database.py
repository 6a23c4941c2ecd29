"""Prefect's database of a store: made whole, or migrated, before a server starts on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from storage.database import database_lock, named_database
from storage.database_file import make_file
from storage.errors import SettingError
from storage.io import locked
from storage.upgrade import migrate_prefect_file, remove_half_made, upgrade_prefect

DATABASE = "prefect.db"
# Prefect puts its database elsewhere if one of these is set.
DATABASE_VARIABLES = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")


@contextmanager
def new_database(home: Path) -> Iterator[None]:
    """Make Prefect's database in a new store; the block starts the server and ends when it is healthy.

    Until then this process holds the lock of the database, so no other run or service of this project starts a server on it.
    A database of an older Prefect is migrated, and its backup lies beside it; one that is shared is refused. No lock is taken
    of a database that the environment names in Prefect's own words.

    Args:
        home: Prefect's folder, usually in the store.

    Raises:
        SettingError: The folder cannot be written, or its database is of a newer Prefect.
    """
    if named := shared_database():
        is_own = named == named_database("prefect")
        with database_lock(named) if is_own else nullcontext():
            if is_own:
                remove_half_made(named, library="prefect")
            upgrade_prefect(named)
            yield
        return
    database = (home / DATABASE).absolute()
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(database))
        except OSError as error:
            raise SettingError(
                f"PREFECT_HOME is {str(home)!r}, expected a folder that can be written ({error.strerror or error}): name another"
            ) from error
        home.mkdir(parents=True, exist_ok=True)
        make_file(database, library="prefect", make=migrate_prefect_file)
        upgrade_prefect(f"sqlite:///{database}")
        yield


def shared_database() -> str | None:
    """Return the address of Prefect's database where the environment names one, in Prefect's words or the project's."""
    own = next((os.environ[name] for name in DATABASE_VARIABLES if os.environ.get(name)), None)
    return own or named_database("prefect")


def names_prefect_database() -> bool:
    """Tell whether the environment names a database in Prefect's own words."""
    return any(name in os.environ for name in DATABASE_VARIABLES)
