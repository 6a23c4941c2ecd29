"""The command `retrain serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Annotated, Any

import typer

DEFAULT_PORT, BACKLOG = 5002, 2048


def serve(
    model: Annotated[str, typer.Argument(help="MODEL (its champion), MODEL@ALIAS, which is followed, or MODEL@VERSION.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = DEFAULT_PORT,
    max_rows: Annotated[int | None, typer.Option(help="Windows or texts that a request may have. Default: 64.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Bytes that a request may have. Default: 33554432.")] = None,
    poll_seconds: Annotated[float | None, typer.Option(help="How often to ask where the alias points. Default: 5.")] = None,
) -> None:
    """Serve a registered model over HTTP until it is stopped; an alias is followed without a restart."""
    from flows.cli.settings import settings_of
    from flows.runtime.authentication import Credentials, RequirePassword
    from storage.environment import Environment
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.config import ServeSettings
    from tasks.serving.app import make_app
    from tasks.serving.following import Follower
    from tasks.serving.served import load_served

    typed = {"max_rows": max_rows, "max_body_bytes": max_body_bytes, "poll_s": poll_seconds}
    settings = settings_of(ServeSettings, typed, command="serve", options={"poll_s": "--poll-seconds"})
    registry = Registry.open(Store.from_environment(to_write=False))
    registry.resolve(model)  # what is not there is told before the port is taken and anything is loaded
    listener = _listener(Environment.read().host, port)
    with listener:
        follower = Follower(
            model,
            resolve=registry.resolve,
            load=lambda version: load_served(version, registry=registry, max_rows=settings.max_rows),
            poll_s=settings.poll_s,
            log=_log,
        )
        app: Any = make_app(model, follower=follower, settings=settings, log=_log)
        credentials = Credentials.from_environment()
        if credentials:
            app = RequirePassword(app, credentials=credentials, open_paths=frozenset({"/health"}))
        listener.listen(BACKLOG)  # who reads the address below can ask at once
        host, bound = listener.getsockname()[:2]
        version = follower.state.model.version
        typer.echo(f"Serving {version.name}@{version.version} at http://{host}:{bound}: POST /predict, GET /health, /version")
        follower.start()
        _run(app, listener=listener)
    # All is answered and nothing is left to write. To take TensorFlow apart takes seconds, and longer while a version compiles.
    sys.stdout.flush()
    os._exit(0)


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket on the address; nothing is answered until the model is ready.

    Raises:
        SettingError: The port is taken, or the host is none of this machine.
    """
    from storage.errors import SettingError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on, which holds the end of an answer back for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port, or free it") from None
    return listener


def _run(app: Any, *, listener: socket.socket) -> None:
    import uvicorn

    # Uvicorn answers what is open, and then raises the signal again: to be stopped is no fault of a server.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10)
    uvicorn.Server(config).run(sockets=[listener])


def _log(line: dict[str, Any]) -> None:
    """Write one line of JSON to standard error."""
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stderr.flush()
