"""Which schema a database of MLflow or Prefect has, and which schemas the installed library knows.

Both keep the name of their last migration in the table `alembic_version`, and bring their migrations as files. These are read as
text: to import them takes seconds, and changes nothing in what they are called.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from storage.errors import SettingError

Library = Literal["mlflow", "prefect"]
Dialect = Literal["sqlite", "postgresql"]
SchemaState = Literal["empty", "current", "older", "newer"]

CONNECT_S = 3
# Of each library the folder of its migrations, where it is not the same for both kinds of databases.
_MIGRATIONS: dict[tuple[Library, Dialect], str] = {
    ("mlflow", "sqlite"): "store/db_migrations/versions",
    ("mlflow", "postgresql"): "store/db_migrations/versions",
    ("prefect", "sqlite"): "server/database/_migrations/versions/sqlite",
    ("prefect", "postgresql"): "server/database/_migrations/versions/postgresql",
}
# A database whose tables of these names are empty, or not there, holds nothing that anybody has made.
CONTENT: dict[Library, tuple[str, ...]] = {
    "mlflow": ("runs", "registered_models"),
    "prefect": ("flow", "deployment", "block_document", "variable", "automation"),
}
_REVISION = re.compile(r"^revision\b[^=\n]*=\s*[\"'](\w+)[\"']", re.MULTILINE)
_EARLIER = re.compile(r"^down_revision\b[^=\n]*=(.*)$", re.MULTILINE)
_NO_DATABASE = re.compile(r"database \"[^\"]+\" does not exist")
_NAME = re.compile(r"[\"'](\w+)[\"']")


@dataclass(frozen=True)
class Migrations:
    """The migrations that an installed library brings.

    Attributes:
        head: The last one; a database that has it is current.
        known: All of them.
    """

    library: Library
    head: str
    known: frozenset[str]

    def state_of(self, revision: str | None) -> SchemaState:
        """Return how a database with this revision stands to the installed library."""
        if revision is None:
            return "empty"
        if revision == self.head:
            return "current"
        return "older" if revision in self.known else "newer"


def migrations_of(library: Library, *, dialect: Dialect) -> Migrations:
    """Return the migrations of an installed library, without importing it.

    Raises:
        SettingError: The library is not installed, or its migrations are not where they were.
    """
    spec = importlib.util.find_spec(library)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise SettingError(f"{library} is not installed: make the environment anew (make clean, make run)")
    folder = Path(folders[0], _MIGRATIONS[library, dialect])
    known, earlier = set(), set()
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        known.update(_REVISION.findall(text))
        for names in _EARLIER.findall(text):
            earlier.update(_NAME.findall(names))
    heads = known - earlier
    if len(heads) != 1:
        raise SettingError(f"{folder} has {len(heads)} last migrations, expected one: make the environment anew")
    return Migrations(library=library, head=heads.pop(), known=frozenset(known))


def dialect_of(address: str) -> Dialect:
    """Return the kind of a database.

    Raises:
        SettingError: It is of another kind.
    """
    scheme = urlsplit(address).scheme.partition("+")[0]
    if scheme == "sqlite":
        return "sqlite"
    if scheme in ("postgresql", "postgres"):
        return "postgresql"
    raise SettingError(f"a database of kind {scheme!r} is not known: use SQLite or PostgreSQL")


def sqlite_path(address: str) -> Path:
    """Return the file of a SQLite address such as `sqlite:///folder/mlflow.db`."""
    return Path(address.partition(":///")[2].partition("?")[0])


@contextmanager
def reading(address: str) -> Iterator[Any]:
    """Yield a SQLAlchemy connection that only reads; nobody waits longer than `CONNECT_S` seconds for it.

    Raises:
        OSError: The database does not answer, or cannot be read; the message holds no password.
        ImportError: The driver of the database is not installed.
    """
    import sqlalchemy as sa

    if dialect_of(address) == "sqlite":
        path = sqlite_path(address)
        # With a write-ahead log somebody has it open, and reading shares their index; else nothing is made beside the file.
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
        url = sa.make_url(f"sqlite:///{path.absolute().as_uri()}?{mode}&uri=true")
        where, arguments = str(path), {"timeout": CONNECT_S}
    else:
        parts = sa.make_url(address)
        url = parts.set(drivername="postgresql+psycopg2", query={})
        where, arguments = f"PostgreSQL at {parts.host}:{parts.port or 5432}/{parts.database}", {"connect_timeout": CONNECT_S}
    try:
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=arguments)
        with engine.connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise OSError(f"{where} cannot be read ({_reason(error)})") from None


def revision_of(address: str) -> str | None:
    """Return the last migration that a database has had; None if there is no database yet, or an empty one. Nothing is written.

    Raises:
        OSError: The database does not answer, or cannot be read; the message holds no password.
        ImportError: The driver of the database is not installed.
    """
    import sqlalchemy as sa

    if dialect_of(address) == "sqlite" and not (sqlite_path(address).is_file() and sqlite_path(address).stat().st_size):
        return None
    try:
        with reading(address) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            row = connection.execute(sa.text("SELECT version_num FROM alembic_version")).first()
    except OSError as error:
        if _NO_DATABASE.search(str(error)):
            return None
        raise
    return str(row[0]) if row else None


def holds_nothing(address: str, *, library: Library) -> bool:
    """Tell whether nobody has made anything in a database; nothing is written.

    Raises:
        OSError: The database does not answer, or cannot be read; the message holds no password.
        ImportError: The driver of the database is not installed.
    """
    import sqlalchemy as sa

    with reading(address) as connection:
        tables = [table for table in CONTENT[library] if sa.inspect(connection).has_table(table)]
        return not any(
            connection.execute(sa.select(sa.literal(1)).select_from(sa.table(table)).limit(1)).first() for table in tables
        )


def _reason(error: Exception) -> str:
    """Return in a line what a driver says; it names host and user, and no password."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
