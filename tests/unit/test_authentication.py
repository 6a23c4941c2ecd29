"""One user and password for every server: how the file is read, what is refused, and who is let in."""

from __future__ import annotations

import asyncio
import base64
import configparser
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.runtime import authentication
from flows.runtime.authentication import Credentials, RequirePassword, open_mlflow_users, prepare_mlflow, refused, set_variables
from storage.errors import SettingError

SECRET = "planted s%cret:with/all 7"
VARIABLES = (
    "RETRAIN_AUTH",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_API_AUTH_STRING",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken away again
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "password", f"{SECRET}\na second line is a remark\n".encode())


def write(file: Path, content: bytes, *, mode: int = 0o600) -> Path:
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_the_first_line_is_the_password(file: Path) -> None:
    assert Credentials.parse(f"team:{file}").basic == f"team:{SECRET}"
    assert Credentials.parse(f"team:{write(file, b'ends-with-the-file')}").password == "ends-with-the-file"
    assert Credentials.parse(f"team:{write(file, b'of-another-system' + bytes([13, 10]))}").password == "of-another-system"


def test_a_group_may_share_the_file(file: Path) -> None:
    file.chmod(0o640)
    assert Credentials.parse(f"team:{file}").user == "team"


def test_without_the_variable_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Credentials.from_environment() is None
    set_variables()
    assert [name for name in VARIABLES if name in os.environ] == []


def test_no_representation_holds_the_password(file: Path) -> None:
    assert SECRET not in repr(Credentials.parse(f"team:{file}"))


@pytest.mark.parametrize("value", [SECRET, "team", "team:", f":{SECRET}", f"team:{SECRET}", f"team:/nowhere/{SECRET}"])
def test_a_password_in_the_place_of_the_file_is_not_told(value: str) -> None:
    with pytest.raises(SettingError, match=r"RETRAIN_AUTH .*expected USER:FILE") as caught:
        Credentials.parse(value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"", 0o600, "first line of .* is empty, expected the password"),
        (b"\nsecond-line-is-long\n", 0o600, "first line of .* is empty"),
        (b"   \n", 0o600, "first line of .* is empty"),
        (SECRET.encode(), 0o644, "everybody on this host may open .*: chmod 600 "),
        (SECRET.encode(), 0o602, "everybody on this host may open .*: chmod 600 "),
        (b"only-eleven", 0o600, "too easy to guess, expected 12 characters or more"),
        (b"password1234", 0o600, "too easy to guess"),
        ("passwörter sind lang".encode(), 0o600, "more than printable ASCII characters"),
        (b"with\ttabs-within", 0o600, "more than printable ASCII characters"),
    ],
)
def test_a_file_that_cannot_hold_the_password_is_refused(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    file = write(tmp_path / "password", content, mode=mode)
    with pytest.raises(SettingError, match=message) as caught:
        Credentials.parse(f"team:{file}")
    first = content.split(b"\n")[0].decode()
    assert not first.strip() or first not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="which is no file"):
        Credentials.parse(f"team:{tmp_path}")


def test_every_client_and_server_gets_the_same(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETRAIN_AUTH", "team:password")
    set_variables()
    assert {name: os.environ[name] for name in VARIABLES} == {
        "RETRAIN_AUTH": f"team:{file}",
        "PREFECT_SERVER_API_AUTH_STRING": f"team:{SECRET}",
        "PREFECT_API_AUTH_STRING": f"team:{SECRET}",
        "MLFLOW_TRACKING_USERNAME": "team",
        "MLFLOW_TRACKING_PASSWORD": SECRET,
    }


def test_prefects_own_password_serves_its_clients_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:pass")
    set_variables()
    assert os.environ["PREFECT_API_AUTH_STRING"] == "admin:pass"
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ
    assert authentication.authorization() == {"Authorization": "Basic YWRtaW46cGFzcw=="}


def test_a_clients_own_password_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:pass")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:other")
    set_variables()
    assert os.environ["PREFECT_API_AUTH_STRING"] == "admin:other"


def test_a_refusal_says_whether_a_password_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it wants a user and password" in str(refused("http://hub:4200/api"))
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"team:{SECRET}")
    said = str(refused("http://hub:4200/api"))
    assert "not its own" in said
    assert "RETRAIN_AUTH=USER:FILE" in said
    assert SECRET not in said


async def hello(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def ask(header: bytes | None, *, path: str = "/", kind: str = "http") -> list[MutableMapping[str, Any]]:
    app = RequirePassword(hello, credentials=Credentials("team", SECRET), open_paths=frozenset({"/health"}))
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [] if header is None else [(b"authorization", header)]
    asyncio.run(app({"type": kind, "method": "GET", "path": path, "headers": headers}, None, send))  # type: ignore[arg-type]
    return sent


def shown(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_whoever_shows_user_and_password_is_let_in() -> None:
    for header in (shown("team", SECRET), shown("team", SECRET).replace(b"Basic", b"bAsIc")):
        assert [message.get("status") for message in ask(header)] == [200, None]


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!",
        f"Basic team:{SECRET}".encode(),
        b"Bearer " + shown("team", SECRET)[6:],
        shown("team", SECRET[:-1]),
        shown("team", f"{SECRET} "),
        shown("Team", SECRET),
        shown("", SECRET),
        shown("team", ""),
        shown("team", "pässword"),
    ],
)
def test_everybody_else_is_asked_for_them(header: bytes | None) -> None:
    start, body = ask(header)
    assert start["status"] == 401
    assert dict(start["headers"])[b"www-authenticate"] == b'Basic realm="retrain", charset="UTF-8"'
    assert b"hello" not in body["body"]


@given(header=st.binary(max_size=60))
def test_no_other_header_opens(header: bytes) -> None:
    assert ask(header)[0]["status"] == 401


def test_a_health_check_needs_none_and_a_socket_does() -> None:
    assert ask(None, path="/health")[0]["status"] == 200
    assert ask(None, path="/health/")[0]["status"] == 401
    assert ask(None, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


# MLflow's own users.


def users_of(variables: dict[str, str]) -> Any:
    settings = configparser.ConfigParser()
    settings.read(variables["MLFLOW_AUTH_CONFIG_PATH"])
    assert settings["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    return open_mlflow_users(settings["mlflow"]["database_uri"])


def test_mlflow_has_one_user_whose_password_and_name_can_change(tmp_path: Path) -> None:
    folder = tmp_path / "100 % of it"
    folder.mkdir()
    variables = prepare_mlflow(Credentials("team", SECRET), folder=folder)
    assert (variables["MLFLOW_AUTH_ADMIN_USERNAME"], variables["MLFLOW_AUTH_ADMIN_PASSWORD"]) == ("team", SECRET)
    assert len(variables["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    users = users_of(variables)
    assert [(user.username, user.is_admin) for user in users.list_users()] == [("team", True)]
    assert users.authenticate_user("team", SECRET)
    users.create_user("colleague", "made by hand in MLflow")

    prepare_mlflow(Credentials("team", "another password"), folder=folder)
    assert not users.authenticate_user("team", SECRET)
    assert users.authenticate_user("team", "another password")

    prepare_mlflow(Credentials("50% team", "another password"), folder=folder)
    prepare_mlflow(Credentials("crew", "another password"), folder=folder)
    assert {user.username: user.is_admin for user in users.list_users()} == {"colleague": False, "crew": True}
    users.engine.dispose()
    for path in folder.iterdir():
        assert SECRET.encode() not in path.read_bytes()
        assert b"another password" not in path.read_bytes()
    assert (folder / "mlflow-auth.db").stat().st_mode & 0o077 == 0
