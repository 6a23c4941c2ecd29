"""Prefect's server as a run starts it for itself, with writers of its SQLite file that wait for each other."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app() -> FastAPI:
    """Return Prefect's own app, each transaction of which takes SQLite's lock as it begins.

    Prefect lets a transaction read first and take the lock when it writes. Where another has written in between, SQLite refuses
    at once, however long it may wait, and Prefect's client comes again after 2, 4 and 8 seconds: a training that starts beside
    two others lost up to 14 seconds so. A lock that is asked for at the beginning is waited for, which takes milliseconds.
    """
    from prefect.server.api.server import create_app as create_prefect_app
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_with_the_lock(self: Any, session: Any, *, with_for_update: bool = False) -> AbstractAsyncContextManager[Any]:
        del with_for_update
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_with_the_lock  # type: ignore[method-assign, assignment]
    return create_prefect_app()
