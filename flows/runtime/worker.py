"""A worker of one pool, on any host that reaches Prefect's server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

from flows.runtime.automations import check_access
from storage.environment import Environment
from storage.errors import SettingError, unknown
from storage.layout import Store

POOLS = ("cpu", "gpu")
# A run without three heartbeats in a row is marked as crashed: flows/runtime/configuration/automations.yaml waits 90 s.
HEARTBEAT_S = 30
# How long a worker may take to end its runs before it is killed; flows/runtime/configuration/supervisord.conf has the same value.
STOP_S = 30
PAUSE_S = 10


def run_worker(pool: str) -> None:
    """Run a worker for a pool of the server at `PREFECT_API_URL` until it is stopped; on a GPU host its trainings refuse a CPU.

    Prefect's worker gives up when its server was away for some time, so it is started again whenever it ends by itself.

    Raises:
        SettingError: There is no such pool, or no server is named, or it wants another user or password.
    """
    if pool not in POOLS:
        raise unknown("pool", pool, where="worker", choices=POOLS)
    if not os.environ.get("PREFECT_API_URL"):
        raise SettingError("PREFECT_API_URL is not set: name the server that hands out the runs, such as http://host:4200/api")
    check_access(os.environ["PREFECT_API_URL"])
    environment = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        **os.environ,
        # A worker runs each flow in another working folder, so a relative path would name another store.
        "RETRAIN_HOME": str(Store.from_environment().root),
        "RETRAIN_REQUIRE_GPU": requires_gpu() if pool == "gpu" else str(bool(Environment.read().require_gpu)).lower(),
    }
    name = f"{pool}-{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    code = 0
    while not stopped.is_set():
        code = wait_or_terminate(stopped, process=subprocess.Popen(command, env=environment, process_group=0))
        if not stopped.is_set():
            sys.stderr.write(f"retrain: the worker ended with code {code}, and is started again in {PAUSE_S} s\n")
            stopped.wait(PAUSE_S)
    raise SystemExit(code)


def wait_or_terminate(stopped: threading.Event, *, process: subprocess.Popen[bytes], grace_s: float = STOP_S) -> int:
    """Wait for the leader of a process group to end, or terminate the group once `stopped` is set; return the exit code.

    Prefect's worker has been seen to run for another minute after SIGTERM, so the group is killed after `grace_s` seconds.
    """
    while process.poll() is None and not stopped.wait(0.5):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
    return process.wait()


def requires_gpu() -> str:
    """Return what the variable says, or else whether this host has an NVIDIA driver."""
    required = Environment.read().require_gpu
    return str(bool(shutil.which("nvidia-smi")) if required is None else required).lower()
