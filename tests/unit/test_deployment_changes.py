"""What a person has set of a deployment is what is not as it was deployed."""

from __future__ import annotations

from typing import Any

from flows.runtime.deployments import changes

WEEKLY: dict[str, Any] = {"schedule": {"cron": "0 3 * * 1"}, "active": True, "slug": "weekly"}
DEPLOYED: dict[str, Any] = {"retrain/a": {"parameters": {"dataset": "a"}, "schedules": [WEEKLY], "paused": False}}


def test_nothing_was_set() -> None:
    assert changes(DEPLOYED, deployed=DEPLOYED) == {}


def test_a_parameter_a_schedule_and_a_pause_are_seen() -> None:
    daily = WEEKLY | {"schedule": {"cron": "0 3 * * *"}, "slug": None}
    present = {"retrain/a": {"parameters": {"dataset": "a", "promotion": {"promote": "manual"}}, "schedules": [WEEKLY, daily]}}
    assert changes(present, deployed=DEPLOYED) == present
    assert changes({"retrain/a": DEPLOYED["retrain/a"] | {"paused": True}}, deployed=DEPLOYED) == {"retrain/a": {"paused": True}}


def test_of_a_deployment_that_was_never_remembered_nothing_is_known() -> None:
    assert changes({"retrain/b": {"paused": True}}, deployed=DEPLOYED) == {}
    assert changes(DEPLOYED, deployed={}) == {}


def test_a_field_that_an_earlier_version_did_not_remember_is_no_change() -> None:
    assert changes({"retrain/a": {**DEPLOYED["retrain/a"], "tags": ["mine"]}}, deployed=DEPLOYED) == {}
