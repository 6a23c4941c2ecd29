"""The PostgreSQL that `RETRAIN_DATABASE_URL` names, with a database for Prefect and one for the registry."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from storage.environment import Environment, variable
from storage.errors import SettingError
from storage.layout import Store, lock_file

if TYPE_CHECKING:
    from sqlalchemy import URL

DATABASE_VARIABLE = variable("database_url")
Purpose = Literal["prefect", "mlflow"]

_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/retrain"
_DRIVERS: dict[Purpose, str] = {"prefect": "asyncpg", "mlflow": "psycopg2"}
# PostgreSQL cuts a name after 63 bytes, and the longest suffix has 8.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,54}")
# Every PostgreSQL has this database; a connection to it is needed to make another.
_MAINTENANCE = "postgres"
# First four bytes of the SHA-256 of "retrain": whoever migrates a database holds the advisory lock of this number.
_MIGRATION_LOCK = 0x461B_56F3
_CONNECT_S = 10


def named_database(purpose: Purpose) -> str | None:
    """Return the address of a database on the PostgreSQL that the environment names, for SQLAlchemy; None where none is named.

    `postgresql://USER:PASSWORD@HOST/NAME` stands for two databases, `NAME_prefect` and `NAME_mlflow`.

    Raises:
        SettingError: The address is none of PostgreSQL, names no database, or the driver is not installed.
    """
    secret = Environment.read().database_url
    if secret is None:
        return None
    url = _parsed(secret.get_secret_value())
    driver = _DRIVERS[purpose]
    if importlib.util.find_spec(driver) is None:
        raise SettingError(
            f"{DATABASE_VARIABLE} is set, but the package {driver} is not installed: pip install 'retrain[postgres]'"
        )
    named = url.set(drivername=f"postgresql+{driver}", database=f"{url.database}_{purpose}")
    return named.render_as_string(hide_password=False)


def registry_database(store: Store) -> str:
    """Return the address of the registry's own database: on the named PostgreSQL, or else the SQLite file in a local store.

    Raises:
        SettingError: The store is remote and no PostgreSQL is named: a file on this host would be a registry of its own.
    """
    named = named_database("mlflow")
    if named:
        return named
    store.mlflow_folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{store.mlflow_folder / 'mlflow.db'}"


def make_database(address: str) -> None:
    """Make a database of PostgreSQL unless it is there; an address of another kind stays as it is.

    Raises:
        SettingError: The server does not answer, refuses the user, or the user may not make it; the message has no password.
    """
    if not address.startswith("postgresql"):
        return
    from sqlalchemy import make_url
    from sqlalchemy.exc import DBAPIError

    url = make_url(address).set(drivername="postgresql+psycopg2")
    try:
        with _connection(url):
            return
    except DBAPIError as error:
        if f'database "{url.database}" does not exist' not in str(error.orig):
            raise _refused(url, error) from None
    try:
        with _connection(url.set(database=_MAINTENANCE)) as connection:
            connection.exec_driver_sql(f'create database "{url.database}"')
    except DBAPIError as error:
        if "already exists" not in str(error.orig) and "pg_database_datname_index" not in str(
            error.orig
        ):  # another host was first
            raise _refused(
                url, error, remedy=f"let an administrator run `create database {url.database} owner {url.username}`"
            ) from None


@contextmanager
def database_lock(address: str) -> Iterator[None]:
    """Hold a lock while the tables of a database are made or migrated: two processes that do so at once fail.

    For a SQLite file the lock holds between the processes of one host, for PostgreSQL between hosts.

    Raises:
        SettingError: PostgreSQL cannot be reached.
    """
    if address.startswith("sqlite:///"):
        lock = lock_file(Path(address.removeprefix("sqlite:///")).absolute())
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield
    elif address.startswith("postgresql"):
        from sqlalchemy import make_url
        from sqlalchemy.exc import DBAPIError

        make_database(address)
        url = make_url(address).set(drivername="postgresql+psycopg2")
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(_connection(url))
                connection.exec_driver_sql(f"select pg_advisory_lock({_MIGRATION_LOCK})")
            except DBAPIError as error:
                raise _refused(url, error) from None
            yield  # the lock ends with its connection
    else:
        yield


@contextmanager
def _connection(url: URL) -> Iterator[Any]:
    """Connect without a pool and outside a transaction, in which PostgreSQL makes no database."""
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": _CONNECT_S})
    with engine.connect() as connection:
        yield connection


def _parsed(address: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError:
        raise SettingError(f"{DATABASE_VARIABLE} cannot be read: write it as {_EXAMPLE}") from None
    hidden = url.render_as_string(hide_password=True)
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.host:
        raise SettingError(f"{DATABASE_VARIABLE} is {hidden!r}, expected the address of a PostgreSQL: write it as {_EXAMPLE}")
    if not _NAME.fullmatch(url.database or ""):
        raise SettingError(
            f"{DATABASE_VARIABLE} is {hidden!r}, expected a name of lower-case letters, digits and '_' at its end, of which "
            f"the databases NAME_prefect and NAME_mlflow get theirs: write it as {_EXAMPLE}"
        )
    return url


def _refused(url: URL, error: Any, *, remedy: str = "correct the address, or look whether PostgreSQL runs") -> SettingError:
    said = " ".join(str(error.orig).split())
    if url.password:
        said = said.replace(str(url.password), "***")
    return SettingError(f"{DATABASE_VARIABLE}: database {url.database} on {url.host} cannot be used ({said[:300]}): {remedy}")
