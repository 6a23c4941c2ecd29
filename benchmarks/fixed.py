"""The fixed costs of a run: starting, importing, Prefect, validation, registering, and a whole run beside its bare training."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Data
from benchmarks.measuring import Goal, Part, Spread, Table, ceiling_goal, interleaved, spread_of
from benchmarks.workers import finish, finish_all, own_module
from tasks.models import PROBLEMS

IDLE_AIM_S = 12.0
START_AIM_S = 0.7
WHOLE_AIM_RATIO, WHOLE_AIM_S = 1.10, 20.0
COMMAND = "flows.cli.app"
IMPORTS = (
    "flows.cli.app",
    "flows.retrain",
    "pandas",
    "pyarrow.parquet",
    "prefect",
    "great_expectations",
    "mlflow",
    "keras",
    "tensorflow",
)
DATASETS = ("jena", "imdb")
# Seconds, and bytes of the largest process.
Run = tuple[float, int]


def measure(bench: Bench) -> Part:
    """Measure all of them."""
    starts, start_goal, start_values = _starts(bench)
    pieces, piece_values = _pieces(bench)
    whole, whole_goals, whole_values = _whole(bench)
    shares = _share_table(piece_values["pieces_s"]["flow"], tasks=whole_values["tasks_s"], run_s=whole_values["run_s"])
    return Part(
        "fixed",
        (start_goal, *whole_goals),
        (starts, pieces, *whole, shares),
        {**start_values, **piece_values, "whole": whole_values},
    )


def _starts(bench: Bench) -> tuple[Table, Goal, dict[str, Any]]:
    """Time the command without work, and imports, each in a process of its own."""
    sizes = bench.sizes
    commands = {"an empty Python": [sys.executable, "-c", ""], "retrain --help": own_module(COMMAND, "--help")}
    imports = {f"import {name}": [sys.executable, "-c", f"import {name}"] for name in IMPORTS}
    bench.say("fixed: start-up and imports")
    taken: dict[str, list[float]] = {}
    for which, rounds in ((commands, sizes.start_rounds), (imports, sizes.import_rounds)):
        for command in which.values():
            finish(command)  # once for the file cache
        taken |= interleaved(list(which), rounds=rounds, take=lambda name, which=which: finish(which[name]).wall_s)  # type: ignore[misc]
    spreads = {name: spread_of(seconds) for name, seconds in taken.items()}
    rows = tuple((name, one.text(), str(one.count)) for name, one in spreads.items())
    notes = (
        "whole processes, the start of Python included; flows.retrain is what a scheduled run imports before it does anything",
    )
    goal = ceiling_goal("`retrain --help`", against="-", value=spreads["retrain --help"].median, at_most=START_AIM_S, unit="s")
    return Table("Start-up and imports", ("what", "s", "times"), rows, notes), goal, {"starts_s": taken}


def _pieces(bench: Bench) -> tuple[Table, dict[str, Any]]:
    """Time the pieces of a run by themselves, each in a fresh process."""
    data, results = bench.sample, {}
    for name in ("flow", "pipeline"):
        bench.say(f"fixed: {name}")
        home = _copied(data, into=bench.folder / "pieces" / name)
        results[name] = finish(own_module("benchmarks.pieces", name, str(home), *_tables_of(data, home=home))).answer
    rows = tuple((what, f"{seconds:.3f}") for answer in results.values() for what, seconds in answer.items())
    notes = ("once each, in this order, in one process for Prefect and one for the rest; on the sample",)
    return Table("Pieces of a run", ("what", "s"), rows, notes), {"pieces_s": results}


def _copied(data: Data, *, into: Path) -> Path:
    """Return a store of its own with the tables of another."""
    shutil.copytree(data.home / "tables", into / "tables")
    return into


def _tables_of(data: Data, *, home: Path) -> list[str]:
    return [str(home / "tables" / name / data.tables[name]["version"]) for name in DATASETS]


def _whole(bench: Bench) -> tuple[list[Table], list[Goal], dict[str, Any]]:
    """Time `retrain run all` on the sample, the same again, and the bare training loop of the same models, in turns."""
    sizes, data = bench.sizes, bench.sample
    homes: list[Path] = []
    epochs, steps = str(sizes.sample_epochs), str(sizes.sample_steps)

    def run() -> Run:
        command = ["run", "all", "--data", "sample", "--epochs", epochs, "--patience", epochs, "--steps", steps]
        done = finish(own_module(COMMAND, *command), variables={"RETRAIN_HOME": str(homes[-1])})
        return done.wall_s, done.peak_bytes

    tasks: list[tuple[str, str, float]] = []

    def from_nothing() -> Run:
        homes.append(bench.folder / "whole" / str(len(homes)))
        done = run()
        tasks[:] = task_seconds(homes[-1] / "prefect" / "prefect.db")
        return done

    def bare() -> Run:
        started, peaks = time.perf_counter(), []
        for dataset in DATASETS:
            table = data.tables[dataset]["uri"]
            arguments = [(dataset, variant, epochs, steps) for variant in PROBLEMS[dataset].default_variants]
            module = ("benchmarks.opponents.ours", table, str(data.arrays), "1", "whole")
            peaks += [done.peak_bytes for done in finish_all([own_module(*module, *more) for more in arguments])]
        return time.perf_counter() - started, max(peaks)

    ways: dict[str, Callable[[], Run]] = {
        "bare training loop": bare,
        "retrain run, from nothing": from_nothing,
        "retrain run again, nothing changed": run,
    }

    def take(name: str) -> Run:
        bench.say(f"fixed: {name}")
        return ways[name]()

    turns = interleaved(list(ways), rounds=sizes.sample_rounds, take=take, pause=partial(time.sleep, sizes.pause_s))
    spreads = {name: spread_of([seconds for seconds, _ in taken]) for name, taken in turns.items()}
    peaks_gb = {name: max(peak for _, peak in taken) / 1e9 for name, taken in turns.items()}
    bare_s, run_s, idle_s = (one.median for one in spreads.values())
    rows = tuple(
        (name, one.text(digits=1), f"{one.median / bare_s:.2f}x", f"{peaks_gb[name]:.2f}") for name, one in spreads.items()
    )
    notes = (
        f"both data sets of the sample with their default variants: at most {epochs} epochs of at most {steps} steps, "
        "every epoch is run",
        "bare: a process a variant, the two of a data set side by side, with imports, compiling, the validation split after each "
        "epoch and a checkpoint file; no Prefect, no data validation, no test scores, no registry, no linear baselines",
        f"retrain run takes {run_s - bare_s:.1f} s more, {run_s / bare_s:.2f} times as long",
    )
    tables = [
        Table("A whole run beside its bare training", ("way", "s", "by the bare loop", "largest process in GB"), rows, notes)
    ]
    tables.append(_task_table(tasks, run_s=run_s))
    goals = [
        _whole_goal(spreads),
        ceiling_goal("run with nothing to do", against="-", value=idle_s, at_most=IDLE_AIM_S, unit="s"),
    ]
    return tables, goals, {"turns": turns, "tasks_s": tasks, "run_s": run_s}


def _whole_goal(spreads: dict[str, Spread]) -> Goal:
    bare_s, run_s, _ = (one.median for one in spreads.values())
    reached = run_s / bare_s <= WHOLE_AIM_RATIO or run_s - bare_s <= WHOLE_AIM_S
    return Goal(
        "whole run with validation, registry and UI (sample)",
        "bare training loop of the same models",
        f"{run_s / bare_s:.2f}x, {run_s - bare_s:+.1f} s",
        f"at most {WHOLE_AIM_RATIO:.2f}x or +{WHOLE_AIM_S:g} s",
        reached,
    )


def _task_table(tasks: list[tuple[str, str, float]], *, run_s: float) -> Table:
    rows = tuple((flow, task, f"{seconds:.2f}", f"{seconds / run_s:.1%}") for flow, task, seconds in tasks)
    notes = (
        "from Prefect's own record of the last run from nothing; a task `train` holds fit, evaluate and register of its variant",
        "trainings run side by side, so their seconds add up to more than the run took; what no task accounts for is starting "
        "and ending of the server and of processes, and imports before the first task",
    )
    return Table("Where a whole run spends its time", ("flow", "task", "s", "of the run"), rows, notes)


def _share_table(prefect_s: dict[str, float], *, tasks: list[tuple[str, str, float]], run_s: float) -> Table:
    """Return what each of the big libraries adds to a whole run, imports included."""

    def of(*beginnings: str) -> float:
        return sum(seconds for _, task, seconds in tasks if task.startswith(beginnings))

    parts = {
        "Prefect: import, server, an empty flow a data set": sum(
            seconds for what, seconds in prefect_s.items() if not what.startswith("flow with")
        ),
        "Great Expectations: `validate` and `write data docs`, with its import": of("validate", "write data docs"),
        "MLflow: `register`, `find trained`": of("register", "find trained"),
        "promotion and report": of("decide", "promote", "report"),  # loads a model in a fresh process
        "training: `fit`": of("fit"),
        "scoring: `evaluate`": of("evaluate"),
    }
    rows = tuple((what, f"{seconds:.1f}", f"{seconds / run_s:.0%}") for what, seconds in parts.items())
    notes = (
        "Prefect's are the pieces above; the rest are tasks. What runs side by side is counted each, so shares exceed 100 %",
    )
    return Table("Shares of a whole run", ("part", "s", "of the run"), rows, notes)


def task_seconds(database: Path) -> list[tuple[str, str, float]]:
    """Return flow, task and seconds of every task run that Prefect recorded, in the order in which they began."""
    query = (
        "select flow_run.name, task_run.name, (julianday(task_run.end_time) - julianday(task_run.start_time)) * 86400 "
        "from task_run left join flow_run on flow_run.id = task_run.flow_run_id "
        "where task_run.end_time is not null "
        # A flow within a flow has a task that stands for it; the flow's own tasks are enough.
        "and task_run.id not in (select parent_task_run_id from flow_run where parent_task_run_id is not null) "
        "order by task_run.start_time"
    )
    with sqlite3.connect(database) as connection:
        return [(str(flow), str(task), float(seconds)) for flow, task, seconds in connection.execute(query)]
