"""One training step and epoch: the project's own beside what a user would use instead, in turns.

With another checkout of the project (`--before FOLDER`), its own steps take turns with the others, and a table compares them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.measuring import Goal, Part, Spread, Table, interleaved, ratio_goal, spread_of
from benchmarks.settings import OWN_THREADS
from benchmarks.workers import OPPONENTS, Worker, WorkerError, own_module
from tasks.models import problem_named
from tasks.models.signature import network_signature

BATCH_SIZE = 128
JENA_EPOCH_STEPS = 500
PROBE_TOLERANCE = 1e-3
# A training alone has every core; beside another it has one.
OURS, OURS_ON_ONE_CORE = "ours, its own threads", "ours, 1 thread"
OF_BEFORE = {OURS: "ours before, its own threads", OURS_ON_ONE_CORE: "ours before, 1 thread"}
# Opponent, script, environment; ours comes first in every round.
SCRIPTS = (
    ("tutorial's way", "tutorial.py", None),
    ("Keras data sets", "keras_datasets.py", None),
    ("torch", "torch_rnn.py", "torch"),
    ("Keras on JAX", "keras_jax.py", "jax"),
)
# Data set, variant, and how many times faster than the tutorial's way an epoch is meant to be.
CASES = (
    ("jena", "gru_baseline", 2.4),
    ("jena", "gru_dropout", 2.4),
    ("imdb", "gru_baseline", 4.5),
    ("imdb", "lstm", 2.8),
    ("imdb", "simple_rnn", 4.5),
)
PEER_AIM = 2.0


@dataclass(frozen=True)
class Contender:
    """One way to train, measured.

    Attributes:
        opponent: Name without the number of threads.
        turns_ms: Of a step, by round.
        step_ms: Of a step.
        epoch_s: Of an epoch.
        compile_s: What the first turn took beyond a later one.
        cores: Processor time by wall clock of the later turns.
        losses: Loss of the common examples before and after.
        fault: Why it cannot be compared, or nothing.
    """

    opponent: str
    library: str
    parameters: int
    turns_ms: tuple[float, ...]
    step_ms: Spread
    epoch_s: Spread
    compile_s: float
    cores: float
    losses: tuple[float, float]
    fault: str


def measure(bench: Bench) -> Part:
    """Measure every case."""
    goals: list[Goal] = []
    tables: list[Table] = []
    values: dict[str, Any] = {}
    compared: list[tuple[str, ...]] = []
    for dataset, variant, aim in CASES:
        if variant not in problem_named(dataset).variants:
            tables.append(Table(f"{dataset} {variant}", (), (), ("skipped: there is no such variant",)))
            goals.append(ratio_goal(f"{dataset} {variant} epoch", against="tutorial's way", ratio=None, at_least=aim))
            continue
        table, found, notes = _case(bench, dataset=dataset, variant=variant)
        tables.append(table)
        compared += [(f"{dataset} {variant}", *row) for row in _compared(found)]
        values[f"{dataset} {variant}"] = {name: _plain(contender) for name, contender in found.items()} | {"notes": notes}
        goals += _goals(f"{dataset} {variant} epoch", found=found, aim=aim)
    if compared:
        columns = ("case", "threads", "ms a step before", "now", "now / before")
        notes = ("medians of the rounds; the ratio is the median of the ratios within a round",)
        tables.append(Table("ours before and now", columns, tuple(compared), notes))
    return Part("steps", tuple(goals), tuple(tables), values)


def _compared(found: Mapping[str, Contender]) -> list[tuple[str, ...]]:
    """Return a row for each way of ours that the other checkout has too: threads, before, now, ratio."""
    rows = []
    for now, before in OF_BEFORE.items():
        if now in found and before in found:
            new, old = found[now], found[before]
            ratio = median(one / other for one, other in zip(new.turns_ms, old.turns_ms, strict=True))
            rows.append((now.split(", ")[1], f"{median(old.turns_ms):.2f}", f"{median(new.turns_ms):.2f}", f"{ratio:.3f}"))
    return rows


def _goals(what: str, *, found: Mapping[str, Contender], aim: float) -> list[Goal]:
    """Return the ratio of our fastest epoch against each opponent's fastest."""
    goals, mine = [], [one.epoch_s.median for one in found.values() if one.opponent == "ours" and not one.fault]
    for opponent, at_least in (
        ("tutorial's way", aim),
        ("Keras data sets", None),
        ("torch", PEER_AIM),
        ("Keras on JAX", PEER_AIM),
    ):
        epochs = [one.epoch_s.median for one in found.values() if one.opponent == opponent and not one.fault]
        ratio = min(epochs) / min(mine) if epochs and mine else None
        if at_least is not None:
            goals.append(ratio_goal(what, against=opponent, ratio=ratio, at_least=at_least))
        elif ratio is not None:
            goals.append(Goal(what, opponent, f"{ratio:.2f}x", "-", None))
    return goals


def _commands(bench: Bench, *, dataset: str, variant: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the command line of every contender by name, and a word about each that is left out."""
    data, notes = bench.data, []
    table = data.tables[dataset]["uri"]
    arguments = ("turns", dataset, variant)
    ways = {OURS: OWN_THREADS}
    if network_signature(problem_named(dataset).variants[variant]).can_shard:
        ways[OURS_ON_ONE_CORE] = 1
    else:
        notes.append("its batch is not split, so our own threads are one")
    commands = {}
    for name, threads in ways.items():
        commands[name] = own_module("benchmarks.opponents.ours", table, str(data.arrays), str(threads), *arguments)
        if bench.before:
            # -P keeps the folder of this process off the path, so that the worker imports the other checkout.
            module = [sys.executable, "-P", "-m", "benchmarks.opponents.ours"]
            commands[OF_BEFORE[name]] = [*module, table, str(data.arrays), str(threads), *arguments]
    for opponent, script, environment in () if bench.alone else SCRIPTS:
        python = sys.executable
        if environment:
            peer, why = bench.peers[environment]
            if peer is None:
                notes.append(why)
                continue
            python = str(peer)
        if opponent == "torch" and variant == "gru_dropout":
            notes.append("torch is left out: its recurrent layers have no recurrent dropout")
            continue
        for threads in bench.sizes.threads:
            told = "its own threads" if threads == OWN_THREADS else f"{threads} thread" + "s" * (threads > 1)
            commands[f"{opponent}, {told}"] = [python, str(OPPONENTS / script), str(data.arrays), str(threads), *arguments]
    return commands, notes


def _case(bench: Bench, *, dataset: str, variant: str) -> tuple[Table, dict[str, Contender], list[str]]:
    sizes = bench.sizes
    commands, notes = _commands(bench, dataset=dataset, variant=variant)
    turn_steps = sizes.jena_steps if dataset == "jena" else sizes.imdb_steps
    # Ours takes a whole pass on IMDB: its steps differ in width, and a few of them would be no fair sample.
    own = {*OF_BEFORE, *OF_BEFORE.values()}
    steps = {name: 0 if name in own and dataset == "imdb" else turn_steps for name in commands}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name, command in commands.items():
            workers[name] = Worker(command, variables=_variables(name, before=bench.before))
            stack.callback(workers[name].close)
        described = _asked(workers, lambda worker, _: worker.ask("describe"), notes=notes)  # all are up before one is timed
        before = _asked(workers, lambda worker, _: worker.ask("probe"), notes=notes)
        bench.say(f"{dataset} {variant}: first turns")
        first = _asked(workers, lambda worker, name: worker.ask("train", steps=steps[name]), notes=notes)
        bench.say(f"{dataset} {variant}: {sizes.rounds} rounds of {len(workers)}")
        turns = interleaved(
            list(workers),
            rounds=sizes.rounds,
            take=lambda name: workers[name].ask("train", steps=steps[name]),
            pause=partial(time.sleep, sizes.pause_s),
        )
        after = {name: worker.ask("probe") for name, worker in workers.items()}
        if dataset == "imdb":
            same = workers[OURS].ask("equality", batches=sizes.equality_batches)
            notes.append(
                f"loss of ours against the plain network padded to 500, same weights, same {same['batches']} batches "
                f"({same['examples']:,} reviews): largest difference {same['largest_difference']:.1e}"
            )
    found = {}
    epoch_steps = JENA_EPOCH_STEPS if dataset == "jena" else -(-bench.data.tables["imdb"]["rows"]["train"] // BATCH_SIZE)
    for name in workers:
        own_epoch = described[name]["epoch_steps"] if name in own and dataset == "imdb" else epoch_steps
        found[name] = _contender(
            name.rsplit(",", 1)[0],
            described=described[name],
            first=first[name],
            turns=turns[name],
            epoch_steps=own_epoch,
            probes=(before[name], after[name]),
            reference=(described[OURS], before[OURS]),
        )
    notes += [f"{name} is not comparable: {one.fault}" for name, one in found.items() if one.fault]
    notes.append(f"data: {bench.data.told(dataset)}; an epoch is {epoch_steps} steps of {BATCH_SIZE}, scaled from the measured")
    return _table(f"{dataset} {variant}", found=found, notes=notes), found, notes


def _variables(name: str, *, before: Path | None) -> dict[str, str]:
    return {"PYTHONPATH": str(before)} if before and name in OF_BEFORE.values() else {}


def _asked(
    workers: dict[str, Worker], ask: Callable[[Worker, str], dict[str, Any]], *, notes: list[str]
) -> dict[str, dict[str, Any]]:
    """Return everyone's answer; an opponent that fails is taken out with a word, ours must not fail."""
    answers = {}
    for name, worker in list(workers.items()):
        try:
            answers[name] = ask(worker, name)
        except WorkerError as error:
            if name == OURS:
                raise
            notes.append(f"{name} failed: {str(error).splitlines()[-1]}")
            sys.stderr.write(f"{error}\n")
            del workers[name]
    return answers


def _contender(
    opponent: str,
    *,
    described: Mapping[str, Any],
    first: Mapping[str, Any],
    turns: list[dict[str, Any]],
    epoch_steps: int,
    probes: tuple[Mapping[str, Any], Mapping[str, Any]],
    reference: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Contender:
    step_s = [turn["seconds"] / turn["steps"] for turn in turns]
    losses = (_loss(probes[0]), _loss(probes[1]))
    faults = []
    if described["parameters"] != reference[0]["parameters"]:
        faults.append(f"it trains {described['parameters']:,} parameters, ours {reference[0]['parameters']:,}")
    apart = float(np.max(np.abs(np.array(probes[0]["predicted"]) - np.array(reference[1]["predicted"]))))
    if not apart <= PROBE_TOLERANCE:
        faults.append(f"with the same weights its predictions differ from ours by {apart:.1e}")
    if not np.isfinite(losses[1]):
        faults.append("its loss is no number after training")
    usual_s = spread_of([turn["whole_s"] for turn in turns]).median
    return Contender(
        opponent=opponent,
        library=described["library"],
        parameters=described["parameters"],
        turns_ms=tuple(1e3 * one for one in step_s),
        step_ms=spread_of(step_s, scale=1e3),
        epoch_s=spread_of(step_s, scale=epoch_steps),
        compile_s=max(0.0, first["whole_s"] - usual_s),
        cores=sum(turn["cpu_s"] for turn in turns) / sum(turn["whole_s"] for turn in turns),
        losses=losses,
        fault="; ".join(faults),
    )


def _loss(probe: Mapping[str, Any]) -> float:
    """Return the mean absolute error of temperatures, or the cross-entropy of labels 0 and 1."""
    predicted, targets = (np.array(probe[name], dtype=np.float64) for name in ("predicted", "targets"))
    if set(targets) <= {0.0, 1.0}:
        predicted = predicted.clip(1e-7, 1 - 1e-7)
        return float(-np.mean(targets * np.log(predicted) + (1 - targets) * np.log1p(-predicted)))
    return float(np.mean(np.abs(predicted - targets)))


def _table(title: str, *, found: Mapping[str, Contender], notes: list[str]) -> Table:
    columns = (
        "way",
        "ms a step",
        "s an epoch",
        "epoch by ours",
        "cores used",
        "compile s",
        "parameters",
        "loss before, after",
        "made of",
    )
    rows = tuple(
        (
            name,
            one.step_ms.text(digits=1),
            one.epoch_s.text(digits=1),
            f"{one.epoch_s.median / found[OURS].epoch_s.median:.2f}x",
            f"{one.cores:.1f}",
            f"{one.compile_s:.1f}",
            f"{one.parameters:,}",
            f"{one.losses[0]:.3f}, {one.losses[1]:.3f}",
            one.library,
        )
        for name, one in found.items()
    )
    return Table(title, columns, rows, tuple(notes))


def _plain(one: Contender) -> dict[str, Any]:
    return {
        "step_ms": vars(one.step_ms),
        "epoch_s": vars(one.epoch_s),
        "compile_s": one.compile_s,
        "cores": one.cores,
        "parameters": one.parameters,
        "losses": list(one.losses),
        "library": one.library,
        "fault": one.fault,
    }
