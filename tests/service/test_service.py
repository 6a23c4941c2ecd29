"""The service with a real server, workers and trainings: deployments, schedules, crashes, and hosts that come and go."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from service_helpers import (
    CORES,
    FINAL,
    PORTS,
    QUICK,
    SAMPLE,
    VARIANTS,
    Live,
    checkpoints,
    children,
    fetch,
    flow_run_of,
    free_ports,
    other_host,
    running_service,
    wait_for,
)

from storage.registry import Registry

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]

AS_IT_IS = {"refit": False}
"""Promotion without a refit, where a test counts trainings."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running_service(tmp_path_factory.mktemp("service") / "home") as service:
        yield service


def test_everything_is_healthy_and_deployed(live: Live) -> None:
    assert live.ask("/health") == "true"
    assert fetch(f"{live.address(PORTS[1])}/health") == "OK"
    assert "<html" in fetch(f"{live.address(PORTS[2])}/").lower()
    for pool in ("cpu", "gpu"):
        workers = live.ask(f"/work_pools/{pool}/workers/filter", {})
        assert [worker["status"] for worker in workers] == ["ONLINE"], pool
    started_by_hand = {"train", "promote", "rollback", "approve"}
    assert set(live.deployments()) == {
        "retrain-jena",
        "retrain-imdb",
        "ingest",
        "predict",
        "monitor",
        "gc",
        "verify",
        *started_by_hand,
    }


def test_each_cron_deployment_has_a_scheduled_run(live: Live) -> None:
    names = {entry["id"]: name for name, entry in live.deployments().items()}

    def scheduled() -> set[str]:
        return {names[run["deployment_id"]] for run in live.runs(state={"type": {"any_": ["SCHEDULED"]}})}

    wait_for(
        lambda: scheduled() == {"retrain-jena", "retrain-imdb", "ingest", "predict", "monitor", "gc", "verify"}, 90, scheduled
    )


def test_a_second_up_changes_nothing(live: Live) -> None:
    programs = ("prefect", "mlflow", "docs", "worker-cpu", "worker-gpu")
    before = {program: live.pid(program) for program in programs}
    automations = live.ask("/automations/filter", {})
    deployments = {name: entry["id"] for name, entry in live.deployments().items()}
    done = live.retrain("up")
    assert done.returncode == 0, done.stderr
    assert "running already" in done.stdout
    assert {program: live.pid(program) for program in programs} == before
    assert live.ask("/automations/filter", {}) == automations
    assert {name: entry["id"] for name, entry in live.deployments().items()} == deployments


def test_a_taken_port_is_named_with_its_setting(live: Live, tmp_path: Path) -> None:
    prefect, docs = free_ports(2)
    taken = live.environment[PORTS[1]]
    more = {"RETRAIN_HOME": str(tmp_path), PORTS[0]: str(prefect), PORTS[2]: str(docs)}
    done = live.retrain("up", **more)
    assert done.returncode == 2
    assert f"port {taken}" in done.stderr
    assert "RETRAIN_MLFLOW_PORT" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_parameter_is_refused_before_a_run_exists(live: Live) -> None:
    def by_hand() -> set[str]:
        return {run["id"] for run in live.runs() if not run["auto_scheduled"]}

    before = by_hand()
    done = live.press_run("retrain/retrain-jena", data=SAMPLE, training=QUICK | {"epochs": 0})
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "epochs" in said, said
    assert "0 is less than the minimum of 1" in said, said
    assert by_hand() == before


@pytest.fixture(scope="module")
def first(live: Live) -> dict[str, Any]:
    """A first retrain on the sample, started by hand."""
    return live.ended(live.start("retrain/retrain-jena", data=SAMPLE, training=QUICK))


def test_the_log_of_a_run_is_on_its_page(live: Live, first: dict[str, Any]) -> None:
    """Table, epochs, versions and decision on the page of the retrain, each part's own on its page, all of it by one command."""
    page = live.told(first["id"])
    for said in ("jena: Published table", "epoch 1 of 1", f"jena {VARIANTS[0]}: registered as jena-sample@", "Promoted v"):
        assert said in page, page
    printed = live.retrain("logs", first["id"][:8])
    assert printed.returncode == 0, printed.stderr
    told = printed.stdout
    for said in ("expectations passed, 0 failed", "published table", "epoch 1 of 1", "jena-sample: Promoted v"):
        assert said in told, told
    assert f"INFO    train jena {VARIANTS[0]}: jena {VARIANTS[0]}: epoch 1 of 1" in told
    listed = json.loads(live.retrain("runs", "--json").stdout)
    assert first["name"] in {run["name"] for run in listed if run["state"] == "Promoted"}


def test_a_run_by_hand_goes_to_both_pools(live: Live, first: dict[str, Any]) -> None:
    assert first["state_type"] == "COMPLETED", live.told(first["id"])
    assert re.fullmatch(rf"retrain-jena {datetime.now(UTC):%Y-%m-%d} \d\d:\d\d by hand SAMPLE", first["name"])
    assert first["work_pool_name"] == "cpu"
    assert first["state_name"] == "Promoted"
    assert first["state"]["message"].startswith("SAMPLE: Promoted v")
    assert {"jena"} <= set(first["tags"])
    trains = live.trains(first["id"])
    assert {(run["name"], run["state_type"]) for run in trains} == {(f"train jena {v}", "COMPLETED") for v in VARIANTS}
    assert len(trains) == 2
    # The version that was promoted is trained again on all rows, on the gpu pool too.
    (promote,) = [run for run in live.runs(parent_flow_run_id={"any_": [first["id"]]}) if run["name"] == "promote jena"]
    (refit,) = live.trains(promote["id"])
    assert (refit["state_type"], refit["parameters"]["refit"]["epochs"]) == ("COMPLETED", 1)


def test_its_artifacts_and_links_open(live: Live, first: dict[str, Any]) -> None:
    found = live.artifacts(first["id"])
    assert {"report-jena-sample", "metrics-jena-sample", "expectations-jena-sample"} <= set(found)
    for run in live.trains(first["id"]):
        progress = [entry for key, entry in live.artifacts(run["id"]).items() if key.startswith("progress-jena-")]
        assert [entry["data"] for entry in progress] == [100.0]
    # How far they are stands on the page of the run that waits for them, too.
    assert {found[f"training-jena-{variant.replace('_', '-')}"]["data"] for variant in VARIANTS} == {100.0}
    report = found["report-jena-sample"]["data"]
    links = {
        word for word in report.replace("(", " ").replace(")", " ").replace("<", " ").replace(">", " ").split() if "://" in word
    }
    docs = [link for link in links if link.startswith(live.address(PORTS[2])) and link.endswith("index.html")]
    assert len(docs) == 1, links
    assert "<html" in fetch(docs[0]).lower()
    pages = [link for link in links if link.startswith(f"{live.address(PORTS[1])}/#/experiments/")]
    assert len(pages) == 1, links
    # What stands behind # never reaches the server, so the run is asked for through MLflow's API.
    run_id = pages[0].rsplit("/", 1)[1].removesuffix("?workflowType=machine_learning")
    known = fetch(f"{live.address(PORTS[1])}/api/2.0/mlflow/runs/get?run_id={run_id}")
    assert known["run"]["info"]["status"] == "FINISHED"


def test_it_leaves_a_champion(live: Live, first: dict[str, Any]) -> None:
    aliases = live.versions("jena-sample")
    champions = [version for version, names in aliases.items() if "champion" in names]
    assert len(champions) == 1
    version = Registry.open(live.store).version("jena-sample", champions[0])
    assert "candidate" in aliases[int(version.tags["refit_of"])]
    assert "jena" not in Registry.open(live.store).names()


def test_an_equal_run_is_skipped(live: Live, first: dict[str, Any]) -> None:
    before = live.versions("jena-sample")
    run = live.ended(live.start("retrain/retrain-jena", data=SAMPLE, training=QUICK))
    table = live.trains(first["id"])[0]["parameters"]["table"]["version"]
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Skipped"), live.told(run["id"])
    assert re.fullmatch(
        rf"SAMPLE: Skipped: nothing changed since table {table}: the newest reading is of 2009\S+", run["state"]["message"]
    )
    assert live.trains(run["id"]) == []
    assert live.versions("jena-sample") == before


@pytest.mark.slow
def test_two_retrains_together_share_the_devices(live: Live, first: dict[str, Any]) -> None:
    before = live.versions("jena-sample")
    since = datetime.now(UTC)
    sent = live.start("retrain/retrain-jena", data=SAMPLE, training=QUICK | {"seed": 1}, promotion=AS_IT_IS)
    options = ("--seed", "2", "--epochs", "1", "--steps", "20", "--no-refit")
    typed = live.retrain("run", "jena", "--data", "sample", *options, "--json")
    assert typed.returncode == 0, typed.stderr
    assert live.ended(sent)["state_type"] == "COMPLETED", live.told(sent)
    # A run of the command is in the service's UI too.
    names = [run["name"] for run in live.runs(start_time={"after_": since.isoformat()}) if run["deployment_id"] is None]
    assert any(re.fullmatch(rf"retrain-jena {since:%Y-%m-%d} \d\d:\d\d by hand SAMPLE", name) for name in names), names
    assert len(live.versions("jena-sample")) == len(before) + 2 * len(VARIANTS)
    assert len([path for path in (live.home / "tables" / "jena").iterdir() if (path / "manifest.json").is_file()]) == 1
    # A training makes its progress artifact once it has the lease, and sets it to its end before it gives the lease back.
    trained = [entry for entry in live.ask("/artifacts/filter", {}) if str(entry["key"]).startswith("progress-jena-")]
    spans = [(entry["created"], entry["updated"]) for entry in trained if datetime.fromisoformat(entry["created"]) > since]
    assert len(spans) == 2 * len(VARIANTS)
    together = max(sum(start <= other < end for start, end in spans) for other, _ in spans)
    assert together <= CORES, spans


def test_a_schedule_of_the_next_minute_runs(live: Live, first: dict[str, Any]) -> None:
    deployment = live.deployments()["retrain-jena"]
    at = datetime.now(UTC) + timedelta(seconds=75)
    schedule = {
        "slug": "weekly",
        "active": True,
        "schedule": {"cron": f"{at.minute} {at.hour} {at.day} {at.month} *", "timezone": "UTC"},
        "parameters": {"data": SAMPLE, "training": QUICK},
    }
    # A change of the deployment is seen by the scheduler within seconds, one of its schedule alone within a minute.
    live.ask(f"/deployments/{deployment['id']}", {"schedules": [schedule]}, method="PATCH")

    def made() -> list[dict[str, Any]]:
        runs = live.runs(deployment_id={"any_": [deployment["id"]]})
        soon = (at + timedelta(minutes=2)).isoformat()
        return [run for run in runs if run["auto_scheduled"] and run["expected_start_time"][:19] < soon[:19]]

    wait_for(lambda: any(run["state_type"] in FINAL for run in made()), 240, made)
    assert [(run["name"], run["state_name"]) for run in made()] == [(f"retrain-jena {at:%Y-%m-%d} weekly SAMPLE", "Skipped")]


@pytest.mark.slow
def test_killed_runs_crash_and_end_well(live: Live, first: dict[str, Any]) -> None:
    """The gpu worker and its trainings are killed, and so are the cpu worker and one of the two parents."""
    before = live.versions("jena-sample")
    longer = QUICK | {"epochs": 30, "steps_per_epoch": 40, "patience_epochs": 30}
    # One deployment runs one retrain at a time, so the second one goes by the other; IMDB takes longer to compile.
    spared, struck = (
        live.start(
            f"retrain/{name}",
            dataset="jena",
            data=SAMPLE,
            variants=["gru_baseline"],
            training=longer | {"seed": seed},
            promotion=AS_IT_IS,
        )
        for name, seed in (("retrain-jena", 5), ("retrain-imdb", 6))
    )
    wait_for(lambda: len(checkpoints(live)) == 2, 240, lambda: live.told(spared) + live.told(struck))
    cpu, gpu = live.pid("worker-cpu"), live.pid("worker-gpu")
    parent = next(pid for pid in children(cpu) if flow_run_of(pid) == struck)
    for pid in (gpu, *children(gpu), cpu, parent, *children(parent)):
        os.kill(pid, signal.SIGKILL)
    trains = [live.trains(run)[0]["id"] for run in (spared, struck)]
    wait_for(lambda: all(live.run(run)["state_type"] == "CRASHED" for run in trains), 200, lambda: live.told(trains[0]))
    assert live.run(trains[0])["state"]["message"].startswith("No heartbeat")
    assert live.pid("worker-cpu") != cpu
    assert live.pid("worker-gpu") != gpu
    for run in (spared, struck):
        assert live.ended(run)["state_type"] == "COMPLETED", live.told(run)
        assert [train["state_type"] for train in live.trains(run)] == ["CRASHED", "COMPLETED"]
    assert (live.run(spared)["run_count"], live.run(struck)["run_count"]) == (1, 2)
    new = sorted(live.versions("jena-sample").keys() - before.keys())
    assert len(new) == 2
    registry = Registry.open(live.store)
    manifests = [
        json.loads(registry.read_file(registry.version("jena-sample", number).run_id, "manifest.json")) for number in new
    ]
    assert {manifest["training"]["settings"]["seed"] for manifest in manifests} == {5, 6}
    assert all(manifest["training"]["resumed_from"] > 0 for manifest in manifests)


@pytest.mark.slow
def test_other_hosts_serve_the_pool(live: Live, first: dict[str, Any], tmp_path: Path) -> None:
    table = live.trains(first["id"])[0]["parameters"]["table"]
    live.supervisor("stop", "worker-gpu")
    try:
        asked = {"table": table, "variant": "gru_baseline"}
        lost = live.start("train/train", **asked, settings=QUICK | {"seed": 7})
        wait_for(lambda: live.run(lost)["state_name"] == "Late", 90, lambda: live.run(lost)["state"])
        with other_host(live, tmp_path / "without-gpu", RETRAIN_REQUIRE_GPU="true"):
            end = live.ended(lost)
        assert (end["state_type"], end["state_name"]) == ("FAILED", "Failed")
        assert "require_gpu" in end["state"]["message"]
        assert "run on a GPU worker" in end["state"]["message"]
        assert "Traceback" not in end["state"]["message"]
        before = live.versions("jena-sample")
        with other_host(live, tmp_path / "one"), other_host(live, tmp_path / "two"):
            sent = [live.start("train/train", **asked, settings=QUICK | {"seed": seed}) for seed in (8, 9)]
            assert [live.ended(run)["state_type"] for run in sent] == ["COMPLETED"] * 2, live.told(sent[0])
        assert len(live.versions("jena-sample")) == len(before) + 2
    finally:
        live.supervisor("start", "worker-gpu")


def test_down_loses_nothing(live: Live, first: dict[str, Any]) -> None:
    done = live.retrain("down")
    assert done.returncode == 0, done.stderr
    with pytest.raises(urllib.error.URLError):
        live.ask("/health")
    assert live.retrain("down").stdout.strip() == "not running"
    done = live.retrain("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert live.run(first["id"])["state_type"] == "COMPLETED"
    assert live.artifacts(first["id"])
