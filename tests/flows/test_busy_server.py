"""A server on SQLite answers while many runs are connected to it: each holds WebSockets open as long as it lasts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from websockets.sync.client import connect

from flows.runtime.automations import ask
from flows.runtime.server import prefect_server
from storage.layout import Store

# Prefect answers a hundred requests at once on SQLite, and counts connections that stay open among them.
CONNECTIONS = 120


def test_connections_that_stay_open_take_no_place_of_requests(tmp_path: Path) -> None:
    with prefect_server(Store.at(tmp_path)) as api, ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(f"{api.replace('http', 'ws', 1)}/events/in"))
        assert ask(api, "/health") is True
