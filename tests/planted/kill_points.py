"""The making of a database, killed at a statement that writes, and what the next command finds.

    python -m planted.kill_points "prefect in place" FOLDER 1 40 570      (in tests/, with the project on the path)

Prints a line for each of these statements: its number, how the process ended that was to be killed at it, and how the one did
that then opened the database (0: well). What takes seconds to import is imported once: each process is a fork of this one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKINGS = (
    "mlflow beside",
    "mlflow in place",
    "mlflow on PostgreSQL",
    "prefect beside",
    "prefect in place",
    "prefect on PostgreSQL",
)
"""`beside` is how this release makes a file, `in place` how the libraries' own servers and older releases do."""
ON_POSTGRES = tuple(making for making in MAKINGS if making.endswith("PostgreSQL"))
# Of the statements only those that write are counted: between two of them nothing changes.
READING = ("SELECT", "PRAGMA", "SHOW")
# A chunk of points on a busy machine.
LIMIT_S = 3_000


def killed_and_opened(
    making: str, folder: Path, points: Sequence[int], *, server: str | None = None
) -> dict[int, tuple[int, int]]:
    """Kill a making at each of some writing statements, open what is left, and return how both processes of each ended.

    Args:
        making: One of `MAKINGS`.
        folder: Where the databases are made.
        points: Numbers of writing statements; one that is never reached ends its process well.
        server: Address of a PostgreSQL, without a database, for a making that needs one.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    if server:
        environment["RETRAIN_DATABASE_URL"] = server
    command = [sys.executable, "-m", "planted.kill_points", making, str(folder), *map(str, points)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {int(point): (int(killed), int(opened)) for point, killed, opened in map(str.split, done.stdout.splitlines())}
    if any(opened for _, opened in found.values()):
        sys.stderr.write(done.stderr)  # says why
    return found


def forked(function: Callable[[], object]) -> int:
    """Call a function in a process of its own, and return how it ended."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        function()
    except BaseException:  # whatever it is, the parent must not go on twice
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def killed_at(point: int, make: Callable[[], object]) -> Callable[[], object]:
    """Return a function that kills its process at a writing statement of a making, before it is carried out."""

    def run() -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        count = 0

        @event.listens_for(Engine, "before_cursor_execute")
        def die(connection: object, cursor: object, statement: str, *_: object) -> None:
            nonlocal count
            count += not statement.lstrip().upper().startswith(READING)
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

        make()

    return run


def migrate_prefect(address: str) -> None:
    """Make or migrate Prefect's tables in this process, as its server does when it starts."""
    from prefect.server.database.alembic_commands import alembic_upgrade
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
    from prefect.utilities.asyncutils import run_sync_in_worker_thread

    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: address}):
        asyncio.run(run_sync_in_worker_thread(alembic_upgrade))


def make_prefect_file(path: Path) -> None:
    migrate_prefect(f"sqlite+aiosqlite:///{path}")


def makings(home: Path) -> Mapping[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return of each making what is killed, and what then opens the database and looks at it."""
    from flows.runtime.new_database import DATABASE, new_database
    from storage.database import make_database, named_database
    from storage.database_file import make_file
    from storage.io import locked
    from storage.layout import Store
    from storage.mlflow_compat import make_tables
    from storage.registry import Registry
    from storage.schema import migrations_of, revision_of

    store, prefect_file = Store.at(home), home / DATABASE
    registry_file = store.mlflow_folder / "mlflow.db"

    def make_prefect_beside() -> None:
        with locked(prefect_file):
            make_file(prefect_file, library="prefect", make=make_prefect_file)

    def make_prefect_on_postgres() -> None:
        address = named_database("prefect") or ""
        make_database(address)
        migrate_prefect(address)

    def open_registry() -> None:
        assert Registry.open(store).names() == ()
        if registry_file.exists():
            assert left_in(registry_file.parent) == [registry_file.name]

    def open_prefect_file() -> None:
        with new_database(home):
            assert revision_of(f"sqlite:///{prefect_file}") == migrations_of("prefect", dialect="sqlite").head
        assert [name for name in left_in(home) if name not in ("cache", "mlflow")] == [DATABASE]

    def open_prefect_on_postgres() -> None:
        address = named_database("prefect") or ""
        make_database(address)
        with new_database(home):
            migrate_prefect(address)
            assert revision_of(address) == migrations_of("prefect", dialect="postgresql").head

    return {
        "mlflow beside": (lambda: Registry.open(store), open_registry),
        "mlflow in place": (lambda: make_tables(registry_file), open_registry),
        "mlflow on PostgreSQL": (lambda: Registry.open(store), open_registry),
        "prefect beside": (make_prefect_beside, open_prefect_file),
        "prefect in place": (lambda: make_prefect_file(prefect_file), open_prefect_file),
        "prefect on PostgreSQL": (make_prefect_on_postgres, open_prefect_on_postgres),
    }


def left_in(folder: Path) -> list[str]:
    """Return what lies in a folder, but for locks and for what was put aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".half-made")))


@contextmanager
def database_of(point: int, *, server: str | None) -> Iterator[None]:
    """Name databases of their own for a point, and drop them afterwards."""
    if not server:
        yield
        return
    os.environ["RETRAIN_DATABASE_URL"] = f"{server}/point_{point}"
    yield
    forked(lambda: drop_databases(server, point))


def drop_databases(server: str, point: int) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(f"{server.replace('postgresql:', 'postgresql+psycopg2:')}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for purpose in ("mlflow", "prefect"):
            connection.exec_driver_sql(f"drop database if exists point_{point}_{purpose} with (force)")


def main() -> None:
    """Kill, open, and print a line for each point."""
    making, base, points = sys.argv[1], Path(sys.argv[2]), [int(point) for point in sys.argv[3:]]
    if making.startswith("mlflow"):
        import mlflow.db
        import mlflow.tracking  # noqa: F401
    else:
        import prefect.server.database.alembic_commands  # noqa: F401
    server = os.environ.get("RETRAIN_DATABASE_URL")
    for point in points:
        home = base / f"{making} {point}"
        (home / "mlflow").mkdir(parents=True)
        make, check = makings(home)[making]
        with database_of(point, server=server):
            # The one that is killed finds no template to copy; the one that opens finds that of the point before.
            os.environ["XDG_CACHE_HOME"] = str(home / "cache")
            status = forked(killed_at(point, make))
            os.environ["XDG_CACHE_HOME"] = str(base / "cache")
            opened = forked(check)
        sys.stdout.write(f"{point} {status} {opened}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
