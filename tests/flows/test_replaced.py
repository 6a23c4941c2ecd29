"""A process knows from the state of its run whether it was given up, and ends without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas import State
from prefect.client.schemas.objects import StateType

from flows.runtime.replaced import is_replaced
from flows.runtime.server import prefect_server
from storage.layout import Store

OWN = uuid4()


@pytest.fixture(scope="module")
def temporary_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(Store.at(tmp_path_factory.mktemp("replaced"))) as api:
        yield api


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
def test_a_run_with_an_end_was_given_up(kind: StateType) -> None:
    assert is_replaced(State(type=kind), own_state=OWN)


@pytest.mark.parametrize("kind", [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
def test_a_run_that_was_started_again_has_another_process(kind: StateType) -> None:
    assert is_replaced(State(type=kind), own_state=OWN)
    assert not is_replaced(State(id=OWN, type=kind), own_state=OWN)


@pytest.mark.parametrize("kind", [StateType.PAUSED, StateType.CANCELLING])
def test_a_run_that_waits_or_is_being_cancelled_is_its_own(kind: StateType) -> None:
    assert not is_replaced(State(type=kind), own_state=OWN)


def test_a_server_that_does_not_answer_replaces_nobody() -> None:
    assert not is_replaced(None, own_state=OWN)


FLOW = """
import os, sys, threading
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Crashed
from flows.runtime import replaced
from flows.states import run_of_project

replaced.CHECK_EVERY_S = 0.2

@flow
@run_of_project
def sleeper():
    run = FlowRunContext.get().flow_run
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Crashed(message="No heartbeat"), force=True)
    if sys.argv[1] == "at its end":
        return "said"
    threading.Event().wait(60)

from uuid import uuid4
from prefect.flow_engine import run_flow
with get_client(sync_client=True) as client:
    run = client.create_flow_run(sleeper)
os.environ["PREFECT__FLOW_RUN_ID"] = str(run.id) if sys.argv[2] == "of a worker" else str(uuid4())
print(run.id, flush=True)
run_flow(sleeper, flow_run=run)
print("not ended", flush=True)
"""


@pytest.mark.parametrize(
    ("when", "whose", "ends"),
    [
        ("in the middle", "of a worker", True),
        ("at its end", "of a worker", True),
        ("at its end", "of a command", False),
    ],
)
def test_the_process_of_a_run_that_was_given_up_ends(when: str, whose: str, ends: bool, temporary_prefect: str) -> None:
    """The server keeps the state that it has given up the run with; a flow that no worker started ends as ever."""
    done = subprocess.run(
        [sys.executable, "-c", FLOW, when, whose],
        env={**os.environ, "PREFECT_API_URL": temporary_prefect},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\n")
    assert ("not ended" in printed) == (not ends), done.stderr
    run = httpx.get(f"{temporary_prefect}/flow_runs/{printed[0]}", trust_env=False).raise_for_status().json()
    assert run["state_type"] == ("CRASHED" if ends else "COMPLETED")
