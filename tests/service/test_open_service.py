"""A service that listens on every address of its machine, from a store with a space in its path, on a host with a proxy."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_helpers import PORTS, QUICK, SAMPLE, Live, fetch, free_ports, running_service

from storage.registry import Registry

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  (the test is about it)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    dead_proxy = f"http://127.0.0.1:{free_ports(1)[0]}"
    proxies = {"HTTP_PROXY": dead_proxy, "HTTPS_PROXY": dead_proxy, "NO_PROXY": ""}
    home = tmp_path_factory.mktemp("service") / "my store"
    with running_service(home, RETRAIN_HOST=EVERY_ADDRESS, **proxies) as service:
        yield service


def by_name(live: Live, port: str, path: str = "") -> str:
    """An address of the service as another host writes it."""
    return f"http://{socket.gethostname()}:{live.environment[port]}{path}"


def test_up_tells_addresses_that_others_can_open(live: Live) -> None:
    done = live.retrain("up")
    assert done.returncode == 0, done.stderr
    for port in PORTS:
        assert by_name(live, port) in done.stdout
    assert EVERY_ADDRESS not in done.stdout


def test_the_ui_asks_the_name_that_a_browser_reached_it_by(live: Live) -> None:
    assert fetch(by_name(live, PORTS[0], "/ui-settings"))["api_url"] == by_name(live, PORTS[0], "/api")


def test_mlflow_answers_to_the_name_of_its_machine_and_to_no_foreign_one(live: Live) -> None:
    path = "/api/2.0/mlflow/experiments/search"
    assert fetch(by_name(live, PORTS[1], path), {"max_results": 1})["experiments"]
    foreign = urllib.request.Request(  # noqa: S310
        by_name(live, PORTS[1], path),
        data=b'{"max_results": 1}',
        headers={"Host": "evil.example", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign)  # noqa: S310


def test_a_run_of_another_host_registers_by_http_and_leaves_nothing_on_its_own_disk(live: Live, tmp_path: Path) -> None:
    environment = {
        **live.environment,
        "MLFLOW_TRACKING_URI": by_name(live, PORTS[1]),
        "NO_PROXY": socket.gethostname(),
        "HOME": str(tmp_path),
    }
    elsewhere = Live(live.home, environment)
    code = (
        "from storage.layout import Store; from storage.registry import Registry\n"
        "registry = Registry.open(Store.from_environment())\n"
        "history = registry.metric_history('made-over-http', run_name='one')\n"
        "print(registry._client.get_experiment_by_name('made-over-http').artifact_location)\n"
    )
    done = elsewhere.command("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mlflow-artifacts:/"), done.stdout
    assert not list(tmp_path.rglob("mlruns"))


@pytest.mark.slow
def test_a_retrain_ends_with_a_champion_and_links_that_others_can_open(live: Live) -> None:
    by_hand = Live(live.home, {**live.environment, "NO_PROXY": "127.0.0.1"})  # Prefect's own command knows no exception
    run_id = by_hand.start("retrain/retrain-jena", data=SAMPLE, training=QUICK, variants=["gru_baseline"])
    run = live.ended(run_id)
    assert run["state_type"] == "COMPLETED", live.told(run_id)
    report = live.artifacts(run_id)["report-jena-sample"]["data"]
    assert by_name(live, PORTS[2]) in report
    assert EVERY_ADDRESS not in json.dumps(report)
    assert Registry.open(live.store).versions("jena-sample")
