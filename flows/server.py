"""The Prefect server that a run talks to: the one that is named, or one of its own for as long as it lasts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from flows.service import running_api
from storage.layout import Store


@contextmanager
def prefect_server(store: Store) -> Iterator[str]:
    """Give the address of a Prefect API; start a server on loopback when neither `PREFECT_API_URL` nor `make up` has one.

    The server keeps its runs in the store, so a lasting server on the same store shows them later. Trainings run in
    processes of their own and find it through the environment.
    """
    named = os.environ.get("PREFECT_API_URL") or running_api(store)
    if named:
        os.environ["PREFECT_API_URL"] = named
        yield named
        return
    if store.is_local:
        os.environ.setdefault("PREFECT_HOME", str(store.prefect_folder))
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = SubprocessASGIServer()
    # Ctrl-C reaches every process of a terminal; the server must outlive the run, which tells it how it ended.
    inherited = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start(timeout=120)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited)
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            _free_what_the_dead_hold()
            yield server.api_url
    finally:
        _send_what_is_queued()
        del os.environ["PREFECT_API_URL"]
        server.stop()


def _free_what_the_dead_hold() -> None:
    """Give back the devices of killed runs, which would be waited for without end: such a server ends no expired lease.

    Another run that trains on this store at this very moment then shares its device with this one.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with get_client(sync_client=True) as client:
        for limit in client.read_global_concurrency_limits(limit=200):
            if limit.active_slots:
                client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=0))


def _send_what_is_queued() -> None:
    """Deliver logs and events before their server goes: at exit Prefect would try for a minute to reach it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=20)
    EventsWorker.drain_all(timeout=20)
