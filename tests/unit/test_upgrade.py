"""Databases of other releases: older ones are migrated as copies and keep a backup, newer ones are refused in one line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from flows.runtime.new_database import DATABASE, new_database
from storage import upgrade as upgrades
from storage.errors import RegistryError, SettingError
from storage.layout import Store
from storage.registry import Registry
from storage.schema import migrations_of, revision_of
from storage.upgrade import upgrade_file, upgrade_prefect, upgrade_registry

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"
STEPS_BACK = 8


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)


def earlier_revision(folder: Path, *, steps: int = STEPS_BACK) -> str:
    scripts = ScriptDirectory(str(folder.parent), version_locations=[str(folder)])
    return [script.revision for script in scripts.walk_revisions()][steps]


@pytest.fixture(scope="module")
def old_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow left it some migrations ago, with a registered model."""
    from mlflow.store.db.utils import InitialBase

    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, earlier_revision(MIGRATIONS / "versions"))
        connection.execute(sqlalchemy.text("INSERT INTO registered_models (name, creation_time) VALUES ('jena', 1)"))
    engine.dispose()
    return path


@pytest.fixture
def home(tmp_path: Path, old_mlflow: Path) -> Path:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(old_mlflow.read_bytes())
    return tmp_path


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        database.commit()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_an_older_registry_is_migrated_when_it_is_opened_and_keeps_a_backup(home: Path, old_mlflow: Path) -> None:
    old = revision_of(f"sqlite:///{old_mlflow}")
    registry = Registry.open(Store.at(home))
    assert registry.names() == ("jena",)
    head = migrations_of("mlflow", dialect="sqlite").head
    assert revision_of(f"sqlite:///{home}/mlflow/mlflow.db") == head != old
    backup = home / "mlflow" / f"mlflow.db.{old}.backup"
    assert revision_of(f"sqlite:///{backup}") == old
    with closing(sqlite3.connect(backup)) as database:
        assert database.execute("SELECT name FROM registered_models").fetchall() == [("jena",)]
    written = backup.stat().st_mtime_ns
    assert Registry.open(Store.at(home)).names() == ("jena",)
    assert listed(home / "mlflow") == ["mlflow.db", backup.name]
    assert backup.stat().st_mtime_ns == written


def test_one_that_is_killed_on_the_way_leaves_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "mlflow" / "mlflow.db"
    before = path.read_bytes()

    def killed(copy: Path) -> None:
        copy.write_bytes(b"half a migration")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(upgrades, "migrate_mlflow_file", killed)
        with pytest.raises(KeyboardInterrupt):
            upgrade_registry(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert listed(home / "mlflow") == ["mlflow.db"]


def test_a_migration_that_does_not_arrive_is_told_and_changes_nothing(home: Path) -> None:
    path = home / "mlflow" / "mlflow.db"
    before = path.read_bytes()
    with pytest.raises(SettingError, match="was not migrated"):
        upgrade_file(path, migrations=migrations_of("mlflow", dialect="sqlite"), upgrade=lambda copy: None)
    assert path.read_bytes() == before
    assert listed(home / "mlflow") == ["mlflow.db"]


def test_a_migration_that_fails_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RegistryError, match="migration of mlflow's database failed") as raised:
        Registry.open(Store.at(home))
    assert "\n" not in str(raised.value)


def test_a_database_that_somebody_uses_is_not_migrated_under_them(home: Path) -> None:
    path = home / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="make down"):
            upgrade_registry(f"sqlite:///{path}")


def test_the_log_of_a_closed_program_is_migrated_too(home: Path) -> None:
    path = home / "mlflow" / "mlflow.db"
    script = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA journal_mode = WAL')\n"
        "database.execute(\"INSERT INTO registered_models (name, creation_time) VALUES ('imdb', 1)\")\n"
        "database.commit()\n"
        "os._exit(0)\n"  # killed: the row is in the log alone
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert Path(f"{path}-wal").stat().st_size > 0
    assert Registry.open(Store.at(home)).names() == ("imdb", "jena")


def test_a_registry_of_a_newer_release_is_refused_in_one_line(home: Path) -> None:
    set_revision(home / "mlflow" / "mlflow.db", "ffffffffffff")
    environment = {**os.environ, "RETRAIN_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "models"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("retrain: the database of mlflow at ")
    assert "newer mlflow than" in line
    assert "ffffffffffff" in line


def test_the_prefect_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
        database.commit()
    with pytest.raises(SettingError, match="newer prefect"):
        new_database(tmp_path).__enter__()


@pytest.mark.slow
def test_an_older_prefect_database_is_migrated_before_a_server_starts(tmp_path: Path) -> None:
    import prefect

    folder = Path(prefect.__file__).parent / "server" / "database" / "_migrations" / "versions" / "sqlite"
    old = earlier_revision(folder)
    path = tmp_path / DATABASE
    environment: dict[str, Any] = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{path}",
    }
    upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y", "-r", old]
    subprocess.run(upgrade, env=environment, check=True, capture_output=True)
    assert revision_of(f"sqlite:///{path}") == old
    with closing(sqlite3.connect(path)) as database:  # an empty one would be made anew
        database.execute("INSERT INTO flow (id, name) VALUES ('1', 'of before')")
        database.commit()
    with new_database(tmp_path):
        assert revision_of(f"sqlite:///{path}") == migrations_of("prefect", dialect="sqlite").head
    assert revision_of(f"sqlite:///{tmp_path}/{DATABASE}.{old}.backup") == old
    assert upgrade_prefect(f"sqlite:///{path}") is None
