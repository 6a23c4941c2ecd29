"""What an engineer on call does and meets: parts that die, a schedule that is edited, settings that stay, a look at the state."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from service_helpers import FINAL, PORTS, SAMPLE, Live, children, running_service, wait_for
from service_settings import DIALOG

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]

# What a person has set in the form of the deployment.
SET: dict[str, Any] = {
    "dataset": "jena",
    "variants": ["ridge"],
    "data": SAMPLE,
    "training": {"run_on": "local"},
    "promotion": {"promote": "never"},
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("on-call")
    (folder / "mirror").mkdir()  # without the digests of its files
    with running_service(folder / "home", RETRAIN_MIRROR=str(folder / "mirror")) as service:
        yield service


def status(live: Live) -> tuple[int, dict[str, dict[str, str]]]:
    done = live.retrain("status", "--json")
    assert done.stdout, done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def is_well(live: Live) -> bool:
    return status(live)[0] == 0


def test_of_every_part_and_queue_is_told_that_it_is_well(live: Live) -> None:
    code, findings = status(live)
    assert code == 0, findings
    assert list(findings) == ["prefect", "mlflow", "docs", "recovery", "worker-cpu", "queue cpu", "worker-gpu", "queue gpu"]
    assert live.address(PORTS[1]) in findings["mlflow"]["text"]
    assert findings["queue cpu"]["text"] == "0 runs at work, 0 late"


def test_a_killed_mlflow_comes_back(live: Live) -> None:
    killed = live.pid("mlflow")
    assert children(killed) == []  # a child would go on, and hold the port
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: live.pid("mlflow") not in (0, killed) and is_well(live), 120, lambda: status(live))


def test_what_does_not_run_is_told_and_started_by_up(live: Live) -> None:
    live.supervisor("stop", "mlflow")
    code, findings = status(live)
    assert code == 1
    assert findings["mlflow"]["level"] == "fault"
    assert findings["mlflow"]["text"].startswith("stopped")
    done = live.retrain("up")
    assert done.returncode == 0, done.stderr
    assert "mlflow had ended (stopped) and is started again" in done.stdout
    assert is_well(live)


def test_a_schedule_whose_time_was_changed_in_the_ui_runs_as_its_deployment_says(live: Live) -> None:
    """The dialog stores nulls, and Prefect replaces whole groups: the origin and the brake of promotion were lost."""
    deployment = live.deployments()["retrain-jena"]
    path = f"/deployments/{deployment['id']}"
    live.ask(path, {"parameters": SET}, method="PATCH")
    at = datetime.now(UTC) + timedelta(seconds=75)
    (schedule,) = deployment["schedules"]
    changed = {"cron": f"{at.minute} {at.hour} {at.day} {at.month} *", "timezone": "UTC"}
    live.ask(f"{path}/schedules/{schedule['id']}", {"schedule": changed, "parameters": DIALOG}, method="PATCH")

    def made() -> list[dict[str, Any]]:
        return [run for run in live.runs(deployment_id={"any_": [deployment["id"]]}) if run["state_type"] in FINAL]

    wait_for(lambda: bool(made()), 400, lambda: live.runs(deployment_id={"any_": [deployment["id"]]}))
    (run,) = made()
    assert run["state_name"] == "Kept", live.told(run["id"])
    assert run["state"]["message"].startswith("SAMPLE: ")
    assert run["name"].endswith(" weekly SAMPLE")
    assert live.trains(run["id"]) == []


def test_what_was_set_in_the_ui_stays_until_a_person_resets_it(live: Live) -> None:
    before = live.deployments()["retrain-jena"]
    done = live.retrain("up")
    assert done.returncode == 0, done.stderr
    assert "retrain/retrain-jena keeps what was set in the UI (parameters, schedules)" in done.stdout
    kept = live.deployments()["retrain-jena"]
    assert kept["parameters"] == before["parameters"] == SET
    assert [each["schedule"]["cron"] for each in kept["schedules"]] == [each["schedule"]["cron"] for each in before["schedules"]]
    # The next start keeps it too.
    assert "keeps what was set" in live.retrain("up").stdout
    reset = live.retrain("up", "--reset-deployments")
    assert reset.returncode == 0, reset.stderr
    after = live.deployments()["retrain-jena"]
    assert after["parameters"]["data"]["source"] == "station"
    assert [each["schedule"]["cron"] for each in after["schedules"]] == ["0 3 * * 1"]
    assert "keeps what was set" not in live.retrain("up").stdout


def test_another_environment_is_told_not_to_hold(live: Live) -> None:
    done = live.retrain("up", RETRAIN_MIRROR="/another/mirror")
    assert done.returncode == 0, done.stderr
    assert "it was started with other values of RETRAIN_MIRROR: those of now hold after `retrain down`" in done.stdout
    assert "other values" not in live.retrain("up").stdout


def test_a_run_keeps_the_name_that_a_person_typed(live: Live) -> None:
    deployment = live.deployments()["retrain-jena"]
    typed = {"name": "After the storm", "parameters": SET}
    run = live.ask(f"/deployments/{deployment['id']}/create_flow_run", typed)
    assert live.ended(run["id"])["name"] == "After the storm"


def test_a_fault_of_settings_fails_a_run_at_once(live: Live) -> None:
    run = live.ended(live.start("ingest/ingest", data={"data": "mirror"}), within_s=120)
    assert run["state_name"] == "Failed"
    assert "has no SHA256SUMS: make it there with" in run["state"]["message"]
    parts = live.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert [part["run_count"] for part in parts if part["name"].startswith("fetch")] == [1]


def test_a_killed_supervisord_leaves_nothing_that_keeps_up_from_starting(live: Live) -> None:
    os.kill(int(live.supervisor("pid")), signal.SIGKILL)
    wait_for(lambda: not live.supervisor("pid").isdecimal(), 30, lambda: live.supervisor("pid"))
    assert status(live)[0] == 1
    done = live.retrain("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes that an earlier service, which was killed, had left" in done.stdout
    assert is_well(live)


@pytest.mark.slow
def test_the_demo_retrains_on_the_sample_and_says_where_to_look(live: Live) -> None:
    done = live.retrain("demo")
    assert done.returncode == 0, done.stderr
    pages = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines() if " trains on the sample now: " in line]
    assert len(pages) == 2
    for page in pages:
        run = live.ended(page.rpartition("/")[2], within_s=900)
        assert run["state_name"] in {"Promoted", "Kept"}, live.told(run["id"])
        assert run["name"].endswith("by hand SAMPLE")
