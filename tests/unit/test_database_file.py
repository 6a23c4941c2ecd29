"""Databases that survive their making: whoever is killed at any statement leaves a store that the next command opens."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from planted.kill_points import ON_POSTGRES, killed_and_opened
from postgres_helpers import running_postgres

from flows.runtime.new_database import DATABASE, new_database
from storage.database_file import is_half_made, make_file, template
from storage.errors import SettingError
from storage.layout import Store
from storage.registry import Registry
from storage.schema import migrations_of, revision_of

# Of the statements that write when a library makes its tables, 437 of MLflow's and 1,181 of Prefect's: the first ones, one near
# the end, and some between. `make test-faults FAULTS="--only points"` tries all.
POINTS = {"mlflow": (1, 2, 40, 170, 330, 430), "prefect": (1, 2, 120, 460, 900, 1170)}
# Those of 181 and 251 are in the middle of migrations that Prefect can neither complete nor begin again.
POINTS_ON_POSTGRES = (1, 2, 40, 181, 251)


@pytest.mark.parametrize("making", ["mlflow beside", "mlflow in place"])
def test_whoever_is_killed_while_the_registry_is_made_leaves_one_that_opens(tmp_path: Path, making: str) -> None:
    points = POINTS[making.split(maxsplit=1)[0]]
    assert killed_and_opened(making, tmp_path, points) == dict.fromkeys(points, (signal.SIGKILL, 0))


@pytest.mark.slow
@pytest.mark.parametrize("making", ["prefect beside", "prefect in place"])
def test_whoever_is_killed_while_prefects_tables_are_made_leaves_a_database_that_opens(tmp_path: Path, making: str) -> None:
    points = POINTS[making.split(maxsplit=1)[0]]
    assert killed_and_opened(making, tmp_path, points) == dict.fromkeys(points, (signal.SIGKILL, 0))


@pytest.mark.slow
@pytest.mark.parametrize("making", ON_POSTGRES)
def test_whoever_is_killed_while_tables_of_postgresql_are_made_leaves_a_database_that_opens(tmp_path: Path, making: str) -> None:
    with running_postgres() as server:
        found = killed_and_opened(making, tmp_path, POINTS_ON_POSTGRES, server=server)
    assert found == dict.fromkeys(POINTS_ON_POSTGRES, (signal.SIGKILL, 0))


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [5, 8])
def test_whoever_is_killed_while_prefects_database_is_made_leaves_one_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_s: float
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = tmp_path / "home"
    home.mkdir()
    variables = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / DATABASE}", "PREFECT_API_URL": ""}
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as making:
        time.sleep(wait_s)
        making.kill()
    with new_database(home):
        assert revision_of(f"sqlite:///{home / DATABASE}") == migrations_of("prefect", dialect="sqlite").head


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_a_half_made_file_is_put_aside_and_one_that_holds_something_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    execute(path, "CREATE TABLE runs (run_uuid TEXT)", "CREATE TABLE alembic_version (version_num TEXT)")
    assert is_half_made(path, library="mlflow")
    execute(path, "INSERT INTO runs VALUES ('a')")
    assert not is_half_made(path, library="mlflow")
    execute(path, "DELETE FROM runs", "INSERT INTO alembic_version VALUES ('ffffffffffff')")
    assert not is_half_made(path, library="mlflow")  # of a newer release, which is told
    path.write_bytes(b"no database")
    assert not is_half_made(path, library="mlflow")


def test_a_new_store_gets_a_copy_of_the_empty_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        head = migrations_of("mlflow", dialect="sqlite").head
        execute(path, "CREATE TABLE alembic_version (version_num TEXT)", f"INSERT INTO alembic_version VALUES ('{head}')")

    for name in ("first", "second"):
        make_file(tmp_path / f"{name}.db", library="mlflow", make=make)
    assert len(made) == 1
    assert not made[0].exists()
    # A template that was damaged is not taken, and made anew.
    template("mlflow").write_bytes(b"")
    make_file(tmp_path / "third.db", library="mlflow", make=make)
    assert len(made) == 2
    assert tables_of(tmp_path / "third.db") == tables_of(template("mlflow")) == {"alembic_version"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "first.db", "second.db", "third.db"]


def test_one_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SettingError, match=r"mlflow\.db cannot be made \(No space left on device\): free the disk"):
        make_file(tmp_path / "mlflow.db", library="mlflow", make=full)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingError, match="made no whole database"):
        make_file(tmp_path / "mlflow.db", library="mlflow", make=lambda path: execute(path, "CREATE TABLE a (b)"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_copies_of_killed_processes_are_removed_and_backups_stay(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    Registry.open(store)
    folder, mark = store.mlflow_folder, "0" * 32
    left = [f".mlflow.db.{mark}", f".mlflow.db.{mark}-journal", f".mlflow.db.1a2b.backup.{mark}"]
    for name in [*left, "mlflow.db.1a2b.backup"]:
        (folder / name).write_bytes(b"")
    Registry.open(store)
    assert sorted(path.name for path in folder.iterdir()) == [".mlflow.db.lock", "mlflow.db", "mlflow.db.1a2b.backup"]


def test_an_empty_variable_of_prefect_names_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "")
    with new_database(tmp_path):
        assert revision_of(f"sqlite:///{tmp_path / DATABASE}") == migrations_of("prefect", dialect="sqlite").head
