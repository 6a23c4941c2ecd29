"""The pages of Prefect's UI may ask their own server alone."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from flows.runtime.prefect_app import AskNoOtherHost


async def page(_: Request) -> Response:
    return HTMLResponse("<p>a page</p>")


async def data(_: Request) -> Response:
    return JSONResponse({"a": 1})


def asked(path: str, *, api: str) -> str | None:
    app = Starlette(routes=[Route("/page", page), Route("/data", data)])
    app.add_middleware(AskNoOtherHost, api=api)

    async def ask() -> str | None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return (await client.get(path)).headers.get("content-security-policy")

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("api", "policy"),
    [
        ("", "connect-src 'self'"),
        ("http://127.0.0.1:4200/api", "connect-src 'self' http://127.0.0.1:4200 ws://127.0.0.1:4200"),
        ("https://hub.example/prefect/api", "connect-src 'self' https://hub.example wss://hub.example"),
    ],
)
def test_a_page_may_ask_its_own_server_alone(api: str, policy: str) -> None:
    assert asked("/page", api=api) == policy


def test_an_answer_that_is_no_page_has_no_policy() -> None:
    assert asked("/data", api="") is None
