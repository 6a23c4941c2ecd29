"""Many runs at once on the hosts of the topology: is one lost, how late do they start, how fast is the API, what do they leave?

python tests/hosts/load.py --runs 200 --at-once 20

The runs are those of the flow `ingest` on the sample, which was published before: a worker starts each as a process that reads
the store and tells the server of its tasks, logs and artifacts, and no core is spent on training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from team import FINAL, SAMPLE, Team, team, wait_for

DEPLOYMENT = "load"
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
        lost: Runs that did not end well.
        first_lag_s: From the time at which the runs that find a free place are due to their state `Running`.
        lag_s: Of every run, most of which wait for a place.
        latency_s: Of single requests to the API meanwhile.
        bytes_a_run: Growth of Prefect's database.
    """

    database: str
    runs: int
    at_once: int
    lost: int
    seconds: float
    first_lag_s: Sequence[float]
    lag_s: Sequence[float]
    latency_s: Sequence[float]
    bytes_a_run: float


def put_under_load(here: Team, *, runs: int, at_once: int, name: str) -> Measured:
    """Start runs that are all due at once, wait for their end, and measure."""
    flow = here.ask("/deployments/name/ingest/ingest")
    here.ended(here.start("ingest/ingest", data=SAMPLE), within_s=300)
    deployment = here.ask(
        "/deployments/",
        {
            "name": DEPLOYMENT,
            "flow_id": flow["flow_id"],
            "entrypoint": flow["entrypoint"],
            "work_pool_name": "cpu",
            "pull_steps": flow["pull_steps"],
            "parameters": flow["parameters"] | {"data": SAMPLE},
            "enforce_parameter_schema": False,
        },
    )
    here.ask("/work_pools/cpu", {"concurrency_limit": at_once}, method="PATCH")
    size_before = _database_bytes(here)
    latency = _Latency(here)
    body = {"state": {"type": "SCHEDULED", "name": "Scheduled"}}
    began_s = time.monotonic()
    sent = [str(here.ask(f"/deployments/{deployment['id']}/create_flow_run", body)["id"]) for _ in range(runs)]
    with latency:
        wait_for(
            lambda: _ended(here, deployment["id"]) == runs, SECONDS_A_RUN * runs + 300, lambda: _states(here, deployment["id"])
        )
    seconds = time.monotonic() - began_s
    ended = {run["id"]: run for run in here.runs(deployment_id={"any_": [deployment["id"]]})}
    assert set(ended) == set(sent)
    lags = sorted(_lag_s(run) for run in ended.values() if run["start_time"])
    return Measured(
        database=name,
        runs=runs,
        at_once=at_once,
        lost=sum(run["state_type"] != "COMPLETED" for run in ended.values()),
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
                self._here.ask(path, body)
                self.seconds.append(time.monotonic() - began_s)


def _ended(here: Team, deployment: str) -> int:
    body = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": sorted(FINAL)}}}}
    return int(here.ask("/flow_runs/count", body))


def _states(here: Team, deployment: str) -> dict[str, int]:
    states: dict[str, int] = {}
    for run in here.runs(deployment_id={"any_": [deployment]}):
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
        "| Prefect's database | runs | lost | all ended after | first lag p50 / max | lag p50 / max "
        "| API p50 / p95 / max | growth a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in measured:
        first = f"{statistics.median(each.first_lag_s):.1f} / {max(each.first_lag_s):.1f} s"
        lag = f"{statistics.median(each.lag_s):.0f} / {max(each.lag_s):.0f} s"
        ninety_fifth = statistics.quantiles(each.latency_s, n=20)[-1]
        latency = " / ".join(
            f"{1000 * value:.0f}" for value in (statistics.median(each.latency_s), ninety_fifth, max(each.latency_s))
        )
        lines.append(
            f"| {each.database} | {each.runs}, {each.at_once} at once | {each.lost} | {each.seconds:.0f} s "
            f"| {first} | {lag} | {latency} ms | {each.bytes_a_run / 1000:.0f} kB |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and return 1 if a run was lost."""
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
            measured.append(put_under_load(here, runs=options.runs, at_once=options.at_once, name=name))
            sys.stdout.write(f"{table(measured).splitlines()[-1]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{table(measured)}\n")
    return 0 if not any(each.lost for each in measured) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
