"""Whatever happens within a request: an answer, one line in the log, and nothing of what was sent in either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from tasks.serving.guard import Guard

SECRET = "secretword"


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def app(lines: list[dict[str, Any]]) -> FastAPI:
    app = FastAPI()
    app.add_middleware(Guard, max_body_bytes=10, log=lines.append)

    @app.post("/length")
    async def length(request: Request) -> int:
        request.state.rows = len(await request.body())
        return int(request.state.rows)

    @app.post("/fault")
    async def fault(request: Request) -> None:
        raise ValueError(f"cannot read {await request.body()!r}")

    return app


def post(app: FastAPI, path: str, content: bytes | AsyncIterator[bytes]) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=content)

    return asyncio.run(ask())


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"12345"


def test_a_body_within_the_limit_is_read(app: FastAPI, lines: list[dict[str, Any]]) -> None:
    assert post(app, "/length", b"1234567890").json() == 10
    assert post(app, "/length", chunks(2)).json() == 10
    assert [(line["path"], line["status"], line["rows"], line["version"]) for line in lines] == [("/length", 200, 10, None)] * 2


@pytest.mark.parametrize("content", [b"12345678901", None], ids=["with a length", "in chunks"])
def test_a_larger_body_is_refused(app: FastAPI, lines: list[dict[str, Any]], content: bytes | None) -> None:
    response = post(app, "/length", content or chunks(3))
    assert response.status_code == 413
    assert [line["status"] for line in lines] == [413]


def test_a_fault_is_answered_and_logged_without_what_was_sent(app: FastAPI, lines: list[dict[str, Any]]) -> None:
    response = post(app, "/fault", SECRET.encode())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    fault, request = lines
    assert (fault["event"], fault["error"]) == ("fault", "ValueError")
    assert fault["at"].startswith("test_serving_guard.py:")
    assert (request["path"], request["status"]) == ("/fault", 500)
    assert SECRET not in response.text + str(lines)
