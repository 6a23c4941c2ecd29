"""What surrounds every request: the limit of its body, an answer whatever happens, and one line in the log."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.checks import BUSY, TOO_LARGE, RequestError

MAX_PATH = 200


def error_response(error: RequestError) -> JSONResponse:
    """Return the answer to a request that is refused."""
    content = {"error": {"code": error.code, "message": error.detail, "details": list(error.details)}}
    headers = {"Retry-After": "1"} if error.status_code == BUSY else None
    return JSONResponse(content, status_code=error.status_code, headers=headers)


class Guard:
    """Wraps an application. The log has no text, no reading and no address of a client."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, log: Callable[[dict[str, Any]], None]) -> None:
        """Take the application, its limit, and where a line of the log goes."""
        self._app, self._max_body_bytes, self._log = app, max_body_bytes, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope["state"] = state = dict(scope.get("state", {}))
        status = 0

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            too_large = self._too_large(scope)
            if too_large:
                await error_response(too_large)(scope, receive, counting_send)
            else:
                await self._app(scope, self._limited(receive), counting_send)
        except Exception as error:  # the client gets an answer, and the log what happened
            self._log_fault(error)
            if not status:
                failed = RequestError("internal_error", "the server failed at this request: its log says where", status=500)
                await error_response(failed)(scope, receive, counting_send)
        finally:
            self._log(
                {
                    "time": datetime.now(tz=UTC).isoformat(timespec="milliseconds"),
                    "method": scope["method"],
                    "path": scope["path"][:MAX_PATH],
                    "status": status,
                    "rows": state.get("rows"),
                    "ms": round(1000 * (time.perf_counter() - started), 1),
                    "version": state.get("version"),
                }
            )

    def _too_large(self, scope: Scope) -> RequestError | None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return self._refusal()
        return None

    def _refusal(self) -> RequestError:
        return RequestError(
            "body_too_large",
            f"the body has more than the {self._max_body_bytes:,} bytes that are taken: send several requests",
            status=TOO_LARGE,
        )

    def _limited(self, receive: Receive) -> Receive:
        """Return a `receive` that stops at the limit: a body in chunks tells no length."""
        n_bytes = 0

        async def limited_receive() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_body_bytes:
                raise self._refusal()
            return message

        return limited_receive

    def _log_fault(self, error: Exception) -> None:
        """Log where an error was raised, without its message, which may repeat what was sent."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._log({"event": "fault", "error": type(error).__name__, "at": f"{place.filename.rpartition('/')[2]}:{place.lineno}"})
