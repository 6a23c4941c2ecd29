"""What a killed supervisord leaves is ended, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flows.runtime.service import Service
from flows.runtime.service_status import status_of
from flows.runtime.supervisor import FOLDER_VARIABLE, end_orphans, programs
from storage.layout import Store

SLEEP = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)",
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def started(stack: ExitStack, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env={**os.environ, FOLDER_VARIABLE: str(folder)}, stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    assert process.stdout.readline() == b"on\n"
    return process


def test_the_processes_of_a_service_are_ended_and_those_of_another_are_not(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.runtime.supervisor.GRACE_S", 1)
    own = [started(stack, command, tmp_path / "one") for command in (SLEEP, STUBBORN)]
    other = started(stack, SLEEP, tmp_path / "other")
    assert end_orphans(tmp_path / "one") == 2
    assert [process.wait(10) for process in own] == [-15, -9]
    assert other.poll() is None
    assert end_orphans(tmp_path / "one") == 0


def test_this_process_and_those_that_started_it_are_none_of_them(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from flows.runtime.supervisor import end_orphans; print(end_orphans(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0", done.stderr


def test_a_service_that_does_not_run_has_no_programs_and_says_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAIN_HOME", str(tmp_path))
    service = Service.at(Store.at(tmp_path))
    assert programs(service) == {}
    (found,) = status_of(service)
    assert (found.level, found.remedy) == ("fault", "retrain up")
