"""Finds runs of the service whose process has died or that a person has paused, and lets those that should go on start again.

python -m flows.runtime.recovery

It looks at what the server has now, every few seconds. Automations of Prefect react to events, which the server holds back for up
to a quarter of an hour after it was restarted, and change a state whatever a person has done to the run in the meantime.

Heartbeats are events too, and under load the server records them late: on SQLite with twenty runs at once by up to nine minutes.
So before a run is given up, an event of this module is sent after its heartbeats. Once it is on record, they would be too.
"""

from __future__ import annotations

import http.client
import logging
import os
import time
import urllib.error
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.runtime.automations import ask
from flows.runtime.worker import HEARTBEAT_S

logger = logging.getLogger("retrain")

POLL_S = 10
SILENCE = timedelta(seconds=3 * HEARTBEAT_S)
# Many runs that start together on a small host take some: each imports its libraries.
MAX_PENDING = timedelta(minutes=10)
# A run that crashes before it begins does not count its starts.
MAX_CRASHES = 4
MAX_CANCELLING = timedelta(minutes=5)
# The process of a paused run has ended by then: it looks at its state every ten seconds, and ends at the second look.
PAUSE_BEGINS = timedelta(seconds=30)
# A pause goes on by itself this long before its end, at which the server would fail the run.
PAUSE_ENDS = timedelta(seconds=2 * POLL_S)
# A run that crashed before is left to a person.
MAX_AGE = timedelta(days=1)
FLOWS_THAT_GO_ON = ("retrain", "approve")
HEARTBEAT = "prefect.flow-run.heartbeat"
LOOK = "retrain.recovery.look"
# Server and workers have given up long before events are as late as this.
MAX_LATE = timedelta(hours=1)
_PAGE = 200

Run = Mapping[str, Any]


def look(api: str, *, now: datetime, heard_since: datetime) -> list[str]:
    """Look once at the runs of deployments, change what has to be changed, and return a sentence on each change.

    No state is forced: what the server refuses, because somebody was quicker, is left as it is.

    Args:
        api: Prefect API.
        now: The present.
        heard_since: Since when the server answers without a break: a silence before that is not one of the run.
    """
    said: list[str] = []
    at_work = [*_runs(api, "RUNNING"), *_runs(api, "CANCELLING")]
    silent = [run for run in at_work if now - _heard_of(run, heard_since) > SILENCE and not _beats(api, run, now)]
    if silent:
        recorded = _recorded_until(api, now=now)
        _send_look(api, now=now)
        silent = [run for run in silent if not _beats(api, run, recorded)]
    for run in silent:
        kind, quiet_for = run["state"]["type"], recorded - _heard_of(run, heard_since)
        if kind == "RUNNING" and quiet_for > SILENCE:
            text = f"No heartbeat for {SILENCE.seconds} s: the process of the run or its host has died."
            said += _set(api, run, {"type": "CRASHED", "message": text})
        if kind == "CANCELLING" and quiet_for > MAX_CANCELLING:
            said += _set(api, run, {"type": "CANCELLED", "message": "Its process had died before it could be told."})
    for run in _runs(api, "PENDING"):
        if now - _heard_of(run, heard_since) > MAX_PENDING:
            text = f"Not started within {MAX_PENDING.seconds // 60} minutes: the host of the worker that took the run has died."
            said += _set(api, run, {"type": "CRASHED", "message": text})
    for run in _runs(api, "PAUSED"):
        said += _pause(api, run, now=now)
    for run in _runs(api, "CRASHED", flows=FLOWS_THAT_GO_ON, since=now - MAX_AGE):
        if _crashes(api, run) > MAX_CRASHES:
            continue
        due = {"scheduled_time": now.isoformat()}
        again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Scheduled again after a crash.", "state_details": due}
        said += _set(api, run, again)
    return said


def _runs(api: str, kind: str, *, flows: tuple[str, ...] = (), since: datetime | None = None) -> list[Run]:
    """Return the runs of deployments in a type of state; a run of a command has no deployment, and ends with its command."""
    asked: dict[str, Any] = {
        "flow_runs": {"state": {"type": {"any_": [kind]}}, "deployment_id": {"is_null_": False}},
        "sort": "START_TIME_DESC",
        "limit": _PAGE,
    }
    if flows:
        asked["flows"] = {"name": {"any_": list(flows)}}
    found = ask(api, "/flow_runs/filter", asked)
    return [run for run in found if since is None or _since(run) > since]


def _since(run: Run) -> datetime:
    """Return since when a run has its state."""
    return _moment(run["state"]["timestamp"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _heard_of(run: Run, heard_since: datetime) -> datetime:
    """Return the moment from which on a run's silence counts: since it has its state and the server answers."""
    return max(_since(run), heard_since)


def _beats(api: str, run: Run, until: datetime) -> bool:
    """Return whether a heartbeat of a run is on record from the last seconds before a moment, or from after it."""
    resource = f"prefect.flow-run.{run['id']}"
    return _last_event(api, HEARTBEAT, since=until - SILENCE, resource={"id": [resource]}) is not None


def _recorded_until(api: str, *, now: datetime) -> datetime:
    """Return the moment up to which events are on record: the server records them in the order in which it receives them."""
    return _last_event(api, LOOK, since=now - MAX_LATE, until=now) or now - MAX_LATE


def _send_look(api: str, *, now: datetime) -> None:
    """Send the event that will tell how far the record is."""
    event = {
        "id": str(uuid.uuid4()),
        "event": LOOK,
        "occurred": now.isoformat(),
        "resource": {"prefect.resource.id": "retrain.recovery"},
    }
    ask(api, "/events", [event])


def _last_event(api: str, name: str, *, since: datetime, until: datetime | None = None, **more: Any) -> datetime | None:
    """Return when the last event of a name occurred that is on record."""
    occurred = {"since": since.isoformat()} | ({"until": until.isoformat()} if until else {})
    asked = {"event": {"name": [name]}, "occurred": occurred, "order": "DESC", **more}
    found = ask(api, "/events/filter", {"filter": asked, "limit": 1})["events"]
    return _moment(found[0]["occurred"]) if found else None


def _crashes(api: str, run: Run) -> int:
    return sum(state["type"] == "CRASHED" for state in ask(api, f"/flow_run_states/?flow_run_id={run['id']}"))


def _set(api: str, run: Run, state: Mapping[str, Any]) -> Iterator[str]:
    """Propose a state for a run; if it is accepted, end what ran within the run, and yield a sentence."""
    answer = ask(api, f"/flow_runs/{run['id']}/set_state", {"state": dict(state), "force": False})
    if answer["status"] == "ACCEPT":
        crashed = {"type": "CRASHED", "message": "The process of its run has died."}
        _end_parts(api, str(run["id"]), task=crashed, flow=crashed)
        yield f"{run['name']}: {state['message']}"


def _pause(api: str, run: Run, *, now: datetime) -> Iterator[str]:
    """Resume a run that a person has paused when its time is over, as the UI promises, and end what ran within it.

    A run that waits for an answer is left alone: it has a form, and its process ended what ran within it.
    """
    details = run["state"]["state_details"]
    if not details.get("pause_reschedule") or details.get("run_input_keyset"):
        return
    if now - _since(run) > PAUSE_BEGINS:
        # A flow within it goes on with it; a task is made anew.
        task, flow = ({"type": kind, "message": "Its run was paused."} for kind in ("CANCELLED", "PAUSED"))
        _end_parts(api, str(run["id"]), task=task, flow=flow)
    ends = details.get("pause_timeout")
    if ends and now + PAUSE_ENDS > _moment(ends) and ask(api, f"/flow_runs/{run['id']}/resume", {})["status"] == "ACCEPT":
        yield f"{run['name']}: Resumed, because the time of its pause is over."


def _end_parts(api: str, run_id: str, *, task: Mapping[str, str], flow: Mapping[str, str]) -> None:
    """Propose an end for the tasks and flows that ran in the process of a run, and for what ran within those.

    Args:
        api: Prefect API.
        run_id: The run.
        task: State for tasks.
        flow: State for flows, and for the tasks that Prefect shows in their place.
    """
    running = {"type": {"any_": ["RUNNING", "PENDING"]}}
    within = {"parent_flow_run_id": {"any_": [run_id]}, "state": running, "deployment_id": {"is_null_": True}}
    called = ask(api, "/flow_runs/filter", {"flow_runs": within, "limit": _PAGE})
    places = {flow_run["parent_task_run_id"] for flow_run in called}
    tasks = {"flow_runs": {"id": {"any_": [run_id]}}, "task_runs": {"state": running}, "limit": _PAGE}
    for task_run in ask(api, "/task_runs/filter", tasks):
        ended = flow if task_run["id"] in places else task
        ask(api, f"/task_runs/{task_run['id']}/set_state", {"state": dict(ended), "force": False})
    for flow_run in called:
        ask(api, f"/flow_runs/{flow_run['id']}/set_state", {"state": dict(flow), "force": False})
        _end_parts(api, str(flow_run["id"]), task=task, flow=flow)


def main() -> None:
    """Look again and again, until this process is ended; a server that does not answer is waited for."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    api = os.environ["PREFECT_API_URL"]
    heard_since: datetime | None = None
    while True:
        now = datetime.now(UTC)
        try:
            for sentence in look(api, now=now, heard_since=heard_since or now):
                logger.info(sentence)
            heard_since = heard_since or now
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            heard_since = None
            logger.warning("Prefect does not answer: %s", error)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
