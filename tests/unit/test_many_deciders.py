"""Promotions, rollbacks and runs from many hosts at once: aliases and log never contradict each other, whatever is killed.

Real processes decide on one registry, with the log on a local disk or a real S3 server. Versions have no files, and the load
check, which would load them, always passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore, running_object_store

from storage.errors import RegistryError
from storage.io import write_atomically
from storage.layout import Store
from storage.registry import Registry
from tasks.config import RollbackSettings
from tasks.promotion import log, promote, rollback
from tasks.promotion.log import Line, applied_keys, moves_of, read_log, settle
from tasks.promotion.promote import PendingDecision, apply_decision, promote_by_hand
from tasks.promotion.rollback import roll_back
from tasks.promotion.rule import Check, Decision

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAME = "jena-sample"
VERSIONS = 6
HOSTS, DECISIONS = 4, 8
KILLED_AFTER = 5
"""A killed host dies at one of its first so many writes."""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects


@pytest.fixture(params=["local", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store whose registry has versions without files."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "s3":
        request.getfixturevalue("objects")
    address = str(tmp_path / "home") if request.param == "local" else f"s3://retrain/{tmp_path.name}"
    make_versions(Store.at(address))
    return address


def make_versions(store: Store) -> None:
    client = Registry.open(store)._client
    experiment = client.create_experiment(NAME, artifact_location=f"mlflow-artifacts:/{NAME}")
    client.create_registered_model(NAME)
    for _ in range(VERSIONS):
        run = client.create_run(experiment).info.run_id
        client.create_model_version(NAME, f"mlflow-artifacts:/{NAME}/none", run_id=run, tags={"complete": "true"})


def check_consistent(home: str) -> list[Line]:
    """Check the log by itself and against the aliases, and return the lines that moved aliases."""
    store = Store.at(home)
    registry = Registry.open(store)
    settle(NAME, registry=registry, store=store)
    lines = list(read_log(NAME, registry=registry, store=store))
    marked, champion, previous = applied_keys(lines), None, None
    moves = [(place, line) for place, line in enumerate(lines) if moves_of(line)]
    for place, line in moves:
        assert line["before"] == champion, "a move that did not start from the champion that the one before had made"
        assert lines[place + 1].get("applied") == line["key"], "somebody decided before this was carried out"
        champion = moves_of(line)["champion"]
        previous = moves_of(line).get("previous", previous)
    keys = [line["key"] for _, line in moves]
    assert len(set(keys)) == len(keys), "one decision was carried out twice"
    assert marked >= set(keys)
    aliases = {alias: version.version for version in registry.versions(NAME) for alias in version.aliases}
    assert (aliases.get("champion"), aliases.get("previous")) == (champion, previous)
    return [line for _, line in moves]


HOST = """
import sys
sys.path.insert(0, sys.argv[1])
from test_many_deciders import be_a_host
be_a_host(sys.argv[2], seed=int(sys.argv[3]), count=int(sys.argv[4]), kill_at=int(sys.argv[5]))
"""


def be_a_host(home: str, *, seed: int, count: int, kill_at: int) -> None:
    """Decide so often, in a process of its own, and print what came of each; die at the given write, if it is not 0."""
    import random

    chance = random.Random(seed)
    store = Store.at(home)
    registry = Registry.open(store)
    promote.load_check = rollback.load_check = lambda version, registry: Check("loads", passed=True, detail="")
    if kill_at:
        die_at_write(kill_at, after=bool(seed % 2), registry=registry)
    for number in range(count):
        act = chance.choice([by_hand, by_hand, back, by_run])
        try:
            decision = act(f"{seed}-{number}", chance=chance, registry=registry, store=store)
        except RegistryError as error:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        else:
            sys.stdout.write(json.dumps({"outcome": decision.outcome, "candidate": decision.candidate}) + "\n")
        sys.stdout.flush()


def by_hand(mark: str, *, chance: Any, registry: Registry, store: Store) -> Decision:
    return promote_by_hand(f"{NAME}@{chance.randint(1, VERSIONS)}", registry=registry, store=store)


def back(mark: str, *, chance: Any, registry: Registry, store: Store) -> Decision:
    return roll_back(RollbackSettings(model=NAME, reason=f"Too warm: {mark}.", person="anna"), registry=registry, store=store)


def by_run(mark: str, *, chance: Any, registry: Registry, store: Store) -> Decision:
    """A run that has compared a version with the champion, logs that, and carries it out a little later."""
    while True:
        standing = settle(NAME, registry=registry, store=store)
        candidate = chance.choice([number for number in range(1, VERSIONS + 1) if number != standing.champion_number])
        champion = f"v{standing.champion_number}" if standing.champion else None
        decision = Decision("promoted", f"Promoted v{candidate}: it is better", f"v{candidate}", champion, ())
        entry = {"at": "2026-11-28T12:00:00+00:00", "key": f"run {mark}", "candidate": candidate, "by": "run"}
        if standing.log.add(entry | {"decision": vars(decision) | {"checks": []}}):
            break
    return apply_decision(PendingDecision(decision, NAME, key=f"run {mark}"), refitted=None, registry=registry, store=store)


def die_at_write(number: int, *, after: bool, registry: Registry) -> None:
    """Let this process die at one of its writes of log or aliases, before or after it."""
    from storage import journal

    left = [number]

    def dying(write: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not after:
                os._exit(9)
            result = write(*arguments, **options)
            if left[0] == 0:
                os._exit(9)
            return result

        return wrapper

    journal.create_exclusively = dying(journal.create_exclusively)
    for name in ("set_registered_model_alias", "delete_registered_model_alias"):
        setattr(registry._client, name, dying(getattr(registry._client, name)))


def start_host(home: str, *, seed: int, count: int, kill_at: int, folder: Path) -> subprocess.Popen[str]:
    cache = folder / f"host {seed}"
    cache.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    arguments = [str(ROOT / "tests"), str(Path(__file__).parent)]
    code = HOST.replace("sys.path.insert(0, sys.argv[1])", f"sys.path[:0] = {arguments!r}")
    command = [sys.executable, "-c", code, "", home, str(seed), str(count), str(kill_at)]
    return subprocess.Popen(command, env=variables, cwd=cache, stdout=subprocess.PIPE, text=True)


def said_by(hosts: Sequence[subprocess.Popen[str]], *, codes: set[int]) -> list[Mapping[str, Any]]:
    printed = [host.communicate(timeout=280)[0] for host in hosts]
    assert {host.returncode for host in hosts} <= codes
    return [json.loads(line) for text in printed for line in text.splitlines()]


def test_of_many_hosts_no_decision_is_lost_or_contradicted(home: str, tmp_path: Path) -> None:
    hosts = [start_host(home, seed=seed, count=DECISIONS, kill_at=0, folder=tmp_path) for seed in range(HOSTS)]
    said = said_by(hosts, codes={0})
    assert len(said) == HOSTS * DECISIONS
    moves = check_consistent(home)
    moved = [each["candidate"] for each in said if each.get("outcome") in ("promoted", "rolled back")]
    assert sorted(moved) == sorted(f"v{line['candidate']}" for line in moves)
    assert len(moves) > HOSTS


@pytest.mark.slow
def test_hosts_that_die_anywhere_leave_a_log_that_is_completed(home: str, tmp_path: Path) -> None:
    told = 0
    for start in range(0, 3 * HOSTS, HOSTS):
        seeds = range(start, start + HOSTS)
        hosts = [
            start_host(home, seed=seed, count=DECISIONS, kill_at=1 + seed * 7 % KILLED_AFTER, folder=tmp_path) for seed in seeds
        ]
        said = said_by(hosts, codes={0, 9})
        assert any(host.returncode == 9 for host in hosts)
        told += sum(each.get("outcome") in ("promoted", "rolled back") for each in said)
        moves = check_consistent(home)
        assert told <= len(moves) <= told + start + HOSTS  # each killed one may have been carried out and not told


def test_two_persons_who_promote_at_once_are_carried_out_one_after_the_other(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.at(home)
    registry = Registry.open(store)
    for module in (promote, rollback):
        monkeypatch.setattr(module, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    promote_by_hand(f"{NAME}@1", registry=registry, store=store)
    meanwhile = [2]

    def load_check(version: Any, registry: Registry) -> Check:
        if meanwhile:  # the other person is faster, while this version is checked
            promote_by_hand(f"{NAME}@{meanwhile.pop()}", registry=registry, store=store)
        return Check("loads", passed=True, detail="")

    monkeypatch.setattr(promote, "load_check", load_check)
    decision = promote_by_hand(f"{NAME}@3", registry=registry, store=store)
    assert decision.champion == "v2"
    assert [line["moves"] for line in check_consistent(home)] == [
        {"candidate": 1, "champion": 1},
        {"candidate": 2, "previous": 1, "champion": 2},
        {"candidate": 3, "previous": 2, "champion": 3},
    ]


def test_a_rollback_takes_away_only_the_champion_that_the_person_saw(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.at(home)
    registry = Registry.open(store)
    monkeypatch.setattr(promote, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    for version in (1, 2):
        promote_by_hand(f"{NAME}@{version}", registry=registry, store=store)

    def load_check(version: Any, registry: Registry) -> Check:
        promote_by_hand(f"{NAME}@3", registry=registry, store=store)
        return Check("loads", passed=True, detail="")

    monkeypatch.setattr(rollback, "load_check", load_check)
    with pytest.raises(RegistryError, match="v3 became champion of jena-sample while v2 was being rolled back"):
        roll_back(RollbackSettings(model=NAME, reason="Far too warm.", person="anna"), registry=registry, store=store)
    assert [line["candidate"] for line in check_consistent(home)] == [1, 2, 3]


def test_a_run_leaves_the_champion_to_whoever_was_first(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs have compared their versions with one champion; the second to be ready keeps what the first one made champion."""
    store = Store.at(home)
    registry = Registry.open(store)
    monkeypatch.setattr(promote, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    promote_by_hand(f"{NAME}@1", registry=registry, store=store)
    pending = []
    for candidate in (2, 3):
        decision = Decision("promoted", f"Promoted v{candidate}: it is better", f"v{candidate}", "v1", ())
        entry = {"at": "2026-11-28T12:00:00+00:00", "key": f"run {candidate}", "candidate": candidate, "by": "run"}
        standing = settle(NAME, registry=registry, store=store)
        assert standing.log.add(entry | {"decision": vars(decision) | {"checks": []}})
        pending.append(PendingDecision(decision, NAME, key=f"run {candidate}"))
    late, early = (apply_decision(each, refitted=None, registry=registry, store=store) for each in (pending[1], pending[0]))
    assert (late.outcome, early.outcome) == ("promoted", "kept")
    assert early.reason == "Kept champion v3: it became champion after v2 was compared with v1; run again"
    # Whoever carries out a decision that another host has carried out already says what was decided.
    assert apply_decision(pending[1], refitted=None, registry=registry, store=store) == late
    assert [line["candidate"] for line in check_consistent(home)] == [1, 3]


def test_a_host_that_was_asleep_while_it_moved_the_aliases_gives_way(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has logged its promotion and sleeps; another host completes it and goes on; then it wakes and moves the alias."""
    store = Store.at(home)
    sleeper, other = Registry.open(store), Registry.open(store)
    monkeypatch.setattr(promote, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    promote_by_hand(f"{NAME}@1", registry=other, store=store)
    set_aliases, slept = sleeper.set_aliases, []

    def sleep(name: str, aliases: Mapping[str, int]) -> None:
        if not slept:
            slept.append(1)
            promote_by_hand(f"{NAME}@3", registry=other, store=store)
        set_aliases(name, aliases)

    monkeypatch.setattr(sleeper, "set_aliases", sleep)
    promote_by_hand(f"{NAME}@2", registry=sleeper, store=store)
    assert [line["moves"]["champion"] for line in check_consistent(home)] == [1, 2, 3]
    champion = other.by_alias(NAME, "champion")
    assert champion is not None
    assert champion.version == 3


@pytest.mark.parametrize(("put_right", "champion"), [(True, 2), (False, 1)])
def test_an_alias_that_differs_from_the_log_is_read_again(
    home: str, monkeypatch: pytest.MonkeyPatch, put_right: bool, champion: int
) -> None:
    """A slow host has moved the alias back and puts it right a moment later; a person's move in MLflow's UI stays."""
    store = Store.at(home)
    registry = Registry.open(store)
    monkeypatch.setattr(promote, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    for version in (1, 2):
        promote_by_hand(f"{NAME}@{version}", registry=registry, store=store)
    registry.set_aliases(NAME, {"champion": 1})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if put_right and len(slept) == 2:
            registry.set_aliases(NAME, {"champion": 2})

    monkeypatch.setattr(log.time, "sleep", sleep)
    assert settle(NAME, registry=registry, store=store).champion_number == champion
    assert sum(slept) == (1.0 if put_right else 2.0)


def test_a_mark_that_a_log_of_version_0_1_lacks_is_added(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process died after the alias had moved; unmarked, the version could be promoted again once it is replaced."""
    store = Store.at(home)
    registry = Registry.open(store)
    decision = {"outcome": "promoted", "reason": "", "candidate": "v2", "champion": None, "checks": [], "refit": None}
    line = {"at": "2999-11-01T12:00:00+00:00", "key": "a", "candidate": 2, "by": "run", "decision": decision}
    write_atomically(store.first_promotions(NAME), (json.dumps(line) + "\n").encode())
    registry.set_aliases(NAME, {"champion": 2})
    for _ in range(2):
        assert [line.get("applied") for line in settle(NAME, registry=registry, store=store).lines] == [None, "a"]


def test_a_log_of_version_0_1_goes_on(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback there was cut off between log and aliases; it is completed in the new log, and the old one stays as it is."""
    store = Store.at(home)
    registry = Registry.open(store)
    monkeypatch.setattr(promote, "load_check", lambda version, registry: Check("loads", passed=True, detail=""))
    first = {"outcome": "promoted", "reason": "", "candidate": "v1", "champion": None, "checks": [], "refit": None}
    second = first | {"candidate": "v2", "champion": "v1"}
    said = {"by": "person", "person": "anna", "reason": "Too warm.", "version": 2, "refused": [2], "previous": None}
    entries: list[dict[str, Any]] = [
        {"key": "a", "candidate": 1, "by": "person", "decision": first},
        {"key": "a", "candidate": 1, "applied": "a"},
        {"key": "b", "candidate": 2, "by": "run", "decision": second},
        {"key": "b", "candidate": 2, "applied": "b"},
        {"key": "c", "candidate": 1, **said, "decision": first | {"outcome": "rolled back", "champion": "v2"}},
    ]
    # Lines of that version count only if they are not older than the model in the registry.
    old = [{"at": f"2999-11-01T12:00:0{second}+00:00", **entry} for second, entry in enumerate(entries)]
    content = "".join(json.dumps(line) + "\n" for line in old).encode()
    write_atomically(store.first_promotions(NAME), content)
    registry.set_aliases(NAME, {"previous": 1, "champion": 2})
    standing = settle(NAME, registry=registry, store=store)
    assert standing.champion_number == 1
    assert [line.get("applied") for line in standing.lines] == [None, "a", None, "b", None, "c"]
    promote_by_hand(f"{NAME}@3", registry=registry, store=store)
    assert store.first_promotions(NAME).read_bytes() == content
    assert [path.name for path in sorted(store.promotions(NAME).iterdir(), key=str)] == [f"0000000{n}.json" for n in (1, 2, 3)]
    aliases = {alias: version.version for version in registry.versions(NAME) for alias in version.aliases}
    assert aliases == {"candidate": 3, "champion": 3, "previous": 1}
