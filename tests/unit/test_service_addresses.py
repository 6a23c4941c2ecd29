"""Where the service listens, where its own processes reach it, and what people are told."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

import pytest

from flows.runtime.service import Service, up
from storage.environment import Environment, variable
from storage.errors import SettingError
from storage.layout import Store
from storage.library_variables import bypass_proxies

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  (nothing listens on it here)
PROXIES = ("NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*map(variable, Environment.model_fields), "MLFLOW_TRACKING_URI", "PREFECT_SERVER_UI_API_URL", *PROXIES]:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "my store")


def test_on_loopback_everything_has_one_address(store: Store) -> None:
    service = Service.at(store)
    assert service.address("prefect") == service.public_address("prefect") == "http://127.0.0.1:4200"
    assert service.environment()["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


@pytest.mark.parametrize(("host", "own"), [(EVERY_ADDRESS, "127.0.0.1"), ("::", "[::1]")])
def test_every_address_is_none_that_a_browser_opens(store: Store, monkeypatch: pytest.MonkeyPatch, host: str, own: str) -> None:
    monkeypatch.setenv("RETRAIN_HOST", host)
    name = socket.gethostname()
    environment = Service.at(store).environment()
    assert environment["RETRAIN_HOST"] == host
    assert environment["PREFECT_API_URL"] == f"http://{own}:4200/api"
    assert environment["PREFECT_SERVER_UI_API_URL"] == f"http://{name}:4200/api"
    assert environment["PREFECT_UI_URL"] == f"http://{name}:4200"
    assert environment["RETRAIN_DOCS_ADDRESS"] == f"http://{name}:5001"
    assert environment["RETRAIN_MLFLOW_ADDRESS"] == f"http://{name}:5000"


def test_a_public_name_is_what_people_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_HOST", EVERY_ADDRESS)
    monkeypatch.setenv("RETRAIN_PUBLIC_HOST", "hub.example.org")
    monkeypatch.setenv("RETRAIN_DOCS_ADDRESS", "https://example.org/reports/")
    monkeypatch.setenv("RETRAIN_MLFLOW_ADDRESS", "https://example.org/mlflow")
    environment = Service.at(store).environment()
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://hub.example.org:4200/api"
    assert environment["RETRAIN_DOCS_ADDRESS"] == "https://example.org/reports"
    assert environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://example.org"
    allowed = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"hub.example.org", "hub.example.org:*", "127.0.0.1:*", "localhost:*", f"{socket.gethostname()}:*"} <= set(allowed)
    assert "*" not in allowed


def test_pages_of_prefect_are_made_for_the_prefix_of_their_address(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PREFECT_UI_SERVE_BASE" not in Service.at(store).environment()
    monkeypatch.setenv("RETRAIN_PREFECT_ADDRESS", "https://example.org/prefect/")
    environment = Service.at(store).environment()
    assert environment["PREFECT_UI_SERVE_BASE"] == "/prefect"
    assert Path(environment["PREFECT_UI_STATIC_DIRECTORY"]).parent == Service.at(store).folder
    assert environment["PREFECT_SERVER_UI_API_URL"] == "https://example.org/prefect/api"
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


def test_mlflow_asks_for_a_password_if_one_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = Service.at(store)
    assert service.environment()["RETRAIN_MLFLOW_APP"] == ""
    assert service.users() == {}
    (tmp_path / "password").write_text("a long password")
    (tmp_path / "password").chmod(0o600)
    monkeypatch.setenv("RETRAIN_AUTH", f"team:{tmp_path / 'password'}")
    assert service.environment()["RETRAIN_MLFLOW_APP"] == "--app-name basic-auth"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert service.users() == {}  # another server has users of its own


def test_on_loopback_mlflow_answers_to_loopback_alone(store: Store) -> None:
    allowed = Service.at(store).environment()["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {name.removesuffix(":*") for name in allowed} == {"localhost", "127.0.0.1", "[::1]"}


def test_what_a_person_has_set_stands(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", "https://example.org/prefect/api")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "only.this.one")
    environment = Service.at(store).environment()
    assert environment["PREFECT_SERVER_UI_API_URL"] == "https://example.org/prefect/api"
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"] == "only.this.one"


@pytest.mark.parametrize(
    ("tracking", "serves"),
    [
        ("", True),
        ("sqlite:////elsewhere/mlflow.db", True),
        ("http://127.0.0.1:5000", True),
        ("http://hub:5000/", True),
        ("http://ann:s3cret@other:5000", False),
    ],
)
def test_another_tracking_server_takes_the_place_of_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, tracking: str, serves: bool
) -> None:
    monkeypatch.setenv("RETRAIN_PUBLIC_HOST", "hub")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    service = Service.at(store)
    assert service.serves_mlflow is serves
    assert ("mlflow" in service.servers) is serves
    assert service.public_address("mlflow") == ("http://hub:5000" if serves else "http://other:5000")


def test_passwords_of_databases_are_in_no_variable_of_the_other_programs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_DATABASE_URL", "postgresql://ann:s3cret@db/team")
    service = Service.at(store)
    assert service.databases() == {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://ann:s3cret@db/team_prefect",
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://ann:s3cret@db/team_mlflow",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{store.root}/mlflow/artifacts",
    }
    assert {name for name, value in service.environment().items() if "s3cret" in value} == {"RETRAIN_DATABASE_URL"}


def test_a_remote_store_has_local_folders_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, second = Store.at("memory://bucket/one"), Store.at("memory://bucket/two")
    assert first.service_folder.parent.parent == tmp_path / "retrain"
    assert first.service_folder != second.service_folder
    with pytest.raises(SettingError, match="set RETRAIN_DATABASE_URL or MLFLOW_TRACKING_URI"):
        Service.at(first).databases()
    monkeypatch.setenv("RETRAIN_DATABASE_URL", "postgresql://ann@db/team")
    assert Service.at(first).databases()["MLFLOW_ARTIFACTS_DESTINATION"] == "memory://bucket/one/mlflow/artifacts"


def test_an_address_of_another_machine_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):  # RFC 5737 and RFC 2606 keep both free
        monkeypatch.setenv("RETRAIN_HOST", host)
        with pytest.raises(
            SettingError, match=f"RETRAIN_HOST is '{host}', expected an address of this machine.*RETRAIN_PUBLIC_HOST"
        ):
            up(Service.at(store), say=lambda line: None)


def test_a_program_with_a_space_in_its_path_stays_one_word(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my project/bin/python")
    assert shlex.split(Service.at(store).environment()["RETRAIN_PYTHON"]) == ["/opt/my project/bin/python"]


def test_no_proxy_takes_what_this_machine_asks_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "corp.example, 10.0.0.1")
    bypass_proxies("127.0.0.1", "10.0.0.1")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "corp.example,10.0.0.1,127.0.0.1"
    bypass_proxies("127.0.0.1")
    assert os.environ["NO_PROXY"] == "corp.example,10.0.0.1,127.0.0.1"


def test_a_host_that_either_variable_names_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "hub.example")
    monkeypatch.setenv("no_proxy", "corp.example,hub.example")
    bypass_proxies("127.0.0.1")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "hub.example,corp.example,127.0.0.1"
