"""Prefect's server with SQLite transactions that take the write lock when they begin.

python -m flows.runtime.sqlite_app server start --port PORT
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app() -> FastAPI:
    """Return Prefect's app for uvicorn, which serves it as the temporary server of a run."""
    from prefect.server.api.server import create_app as create_prefect_app

    use_immediate_transactions()
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


def main() -> None:
    """Run a Prefect command with immediate transactions; `make up` starts its server this way."""
    from prefect.cli import app

    use_immediate_transactions()
    app()


if __name__ == "__main__":
    main()
