"""The deployments of `prefect.yaml` on the server of a service. What a person has set in the UI stays, and is told.

Prefect's own `deploy` replaces parameters and schedules. So each deployment is remembered as it was deployed: what differs from
that at the next start was set by a person, and is set again once the deployments are renewed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.runtime.automations import ask
from storage.io import read_json, write_json

# What the pages of a deployment let a person set, and `deploy` would replace.
FIELDS = ("parameters", "schedules", "paused", "description", "tags", "job_variables")
_OF_SCHEDULE = ("schedule", "active", "slug", "parameters", "max_scheduled_runs")

State = dict[str, Any]
"""What of a deployment a person can set, by field."""


def renew(api: str, *, deploy: Callable[[], None], record: Path, reset: bool, say: Callable[[str], None]) -> None:
    """Renew the deployments, and keep what a person has set since they were renewed last.

    Args:
        api: Prefect API.
        deploy: Loads `prefect.yaml`.
        record: File in which the deployments are remembered as they were deployed.
        reset: Whether everything becomes as in `prefect.yaml`.
        say: Tells a person what is kept.
    """
    known = read_json(record) if record.is_file() else {}
    # What a start that was killed in between wanted to set again.
    unfinished: Mapping[str, State] = {} if reset else known.get("to_be_set_again", {})
    edited = {} if reset else changes(states(api), deployed=known.get("deployed", {}))
    kept = {name: {**edited.get(name, {}), **unfinished.get(name, {})} for name in {**edited, **unfinished}}
    write_json(record, {"deployed": known.get("deployed", {}), "to_be_set_again": kept})
    deploy()
    deployed = states(api)
    for name, fields in sorted(kept.items()):
        if name in deployed:
            _set(api, name, fields)
            say(
                f"{name} keeps what was set in the UI ({', '.join(sorted(fields))}): `retrain up --reset-deployments` undoes that"
            )
    write_json(record, {"deployed": deployed, "to_be_set_again": {}})


def changes(present: Mapping[str, State], *, deployed: Mapping[str, State]) -> dict[str, State]:
    """Return what a person has set: by deployment, the fields that are not as they were deployed.

    Args:
        present: The deployments as they are.
        deployed: The deployments as they were deployed. Of one that is not among them nobody knows what was set.
    """
    edited = {
        name: {field: value for field, value in state.items() if field in deployed[name] and value != deployed[name][field]}
        for name, state in present.items()
        if name in deployed
    }
    return {name: fields for name, fields in edited.items() if fields}


def states(api: str) -> dict[str, State]:
    """Return what can be set of each deployment on a server, by name such as `train/train`."""
    flows = {flow["id"]: flow["name"] for flow in ask(api, "/flows/filter", {"limit": 200})}
    found = ask(api, "/deployments/filter", {"limit": 200})
    return {f"{flows[entry['flow_id']]}/{entry['name']}": _state(entry) for entry in found}


def _state(entry: Mapping[str, Any]) -> State:
    schedules = [{field: schedule.get(field) for field in _OF_SCHEDULE} for schedule in entry["schedules"]]
    return {**{field: entry.get(field) for field in FIELDS}, "schedules": sorted(schedules, key=json.dumps)}


def _set(api: str, name: str, fields: State) -> None:
    """Set some fields of a deployment."""
    deployment = ask(api, f"/deployments/name/{name}")
    path = f"/deployments/{deployment['id']}"
    plain = {field: value for field, value in fields.items() if field != "schedules"}
    if plain:
        ask(api, path, plain, method="PATCH")
    if "schedules" in fields:
        for schedule in deployment["schedules"]:
            ask(api, f"{path}/schedules/{schedule['id']}", method="DELETE")
        ask(api, f"{path}/schedules", [{k: v for k, v in each.items() if v is not None} for each in fields["schedules"]])
