"""How soon a retrain goes on after everything on its host was killed, and what came of it.

PYTHONPATH=tests:tests/service python tests/service/reboots.py [--times N]

Each time a retrain of the Jena sample is started on the service, with a seed of its own. In the middle of its training every
process of the service, of its workers and of the training gets SIGKILL at once, as at a power cut. Then `retrain up` is given,
and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service_helpers import FINAL, SAMPLE, Live, running_service, working_on

from storage.registry import Registry
from tasks.promotion.log import final_decisions, read_log

EPOCHS = 12
BUDGET: dict[str, Any] = {"epochs": EPOCHS, "steps_per_epoch": 60, "run_on": "work_pool"}
MODEL = "jena-sample"


@dataclass(frozen=True)
class Reboot:
    """What happened after one reboot.

    Attributes:
        epoch_before: Last epoch on record at the kill.
        up_s: Seconds that `retrain up` took.
        at_work_s: Seconds from the end of `retrain up` to the run's next epoch.
        ended_s: Seconds from the end of `retrain up` to the end of the run.
        state: Name of the final state of the run.
        starts: How often the run was started.
        trainings: Runs of `train` that the retrain has had.
        versions: Versions that it registered, the linear baseline not counted.
        decisions: Decisions that it put on record.
        left: Runs that are not in a final state at the end.
    """

    epoch_before: int
    up_s: float
    at_work_s: float
    ended_s: float
    state: str
    starts: int
    trainings: int
    versions: int
    decisions: int
    left: int


def reboot(live: Live, *, seed: int) -> Reboot:
    """Start a retrain, kill everything in the middle of its training, start the service, and wait for the end of the run."""
    versions, decisions = len(live.versions(MODEL)), decisions_of(live)
    run_id = live.start(
        "retrain/retrain-jena",
        dataset="jena",
        variants=["gru_baseline"],
        data=SAMPLE,
        training={**BUDGET, "seed": seed},
        promotion={"promote": "never"},
    )
    until(lambda: epochs_of(live, run_id) >= 2)
    epoch_before = epochs_of(live, run_id)
    kill_everything(live.home)

    began = time.monotonic()
    done = live.retrain("up")
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    up = time.monotonic()
    until(lambda: epochs_of(live, run_id) > epoch_before)
    at_work = time.monotonic()
    until(lambda: live.run(run_id)["state_type"] in FINAL)
    ended = time.monotonic()
    run = live.run(run_id)
    working = live.runs(state={"type": {"any_": ["RUNNING", "PENDING", "CANCELLING", "PAUSED"]}})
    baselines = 1 if versions == 0 else 0
    return Reboot(
        epoch_before=epoch_before,
        up_s=up - began,
        at_work_s=at_work - up,
        ended_s=ended - up,
        state=run["state_name"],
        starts=run["run_count"],
        trainings=len(live.trains(run_id)),
        versions=len(live.versions(MODEL)) - versions - baselines,
        decisions=decisions_of(live) - decisions,
        left=len(working),
    )


def epochs_of(live: Live, run_id: str) -> int:
    """Return the last epoch that any training of a retrain has told of."""
    ids = [run["id"] for run in live.trains(run_id)]
    if not ids:
        return 0
    logs = live.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": ids}}, "limit": 200, "sort": "TIMESTAMP_DESC"})
    told = [entry["message"].partition(": epoch ")[2].partition(" of ")[0] for entry in logs if ": epoch " in entry["message"]]
    return max(map(int, told), default=0)


def decisions_of(live: Live) -> int:
    """Return the number of decisions on record."""
    return len(final_decisions(read_log(MODEL, registry=Registry.open(live.store), store=live.store)))


def kill_everything(home: Path) -> None:
    """Send SIGKILL to every process of a store."""
    for pid in working_on(home):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not working_on(home))


def until(is_so: Callable[[], bool], *, within_s: float = 900) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: It was not so in time.
    """
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"not so within {within_s:g} s")
        time.sleep(0.5)


def table(reboots: list[Reboot]) -> str:
    """Return what happened after each reboot, as a table."""
    titles = (
        "reboot",
        "epoch before",
        "`up`",
        "next epoch",
        "end",
        "state",
        "starts",
        "trainings",
        "versions",
        "decisions",
        "left",
    )
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for number, each in enumerate(reboots, 1):
        seconds = f"{each.up_s:.0f} s | {each.at_work_s:.0f} s | {each.ended_s:.0f} s"
        counts = f"{each.starts} | {each.trainings} | {each.versions} | {each.decisions} | {each.left}"
        lines.append(f"| {number} | {each.epoch_before} of {EPOCHS} | {seconds} | {each.state} | {counts} |")
    return "\n".join(lines)


def main() -> None:
    """Reboot as often as asked, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    times = parser.parse_args().times
    reboots: list[Reboot] = []
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder) / "home") as live:
        for number in range(1, times + 1):
            reboots.append(reboot(live, seed=number))
            sys.stdout.write(json.dumps(asdict(reboots[-1])) + "\n")
            sys.stdout.flush()
    sys.stdout.write(table(reboots) + "\n")


if __name__ == "__main__":
    main()
