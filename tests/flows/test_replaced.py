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
from prefect.states import Paused, Suspended

from flows.runtime.replaced import how_taken
from flows.runtime.server import prefect_server
from storage.layout import Store

OWN = uuid4()


@pytest.fixture(scope="module")
def temporary_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(Store.at(tmp_path_factory.mktemp("replaced"))) as api:
        yield api


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
def test_a_run_with_an_end_was_given_up(kind: StateType) -> None:
    assert how_taken(State(type=kind), own_state=OWN) == "replaced"


@pytest.mark.parametrize("kind", [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
def test_a_run_that_was_started_again_has_another_process(kind: StateType) -> None:
    assert how_taken(State(type=kind), own_state=OWN) == "replaced"
    assert how_taken(State(id=OWN, type=kind), own_state=OWN) is None


@pytest.mark.parametrize("state", [Paused(), State(type=StateType.CANCELLING)])
def test_a_run_that_waits_or_is_being_cancelled_is_its_own(state: State) -> None:
    assert how_taken(state, own_state=OWN) is None


def test_a_run_that_was_paused_in_the_ui_has_no_process() -> None:
    assert how_taken(Suspended(timeout_seconds=300), own_state=OWN) == "suspended"


def test_a_server_that_does_not_answer_replaces_nobody() -> None:
    assert how_taken(None, own_state=OWN) is None


FLOW = """
import os, sys, threading
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Crashed, Suspended
from flows.runtime import replaced
from flows.states import run_of_project

replaced.CHECK_EVERY_S = 0.2

@flow
@run_of_project
def sleeper():
    run = FlowRunContext.get().flow_run
    with get_client(sync_client=True) as client:
        state = Suspended(timeout_seconds=300) if sys.argv[3] == "PAUSED" else Crashed(message="No heartbeat")
        client.set_flow_run_state(run.id, state, force=True)
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
    ("when", "whose", "state", "ends"),
    [
        ("in the middle", "of a worker", "CRASHED", True),
        ("at its end", "of a worker", "CRASHED", True),
        ("at its end", "of a command", "CRASHED", False),
        ("in the middle", "of a worker", "PAUSED", True),
    ],
)
def test_the_process_of_a_run_that_was_taken_away_ends(
    when: str, whose: str, state: str, ends: bool, temporary_prefect: str
) -> None:
    """The server keeps the state that was set from outside; what no worker started ends as ever."""
    done = subprocess.run(
        [sys.executable, "-c", FLOW, when, whose, state],
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
    assert run["state_type"] == (state if ends else "COMPLETED")
