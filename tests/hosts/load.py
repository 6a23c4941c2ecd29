"""Many runs at once on the hosts of the topology: is one lost, how late do they start, how fast is the API, what do they leave?

python tests/hosts/load.py --runs 200 --at-once 20

Most runs are those of the flow `ingest` on the sample, which was published before: a worker starts each as a process that reads
the store and tells the server of its tasks, logs and artifacts. Every tenth is a whole retrain of a network whose training, on
the pool `gpu`, is cut down to one step: it scores, registers and decides beside the others.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from invariants import faults_left
from team import FINAL, MODEL, QUICK, SAMPLE, Team, team, wait_for

DEPLOYMENT = "load"
RETRAIN_EVERY = 10
# Of one run on a core of its own some five; then the time that all of them need on the cores of this machine.
SECONDS_A_RUN = 30
ASK_EVERY_S = 0.5
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/flow_runs/filter", {"limit": 50, "sort": "START_TIME_DESC"}),
    ("/flow_runs/count", {}),
    ("/ui/flow_runs/count-task-runs", {"flow_run_ids": []}),
)


@dataclass(frozen=True)
class Measured:
    """What a load did.

    Attributes:
        retrains: How many of the runs trained.
        lost: Runs that did not end well.
        wrong: What is not as it should be in registry, log, checkpoints and tables.
        first_lag_s: From the time at which the runs that find a free place are due to their state `Running`.
        lag_s: Of every run, most of which wait for a place.
        latency_s: Of single requests to the API meanwhile.
        bytes_a_run: Growth of Prefect's database.
    """

    database: str
    runs: int
    retrains: int
    at_once: int
    lost: int
    wrong: Sequence[str]
    seconds: float
    first_lag_s: Sequence[float]
    lag_s: Sequence[float]
    latency_s: Sequence[float]
    bytes_a_run: float


def put_under_load(here: Team, *, runs: int, at_once: int, name: str) -> Measured:
    """Start runs that are all due at once, wait for their end, and measure."""
    here.ended(here.start("ingest/ingest", data=SAMPLE), within_s=300)
    ingest = _deploy(here, "ingest/ingest", {"data": SAMPLE})
    retrain = _deploy(here, "retrain/retrain-jena", {"data": SAMPLE, "variants": ["gru_baseline"], "promotion": {"refit": False}})
    deployments = [ingest, retrain]
    here.ask("/work_pools/cpu", {"concurrency_limit": at_once}, method="PATCH")
    size_before = _database_bytes(here)
    latency = _Latency(here)
    state = {"type": "SCHEDULED", "name": "Scheduled"}
    began_s = time.monotonic()
    sent, retrains = [], []
    for number in range(1, runs + 1):
        body: dict[str, Any] = {"state": state}
        trains = number % RETRAIN_EVERY == 0
        if trains:  # each with a seed of its own, or the second would find the training of the first
            body["parameters"] = {"training": {**QUICK, "seed": number}}
        sent.append(str(here.ask(f"/deployments/{retrain if trains else ingest}/create_flow_run", body)["id"]))
        retrains += sent[-1:] if trains else []
    with latency:
        wait_for(lambda: _ended(here, deployments) == runs, SECONDS_A_RUN * runs + 300, lambda: _states(here, deployments))
    seconds = time.monotonic() - began_s
    ended = {run["id"]: run for run in here.runs(deployment_id={"any_": deployments})}
    assert set(ended) == set(sent)
    lags = sorted(_lag_s(run) for run in ended.values() if run["start_time"])
    return Measured(
        database=name,
        runs=runs,
        retrains=len(retrains),
        at_once=at_once,
        lost=sum(run["state_type"] != "COMPLETED" for run in ended.values()),
        wrong=faults_left(here, retrains=retrains, model=MODEL) if retrains else (),
        seconds=seconds,
        first_lag_s=lags[:at_once],
        lag_s=lags,
        latency_s=latency.seconds,
        bytes_a_run=(_database_bytes(here) - size_before) / runs,
    )


class _Latency:
    """Ask the API one thing after the other while the block runs, and keep how long each answer took."""

    def __init__(self, here: Team) -> None:
        self._here = here
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.seconds: list[float] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    def _ask(self) -> None:
        while not self._done.wait(ASK_EVERY_S):
            for path, body in QUESTIONS:
                began_s = time.monotonic()
                with contextlib.suppress(OSError):  # no answer counts with the time that it was waited for
                    self._here.ask(path, body)
                self.seconds.append(time.monotonic() - began_s)


def _deploy(here: Team, name: str, parameters: dict[str, Any]) -> str:
    """Make a deployment like one of the project's, but for its parameters and without its limit of one run at once."""
    like = here.ask(f"/deployments/name/{name}")
    body = {field: like[field] for field in ("flow_id", "entrypoint", "pull_steps")}
    body |= {"name": DEPLOYMENT, "work_pool_name": "cpu", "parameters": like["parameters"] | parameters}
    return str(here.ask("/deployments/", body | {"enforce_parameter_schema": False})["id"])


def _ended(here: Team, deployments: Sequence[str]) -> int:
    body = {"flow_runs": {"deployment_id": {"any_": deployments}, "state": {"type": {"any_": sorted(FINAL)}}}}
    return int(here.ask("/flow_runs/count", body))


def _states(here: Team, deployments: Sequence[str]) -> dict[str, int]:
    states: dict[str, int] = {}
    for run in here.runs(deployment_id={"any_": deployments}):
        states[run["state_name"]] = states.get(run["state_name"], 0) + 1
    return states


def _lag_s(run: dict[str, Any]) -> float:
    return (datetime.fromisoformat(run["start_time"]) - datetime.fromisoformat(run["expected_start_time"])) / timedelta(seconds=1)


def _database_bytes(here: Team) -> int:
    if here.database:
        return here.database.size_bytes("team_prefect")
    return sum(path.stat().st_size for path in here.hub.folder.glob("prefect.db*"))


def table(measured: Sequence[Measured]) -> str:
    """Return the measurements as a table."""
    lines = [
        "| Prefect's database | runs | lost | consistent | all ended after | first lag p50 / max | lag p50 / max "
        "| API p50 / p95 / max | growth a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in measured:
        first = f"{statistics.median(each.first_lag_s):.1f} / {max(each.first_lag_s):.1f} s"
        lag = f"{statistics.median(each.lag_s):.0f} / {max(each.lag_s):.0f} s"
        ninety_fifth = statistics.quantiles(each.latency_s, n=20)[-1]
        latency = " / ".join(
            f"{1000 * value:.0f}" for value in (statistics.median(each.latency_s), ninety_fifth, max(each.latency_s))
        )
        lines.append(
            f"| {each.database} | {each.runs}, {each.at_once} at once, {each.retrains} train | {each.lost} "
            f"| {'NO: ' + '; '.join(each.wrong) if each.wrong else 'yes'} | {each.seconds:.0f} s "
            f"| {first} | {lag} | {latency} ms | {each.bytes_a_run / 1000:.0f} kB |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and return 1 if a run was lost or something is inconsistent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--databases", nargs="+", default=["PostgreSQL", "SQLite"], choices=["PostgreSQL", "SQLite"])
    options = parser.parse_args(arguments)
    measured = []
    for name in options.databases:
        with team(on_postgresql=name == "PostgreSQL", workers=False) as here:
            here.supervisor("stop", "worker-gpu")
            for host in here.workers:
                host.start_worker("cpu")
            here.workers[-1].start_worker("gpu")
            measured.append(put_under_load(here, runs=options.runs, at_once=options.at_once, name=name))
            sys.stdout.write(f"{table(measured).splitlines()[-1]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{table(measured)}\n")
    return 0 if not any(each.lost or each.wrong for each in measured) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
