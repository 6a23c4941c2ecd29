"""A store on S3 that cannot be used is told in one line, and at once, whatever is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import pytest
from object_store import BUCKET, running_object_store

from storage.errors import SettingError
from storage.layout import Store
from storage.remote_store import require_reachable, store_error

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects.environment


def test_a_store_that_answers_and_one_that_is_local_pass(access: Mapping[str, str]) -> None:
    require_reachable(Store.at(f"s3://{BUCKET}/any"))
    require_reachable(Store.at("memory://bucket/any"))


@pytest.mark.parametrize(
    ("home", "changed", "said"),
    [
        ("s3://no-such-bucket/x", {}, "bucket does not exist"),
        (f"s3://{BUCKET}/x", {"AWS_SECRET_ACCESS_KEY": "wr0ng-secret"}, "signature"),
        (f"s3://{BUCKET}/x", {"AWS_ENDPOINT_URL": NOWHERE}, "Could not connect to the endpoint"),
    ],
)
def test_what_is_wrong_is_one_line(
    access: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, home: str, changed: Mapping[str, str], said: str
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    with pytest.raises(SettingError, match=rf"RETRAIN_HOME={home} cannot be used .*{said}.*look whether") as error:
        require_reachable(Store.at(home))
    assert time.monotonic() - started < 60
    assert "\n" not in str(error.value)
    assert "wr0ng-secret" not in str(error.value)


def test_the_command_ends_with_that_line_and_code_2(access: Mapping[str, str]) -> None:
    environment = {**os.environ, **access, "RETRAIN_HOME": f"s3://{BUCKET}/x", "AWS_ENDPOINT_URL": NOWHERE}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "ingest", "jena", "--data", "sample"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("retrain: the store RETRAIN_HOME=s3://")
    assert done.stderr.count("\n") == 1


def test_another_error_is_none_of_the_store() -> None:
    assert store_error(FileNotFoundError("a table"), home="s3://bucket/x") is None
    assert store_error(ValueError("a bug"), home="s3://bucket/x") is None
