"""`retrain doctor`: every check on a thing that is sound and on one that is not, without a trace on what is looked at."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from storage.layout import Store
from storage.redaction import without_secrets
from storage.registry import Registry
from storage.schema import Dialect, Library, migrations_of, revision_of
from storage.tables import note_ingested
from tasks.diagnosis import installation, network
from tasks.diagnosis import store as store_checks
from tasks.diagnosis.databases import check_database, check_locations
from tasks.diagnosis.doctor import secrets_of
from tasks.diagnosis.finding import Finding, run_checks
from tasks.diagnosis.network import Server

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct-horse-battery"


def levels(findings: Any) -> list[str]:
    return [finding.level for finding in findings]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def database(path: Path, *, revision: str) -> str:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.commit()
    return f"sqlite:///{path}"


@contextmanager
def server(*, status: int = 200, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            for name, value in (headers or {"Date": self.date_time_string()}).items():
                self.send_header(name, value)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815  (the name that the library calls)

        def log_message(self, *arguments: Any) -> None:
            del arguments

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def ask(address: str) -> list[Finding]:
    return list(network.check_server(Server("Prefect", address, "/health", "make up", {})))


# The installation.


def test_installed_libraries_are_those_of_the_lock() -> None:
    assert set(levels(installation.check_libraries())) == {"ok"}


def test_a_library_out_of_range_or_away_is_a_fault(tmp_path: Path) -> None:
    found = list(installation.check_libraries(["numpy<1", "no-such-library>=2"], lock=tmp_path / "none"))
    assert [finding.text.split()[0] for finding in found if finding.level == "fault"] == ["numpy", "no-such-library"]
    assert all(finding.remedy for finding in found if finding.level == "fault")


def test_another_version_than_the_lock_is_a_warning(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:00\nnot-installed==1\n")
    assert levels(installation.check_libraries([], lock=lock)) == ["ok", "warning"]


def test_a_required_gpu_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert levels(installation.check_gpu(required=True)) == ["fault"]
    assert levels(installation.check_gpu(required=None)) == ["ok"]


def test_a_driver_that_gives_no_answer_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\nexit 9\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert levels(installation.check_gpu(required=None)) == ["fault"]


# Databases.


@pytest.mark.parametrize(
    ("library", "dialect", "folder"),
    [
        ("mlflow", "sqlite", "mlflow/store/db_migrations/versions"),
        ("prefect", "sqlite", "prefect/server/database/_migrations/versions/sqlite"),
        ("prefect", "postgresql", "prefect/server/database/_migrations/versions/postgresql"),
    ],
)
def test_migrations_are_read_as_alembic_reads_them(library: Library, dialect: Dialect, folder: str) -> None:
    site = next(Path(path) for path in sys.path if (Path(path) / folder).is_dir())
    scripts = ScriptDirectory(str((site / folder).parent), version_locations=[str(site / folder)])
    migrations = migrations_of(library, dialect=dialect)
    assert (migrations.head,) == tuple(scripts.get_heads())
    assert migrations.known == {script.revision for script in scripts.walk_revisions()}


def test_a_new_registry_is_current(tmp_path: Path) -> None:
    Registry.open(Store.at(tmp_path))
    assert levels(check_database("mlflow", f"sqlite:///{tmp_path}/mlflow/mlflow.db")) == ["ok"]


@pytest.mark.parametrize(("revision", "level"), [("451aebb31d03", "warning"), ("ffffffffffff", "fault")])
def test_an_older_database_is_a_warning_and_a_newer_one_a_fault(tmp_path: Path, revision: str, level: str) -> None:
    address = database(tmp_path / "mlflow.db", revision=revision)
    before = tree(tmp_path)
    (finding,) = check_database("mlflow", address)
    assert finding.level == level
    assert revision in finding.text
    assert tree(tmp_path) == before


def test_no_database_yet_is_none_to_worry_about(tmp_path: Path) -> None:
    assert levels(check_database("prefect", f"sqlite:///{tmp_path}/prefect.db")) == ["ok"]
    assert not tree(tmp_path)


def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    assert levels(check_database("mlflow", f"sqlite:///{tmp_path}/mlflow.db")) == ["fault"]


def test_a_database_that_somebody_writes_can_be_read(tmp_path: Path) -> None:
    address = database(tmp_path / "prefect.db", revision="a3b9c7d2e5f1")
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE alembic_version SET version_num = '0123'")
        writer.commit()
        assert revision_of(address) == "0123"


def test_a_database_server_that_is_away_is_a_fault_without_its_password() -> None:
    (finding,) = check_database("prefect", f"postgresql+asyncpg://anna:{SECRET}@127.0.0.1:9/name")
    assert finding.level == "fault"
    assert "127.0.0.1:9" in finding.text
    assert SECRET not in finding.text + finding.remedy


def test_absolute_places_are_counted(tmp_path: Path) -> None:
    address = database(tmp_path / "mlflow.db", revision="0123")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        rows = [("file:///old/mlflow/artifacts/jena",), ("/old/x",), ("mlflow-artifacts:/jena",), ("s3://bucket/x",)]
        connection.executemany("INSERT INTO experiments VALUES (?)", rows)
        connection.commit()
    (finding,) = check_locations(address)
    assert finding.level == "warning"
    assert " 2 places" in finding.text


# The store.


def test_a_store_is_looked_at_and_left_as_it_is(tmp_path: Path) -> None:
    for name in ("tables/jena/0f", "raw", "mlflow"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tables/jena/0f/manifest.json").write_text("{}")
    (tmp_path / ".lock").touch()
    before = tree(tmp_path)
    assert levels(store_checks.check_store(str(tmp_path))) == ["ok", "ok"]
    assert tree(tmp_path) == before


def test_a_strange_folder_and_a_table_without_manifest_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "tables/jena/0f").mkdir(parents=True)
    (tmp_path / "tables/jena/0f/test.parquet").touch()
    (tmp_path / "holiday pictures").mkdir()
    found = list(store_checks.check_store(str(tmp_path)))
    assert levels(found) == ["ok", "warning", "ok", "warning"]
    assert "holiday pictures" in found[1].text
    assert "0f" in found[3].text


def test_a_note_of_what_was_ingested_is_no_table(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    note_ingested(store, "jena", "0f")
    assert levels(store_checks.check_store(str(tmp_path))) == ["ok", "ok"]
    (tmp_path / "tables" / "jena" / "0f").mkdir()
    assert "warning" in levels(store_checks.check_store(str(tmp_path)))


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert levels(store_checks.check_store(str(tmp_path / "new"))) == ["ok"]
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    assert levels(store_checks.check_store(str(tmp_path / "file" / "store"))) == ["fault"]


def test_a_remote_store_is_read(tmp_path: Path) -> None:
    Store.at("memory://doctor/home").root.joinpath("tables/jena/0f/manifest.json").write_text("{}")
    found = list(store_checks.check_store("memory://doctor/home"))
    assert levels(found) == ["ok", "ok"]
    assert "not tried" in found[0].text


@pytest.mark.parametrize(("free", "level"), [(10**8, "fault"), (2 * 10**9, "warning"), (10**11, "ok")])
def test_free_space_has_two_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr(store_checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    (finding,) = store_checks.check_space({"the store": tmp_path / "not yet", "the cache": tmp_path})
    assert finding.level == level
    assert "the store, the cache" in finding.text


def test_the_folders_of_a_store_are_those_of_the_reference() -> None:
    text = (ROOT / "docs/reference/store.md").read_text(encoding="utf-8")
    tree_of_store = text.split("```")[1]
    assert {line.split("/")[0] for line in tree_of_store.splitlines() if line} == store_checks.FOLDERS


# The network.


def test_a_server_that_answers_is_there_and_its_clock_is_right() -> None:
    with server() as address:
        found = ask(address)
    assert [(finding.check, finding.level) for finding in found] == [("reachable", "ok"), ("clocks", "ok")]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_server_that_refuses_is_a_fault(status: int) -> None:
    with server(status=status, headers={}) as address:
        assert levels(ask(address)) == ["fault", "ok"][: len(ask(address))]


def test_a_server_that_never_answers_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert levels(ask(f"http://127.0.0.1:{silent.getsockname()[1]}")) == ["fault"]


def test_loopback_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server() as address:
        assert ask(address)[0].level == "ok"


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (-3, "ok"), (20, "warning"), (-20, "warning"), (3600, "fault")])
def test_clocks_are_compared(seconds: int, level: str) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    date = datetime.fromtimestamp(now.timestamp() + seconds, tz=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    (finding,) = network.clock_findings(date, whose="Prefect", now=lambda: now)
    assert finding.level == level
    assert f"{abs(seconds)} s apart" in finding.text


def test_a_server_without_a_clock_is_none_to_compare() -> None:
    assert list(network.clock_findings(None, whose="x")) == []
    assert list(network.clock_findings("yesterday", whose="x")) == []


def test_ports_are_free_or_held_by_the_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (finding,) = network.check_ports("127.0.0.1", {"mlflow": port}, is_running=False)
        assert finding.level == "fault"
        assert "RETRAIN_MLFLOW_PORT" in finding.remedy
        assert levels(network.check_ports("127.0.0.1", {"mlflow": port}, is_running=True)) == ["ok"]
    assert levels(network.check_ports("127.0.0.1", {"mlflow": port}, is_running=False)) == ["ok"]
    assert levels(network.check_ports("127.0.0.1", {"mlflow": port}, is_running=True)) == ["fault"]


def test_a_mirror_must_have_its_list(tmp_path: Path) -> None:
    assert levels(network.check_mirror(str(tmp_path))) == ["fault"]
    (tmp_path / "SHA256SUMS").touch()
    assert levels(network.check_mirror(str(tmp_path))) == ["ok"]
    with server() as address:
        assert levels(network.check_mirror(address)) == ["ok"]
    with server(status=404) as address:
        assert levels(network.check_mirror(address)) == ["fault"]


# What holds for all.


def test_a_check_that_hangs_or_breaks_hides_no_other() -> None:
    forever = threading.Event()

    def hang() -> list[Finding]:
        forever.wait()
        return []

    def broken() -> list[Finding]:
        raise ValueError(f"no such thing at {SECRET}\nand more")

    checks = {"a": hang, "b": broken, "c": lambda: [Finding("c", "ok", "fine")]}
    found = run_checks(checks, limit_s={"a": 0.2, "b": 5, "c": 5}, secrets=(SECRET,))
    forever.set()
    assert [(finding.check, finding.level) for finding in found] == [("a", "fault"), ("b", "fault"), ("c", "ok")]
    assert found[1].text == "cannot be checked: ValueError no such thing at ***"


def test_secrets_are_known_by_their_names_and_places() -> None:
    variables = {
        "AWS_SECRET_ACCESS_KEY": "key-1234",
        "PREFECT_API_AUTH_STRING": "anna:pass-1234",
        "RETRAIN_DATABASE_URL": "postgresql://anna:word-1234@host/name",
        "HOME": "/home/anna",
    }
    assert set(secrets_of(variables)) == {"key-1234", "anna:pass-1234", "pass-1234", "word-1234"}
    assert without_secrets("postgresql://anna:word@host:5/name?password=word") == "postgresql://host:5/name"


def run_doctor(home: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RETRAIN_", "PREFECT_", "MLFLOW_T"))}
    command = [sys.executable, "-m", "flows.cli.app", "doctor", "--json"]
    environment |= {"RETRAIN_HOME": home, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_tells_no_secret_writes_nothing_and_ends_with_1(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run_doctor(
        str(home),
        MLFLOW_TRACKING_URI=f"http://anna:{SECRET}@127.0.0.1:9",
        PREFECT_API_URL=f"http://anna:{SECRET}@127.0.0.1:9/api",
        PREFECT_API_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://anna:{SECRET}@127.0.0.1:9/name",
        PREFECT_API_AUTH_STRING=f"anna:{SECRET}",
        AWS_SECRET_ACCESS_KEY=SECRET,
        RETRAIN_MIRROR=f"http://anna:{SECRET}@127.0.0.1:9/mirror",
    )
    assert done.returncode == 1, done.stderr
    assert SECRET not in done.stdout + done.stderr
    answer = json.loads(done.stdout)
    at_fault = [finding["text"] for finding in answer["findings"] if finding["level"] == "fault"]
    assert answer["faults"] == len(at_fault) == 4
    assert [text.split()[0] for text in at_fault] == ["prefect:", "Prefect", "MLflow", "the"]
    assert not home.exists()


def test_a_wrong_variable_is_one_line(tmp_path: Path) -> None:
    done = run_doctor(str(tmp_path), RETRAIN_PREFECT_PORT="many")
    assert done.returncode == 2
    assert done.stderr.startswith("retrain: RETRAIN_PREFECT_PORT is 'many'")
    assert len(done.stderr.splitlines()) == 1


def test_a_remote_store_needs_a_registry_that_is_named(tmp_path: Path) -> None:
    done = run_doctor("memory://nowhere/home", XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.returncode == 1, done.stderr
    at_fault = [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] == "fault"]
    assert [finding["remedy"] for finding in at_fault] == ["set RETRAIN_DATABASE_URL or MLFLOW_TRACKING_URI"]
    assert not (tmp_path / "state").exists()


def test_a_database_that_is_named_for_both_is_asked_and_its_password_told_to_nobody(tmp_path: Path) -> None:
    done = run_doctor(str(tmp_path), RETRAIN_DATABASE_URL=f"postgresql://anna:{SECRET}@127.0.0.1:9/team")
    assert done.returncode == 1, done.stderr
    assert SECRET not in done.stdout + done.stderr
    texts = [finding["text"] for finding in json.loads(done.stdout)["findings"] if finding["check"] == "databases"]
    assert [("team_mlflow" in text, "team_prefect" in text) for text in texts] == [(True, False), (False, True)]
