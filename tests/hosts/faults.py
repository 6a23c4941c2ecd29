"""Faults of hosts and networks, each in the middle of a training, and how long until the training goes on.

python tests/hosts/faults.py            every fault, and a table of what was survived
python tests/hosts/faults.py NAME ...   some of them
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from invariants import checkpoint_files, faults_left, log_lines
from team import LONG, MODEL, Team, team, wait_for
from topology import Host

# A run is given up after 90 s without heartbeats, and sent again within seconds; a busy machine is given time.
IS_REPLACED_S = 400
ENDS_WITHIN_S = 1200
AWAY_S = 20


@dataclass(frozen=True)
class Stricken:
    """A retrain whose training is under way, on a host that a fault strikes.

    Attributes:
        parent: Run of the retrain.
        train: Run of the training.
        host: Where the training is.
        epochs: What the training had told of before the fault.
    """

    team: Team
    parent: str
    train: str
    host: Host
    epochs: int

    def wait_until_replaced(self) -> str:
        """Wait until another run goes on with the training, some epochs further, and return that run."""
        self.team_waits(lambda: self._successor() is not None, IS_REPLACED_S)
        successor = self._successor()
        assert successor
        return successor

    def _successor(self) -> str | None:
        """A later run of the training that has told of a further epoch, or has ended well."""
        for run in self.team.trains(self.parent):
            if run["id"] != self.train and (run["state_type"] == "COMPLETED" or self.team.epochs(run["id"]) > self.epochs):
                return str(run["id"])
        return None

    def team_waits(self, is_so: Callable[[], bool], within_s: float) -> None:
        wait_for(is_so, within_s, lambda: self.team.told(self.parent))


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        strike: Makes the fault, takes it back, and returns once its part is over.
        replaces: Whether another run has to go on with the training.
        at_epoch: How far the training is then.
    """

    name: str
    what: str
    strike: Callable[[Stricken], None]
    replaces: bool = False
    at_epoch: int = 3


@dataclass(frozen=True)
class Survived:
    """What came of a fault.

    Attributes:
        recovery_s: From the beginning of the fault to the next epoch that was told; None: the training told of none any more.
        whole_s: From the beginning of the fault to the end of the retrain.
        wrong: What is not as it should be.
    """

    fault: Fault
    recovery_s: float | None
    whole_s: float
    wrong: Sequence[str]


def _unplugged_for(seconds: float) -> Callable[[Stricken], None]:
    def strike(stricken: Stricken) -> None:
        with stricken.host.cut_off():
            time.sleep(seconds)

    return strike


def _unplugged_for_ever(stricken: Stricken) -> None:
    stricken.host.unplug()
    stricken.wait_until_replaced()


def _hub_killed_then_unplugged(stricken: Stricken) -> None:
    with stricken.team.without("prefect"):
        stricken.host.unplug()
    stricken.wait_until_replaced()


def _killed(stricken: Stricken) -> None:
    stricken.host.kill()


def _asleep(stricken: Stricken) -> None:
    """The host wakes up while another one is in the middle of its training."""
    with stricken.host.asleep():
        stricken.wait_until_replaced()


def _asleep_to_the_end(stricken: Stricken) -> None:
    """The host wakes up when all is done. Nothing that it still does may be seen."""
    with stricken.host.asleep():
        stricken.team.ended(stricken.parent, within_s=ENDS_WITHIN_S)
    before = _traces(stricken.team)
    stricken.team_waits(lambda: not any("train" in name for name in _busy(stricken)), 120)
    assert _traces(stricken.team) == before


def _busy(stricken: Stricken) -> list[str]:
    """The runs that processes of the host still work for."""
    host = stricken.team.host_of(stricken.train)
    return ["train"] if host else []


def _traces(here: Team) -> tuple[Any, ...]:
    """All that a run can leave: versions with their tags and aliases, the log, checkpoints, and states of runs."""
    versions = [(version.version, version.aliases, sorted(version.tags.items())) for version in here.registry.versions(MODEL)]
    states = [(run["id"], run["state"]["id"]) for run in here.runs()]
    return versions, log_lines(here, MODEL), checkpoint_files(here), sorted(states)


def _parent_asleep(stricken: Stricken) -> None:
    """The retrain itself is asleep, on the hub or wherever its worker is, and is started again."""
    here = stricken.team
    sleeping = [pid for pid in here.hub.pids() if _works_for(pid, stricken.parent)]
    assert sleeping
    for pid in sleeping:
        _signal(pid, signal.SIGSTOP)
    stricken.team_waits(lambda: here.run(stricken.parent)["run_count"] > 1, IS_REPLACED_S)
    for pid in sleeping:
        _signal(pid, signal.SIGCONT)


def _works_for(pid: int, run_id: str) -> bool:
    from team import RUN_VARIABLE, variable_of

    return variable_of(pid, RUN_VARIABLE) == run_id


def _signal(pid: int, number: signal.Signals) -> None:
    import os
    from contextlib import suppress

    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _parent_killed(stricken: Stricken) -> None:
    """The run is `Crashed` for a moment, which would be taken for its end, and is started again."""
    here = stricken.team
    for pid in here.hub.pids():
        if _works_for(pid, stricken.parent):
            _signal(pid, signal.SIGKILL)
    stricken.team_waits(lambda: here.run(stricken.parent)["run_count"] > 1, IS_REPLACED_S)


def _without(program: str) -> Callable[[Stricken], None]:
    def strike(stricken: Stricken) -> None:
        with stricken.team.without(program):
            time.sleep(AWAY_S)

    return strike


def _without_database(stricken: Stricken) -> None:
    database = stricken.team.database
    assert database
    database.kill()
    time.sleep(AWAY_S)
    database.start()


def _without_objects(stricken: Stricken) -> None:
    stricken.team.objects.kill()
    time.sleep(AWAY_S)
    stricken.team.objects.start()


def _slow(stricken: Stricken) -> None:
    with stricken.host.slow():
        stricken.team.ended(stricken.parent, within_s=ENDS_WITHIN_S)


def _lossy(stricken: Stricken) -> None:
    with stricken.host.lossy():
        stricken.team.ended(stricken.parent, within_s=ENDS_WITHIN_S)


LAST = int(LONG["epochs"]) - 2
FAULTS = (
    Fault("unplugged-30", "link of the training's host down for 30 s", _unplugged_for(30)),
    Fault("unplugged-120", "link down for 120 s", _unplugged_for(120)),
    Fault("unplugged-for-ever", "link down for ever", _unplugged_for_ever, replaces=True),
    Fault(
        "hub-killed-then-unplugged",
        "link down for ever while Prefect's server is killed",
        _hub_killed_then_unplugged,
        replaces=True,
    ),
    Fault("slow", "link of 2 Mbit/s to the end", _slow),
    Fault("lossy", "5 % of the packets lost each way to the end", _lossy),
    Fault("killed", "every process of the training's host killed", _killed, replaces=True),
    Fault("asleep", "host asleep until another one goes on with its training", _asleep, replaces=True),
    Fault("asleep-to-the-end", "host asleep until the retrain has ended elsewhere", _asleep_to_the_end, replaces=True),
    Fault("parent-killed", "process of the retrain killed", _parent_killed),
    Fault("parent-asleep", "process of the retrain asleep until it is started again", _parent_asleep),
    Fault("without-prefect", f"Prefect's server killed, back after {AWAY_S} s", _without("prefect")),
    Fault("without-postgresql", f"PostgreSQL killed, back after {AWAY_S} s", _without_database),
    Fault("without-objects", f"object store killed, back after {AWAY_S} s", _without_objects),
    Fault("without-mlflow", f"MLflow killed before the training ends, back after {AWAY_S} s", _without("mlflow"), at_epoch=LAST),
)


def survive(here: Team, fault: Fault, *, seed: int, before: Sequence[str] = ()) -> tuple[Survived, str]:
    """Let a fault strike a training and see what comes of it.

    Args:
        here: The installation.
        fault: The fault.
        seed: Seed of the training, so that each is another one.
        before: Retrains of earlier faults.

    Returns:
        What came of it, and the retrain.
    """
    parent = here.retrain(seed=seed, training=LONG)
    train, host = here.training(parent, epochs=fault.at_epoch)
    stricken = Stricken(here, parent, train, host, here.epochs(train))
    began_s = time.monotonic()
    watch = _Recovery(stricken)
    with watch.running():
        fault.strike(stricken)
        here.ended(parent, within_s=ENDS_WITHIN_S)
    whole_s = time.monotonic() - began_s
    _make_whole(here, host)
    wrong = faults_left(here, retrains=[*before, parent], model=MODEL)
    runs = here.trains(parent)
    if fault.replaces and len(runs) < 2:
        wrong.append("no other run went on with the training")
    # What is lost is the epoch that was under way, and those of which nobody had been told yet.
    resumed = _resumed_from(here, seed)
    if len(runs) > 1 and resumed < stricken.epochs:
        wrong.append(f"it went on from epoch {resumed}, and {stricken.epochs} had been told of")
    return Survived(fault, watch.recovery_s and watch.recovery_s - began_s, whole_s, wrong), parent


class _Recovery:
    """Watch beside a fault for the first epoch that is told after it began."""

    def __init__(self, stricken: Stricken) -> None:
        self._stricken = stricken
        self.recovery_s: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        import threading

        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(60)

    def _watch(self, done: Any) -> None:
        here = self._stricken.team
        while self.recovery_s is None and not done.wait(1):
            try:
                told = max((here.epochs(run["id"]) for run in here.trains(self._stricken.parent)), default=0)
            except OSError:
                continue
            if told > self._stricken.epochs + 1:
                self.recovery_s = time.monotonic()


def _resumed_from(here: Team, seed: int) -> int:
    registry = here.registry
    for version in registry.versions(MODEL):
        manifest = json.loads(registry.read_file(version.run_id, "manifest.json"))
        if manifest["training"]["settings"]["seed"] == seed and manifest["variant"] == "gru_baseline":
            return int(manifest["training"]["resumed_from"])
    return -1


def _make_whole(here: Team, host: Host) -> None:
    """Bring a host that a fault has taken back into the team. What still runs there goes on, whatever it was given up for."""
    host.plug_in()
    if host in here.workers and not host.pids():
        host.start_worker("gpu")


def table(outcomes: Sequence[Survived]) -> str:
    """Return what was tried and what came of it as a table."""
    lines = ["| fault | survived | next epoch after | retrain ended after |", "|---|---|---|---|"]
    for each in outcomes:
        recovery = "-" if each.recovery_s is None else f"{each.recovery_s:.0f} s"
        said = "yes" if not each.wrong else f"NO: {'; '.join(each.wrong)}"
        lines.append(f"| {each.fault.what} | {said} | {recovery} | {each.whole_s:.0f} s |")
    return "\n".join(lines)


def _outcomes(here: Team, waiting: list[Fault]) -> Iterator[Survived]:
    """Try one fault after the other, until one is not survived: what it leaves would be found again after the next one."""
    retrains: list[str] = []
    while waiting:
        fault = waiting.pop(0)
        try:
            outcome, parent = survive(here, fault, seed=len(retrains) + 1, before=retrains)
        except AssertionError as error:
            yield Survived(fault, None, 0.0, [" ".join(str(error).split())[:1500]])
            return
        yield outcome
        if outcome.wrong:
            return
        retrains.append(parent)


def main(names: Sequence[str]) -> int:
    """Try faults, and return 1 if one was not survived."""
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        sys.stderr.write(f"unknown faults {', '.join(unknown)}: choose {', '.join(fault.name for fault in FAULTS)}\n")
        return 2
    outcomes: list[Survived] = []
    waiting = [fault for fault in FAULTS if not names or fault.name in names]
    while waiting:
        with team() as here:
            for outcome in _outcomes(here, waiting):
                outcomes.append(outcome)
                sys.stdout.write(f"{table([outcome]).splitlines()[-1]}\n")
                sys.stdout.flush()
    sys.stdout.write(f"\n{table(outcomes)}\n\n")
    survived = sum(not outcome.wrong for outcome in outcomes)
    sys.stdout.write(f"{survived} of {len(outcomes)} faults survived\n")
    return 0 if survived == len(outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
