"""The pages of Prefect's UI may ask their own server alone, and their forms take any number."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import prefect
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flows.runtime.prefect_app import AskNoOtherHost, TakeAnyNumber


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


def test_the_forms_of_the_older_ui_take_any_number() -> None:
    """Prefect's own script has the step that is looked for, once; it is served whole without it, also to who has it already."""
    pages = Path(str(prefect.__ui_static_path__))
    (script,) = [path for path in pages.glob("assets/index-*.js") if TakeAnyNumber.STEP in path.read_bytes()]
    assert script.read_bytes().count(TakeAnyNumber.STEP) == 1
    routes = [Mount("/v2", StaticFiles(directory=pages)), Mount("/", StaticFiles(directory=pages))]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)])
    app.add_middleware(TakeAnyNumber)

    async def ask(page: str = "", **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(f"{page}/assets/{script.name}", headers=headers)

    expected = script.read_bytes().replace(b"step:`0.01`", b"step:`any`")
    first = asyncio.run(ask())
    assert first.content == expected
    assert int(first.headers["content-length"]) == len(expected)
    assert "etag" not in first.headers
    assert asyncio.run(ask(**{"if-none-match": "*", "range": "bytes=0-9"})).content == expected
    newer = asyncio.run(ask("/v2"))
    assert newer.content == script.read_bytes()
    assert newer.headers["content-encoding"] == "gzip"
