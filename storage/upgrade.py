"""Bring the databases of an older release to the schema of the installed libraries, with a backup.

A SQLite file is migrated as a copy that takes its place, so whoever is killed on the way leaves the old file as it was. It stays
beside the new one under the name of its schema. A database that others share is not migrated unasked: the message names the
command.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from storage.errors import RegistryError, SettingError
from storage.library_variables import set_library_variables
from storage.schema import Library, Migrations, dialect_of, holds_nothing, migrations_of, revision_of, sqlite_path

logger = logging.getLogger("retrain")

# A history of years has been seen to take a minute.
UPGRADE_S = 1800
DRIVER = "pip install 'retrain[postgres]'"

Upgrade = Callable[[Path], None]


def upgrade_registry(address: str) -> Path | None:
    """Migrate the database of the registry if it is of an older MLflow; the caller holds its lock.

    Returns:
        The backup, if there was something to migrate.

    Raises:
        RegistryError: It is of a newer MLflow, is shared and older, or cannot be migrated.
    """
    if not address.startswith(("sqlite:", "postgres")):  # a server looks after its own database
        return None
    try:
        return _upgrade(address, library="mlflow", upgrade=migrate_mlflow_file)
    except OSError as error:
        raise RegistryError(f"{error}: {_LET_READ}") from error
    except SettingError as error:
        raise RegistryError(str(error)) from error
    except ImportError as error:
        raise RegistryError(f"the driver of the registry's database is not there ({error}): {DRIVER}") from error


_LET_READ = "let this user read and write it, and look whether its server or its disk is there"


def upgrade_prefect(address: str) -> Path | None:
    """Migrate Prefect's database if it is of an older Prefect; the caller holds its lock, and no server runs on it.

    Returns:
        The backup, if there was something to migrate.

    Raises:
        SettingError: It is of a newer Prefect, is shared and older, or cannot be migrated.
    """
    try:
        return _upgrade(address, library="prefect", upgrade=migrate_prefect_file)
    except OSError as error:
        raise SettingError(f"{error}: {_LET_READ}") from error
    except ImportError:  # Prefect brings a driver of its own for PostgreSQL, and says itself what is wrong
        return None


def remove_half_made(address: str, *, library: Library) -> None:
    """Remove the tables of a library from a PostgreSQL database of its own if their making was killed and they hold nothing.

    Prefect commits in the middle of some migrations: one that was killed there can be neither completed nor begun again. The
    caller holds the lock of the database, so nobody is making the tables now.

    Raises:
        OSError: The database does not answer, or cannot be read; the message holds no password.
        ImportError: The driver of the database is not installed.
    """
    state = migrations_of(library, dialect="postgresql").state_of(revision_of(address))
    if state != "older" or not holds_nothing(address, library=library):
        return
    import sqlalchemy as sa

    engine = sa.create_engine(sa.make_url(address).set(drivername="postgresql+psycopg2", query={}), poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        inspector = sa.inspect(connection)
        for table in inspector.get_table_names():
            connection.exec_driver_sql(f'drop table "{table}" cascade')
        for kind in inspector.get_enums():  # type: ignore[attr-defined]  # of PostgreSQL's inspector
            connection.exec_driver_sql(f'drop type "{kind["name"]}" cascade')
    logger.warning(
        "the tables of %s at %s were half made by a process that was killed, and held nothing: they are made anew",
        library,
        _shown(address),
    )


def _upgrade(address: str, *, library: Library, upgrade: Upgrade) -> Path | None:
    dialect = dialect_of(address)
    revision = revision_of(address)
    if revision is None:  # the library makes it
        return None
    migrations = migrations_of(library, dialect=dialect)
    state = migrations.state_of(revision)
    if state == "newer":
        raise SettingError(newer_text(library, revision=revision, where=_shown(address)))
    if state == "older" and dialect == "postgresql":
        if library == "prefect" and holds_nothing(address, library=library):
            return None  # whoever made it was killed; Prefect's server goes on where it was when it starts
        raise SettingError(
            f"the database of {library} at {_shown(address)} has schema {revision}, expected {migrations.head}: back it up, "
            f"then migrate it once with {upgrade_command(library)}"
        )
    return upgrade_file(sqlite_path(address), migrations=migrations, upgrade=upgrade) if state == "older" else None


def upgrade_command(library: Library) -> str:
    """Return the command that migrates a shared database, for a message."""
    if library == "mlflow":
        return "`mlflow db upgrade ADDRESS`"
    return "`PREFECT_API_DATABASE_CONNECTION_URL=ADDRESS prefect server database upgrade -y`"


def newer_text(library: Library, *, revision: str, where: str) -> str:
    """Return what is said of a database that is newer than the installed library."""
    from importlib.metadata import version

    return (
        f"the database of {library} at {where} is of a newer {library} than {version(library)} (schema {revision}): use the "
        "release of retrain that made it, or restore the backup that lies beside it"
    )


def upgrade_file(database: Path, *, migrations: Migrations, upgrade: Upgrade) -> Path:
    """Migrate a copy of a SQLite file, keep the old file under the name of its schema, and put the copy in its place.

    Raises:
        SettingError: Another process has the file open, the migration fails, or the disk is full.
    """
    old = revision_of(f"sqlite:///{database}")
    backup = database.with_name(f"{database.name}.{old}.backup")
    copy = database.with_name(f".{database.name}.{uuid.uuid4().hex}")
    try:
        with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as original:
            # Succeeds for the only user of a file, and leaves no log beside it that would belong to the old one.
            original.execute("PRAGMA journal_mode = DELETE")
            original.execute("BEGIN IMMEDIATE")
            with closing(sqlite3.connect(copy)) as target, closing(sqlite3.connect(database)) as reader:
                reader.backup(target)
            upgrade(copy)
            if revision_of(f"sqlite:///{copy}") != migrations.head:
                raise SettingError(f"{database} was not migrated to schema {migrations.head}: the file is as it was")
            _keep(database, backup=backup)
            copy.replace(database)
    except sqlite3.Error as error:
        raise SettingError(
            f"{database} is of an older {migrations.library} and cannot be migrated ({error}): "
            "end what uses it (make down), and try again"
        ) from error
    except OSError as error:
        raise SettingError(
            f"{database} is of an older {migrations.library} and cannot be migrated ({error.strerror or error}): free the disk"
        ) from error
    finally:
        for path in (copy, Path(f"{copy}-wal"), Path(f"{copy}-shm"), Path(f"{copy}-journal")):
            path.unlink(missing_ok=True)
    return backup


def _keep(database: Path, *, backup: Path) -> None:
    """Give the old file its second name; that of an earlier attempt is left."""
    if backup.exists():
        return
    try:
        os.link(database, backup)
    except OSError:  # a file system without links
        beside = backup.with_name(f".{backup.name}.{uuid.uuid4().hex}")
        shutil.copy2(database, beside)
        beside.replace(backup)


def migrate_mlflow_file(copy: Path) -> None:
    """Bring a SQLite file that nobody uses to the schema of the installed MLflow."""
    _run([sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{copy}"], library="mlflow")


def migrate_prefect_file(copy: Path) -> None:
    """Bring a SQLite file that nobody uses to the schema of the installed Prefect; one that is not there is made."""
    variables = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{copy}", "PREFECT_API_URL": ""}
    _run([sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"], library="prefect", variables=variables)
    # The command may leave a write-ahead log, which belongs to the name of the copy.
    with closing(sqlite3.connect(copy)) as database:
        database.execute("PRAGMA journal_mode = DELETE")


def _run(command: list[str], *, library: Library, variables: dict[str, str] | None = None) -> None:
    set_library_variables()
    done = subprocess.run(
        command, env={**os.environ, **(variables or {})}, capture_output=True, text=True, timeout=UPGRADE_S, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise SettingError(f"the migration of {library}'s database failed ({said[-1][:300]}): the file is as it was")


def _shown(address: str) -> str:
    if dialect_of(address) == "sqlite":
        return str(sqlite_path(address))
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"
