"""Compare the training steps of two checkouts of the project, in turns on one machine, as steps of one case can be compared.

python -m benchmarks.compare_steps OTHER [--rounds N] [--mirror FOLDER]

OTHER is a checkout of another commit, such as `git worktree add ../before COMMIT` makes. Both run in the environment of this one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measuring import interleaved
from benchmarks.settings import OWN_THREADS, Sizes
from benchmarks.steps import CASES
from benchmarks.workers import ROOT, Worker


def main() -> None:
    """Measure every case of `benchmarks.steps` in both checkouts, and print a row for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_steps", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each checkout in a case")
    parser.add_argument("--mirror", action="append", default=[], help="folder with real files; can be given again")
    asked = parser.parse_args()
    checkouts = {"other": asked.other.resolve(), "this": ROOT}
    with tempfile.TemporaryDirectory() as folder:
        mirrors = [str(Path(mirror).resolve()) for mirror in asked.mirror]
        bench = Bench(Path(folder), sizes=Sizes(), mirrors=mirrors, quick=False)
        sys.stdout.write("case, threads: ms a step before, after (median of the turns), after / before (median of the rounds)\n")
        for dataset, variant, _ in CASES:
            for threads in (OWN_THREADS, 1):
                times = _case(bench, checkouts, dataset=dataset, variant=variant, threads=threads, rounds=asked.rounds)
                before, after = (statistics.median(times[name]) for name in ("other", "this"))
                ratio = statistics.median(new / old for old, new in zip(times["other"], times["this"], strict=True))
                words = "every core" if threads == OWN_THREADS else "1 thread"
                sys.stdout.write(f"{dataset} {variant}, {words}: {before:.2f}, {after:.2f}, {ratio:.3f}\n")
                sys.stdout.flush()


def _case(
    bench: Bench, checkouts: dict[str, Path], *, dataset: str, variant: str, threads: int, rounds: int
) -> dict[str, list[float]]:
    """Return milliseconds a step of each turn, by checkout."""
    # -P keeps the folder of this process off the path, so that each worker imports its own checkout.
    module = (sys.executable, "-P", "-m", "benchmarks.opponents.ours")
    arguments = (str(bench.data.tables[dataset]["uri"]), str(bench.data.arrays), str(threads), "turns", dataset, variant)
    workers = {name: Worker([*module, *arguments], variables={"PYTHONPATH": str(path)}) for name, path in checkouts.items()}
    # IMDB's steps differ in width, so a turn is a whole pass there.
    steps = bench.sizes.jena_steps if dataset == "jena" else 0
    try:
        for worker in workers.values():
            worker.ask("train", steps=steps)  # compiles
        turns = interleaved(
            list(workers),
            rounds=rounds,
            take=lambda name: workers[name].ask("train", steps=steps),
            pause=partial(time.sleep, bench.sizes.pause_s),
        )
    finally:
        for worker in workers.values():
            worker.close()
    return {name: [1e3 * turn["seconds"] / turn["steps"] for turn in taken] for name, taken in turns.items()}


if __name__ == "__main__":
    main()
