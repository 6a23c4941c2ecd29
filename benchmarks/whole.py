"""Both Jena variants, trained whole: ours side by side in two processes, the tutorial's way one after the other in one."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.data import JENA_VARIANTS
from benchmarks.measuring import Part, Table, interleaved, ratio_goal, spread_of
from benchmarks.workers import OPPONENTS, finish, finish_all, own_module

AIM = 4.0


def measure(bench: Bench) -> Part:
    """Time both ways from the start of the first process to the end of the last, imports, compiling and validation included."""
    sizes, data = bench.sizes, bench.data
    epochs, steps = str(sizes.whole_epochs), str(sizes.whole_steps)
    table = data.tables["jena"]["uri"]

    def ours() -> dict[str, Any]:
        started = time.perf_counter()
        commands = [
            own_module("benchmarks.opponents.ours", table, str(data.arrays), "1", "whole", "jena", variant, epochs, steps)
            for variant in JENA_VARIANTS
        ]
        done = finish_all(commands)
        losses = {variant: one.answer["val_loss"] for variant, one in zip(JENA_VARIANTS, done, strict=True)}
        return {"wall_s": time.perf_counter() - started, "val_loss": losses}

    def tutorial() -> dict[str, Any]:
        done = finish([sys.executable, str(OPPONENTS / "tutorial.py"), str(data.arrays), "0", "whole", epochs, steps])
        return {"wall_s": done.wall_s, "val_loss": done.answer["val_loss"]}

    ways = {"ours, side by side, 1 thread each": ours, "tutorial's way, one after the other, its own threads": tutorial}

    def take(name: str) -> dict[str, Any]:
        bench.say(f"whole training: {name}")
        return ways[name]()

    turns = interleaved(list(ways), rounds=sizes.whole_rounds, take=take, pause=partial(time.sleep, sizes.pause_s))
    walls = {name: spread_of([turn["wall_s"] for turn in taken]) for name, taken in turns.items()}
    first, second = walls.values()
    rows = tuple(
        (
            name,
            walls[name].text(digits=1),
            f"{walls[name].median / first.median:.2f}x",
            *(f"{taken[-1]['val_loss'][variant]:.4f}" for variant in JENA_VARIANTS),
        )
        for name, taken in turns.items()
    )
    columns = ("way", "s", "by ours", *(f"best validation MAE of {variant}" for variant in JENA_VARIANTS))
    notes = (
        f"{sizes.whole_epochs} epochs of {sizes.whole_steps} steps each, validated on the whole validation split after every "
        "epoch; from the start of the first process to the end of the last",
        f"data: {data.told('jena')}",
    )
    goal = ratio_goal(
        "both Jena variants, whole training",
        against="tutorial's way, one after the other",
        ratio=second.median / first.median,
        at_least=AIM,
    )
    return Part("whole", (goal,), (Table("Both Jena variants", columns, rows, notes),), {"turns": turns})
