"""The HTTP application: what it answers at each path."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from tasks.config import ServeSettings
from tasks.models.predictor import WindowPredictor
from tasks.serving.answers import model_name, texts_response, version_response, windows_response
from tasks.serving.batching import Batcher, BusyError
from tasks.serving.checks import BUSY, WRONG_MEDIA, RequestError, checked_stamps, checked_texts, checked_windows
from tasks.serving.following import Follower
from tasks.serving.guard import Guard, error_response
from tasks.serving.schemas import (
    Body,
    ErrorResponse,
    Health,
    TextsRequest,
    TextsResponse,
    Version,
    WindowsRequest,
    WindowsResponse,
)
from tasks.serving.served import ServedModel

Log = Callable[[dict[str, Any]], None]
RequestBody = TypeVar("RequestBody", bound=Body)
JSON = "application/json"
MAX_DETAILS = 10
_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorResponse, "description": "More rows or bytes than are taken at once"},
    415: {"model": ErrorResponse, "description": "No JSON"},
    422: {"model": ErrorResponse, "description": "Not what the model reads"},
    503: {"model": ErrorResponse, "description": "Too many requests are waiting"},
}


def make_app(reference: str, *, follower: Follower, settings: ServeSettings, log: Log) -> FastAPI:
    """Return the application that answers with the version that a follower holds.

    Args:
        reference: What is served, as it was asked for.
        follower: Holds the version, and may exchange it at any time.
        settings: Limits.
        log: Takes one line a request, as JSON-ready values.
    """
    batcher = Batcher(max_rows=settings.max_rows, max_waiting_rows=settings.max_waiting_rows)
    app = FastAPI(
        title=f"retrain serve {reference}",
        version=importlib.metadata.version("retrain"),
        docs_url=None,  # its page fetches scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard, max_body_bytes=settings.max_body_bytes, log=log)
    _answer_errors(app)

    @app.get("/health")
    def health() -> Health:
        """Tell which version answers, and whether the alias is followed."""
        state = follower.state
        return Health(
            status="outdated" if state.problem else "ok",
            model=model_name(state.model),
            reference=reference,
            loaded_at=state.model.loaded_at,
            checked_at=state.checked_at,
            problem=state.problem,
        )

    @app.get("/version")
    def version() -> Version:
        """Tell what answers, and what it takes."""
        return version_response(follower.state.model, settings=settings)

    async def predicted(request: Request, model: ServedModel, rows: Sequence[Any]) -> Sequence[Any]:
        request.state.rows, request.state.version = len(rows), model.version.version
        try:
            return await asyncio.wrap_future(batcher.submit(model.predict, rows))
        except BusyError:
            raise RequestError("busy", "too many requests are waiting: send this one again later", status=BUSY) from None

    async def predict_windows(request: Request) -> WindowsResponse:
        """Forecast from windows of raw readings."""
        body, model = await _parsed(request, WindowsRequest), follower.state.model
        rows = checked_windows(body.windows, columns=body.columns, task=model.window_predictor.task, settings=settings)
        stamps = checked_stamps(body.last_timestamps, windows=len(rows))
        return windows_response(model, await predicted(request, model, rows), stamps=stamps)

    async def predict_texts(request: Request) -> TextsResponse:
        """Classify raw texts."""
        body, model = await _parsed(request, TextsRequest), follower.state.model
        return texts_response(model, await predicted(request, model, checked_texts(body.texts, settings=settings)))

    is_series = isinstance(follower.state.model.predictor, WindowPredictor)
    answer, asked = (predict_windows, WindowsRequest) if is_series else (predict_texts, TextsRequest)
    schema = {"requestBody": {"required": True, "content": {JSON: {"schema": asked.model_json_schema()}}}}
    app.post("/predict", responses=_REFUSALS, openapi_extra=schema)(answer)
    return app


async def _parsed(request: Request, body: type[RequestBody]) -> RequestBody:
    """Return the body of a request.

    FastAPI would read it with Python's own JSON, which takes longer than a forecast.

    Raises:
        RequestError: It is none.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise RequestError("wrong_media_type", f"the body is said to be {media_type[:40]!r}: send {JSON}", status=WRONG_MEDIA)
    try:
        content = from_json(await request.body())
    except ValueError:
        raise RequestError("invalid_json", "the body is no JSON in UTF-8: send one object") from None
    try:
        return body.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    raise RequestError("invalid_request", _told(faults[0]), details=[_detail(fault) for fault in faults[:MAX_DETAILS]])


def _detail(fault: Any) -> dict[str, str]:
    place = ".".join(str(part) for part in fault["loc"])
    return {"place": place or "the body", "message": fault["msg"].removeprefix("Value error, ")}


def _told(fault: Any) -> str:
    return "{place}: {message}".format(**_detail(fault))


def _answer_errors(app: FastAPI) -> None:
    """Answer every refusal in one form, which repeats nothing of what was sent."""

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        del request
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code)
        message = f"{request.method} is not answered at this path: POST /predict, or GET /health, /version or /openapi.json"
        refusal = RequestError(code or "refused", message if code else str(error.detail), status=error.status_code)
        return error_response(refusal)
