"""How a worker of another host ends: by itself, when it is told to, and when it does not listen."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from flows.runtime.worker import wait_or_terminate

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
OBEDIENT = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.mark.parametrize(("code", "exit_code"), [(OBEDIENT, -15), (DEAF, -9)])
def test_a_worker_that_is_told_to_stop_ends_whatever_it_does(code: str, exit_code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", code], process_group=0, stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout as stream:
        assert stream.readline() == b"ready\n"  # it has its handlers
        stopped = threading.Event()
        stopped.set()
        assert wait_or_terminate(stopped, process=process, grace_s=0.5 if code is DEAF else 60) == exit_code


def test_a_worker_that_ends_by_itself_is_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], process_group=0)
    assert wait_or_terminate(threading.Event(), process=process) == 3
