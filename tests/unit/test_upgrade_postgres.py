"""A database that is shared is not migrated unasked: the message names the command, which then helps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from postgres_helpers import PASSWORD, running_postgres

from storage.database import make_database
from storage.errors import RegistryError, SettingError
from storage.layout import Store
from storage.registry import Registry
from storage.schema import migrations_of, revision_of
from storage.upgrade import remove_half_made, upgrade_prefect
from tasks.diagnosis.databases import check_database

MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres(None) as address:
        yield address.replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture
def old(server: str) -> str:
    """Return the address of a registry as MLflow left it some migrations ago."""
    from mlflow.store.db.utils import InitialBase

    address = f"{server}/old_mlflow"
    make_database(address)
    engine = sqlalchemy.create_engine(address)
    InitialBase.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    revisions = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions[8])
    engine.dispose()
    return address


def test_an_older_registry_is_refused_with_the_command_and_opens_after_it(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", old)
    before = revision_of(old)
    (finding,) = check_database("mlflow", old)
    assert finding.level == "fault"
    assert "mlflow db upgrade" in finding.remedy
    with pytest.raises(RegistryError, match="mlflow db upgrade") as raised:
        Registry.open(Store.at(tmp_path))
    assert "\n" not in str(raised.value)
    assert PASSWORD not in str(raised.value) + finding.text + finding.remedy
    assert revision_of(old) == before
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", old], check=True, capture_output=True)
    assert revision_of(old) == migrations_of("mlflow", dialect="postgresql").head
    assert Registry.open(Store.at(tmp_path)).names() == ()
    assert [found.level for found in check_database("mlflow", old)] == ["ok"]


def test_tables_whose_making_was_killed_are_removed_where_nothing_lies_in_them(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect commits each of its migrations, so a kill between two leaves an older schema, in which nothing lies yet."""
    address = f"{server}/half_prefect"
    make_database(address)
    migrations = migrations_of("prefect", dialect="postgresql")
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table alembic_version (version_num text)")
        connection.exec_driver_sql(f"insert into alembic_version values ('{min(migrations.known - {migrations.head})}')")
        connection.exec_driver_sql("create table flow (name text)")
        connection.exec_driver_sql("create type state as enum ('RUNNING')")
    assert upgrade_prefect(address) is None
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into flow values ('retrain')")
    remove_half_made(address, library="prefect")
    with pytest.raises(SettingError, match="back it up, then migrate it once with"):
        upgrade_prefect(address)
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from flow")
    with caplog.at_level("WARNING", logger="retrain"):
        remove_half_made(address, library="prefect")
    assert "half_prefect were half made by a process that was killed, and held nothing: they are made anew" in caplog.text
    assert PASSWORD not in caplog.text
    inspector = sqlalchemy.inspect(engine)
    assert (inspector.get_table_names(), inspector.get_enums()) == ([], [])
    assert revision_of(address) is None
    engine.dispose()


def test_a_database_that_is_yet_to_be_made_is_none_to_worry_about(server: str) -> None:
    (finding,) = check_database("mlflow", f"{server}/not_yet")
    assert finding.level == "ok"
    assert "no database yet" in finding.text


def test_a_wrong_password_is_a_fault_that_tells_none(server: str) -> None:
    (finding,) = check_database("prefect", server.replace(PASSWORD, "another-secret") + "/not_yet")
    assert finding.level == "fault"
    assert "another-secret" not in finding.text
    assert "password" in finding.text
