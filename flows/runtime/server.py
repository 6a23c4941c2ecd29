"""The Prefect server that a run uses: a running one, or a temporary one that ends with the run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from upath import UPath

from flows.runtime.automations import check_access
from flows.runtime.dead_runs import clear_dead_runs, release_stale_leases, share_of_database
from flows.runtime.new_database import names_prefect_database, new_database, shared_database
from flows.runtime.service import is_healthy, running_api
from storage.database import make_database, named_database
from storage.disk import ROOM_OF_A_SERVER_BYTES, require_free
from storage.errors import RetrainError, SettingError
from storage.layout import Store
from storage.temporary import use_own_temporary_folder

START_S = 120
STOP_S = 10


@contextmanager
def prefect_server(store: Store, *, meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yield the address of a Prefect API; start a server on loopback where neither `PREFECT_API_URL` nor `make up` gives one.

    The temporary server writes its runs to the store, so the service on the same store shows them later. Training processes
    find the server through the environment.

    Args:
        store: The store whose Prefect database is used.
        meanwhile: Called while the server starts, for imports that take about as long as the start.

    Raises:
        SettingError: The named server wants another user or password.
        RetrainError: The server ended, or did not answer in time.
    """
    use_own_temporary_folder()
    # A line that cannot be sent to the server is lost; Prefect would tell of it among the lines of the command.
    logging.raiseExceptions = False
    named = os.environ.get("PREFECT_API_URL") or running_api(store)
    if named:
        check_access(named)
        if not is_healthy(f"{named.rstrip('/')}/health"):
            raise SettingError(
                f"no Prefect server answers at {named}, which PREFECT_API_URL names: start it there (retrain up), "
                "or unset the variable"
            )
        os.environ["PREFECT_API_URL"] = named
        meanwhile()
        yield named
        return
    os.environ.setdefault("PREFECT_HOME", str(store.prefect_folder))
    database = named_database("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        if database and not names_prefect_database():
            make_database(database)
            os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
            stack.callback(os.environ.pop, "PREFECT_SERVER_DATABASE_CONNECTION_URL", None)
        with new_database(Path(os.environ["PREFECT_HOME"])):
            server = stack.enter_context(_temporary_server(port))
            # Prefect reads the variable when it is imported, which `meanwhile` does.
            os.environ["PREFECT_API_URL"] = f"{address}/api"
            stack.callback(os.environ.pop, "PREFECT_API_URL", None)
            meanwhile()
            _wait_for(server, health=f"{address}/api/health", home=Path(os.environ["PREFECT_HOME"]))
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        # A temporary server checks no heartbeats, and with them every flow waits up to a second for their sender to end.
        with temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            if shared_database():  # other hosts may be at work on it
                release_stale_leases()
            else:
                stack.enter_context(share_of_database(Path(os.environ["PREFECT_HOME"]), alone=partial(clear_dead_runs, store)))
            try:
                yield f"{address}/api"
            finally:
                flush_logs_and_events()


@contextmanager
def _temporary_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a temporary server while the block runs, with the command that Prefect's own `SubprocessASGIServer` uses.

    That class would first import the whole server into this process, which takes seconds, and then wait idly.
    """
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.runtime.prefect_app:create_app"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    # Ctrl-C reaches every process of a terminal. The server ignores it, because the run still has to report how it ended.
    inherited = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server = subprocess.Popen([*command, *options])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(server: subprocess.Popen[bytes], *, health: str, home: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not is_healthy(health):
        if server.poll() is not None:
            # Without room it ends so too, and says nothing of that.
            require_free(UPath(home), needed=ROOM_OF_A_SERVER_BYTES, what="Prefect's server")
            raise RetrainError(f"Prefect's server ended with code {server.returncode} as it started: run again, or `make up`")
        if time.monotonic() > deadline_s:
            raise RetrainError(f"Prefect's server did not answer within {START_S} s: the machine is too busy, run again later")
        time.sleep(0.1)


def flush_logs_and_events() -> None:
    """Send queued logs and events before the server stops; otherwise Prefect tries for a minute at exit to reach it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=20)
    EventsWorker.drain_all(timeout=20)
