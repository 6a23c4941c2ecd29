"""A real MLflow server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.runtime.service import is_healthy

ROOT = Path(__file__).parents[1]
START_S = 120


@contextmanager
def tracking_server(folder: Path, *options: str) -> Iterator[str]:
    """Run a server in a folder of its own until the block ends, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
    variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": str(ROOT)}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=variables, cwd=folder, stdout=log, stderr=log, process_group=0)
    try:
        deadline = time.monotonic() + START_S
        while not is_healthy(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
