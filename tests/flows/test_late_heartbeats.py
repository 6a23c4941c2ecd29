"""A heartbeat that the server has on record late is no silence: on a server to which no event was sent before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from test_recovery import given_up, looked, started, state_of

from flows.runtime.automations import ask
from flows.runtime.recovery import HEARTBEAT
from flows.runtime.server import prefect_server
from storage.layout import Store


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    with prefect_server(Store.at(tmp_path)) as address:
        yield address


@pytest.fixture
def retrain(api: str) -> str:
    """A deployment of the flow."""
    flow = ask(api, "/flows/", {"name": "retrain"})
    return str(ask(api, "/deployments/", {"name": "retrain-test", "flow_id": flow["id"]})["id"])


def test_a_heartbeat_that_is_on_record_late_is_heard(api: str, retrain: str) -> None:
    """The server records events every five seconds; under load it takes minutes."""
    run = started(api, retrain, "PENDING", "RUNNING")
    beat = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    ask(api, "/events", [{"id": str(uuid4()), "event": HEARTBEAT, "occurred": beat, "resource": resource}])
    assert looked(api, seconds=100) == []
    assert given_up(api, seconds=160) != []  # by then it is silent
    assert state_of(api, run) == ("SCHEDULED", "AwaitingRetry")
