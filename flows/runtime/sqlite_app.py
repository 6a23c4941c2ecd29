"""Prefect's server with writers of its SQLite file that wait for each other.

python -m flows.runtime.sqlite_app server start --port PORT
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app() -> FastAPI:
    """Return Prefect's own app for uvicorn, as a run starts it for itself."""
    from prefect.server.api.server import create_app as create_prefect_app

    use_immediate_transactions()
    return create_prefect_app()


def use_immediate_transactions() -> None:
    """Let each transaction of the server in this process take SQLite's lock as it begins.

    Prefect lets a transaction read first and take the lock when it writes. Where another has written in between, SQLite refuses
    at once, however long it may wait, and Prefect's client comes again after 2, 4 and 8 seconds: a training that started beside
    two others lost up to 14 seconds so. A lock that is asked for at the beginning is waited for, which takes milliseconds.
    PostgreSQL is not concerned.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_with_the_lock(self: Any, session: Any, *, with_for_update: bool = False) -> AbstractAsyncContextManager[Any]:
        del with_for_update
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_with_the_lock  # type: ignore[method-assign, assignment]


def main() -> None:
    """Run a command of Prefect's, such as the server that `make up` keeps."""
    from prefect.cli import app

    use_immediate_transactions()
    app()


if __name__ == "__main__":
    main()
