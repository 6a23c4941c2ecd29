"""A version waits on the real service until a person decides: while workers restart, next runs go on, and time passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from service_helpers import SAMPLE, Live, running_service, wait_for

from storage.registry import Registry
from tasks.promotion.log import read_log

NAME = "jena-sample"
BASELINE: dict[str, Any] = {"variants": ["ridge"], "training": {"run_on": "local"}, "data": SAMPLE}
BY_HAND = {"promote": "manual", "allow_baselines": True}
SILENCE_S = 90
"""After so long without a heartbeat a run becomes CRASHED."""

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running_service(tmp_path_factory.mktemp("approval") / "home") as service:
        yield service


def retrained(live: Live, **promotion: Any) -> dict[str, Any]:
    run = live.ended(live.start("retrain/retrain-jena", **BASELINE, promotion=BY_HAND | promotion))
    assert run["state_type"] == "COMPLETED", live.told(run["id"])
    return run


def waiting(live: Live) -> list[dict[str, Any]]:
    return [run for run in live.runs(state={"type": {"any_": ["PAUSED"]}}) if run["name"].startswith("approve ")]


def wait_until_it_waits(live: Live, run_id: str) -> dict[str, Any]:
    wait_for(lambda: live.run(run_id)["state_type"] == "PAUSED", 180, lambda: live.told(run_id))
    return live.run(run_id)


def answer(live: Live, run_id: str, **verdict: str) -> dict[str, Any]:
    """Press Resume, as the UI does, and return what the server says."""
    return dict(live.ask(f"/flow_runs/{run_id}/resume", {"run_input": verdict}))


def champions(live: Live) -> list[str]:
    """Which versions the events of a new champion named, the newest first."""
    events = live.ask("/events/filter", {"filter": {"event": {"name": ["retrain.champion"]}}})["events"]
    return [event["payload"]["champion"] for event in events]


def test_a_version_waits_until_a_person_decides(live: Live) -> None:  # noqa: PLR0915  (one story: every run takes seconds)
    first = retrained(live)
    message = first["state"]["message"]
    assert "passed every check" in message
    assert message.endswith(f"; or resume the run 'approve {NAME}@2' in the Prefect UI"), message
    wait_for(lambda: len(waiting(live)) == 1, 180, live.runs)
    (run,) = waiting(live)
    assert (run["name"], run["state_name"]) == (f"approve {NAME}@2", "Suspended")
    assert live.versions(NAME) == {1: ("candidate",), 2: ()}

    # The UI makes its form of this schema.
    keyset = run["state"]["state_details"]["run_input_keyset"]
    schema = live.ask(f"/flow_runs/{run['id']}/input/{keyset['schema']}")
    schema = json.loads(schema) if isinstance(schema, str) else schema
    assert list(schema["properties"]) == ["decision", "reason", "person"]
    assert all(field["description"] for field in schema["properties"].values())
    described = live.ask(f"/flow_runs/{run['id']}/input/{keyset['description']}")
    assert f"**{NAME}@2** waits. v1 passed every check" in str(described)

    # It holds no process: a worker may restart. Nor its deployment: the next retrain goes on, and asks no second time.
    live.supervisor("restart", "worker-cpu")
    again = retrained(live)
    assert again["state"]["message"] == message
    assert [each["id"] for each in waiting(live)] == [run["id"]]

    # Another one on the same version, which nobody answers: it says so, and the version stays what it was.
    request = {"model": f"{NAME}@2", "grounds": "It is better.", "wait_days": 20 / 86_400}
    unanswered = live.start("approve/approve", request=request)
    wait_for(lambda: live.run(unanswered)["state_name"] == "Unanswered", 240, lambda: live.told(unanswered))
    assert live.run(unanswered)["state"]["message"].startswith("Nobody decided in time. The version stays a candidate")
    assert live.versions(NAME) == {1: ("candidate",), 2: ()}

    # What says too little is refused by the form, and the run waits on.
    rejecting = wait_until_it_waits(live, live.start("approve/approve", request=request | {"wait_days": 1}))["id"]
    assert answer(live, rejecting, decision="reject", reason="bad", person="anna")["status"] == "REJECT"
    assert live.run(rejecting)["state_type"] == "PAUSED"

    # Rejected: the log has it, and the next run does not ask again.
    answer(live, rejecting, decision="reject", reason="The test year is too mild.", person="anna")
    ended = live.ended(rejecting)
    assert (ended["state_type"], ended["state"]["message"]) == (
        "COMPLETED",
        "Rejected v2: by anna: The test year is too mild.",
    ), live.told(rejecting)
    kept = retrained(live)
    assert "v1, in use as v2, was rejected by anna on " in kept["state"]["message"] or kept["state_name"] == "Skipped"
    assert live.versions(NAME) == {1: ("candidate",), 2: ()}

    # All this time the first one has waited, longer than a silent run may live, and a person promotes it after all.
    wait_for(lambda: _age_s(live, run["id"]) > SILENCE_S + 30, 300, lambda: "")
    assert live.run(run["id"])["state_name"] == "Suspended", live.told(run["id"])
    answer(live, run["id"], decision="promote", reason="Compared with the station by hand.", person="ben")
    ended = live.ended(run["id"])
    assert ended["state"]["message"] == "Promoted v2: by ben: Compared with the station by hand.", live.told(run["id"])
    assert live.versions(NAME) == {1: (), 2: ("candidate", "champion")}
    last = [line for line in read_log(NAME, registry=Registry.open(live.store), store=live.store) if "decision" in line][-1]
    assert (last["by"], last["person"], last["reason"]) == ("person", "ben", "Compared with the station by hand.")
    wait_for(lambda: champions(live) == ["v2"], 60, lambda: champions(live))

    # The form of the deployment rollback: nothing came before the first champion; a person's other choice is taken back.
    settings = {"model": NAME, "reason": "It is too warm by 3 °C.", "person": "anna"}
    refused = live.ended(live.start("rollback/rollback", settings=settings))
    assert refused["state_type"] == "FAILED"
    assert refused["state"]["message"].startswith(f"{NAME} has no version to roll back to: ")
    assert live.retrain("promote", f"{NAME}@1").returncode == 0
    ended = live.ended(live.start("rollback/rollback", settings=settings))
    assert ended["state"]["message"] == "Rolled back champion v1 to v2: by anna: It is too warm by 3 °C.", live.told(ended["id"])
    assert live.versions(NAME) == {1: ("candidate",), 2: ("champion",)}
    wait_for(lambda: champions(live) == ["v2", "v1", "v2"], 60, lambda: champions(live))


def _age_s(live: Live, run_id: str) -> float:
    since = datetime.fromisoformat(live.run(run_id)["state"]["timestamp"])
    return (datetime.now(UTC) - since).total_seconds()
