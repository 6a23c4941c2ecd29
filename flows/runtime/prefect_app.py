"""Prefect's server as the project runs it.

Its transactions on SQLite wait for each other, connections that stay open take no other's place, its pages ask no other host, and
the forms of the older UI take any number.

python -m flows.runtime.prefect_app server start --port PORT
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send


def create_app() -> FastAPI:
    """Return Prefect's app for uvicorn, which serves it as the temporary server of a run."""
    from prefect.server.api.server import create_app as create_prefect_app

    use_immediate_transactions()
    limit_requests_alone()
    # Ephemeral: no UI and no services such as the scheduler. Final: this process makes no second app.
    return create_prefect_app(ephemeral=True, final=True)


def use_immediate_transactions() -> None:
    """Make each transaction of the server in this process take SQLite's write lock when it begins (`BEGIN IMMEDIATE`).

    By default a transaction of Prefect reads first and takes the lock when it writes. If another transaction has written in
    between, SQLite fails at once, whatever the busy timeout, and Prefect's client retries after 2, 4 and 8 seconds: a training
    that started beside two others lost up to 14 seconds. A lock requested at the beginning is waited for, which takes
    milliseconds. PostgreSQL is not affected.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_immediate(self: Any, session: Any, *, with_for_update: bool = False) -> AbstractAsyncContextManager[Any]:
        del with_for_update
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_immediate  # type: ignore[method-assign, assignment]


def limit_requests_alone() -> None:
    """Make the limit of a hundred requests at once, which Prefect's server has on SQLite, leave WebSockets out.

    Each run holds some WebSockets open as long as it lasts. With some 25 runs at once they take all hundred places, and no
    request is answered until runs give up, nine minutes later. A WebSocket that waits holds no connection of the database.
    """
    from prefect.server.api import server

    class RequestLimit(server.RequestLimitMiddleware):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await super().__call__(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    server.RequestLimitMiddleware = RequestLimit  # type: ignore[misc]


class AskNoOtherHost:
    """Forbid the pages of the UI to ask any host but their own server; the browser obeys.

    The UI asks a host of a company of analytics on each page, also where analytics are off.
    """

    def __init__(self, app: ASGIApp, *, api: str) -> None:
        """Wrap an app.

        Args:
            app: App that serves the pages.
            api: Address of the API that the pages ask, which may stand behind another name than the pages.
        """
        self._app = app
        parts = urlsplit(api)
        own = f" {parts.scheme}://{parts.netloc} ws{parts.scheme.removeprefix('http')}://{parts.netloc}" if parts.netloc else ""
        self._policy = f"connect-src 'self'{own}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message["headers"] if name == b"content-type"]
                if any(kind.startswith(b"text/html") for kind in kinds):
                    message["headers"] = [*message["headers"], (b"content-security-policy", self._policy)]
            await send(message)

        await self._app(scope, receive, send_with_policy if scope["type"] == "http" else send)


class TakeAnyNumber:
    """Let the forms of the older UI take numbers of any number of digits.

    As Prefect ships it, a field for a number has the step 0.01, and the browser sends no form in which a number has more digits:
    neither a learning rate of 0.001, nor a form that holds the limit 0.005 as the deployment has it.
    """

    # In the script of the older UI, once.
    STEP = b"step:`0.01`"

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the app that serves the script."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_script = scope["type"] == "http" and fnmatch(scope["path"], "*/assets/index-*.js")
        if not is_script or fnmatch(scope["path"], "*/v2/assets/*"):  # the newer UI takes any number
            await self._app(scope, receive, send)
            return
        # The whole script, as text: no part of it, no compressed form, and no word that the browser has it already.
        conditions = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
        asked = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in conditions]}
        begun: dict[str, Any] = {}
        script = bytearray()

        async def collect(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
                return
            script.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            content = bytes(script).replace(self.STEP, b"step:`any`")
            kept = [
                (name, value) for name, value in begun["headers"] if name not in (b"content-length", b"etag", b"last-modified")
            ]
            await send({**begun, "headers": [*kept, (b"content-length", str(len(content)).encode())]})
            await send({"type": "http.response.body", "body": content})

        await self._app(asked, receive, collect)


def serve_own_pages() -> None:
    """Make the pages that this process's server will serve ask no other host, and their forms take any number."""
    from prefect.server.api import server

    create = server.create_app

    def create_app(*args: Any, **kwargs: Any) -> FastAPI:
        app = create(*args, **kwargs)
        # The server makes its app once, and gets the same one again for each action of an automation.
        known: list[Any] = [middleware.cls for middleware in app.user_middleware]
        if AskNoOtherHost not in known:
            app.add_middleware(AskNoOtherHost, api=os.environ.get("PREFECT_SERVER_UI_API_URL", ""))
            app.add_middleware(TakeAnyNumber)
        return app

    server.create_app = create_app


def main() -> None:
    """Run a Prefect command as this module says; `make up` starts its server this way."""
    from prefect.cli import app

    use_immediate_transactions()
    limit_requests_alone()
    serve_own_pages()
    app()


if __name__ == "__main__":
    main()
