"""The Prefect server that a run uses: a running one, or a temporary one that ends with the run."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from flows.runtime.service import is_healthy, running_api
from storage.errors import RetrainError
from storage.layout import Store, cache_folder

START_S = 120
STOP_S = 10
DATABASE = "prefect.db"
DATABASE_VARIABLES = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")


@contextmanager
def prefect_server(store: Store, *, meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yield the address of a Prefect API; start a server on loopback where neither `PREFECT_API_URL` nor `make up` gives one.

    The temporary server writes its runs to the store, so the service on the same store shows them later. Training processes
    find the server through the environment.

    Args:
        store: The store whose Prefect database is used.
        meanwhile: Called while the server starts, for imports that take about as long as the start.

    Raises:
        RetrainError: The server ended, or did not answer in time.
    """
    is_new = False
    named = os.environ.get("PREFECT_API_URL") or running_api(store)
    if named:
        os.environ["PREFECT_API_URL"] = named
        meanwhile()
        yield named
        return
    if store.is_local:
        os.environ.setdefault("PREFECT_HOME", str(store.prefect_folder))
        is_new = restore_database_template(Path(os.environ["PREFECT_HOME"]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = _start(port)
    try:
        # Prefect reads the variable when it is imported, which `meanwhile` does.
        os.environ["PREFECT_API_URL"] = f"{address}/api"
        meanwhile()
        _wait_for(server, health=f"{address}/api/health")
        if is_new:
            cache_database_template(Path(os.environ["PREFECT_HOME"]))
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        # A temporary server checks no heartbeats, and with them every flow waits up to a second for their sender to end.
        with temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            _release_stale_leases()
            try:
                yield f"{address}/api"
            finally:
                _flush_logs_and_events()
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _start(port: int) -> subprocess.Popen[bytes]:
    """Start a temporary server with the command and the variables that Prefect's own `SubprocessASGIServer` uses.

    That class would first import the whole server into this process, which takes seconds, and then wait idly.
    """
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.runtime.sqlite_app:create_app"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    own = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    # Ctrl-C reaches every process of a terminal. The server ignores it, because the run still has to report how it ended.
    inherited = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen([*command, *options], env={**os.environ, **own})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited)


def _wait_for(server: subprocess.Popen[bytes], *, health: str) -> None:
    deadline_s = time.monotonic() + START_S
    while not is_healthy(health):
        if server.poll() is not None:
            raise RetrainError(f"Prefect's server ended with code {server.returncode} as it started: run again, or `make up`")
        if time.monotonic() > deadline_s:
            raise RetrainError(f"Prefect's server did not answer within {START_S} s: the machine is too busy, run again later")
        time.sleep(0.1)


def restore_database_template(home: Path) -> bool:
    """Give a new store the empty database that was kept, and tell whether none was: Prefect then takes 7 s to make one."""
    if any(name in os.environ for name in DATABASE_VARIABLES) or (home / DATABASE).exists():
        return False
    kept = _kept_database()
    if not kept.is_file():
        return True
    with suppress(OSError):  # Prefect makes its own then
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            # Unlike a move, a link never takes the place of a database that another run has begun meanwhile.
            os.link(shutil.copy(kept, folder), home / DATABASE)
    return False


def cache_database_template(home: Path) -> None:
    """Keep a copy of a database in which nothing is yet but tables and the types that Prefect brings along."""
    kept = _kept_database()
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=kept.parent) as folder,
            closing(sqlite3.connect(f"{(home / DATABASE).absolute().as_uri()}?mode=ro", uri=True)) as made,
        ):
            if any(made.execute(f"select 1 from {table} limit 1").fetchone() for table in ("configuration", "flow_run")):
                return  # a key of this server, or a run
            copy = Path(folder, DATABASE)
            made.execute("vacuum into ?", (str(copy),))
            copy.replace(kept)
    except (OSError, sqlite3.Error):  # a home that cannot be written to: the next new store makes its own again
        return


def _kept_database() -> Path:
    """Return where the empty database of this version of Prefect is kept."""
    return cache_folder() / "prefect" / f"{importlib.metadata.version('prefect')}.db"


def _release_stale_leases() -> None:
    """Release leases left by killed runs. A temporary server never expires leases, so a new run would wait forever.

    Another run that trains on this store at the same time loses its lease too, and then shares its device with this run.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with get_client(sync_client=True) as client:
        for limit in client.read_global_concurrency_limits(limit=200):
            if limit.active_slots:
                client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=0))


def _flush_logs_and_events() -> None:
    """Send queued logs and events before the server stops; otherwise Prefect tries for a minute at exit to reach it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=20)
    EventsWorker.drain_all(timeout=20)
