"""The project's own variables: read when they are used, with bounds, and refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from storage.environment import ADDRESSES, Environment, require_sound_addresses, variable
from storage.errors import SettingError
from storage.library_variables import set_library_variables


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_a_variable_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Environment.read().mirror, Environment.read().prefect_port) == (None, 4200)
    monkeypatch.setenv("RETRAIN_MIRROR", "/mirror")
    monkeypatch.setenv("RETRAIN_PREFECT_PORT", "80")
    assert (Environment.read().mirror, Environment.read().prefect_port) == ("/mirror", 80)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Environment.model_fields:
        monkeypatch.setenv(variable(name), "")
    assert Environment.read() == Environment()
    assert Environment.read().home == "./var"


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False)])
def test_yes_and_no(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("RETRAIN_REQUIRE_GPU", value)
    assert Environment.read().require_gpu is expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RETRAIN_DOCS_PORT", "0", "RETRAIN_DOCS_PORT is '0', expected a port from 1 to 65535: correct it, or unset it for 5001"),
        ("RETRAIN_MLFLOW_PORT", "65536", "RETRAIN_MLFLOW_PORT is '65536', expected a port from 1 to 65535"),
        ("RETRAIN_PREFECT_PORT", "http", "RETRAIN_PREFECT_PORT is 'http', expected a port from 1 to 65535"),
        ("RETRAIN_REQUIRE_GPU", "maybe", "RETRAIN_REQUIRE_GPU is 'maybe', expected true or false: correct it, or unset it"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=message):
        Environment.read()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("PREFECT_API_URL", "http://[/api", "'http://[/api'"),
        ("MLFLOW_TRACKING_URI", "http://[::", "'http://[::'"),
        ("MLFLOW_TRACKING_URI", "http://host:many", "'http://host:many'"),
        ("RETRAIN_HOME", "s3://[bucket", "'s3://[bucket'"),
        # A password with a slash that should have been written as %2F makes a part of it the port.
        ("RETRAIN_DATABASE_URL", "postgresql://anna:s3cr3t/word@host/x", "'postgresql://***@host/x'"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as raised:
        require_sound_addresses()
    assert str(raised.value) == f"{name} is {shown}, expected an address like http://HOST:PORT/PATH: correct it, or unset it"


@pytest.mark.parametrize("value", ["./[var]", "s3://bucket/x", "sqlite:////srv/[x].db", "http://[::1]:4200/api", ""])
def test_a_path_and_an_address_are_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in ADDRESSES:
        monkeypatch.setenv(name, value)
    require_sound_addresses()


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_the_command_tells_an_address_that_is_none(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "models"],
        env={**os.environ, name: "http://[/x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"retrain: {name} is 'http://[/x', expected an address like http://HOST:PORT/PATH: correct it, or unset it\n"
    )


def test_every_variable_is_described_and_none_can_be_changed() -> None:
    assert all(field.description for field in Environment.model_fields.values())
    with pytest.raises(ValidationError, match="frozen"):
        Environment.read().home = "elsewhere"  # type: ignore[misc]


def test_the_command_ends_with_one_line_and_code_2(tmp_path_factory: pytest.TempPathFactory) -> None:
    variables = {**os.environ, "RETRAIN_HOME": str(tmp_path_factory.mktemp("home")), "RETRAIN_PREFECT_PORT": "many"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "down"], env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "retrain: RETRAIN_PREFECT_PORT is 'many', expected a port from 1 to 65535: correct it, or unset it for 4200\n"
    )


def test_values_of_a_person_stay_but_for_telemetry_and_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    set_library_variables()
    assert (os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"]) == ("0", "false")
