"""`prefect.yaml` loads and deploys on a real server, and its cron schedules make runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.runtime.automations import deploy_automations
from flows.runtime.new_database import new_database

ROOT = Path(__file__).resolve().parents[2]
PREFECT = [sys.executable, "-m", "prefect"]

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, *, body: Mapping[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of its own, with both pools and every deployment of prefect.yaml."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    log = home / "server.log"
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with ExitStack() as stack:
        # The empty database that a run has cached, if there is one: the server takes seconds to make its own.
        with new_database(home):
            output = stack.enter_context(log.open("w"))
            server = stack.enter_context(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
            stack.callback(server.terminate)
            for _ in range(120):
                try:
                    ask(f"{url}/health")
                    break
                except OSError:
                    assert server.poll() is None, log.read_text()[-2000:]
                    time.sleep(0.5)
        for pool in ("cpu", "gpu"):
            ask(f"{url}/work_pools/", body={"name": pool, "type": "process"})
        deploy = [*PREFECT, "--no-prompt", "deploy", "--all"]
        done = subprocess.run(deploy, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield url


def test_every_deployment_is_there_with_its_pool_and_schedule(api: str) -> None:
    found = {entry["name"]: entry for entry in ask(f"{api}/deployments/filter", body={})}
    assert {name: entry["work_pool_name"] for name, entry in found.items()} == {
        "retrain-jena": "cpu",
        "retrain-imdb": "cpu",
        "ingest": "cpu",
        "train": "gpu",
        "promote": "cpu",
        "predict": "cpu",
        "monitor": "cpu",
        "gc": "cpu",
        "verify": "cpu",
        "rollback": "cpu",
        "approve": "cpu",
    }
    crons = {name: sorted(schedule["schedule"]["cron"] for schedule in entry["schedules"]) for name, entry in found.items()}
    assert crons == {
        "retrain-jena": ["0 3 * * 1"],
        "retrain-imdb": ["0 4 1 * *"],
        "ingest": ["30 1 * * *"],
        "train": [],
        "promote": [],
        "predict": ["20 * * * *", "45 5 * * *"],
        "monitor": ["15 6 * * *"],
        "gc": ["0 12 * * 0"],
        "verify": ["0 14 2 * *"],
        "rollback": [],
        "approve": [],
    }


def test_the_parameters_become_a_form_with_descriptions(api: str) -> None:
    found = {entry["name"]: entry for entry in ask(f"{api}/deployments/filter", body={})}
    schema = found["retrain-jena"]["parameter_openapi_schema"]
    assert set(schema["properties"]) == {"dataset", "variants", "data", "training", "promotion"}
    # A list to choose from, and no free text.
    assert {"gru_baseline", "lstm"} <= set(schema["properties"]["variants"]["items"]["enum"])
    for name, field in schema["properties"].items():
        # A group of settings may be told by its own description, which the form shows too.
        group = schema["definitions"].get(field.get("$ref", "").rpartition("/")[2], {})
        assert field.get("description") or group.get("description"), name
        for inner, setting in group.get("properties", {}).items():
            assert setting.get("description"), f"{name}.{inner}"


def test_a_cron_schedule_makes_scheduled_runs(api: str) -> None:
    # The scheduler loop is what an unsuitable SQLAlchemy breaks without a word: only a run that appears proves it.
    deployed = ask(f"{api}/deployments/filter", body={})
    scheduled = {entry["id"] for entry in deployed if any(schedule["active"] for schedule in entry["schedules"])}
    deadline = time.monotonic() + 60
    states: set[str] = set()
    found: set[str] = set()
    while time.monotonic() < deadline and found != scheduled:
        runs = ask(f"{api}/flow_runs/filter", body={})
        found = {run["deployment_id"] for run in runs}
        states = {run["state_type"] for run in runs}
        time.sleep(1)
    assert found == scheduled
    assert states == {"SCHEDULED"}


def test_a_wrong_parameter_is_refused_before_a_run_exists(api: str) -> None:
    found = {entry["name"]: entry for entry in ask(f"{api}/deployments/filter", body={})}
    url = f"{api}/deployments/{found['retrain-jena']['id']}/create_flow_run"
    before = ask(f"{api}/flow_runs/count", body={"deployments": {"name": {"any_": ["retrain-jena"]}}})
    bad = {"parameters": {"dataset": "jena", "training": {"epochs": 0}}, "enforce_parameter_schema": True}
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url, body=bad)
    assert refused.value.code in {409, 422}
    assert "epochs" in refused.value.read().decode()
    assert ask(f"{api}/flow_runs/count", body={"deployments": {"name": {"any_": ["retrain-jena"]}}}) == before


def test_nothing_is_tied_to_the_folder_that_was_deployed_from(api: str) -> None:
    for entry in ask(f"{api}/deployments/filter", body={}):
        assert str(ROOT) not in json.dumps(entry)


def test_automations_are_made_once_and_those_of_before_are_removed(api: str) -> None:
    """What a person has turned off stays off."""

    def automations() -> dict[str, Any]:
        return {entry["name"]: entry for entry in ask(f"{api}/automations/filter", body={})}

    deploy_automations(api)
    made = automations()
    assert {"approval that nobody gave", "new table is retrained on"} <= made.keys()
    one = made["approval that nobody gave"]
    earlier = {name: one[name] for name in ("description", "trigger", "actions")}
    ask(f"{api}/automations/", body={"name": "crashed retrain runs again", "enabled": True, **earlier})
    request = urllib.request.Request(  # noqa: S310
        f"{api}/automations/{one['id']}", data=b'{"enabled": false}', headers={"Content-Type": "application/json"}, method="PATCH"
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    for _ in range(2):
        deploy_automations(api)
        assert automations().keys() == made.keys()
        assert not automations()["approval that nobody gave"]["enabled"]
