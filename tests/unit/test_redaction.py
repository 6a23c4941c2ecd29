"""Secrets planted in every address: none comes out in a message, a log or a stored file."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from storage.errors import RetrainError, SettingError, SourceError
from storage.layout import Store
from storage.library_variables import set_library_variables
from storage.redaction import RedactingFilter, hide_user, printable, redact, without_secrets
from tasks.config import DataSettings, mirror_address
from tasks.ingestion.fetching import fetch_raw

SECRET = "s3cr3t-word"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"mirror http://anna:{SECRET}@host/x gave nothing", "mirror http://***@host/x gave nothing"),
        (f"http://anna:{SECRET}@one and s3://key:{SECRET}@two/three", "http://***@one and s3://***@two/three"),
        (f"http://anna:{SECRET}@@host/x", "http://***@host/x"),
        (f"http://host/x?token={SECRET}&year=2020", "http://host/x?token=***&year=2020"),
        (f"https://host/x?X-Amz-Signature={SECRET}", "https://host/x?X-Amz-Signature=***"),
        (f"postgresql+psycopg2://anna:{SECRET}@host:5432/x", "postgresql+psycopg2://***@host:5432/x"),
        ("write it as postgresql://USER:PASSWORD@HOST/x", "write it as postgresql://USER:PASSWORD@HOST/x"),
        ("mail to anna@example.org about http://host/x", "mail to anna@example.org about http://host/x"),
    ],
)
def test_users_passwords_and_tokens_of_addresses_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden
    assert str(SettingError(text)) == hidden


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RETRAIN_MIRROR", "http://anna:p%40ss-word@host/")
    assert redact(f"refused {SECRET}") == "refused ***"
    assert redact("refused p@ss-word, refused p%40ss-word") == "refused ***, refused ***"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "anna:another-word")
    assert redact("refused another-word") == "refused ***"


def test_what_is_logged_is_hidden_too(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("redaction")
    logger.addFilter(RedactingFilter())
    with caplog.at_level(logging.INFO, logger="redaction"):
        logger.info("from %s: %d bytes", f"http://anna:{SECRET}@host/x", 3)
        logger.info("nothing to hide in %s", "this")
    assert [record.getMessage() for record in caplog.records] == ["from http://***@host/x: 3 bytes", "nothing to hide in this"]


@pytest.mark.parametrize(
    "address", [f"http://anna:{SECRET}/x@host/y", f"http://anna:12345/{SECRET}@host/y", f"http://[{SECRET}@host"]
)
def test_no_part_of_a_password_that_makes_a_mirror_no_address_is_told(
    monkeypatch: pytest.MonkeyPatch, address: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETRAIN_MIRROR", address)
    with pytest.raises((SettingError, SourceError)) as raised:
        fetch_raw("jena", settings=DataSettings(data="mirror"), store=Store.at(tmp_path), mirror=mirror_address())
    assert SECRET not in str(raised.value) + caplog.text


def test_what_stands_before_the_last_at_is_hidden() -> None:
    assert hide_user("http://anna:s3/cret@host/x") == "http://***@host/x"
    assert hide_user("http://[") == "http://["


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("name \x1b[2J\x07 of a column", "name \\x1b[2J\\x07 of a column"),
        ("a\rb\x9bc\u202ed", "a\\rb\\x9bc\\u202ed"),
        ("two\nlines\tand \u00e4, \u65e5\u672c", "two\nlines\tand \u00e4, \u65e5\u672c"),
    ],
)
def test_control_characters_of_strange_files_never_reach_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(SettingError(text)) == shown


def test_an_address_without_its_secrets() -> None:
    assert without_secrets(f"http://anna:{SECRET}@host:80/x?token={SECRET}#y") == "http://host:80/x"
    assert without_secrets("/srv/a?b") == "/srv/a?b"


@pytest.mark.parametrize("address", [f"s3://key:{SECRET}@bucket/x", f"s3://bucket/x?token={SECRET}", f"memory://u:{SECRET}@x/y"])
def test_a_store_with_a_secret_in_its_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="expected the address alone") as raised:
        Store.at(address)
    assert SECRET not in str(raised.value)


def test_the_password_of_a_server_moves_to_the_variables_of_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:{SECRET}%2F@host:5000/mlflow")
    monkeypatch.setenv("PREFECT_API_URL", f"https://anna:{SECRET}@host/api")
    set_library_variables()
    import os

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_URL")
    assert [os.environ[name] for name in names] == ["http://host:5000/mlflow", "anna", f"{SECRET}/", "https://host/api"]
    assert os.environ["PREFECT_API_AUTH_STRING"] == f"anna:{SECRET}"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("query", ["", f"?token={SECRET}"])
def test_no_secret_of_a_mirror_is_stored_or_told(tmp_path: Path, query: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.at(tmp_path)
    mirror = f"http://anna:{SECRET}@127.0.0.1:9/data{query}"
    with pytest.raises(RetrainError) as raised:
        fetch_raw("imdb", settings=DataSettings(data="mirror"), store=store, mirror=mirror)
    assert isinstance(raised.value, SourceError)
    assert SECRET not in str(raised.value) + caplog.text
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in stored if SECRET.encode() in path.read_bytes() or SECRET in str(path)]


def test_a_password_stays_at_the_address_that_it_is_for() -> None:
    """Httpx sends the user of an address on to the same host only; this holds for the client that downloads."""
    asked: list[tuple[str, bool]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, "authorization" in request.headers))
        if request.url.host == "one":
            return httpx.Response(302, headers={"location": "http://two/x"})
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        client.get(f"http://anna:{SECRET}@one/x")
    assert asked == [("one", True), ("two", False)]
