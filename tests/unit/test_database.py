"""The PostgreSQL of a team: which addresses are taken, which databases are made, and what is said where it cannot be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_helpers import PASSWORD, running_postgres
from sqlalchemy import create_engine, text

from storage.database import database_lock, make_database, named_database, registry_database
from storage.errors import SettingError
from storage.layout import Store
from storage.registry import Registry


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as address:
        yield address


def names_of_databases(address: str) -> set[str]:
    engine = create_engine(f"{address}/postgres".replace("postgresql:", "postgresql+psycopg2:"))
    with engine.connect() as connection:
        names = set(connection.execute(text("select datname from pg_database")).scalars())
    engine.dispose()
    return names


def test_one_address_stands_for_two_databases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETRAIN_DATABASE_URL", "postgresql://ann:s3cret@db.lan:5433/team")
    assert named_database("prefect") == "postgresql+asyncpg://ann:s3cret@db.lan:5433/team_prefect"
    assert named_database("mlflow") == "postgresql+psycopg2://ann:s3cret@db.lan:5433/team_mlflow"
    assert registry_database(Store.at(tmp_path)) == named_database("mlflow")
    assert registry_database(Store.at("memory://bucket/prefix")) == named_database("mlflow")


def test_without_an_address_the_registry_is_a_file_in_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RETRAIN_DATABASE_URL", raising=False)
    assert named_database("prefect") is None
    assert registry_database(Store.at(tmp_path)) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    with pytest.raises(SettingError, match="set RETRAIN_DATABASE_URL or MLFLOW_TRACKING_URI"):
        registry_database(Store.at("memory://bucket/prefix"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://ann:s3cret@db/team", "expected the address of a PostgreSQL: write it as postgresql://"),
        ("postgresql:///team", "expected the address of a PostgreSQL"),
        ("postgresql://ann:s3cret@db", "expected a name of lower-case letters"),
        ("postgresql://ann:s3cret@db/Team;drop", "expected a name of lower-case letters"),
        ("s3cret", "cannot be read: write it as postgresql://"),
    ],
)
def test_a_wrong_address_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    monkeypatch.setenv("RETRAIN_DATABASE_URL", address)
    with pytest.raises(SettingError, match=message) as error:
        named_database("mlflow")
    assert "RETRAIN_DATABASE_URL" in str(error.value)
    assert "s3cret" not in str(error.value)


def test_databases_are_made_once_where_they_are_not_there(postgres: str) -> None:
    assert "fresh_mlflow" not in names_of_databases(postgres)
    for _ in range(2):
        make_database(f"{postgres.replace('postgresql:', 'postgresql+psycopg2:')}/fresh_mlflow")
    assert "fresh_mlflow" in names_of_databases(postgres)


def test_two_hosts_that_make_a_database_at_once_both_find_it(postgres: str) -> None:
    errors: list[BaseException] = []

    def make() -> None:
        try:
            make_database(f"{postgres}/together")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "together" in names_of_databases(postgres)


def test_a_server_that_does_not_answer_or_refuses_is_one_line(postgres: str) -> None:
    with pytest.raises(SettingError, match=r"database x on 127\.0\.0\.1 cannot be used .*refused.*look whether PostgreSQL runs"):
        make_database("postgresql://ann:s3cret@127.0.0.1:1/x")
    with pytest.raises(SettingError, match="password authentication failed") as error:
        make_database(f"{postgres.replace(PASSWORD, 'wrong-one')}/x")
    assert "wrong-one" not in str(error.value)


def test_a_user_who_may_not_make_databases_is_told_what_an_administrator_does(postgres: str) -> None:
    engine = create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("create role guest login password 'guest'"))
    engine.dispose()
    guest = postgres.replace(f"retrain:{PASSWORD}", "guest:guest")
    with pytest.raises(SettingError, match="let an administrator run `create database team_mlflow owner guest`"):
        make_database(f"{guest}/team_mlflow")


def test_one_process_at_a_time_makes_the_tables(postgres: str) -> None:
    address = f"{postgres}/locked"
    inside: list[str] = []
    held = threading.Event()

    def second() -> None:
        held.wait()
        with database_lock(address):
            inside.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with database_lock(address):
        held.set()
        time.sleep(0.5)
        inside.append("first")
    thread.join()
    assert inside == ["first", "second"]


def test_the_registry_opens_on_postgresql_and_makes_its_database(
    postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETRAIN_DATABASE_URL", f"{postgres}/registry")
    assert Registry.open(Store.at(tmp_path)).names() == ()
    assert "registry_mlflow" in names_of_databases(postgres)
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()
