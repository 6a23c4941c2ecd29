"""A server that is away is waited for; one that refuses is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import create_server
from typing import ClassVar

import httpx
import pytest

from storage.retries import wait_while_away


class Server(BaseHTTPRequestHandler):
    """Answers with each of some status codes in turn, and with the last one from then on."""

    codes: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.send_response(self.codes.pop(0) if len(self.codes) > 1 else self.codes[0])
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(port: int, *codes: int) -> Iterator[None]:
    Server.codes = list(codes)
    server = HTTPServer(("127.0.0.1", port), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def port() -> int:
    with create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).raise_for_status().status_code


def test_a_server_that_comes_back_is_waited_for(port: int) -> None:
    with pytest.raises(httpx.ConnectError):
        ask(port)
    answers = list[int]()
    waiting = threading.Thread(target=lambda: answers.append(wait_while_away(ask, max_pause_s=0.1)(port)))
    waiting.start()
    time.sleep(0.5)
    assert answers == []
    with serving(port, 503, 500, 200):
        waiting.join(30)
    assert answers == [200]


def test_a_server_that_stays_away_is_given_up(port: int) -> None:
    began_s = time.monotonic()
    with pytest.raises(httpx.ConnectError):
        wait_while_away(ask, max_away_s=0.5, max_pause_s=0.1)(port)
    assert 0.4 < time.monotonic() - began_s < 10


def test_a_refusal_is_no_absence(port: int) -> None:
    with serving(port, 404, 200), pytest.raises(httpx.HTTPStatusError, match="404"):
        wait_while_away(ask, max_pause_s=0.1)(port)
