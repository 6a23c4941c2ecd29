"""Dead runs are found, start again exactly once, and nobody is overruled: on a real server, with a clock of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.runtime.automations import ask
from flows.runtime.recovery import LOOK, MAX_CRASHES, look
from flows.runtime.server import prefect_server
from storage.layout import Store

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(Store.at(tmp_path_factory.mktemp("recovery"))) as address:
        yield address


@pytest.fixture
def deployments(api: str) -> dict[str, str]:
    """Deployments by the name of their flow."""
    made = {}
    for name in ("retrain", "ingest"):
        flow = ask(api, "/flows/", {"name": name})
        made[name] = str(ask(api, "/deployments/", {"name": f"{name}-test", "flow_id": flow["id"]})["id"])
    return made


def started(api: str, deployment: str, *states: str) -> str:
    """A run of a deployment that has had some types of states, one after the other."""
    run = str(ask(api, f"/deployments/{deployment}/create_flow_run", {})["id"])
    for state in states:
        ask(api, f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
    return run


def state_of(api: str, run: str) -> tuple[str, str]:
    state = ask(api, f"/flow_runs/{run}")["state"]
    return state["type"], state["name"]


def looked(api: str, **later: float) -> list[str]:
    return look(api, now=datetime.now(UTC) + timedelta(**later), heard_since=LONG_AGO)


def given_up(api: str, **later: float) -> list[str]:
    """Look, wait until the event that was sent is on record, and look again."""
    now = datetime.now(UTC) + timedelta(**later)
    told = look(api, now=now, heard_since=LONG_AGO)
    wait_until_recorded(api, now)
    return told + look(api, now=now + timedelta(seconds=10), heard_since=LONG_AGO)


def wait_until_recorded(api: str, sent: datetime) -> None:
    asked = {"event": {"name": [LOOK]}, "occurred": {"since": sent.isoformat(), "until": sent.isoformat()}}
    deadline = time.monotonic() + 30
    while not ask(api, "/events/filter", {"filter": asked})["events"]:
        assert time.monotonic() < deadline, "the event is not on record"
        time.sleep(0.5)


@pytest.fixture(autouse=True)
def no_leftovers(api: str, deployments: dict[str, str]) -> Iterator[None]:
    yield
    for run in ask(api, "/flow_runs/filter", {}):
        ask(api, f"/flow_runs/{run['id']}", method="DELETE")


def test_a_silent_retrain_starts_again_and_another_run_does_not(api: str, deployments: dict[str, str]) -> None:
    retrain, ingest = (started(api, deployments[flow], "PENDING", "RUNNING") for flow in ("retrain", "ingest"))
    assert looked(api, seconds=80) == []
    told = given_up(api, seconds=100)
    assert sorted(line.partition(": ")[2] for line in told) == [
        "No heartbeat for 90 s: the process of the run or its host has died.",
        "No heartbeat for 90 s: the process of the run or its host has died.",
        "Scheduled again after a crash.",
    ]
    assert state_of(api, retrain) == ("SCHEDULED", "AwaitingRetry")
    assert state_of(api, ingest) == ("CRASHED", "Crashed")
    # Exactly once.
    assert looked(api, seconds=120) == []


def test_a_silence_while_the_server_was_away_is_none_of_the_run(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["retrain"], "PENDING", "RUNNING")
    now = datetime.now(UTC) + timedelta(minutes=10)
    assert look(api, now=now, heard_since=now - timedelta(seconds=60)) == []
    assert state_of(api, run)[0] == "RUNNING"


def test_a_wait_while_the_server_was_away_is_none_of_the_run(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["ingest"], "PENDING")
    now = datetime.now(UTC) + timedelta(minutes=20)
    assert look(api, now=now, heard_since=now - timedelta(seconds=60)) == []
    assert state_of(api, run)[0] == "PENDING"


def paused(api: str, deployment: str, *, timeout_s: float, **details: Any) -> str:
    """A run that a person has paused, with what the dialog of the UI sends."""
    run = started(api, deployment, "PENDING", "RUNNING")
    ask(api, f"/flow_runs/{run}/set_state", {"state": suspended(timeout_s, **details), "force": True})
    return run


def suspended(timeout_s: float, **details: Any) -> dict[str, Any]:
    until = (datetime.now(UTC) + timedelta(seconds=timeout_s)).isoformat()
    return {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_timeout": until, "pause_reschedule": True, **details}}


def test_a_paused_run_goes_on_when_its_time_is_over(api: str, deployments: dict[str, str]) -> None:
    run = paused(api, deployments["ingest"], timeout_s=300)
    assert looked(api, seconds=270) == []
    assert state_of(api, run) == ("PAUSED", "Suspended")
    (told,) = looked(api, seconds=290)
    assert told.endswith("Resumed, because the time of its pause is over.")
    assert state_of(api, run)[0] == "SCHEDULED"


def test_what_ran_within_a_paused_run_ends(api: str, deployments: dict[str, str]) -> None:
    run = paused(api, deployments["ingest"], timeout_s=300)
    task = ask(api, "/task_runs/", {"flow_run_id": run, "task_key": "part", "dynamic_key": "0", "state": {"type": "RUNNING"}})
    looked(api, seconds=20)  # its process has not looked twice yet
    assert ask(api, f"/task_runs/{task['id']}")["state"]["type"] == "RUNNING"
    looked(api, seconds=40)
    assert ask(api, f"/task_runs/{task['id']}")["state"]["type"] == "CANCELLED"


PROGRAM = """
import sys, time
from uuid import UUID
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

@flow
def part():
    if sys.argv[2] == "hangs":
        time.sleep(300)
    return 7

@flow
def retrain():
    return part()

with get_client(sync_client=True) as client:
    print(run_flow(retrain, flow_run=client.read_flow_run(UUID(sys.argv[1]))))
"""


def test_a_run_that_was_paused_within_a_flow_that_it_calls_ends_well(api: str, deployments: dict[str, str]) -> None:
    """Prefect gives a resumed run the flow that it had called, in the state that it finds it in."""
    run = started(api, deployments["retrain"])
    command = [sys.executable, "-c", PROGRAM, run]
    variables = {**os.environ, "PREFECT_API_URL": api}
    with subprocess.Popen([*command, "hangs"], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while [part["state_type"] for part in within(api, run)] != ["RUNNING"]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        process.kill()
    ask(api, f"/flow_runs/{run}/set_state", {"state": suspended(300), "force": True})
    looked(api, seconds=40)
    assert [part["state_type"] for part in within(api, run)] == ["PAUSED"]
    ask(api, f"/flow_runs/{run}/resume", {})
    done = subprocess.run([*command, "ends"], env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "7", done.stderr
    assert state_of(api, run)[0] == "COMPLETED"
    assert {part["state_type"] for part in within(api, run)} == {"COMPLETED"}


def within(api: str, run: str) -> list[dict[str, Any]]:
    return list(ask(api, "/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}))


def test_a_run_that_waits_for_an_answer_is_not_resumed_without_one(api: str, deployments: dict[str, str]) -> None:
    keys = {"schema": "a-schema", "response": "a-response"}
    run = paused(api, deployments["ingest"], timeout_s=300, run_input_keyset=keys)
    assert looked(api, seconds=310) == []
    assert state_of(api, run)[0] == "PAUSED"


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED", "PAUSED"])
def test_what_a_person_or_the_run_has_done_stands(api: str, deployments: dict[str, str], end: str) -> None:
    run = started(api, deployments["retrain"], "PENDING", "RUNNING", end)
    assert looked(api, hours=1) == []
    assert state_of(api, run)[0] == end


def test_a_run_that_a_person_has_retried_is_left_alone(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["retrain"], "PENDING", "RUNNING", "CRASHED", "SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
    assert looked(api, minutes=5) == []
    assert state_of(api, run)[0] == "COMPLETED"


def test_a_run_that_crashes_again_and_again_is_left_to_a_person(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["retrain"])
    for _ in range(MAX_CRASHES):
        ask(api, f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": True})
        assert len(looked(api)) == 1
    ask(api, f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": True})
    assert looked(api) == []
    assert state_of(api, run)[0] == "CRASHED"


def test_a_crash_of_yesterday_is_left_to_a_person(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["retrain"], "CRASHED")
    assert looked(api, hours=25) == []
    assert state_of(api, run)[0] == "CRASHED"


def test_runs_that_hang_before_or_after_their_work_are_ended(api: str, deployments: dict[str, str]) -> None:
    waiting = started(api, deployments["ingest"], "PENDING")
    leaving = started(api, deployments["ingest"], "PENDING", "RUNNING", "CANCELLING")
    assert looked(api, minutes=4) == []
    given_up(api, minutes=11)
    assert state_of(api, waiting)[0] == "CRASHED"
    assert state_of(api, leaving)[0] == "CANCELLED"


def test_tasks_and_flows_within_a_dead_run_end_with_it(api: str, deployments: dict[str, str]) -> None:
    run = started(api, deployments["ingest"], "PENDING", "RUNNING")
    task = ask(api, "/task_runs/", {"flow_run_id": run, "task_key": "part", "dynamic_key": "0", "state": {"type": "RUNNING"}})
    flow = ask(api, "/flows/", {"name": "part"})
    called: dict[str, Any] = {"flow_id": flow["id"], "parent_task_run_id": task["id"], "state": {"type": "RUNNING"}}
    inner = ask(api, "/flow_runs/", called)
    given_up(api, minutes=2)
    assert state_of(api, inner["id"])[0] == "CRASHED"
    assert ask(api, f"/task_runs/{task['id']}")["state"]["type"] == "CRASHED"


def test_a_run_of_a_command_is_left_to_its_command(api: str) -> None:
    flow = ask(api, "/flows/", {"name": "retrain"})
    run = ask(api, "/flow_runs/", {"flow_id": flow["id"], "state": {"type": "RUNNING"}})
    assert looked(api, hours=2) == []
    assert state_of(api, run["id"])[0] == "RUNNING"
