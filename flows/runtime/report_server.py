"""The server of reports and Data Docs: what lies under `reports/` in the store, for whoever has the password.

python -m flows.runtime.report_server
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from datetime import datetime
from email.utils import formatdate
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from upath import UPath

from flows.runtime.authentication import AsgiApp, Credentials, RequirePassword
from storage.environment import Environment
from storage.layout import Store

# No data set has a name that begins so.
HEALTH = "/-/health"
INDEX = "index.html"
CHUNK_BYTES = 256 * 1024
# Browsers would store these instead of showing them.
_AS_TEXT = frozenset({".md", ".json", ".jsonl", ".csv", ".log", ".txt"})
# Where the Data Docs of Great Expectations have scripts and styles from.
DATA_DOCS_HOSTS = (
    "https://cdn.jsdelivr.net",
    "https://cdnjs.cloudflare.com",
    "https://code.jquery.com",
    "https://maxcdn.bootstrapcdn.com",
    "https://stackpath.bootstrapcdn.com",
    "https://unpkg.com",
)
_HOSTS = " ".join(DATA_DOCS_HOSTS)
# Behind a proxy the pages share an origin with Prefect and MLflow. A page in the sandbox has an origin of its own, so a script
# that came into a page with its data reads no password that the UI of Prefect keeps, and asks these servers for nothing.
POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src 'unsafe-inline' {_HOSTS}",
        f"style-src 'self' 'unsafe-inline' {_HOSTS}",
        f"font-src 'self' data: {_HOSTS}",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox allow-downloads",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(reports: UPath, *, credentials: Credentials | None) -> AsgiApp:
    """Return the application that serves a folder, local or behind an fsspec URL.

    Args:
        reports: The folder; it need not exist yet.
        credentials: Who may read; None for everybody.
    """

    async def answer(request: Request) -> Response:
        response = await run_in_threadpool(_answer, reports, request.scope["path"])
        response.headers.update(HEADERS)
        return response

    async def health(_: Request) -> Response:
        return PlainTextResponse("OK")

    app = Starlette(routes=[Route(HEALTH, health), Route("/{path:path}", answer)])
    return RequirePassword(app, credentials=credentials, open_paths=frozenset({HEALTH})) if credentials else app


def _answer(reports: UPath, path: str) -> Response:
    """Return a file, the index of a folder, or 404 for whatever is not there or lies elsewhere."""
    names = path.split("/")[1:]
    is_folder_address = names[-1] == ""
    if not is_folder_address:
        names.append("")
    names = names[:-1]
    if not all(map(_is_served, names)):
        return _not_found()
    target = _existing(reports, names)
    if target is None:
        return _not_found() if names else HTMLResponse(_listing("/", []))
    if not target.is_dir():
        return _not_found() if is_folder_address else _file(target)
    if not is_folder_address:
        # Relative, because a proxy may have taken a prefix off.
        return RedirectResponse(f"{quote(names[-1])}/", status_code=308)
    index = _existing(reports, [*names, INDEX])
    if index is not None and not index.is_dir():
        return _file(index)
    entries = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in target.iterdir() if _is_served(entry.name)]
    return HTMLResponse(_listing(path, sorted(entries)))


def _is_served(name: str) -> bool:
    """Tell whether a name may be a part of an address. Names with a dot in front are locks and unfinished files."""
    return bool(name) and not name.startswith(".") and not set(name) & {"\\", "\0"}


def _existing(reports: UPath, names: list[str]) -> UPath | Path | None:
    """Return what has this address, if it is there and no link leads out of the folder."""
    if reports.protocol != "":
        remote = reports.joinpath(*names)
        remote.fs.invalidate_cache()  # s3fs would list for ever what it has listed once
        return remote if remote.exists() else None
    root = Path(str(reports)).resolve()
    try:
        local = root.joinpath(*names).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # not there, a circle of links, or a name that no file can have
        return None
    return local if local.is_relative_to(root) and (local.is_dir() or local.is_file()) else None


def _file(path: UPath | Path) -> Response:
    kind = "text/plain" if path.suffix in _AS_TEXT else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if isinstance(path, UPath):
        return _Remote(path, media_type=kind)
    return FileResponse(path, media_type=kind, stat_result=path.stat())


class _Remote(StreamingResponse):
    """A file of a remote store, read while it is sent."""

    def __init__(self, path: UPath, *, media_type: str) -> None:
        entry: dict[str, Any] = path.fs.info(path.path)
        headers = {"content-length": str(entry["size"])}
        modified = entry.get("LastModified")
        if isinstance(modified, datetime):
            headers["last-modified"] = formatdate(modified.timestamp(), usegmt=True)
        super().__init__(_chunks(path), headers=headers, media_type=media_type)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "HEAD":
            self.body_iterator = iterate_in_threadpool(())
        await super().__call__(scope, receive, send)


def _chunks(path: UPath) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _listing(path: str, entries: list[str]) -> str:
    title = f"Reports {escape(path)}"
    items = "".join(f'<li><a href="{quote(f"./{entry}")}">{escape(entry)}</a></li>\n' for entry in entries)
    body = f"<ul>\n{items}</ul>" if entries else "<p>Nothing here yet: a run that publishes a table writes its report.</p>"
    head = f'<meta charset="utf-8"><title>{title}</title>'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n'


def _not_found() -> Response:
    return PlainTextResponse("There is no such report.\n", status_code=404)


def main() -> None:
    """Serve the reports of the store that the environment names until the process is stopped."""
    import uvicorn

    settings = Environment.read()
    app = create_app(Store.from_environment().root / "reports", credentials=Credentials.from_environment())
    uvicorn.run(app, host=settings.host, port=settings.docs_port, server_header=False, log_level="info", lifespan="off")


if __name__ == "__main__":
    main()
