"""Equal runs at once on one new store: each training is made and registered once, and every run ends well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Event

import httpx
import pytest
from flow_helpers import ROOT

from flows.runtime.server import prefect_server
from storage.layout import Store
from storage.references import TableRef
from tasks.config import TrainSettings
from tasks.training import steps

RUNS = 4
ARGUMENTS = ("run", "jena", "--data", "sample", "--epochs", "2", "--steps", "20", "--no-refit", "--json")


def start(home: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RETRAIN_HOME": str(home), "PYTHONPATH": str(ROOT)}
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "flows.cli.app", *ARGUMENTS, *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def registered(home: Path) -> Counter[str]:
    environment = {**os.environ, "RETRAIN_HOME": str(home), "PYTHONPATH": str(ROOT)}
    listed = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "models", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    return Counter(version["variant"] for version in json.loads(listed.stdout))


def test_whoever_comes_second_waits_and_finds_what_the_first_has_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAIN_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    done: list[str] = []
    monkeypatch.setattr(steps.identity, "training_key", lambda *_, **__: "0" * 16)
    monkeypatch.setattr(steps.registering, "find_trained", lambda *_, **__: done[-1] if done else None)
    monkeypatch.setattr(steps.Registry, "open", lambda store: None)
    table = TableRef(dataset="jena", version="0" * 12, uri="", simulated=True, rows={})
    inside, go_on = Event(), Event()

    def train(name: str) -> object:
        with steps.claim(table, variant="gru_baseline", settings=TrainSettings()) as existing:
            if existing is None:
                inside.set()
                assert go_on.wait(60)
                done.append(name)
            return existing

    with prefect_server(Store.at(tmp_path)) as api, ThreadPoolExecutor() as threads:
        first = threads.submit(copy_context().run, train, "first")
        assert inside.wait(60)
        second = threads.submit(copy_context().run, train, "second")
        time.sleep(1)
        assert not second.done()
        go_on.set()
        assert (first.result(60), second.result(60)) == (None, "first")
        # No limit of a training is left on the page of the server.
        limits = httpx.post(f"{api}/v2/concurrency_limits/filter", json={}).json()
        assert [limit["name"] for limit in limits] == []
    assert done == ["first"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (0, 1, 2, 3)], ids=["equal", "other seeds"])
def test_runs_at_once_on_a_new_store_register_each_training_once(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    home = tmp_path / "var"
    running = [start(home, "--variants", "gru_baseline", "--seed", str(seed)) for seed in seeds]
    ended = [(*process.communicate(timeout=850), process.returncode) for process in running]
    for _, errors, code in ended:
        assert code == 0, errors
        assert "Traceback" not in errors
    assert registered(home) == {"gru_baseline": len(set(seeds)), "ridge": 1}
    champions = [json.loads(output)[0]["decision"]["outcome"] for output, _, _ in ended]
    assert "promoted" in champions
    left = [path for path in (home / "checkpoints").rglob("*") if path.is_file()] if (home / "checkpoints").exists() else []
    assert left == []
