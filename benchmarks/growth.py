"""How the cost of ingestion grows with the size of its input: time and peak memory of one process a size, and the exponent."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.append import appended
from benchmarks.bench import Bench
from benchmarks.measuring import Goal, Part, Table, ceiling_goal, exponent_of, interleaved, spread_of
from benchmarks.workers import Finished, finish, own_module

EXPONENT_AIM = 1.05
PEAK_AIM_GB = 2.5


def measure(bench: Bench) -> Part:
    """Measure both data sets, and a week that is appended to twenty years."""
    goals: list[Goal] = []
    tables: list[Table] = []
    values: dict[str, Any] = {}
    for dataset, unit, sizes in (("jena", "rows", bench.sizes.growth_rows), ("imdb", "reviews", bench.sizes.growth_reviews)):
        found = _grown(bench, dataset=dataset, sizes=sizes)
        seconds = {size: spread_of([one.answer["seconds"] for one in taken]) for size, taken in found.items()}
        peaks = {size: spread_of([one.peak_bytes for one in taken], scale=1e-9) for size, taken in found.items()}
        processor = {size: spread_of([one.answer["cpu_s"] for one in taken]) for size, taken in found.items()}
        exponent = exponent_of(sizes, [seconds[size].median for size in sizes])
        processor_exponent = exponent_of(sizes, [processor[size].median for size in sizes])
        last = exponent_of(sizes[-2:], [seconds[size].median for size in sizes[-2:]])
        peak_exponent = exponent_of(sizes, [peaks[size].median for size in sizes])
        rows = tuple(
            (
                f"{size:,}",
                seconds[size].text(),
                processor[size].text(),
                peaks[size].text(),
                ", ".join(f"{lap} {value:.2f}" for lap, value in found[size][-1].answer["laps"].items()),
                f"{spread_of([one.wall_s for one in found[size]]).median:.1f}",
            )
            for size in sizes
        )
        columns = (unit, "s", "processor s", "peak memory in GB", "steps of the last round in s", "the whole process in s")
        notes = (
            f"time grows with {unit} to the power of {exponent:.2f}, time of processors {processor_exponent:.2f}, peak memory "
            f"{peak_exponent:.2f}",
            f"between the last two sizes time grows with the power of {last:.2f}: fixed costs flatten the whole",
            "one process a measurement, until its table is published; neither its imports nor the making of the simulated input "
            "count towards the time, and its Data Docs are left out",
        )
        tables.append(Table(f"Ingestion of {dataset}", columns, rows, notes))
        goals += _goals(dataset, unit=unit, exponent=max(exponent, last), largest=sizes[-1], peak_gb=peaks[sizes[-1]].median)
        values[dataset] = {
            "exponent": exponent,
            "last_exponent": last,
            "processor_exponent": processor_exponent,
            "peak_exponent": peak_exponent,
            "turns": {str(size): [vars(one) for one in taken] for size, taken in found.items()},
        }
    goal, table, values["append"] = appended(bench)
    return Part("growth", (*goals, goal), (*tables, table), values)


def _goals(dataset: str, *, unit: str, exponent: float, largest: int, peak_gb: float) -> list[Goal]:
    power = ceiling_goal(
        f"{dataset}: exponent of time against {unit}, of all sizes or the last two",
        against="-",
        value=exponent,
        at_most=EXPONENT_AIM,
        unit="",
    )
    peak = ceiling_goal(
        f"{dataset}: peak memory at {largest:,} {unit}", against="-", value=peak_gb, at_most=PEAK_AIM_GB, unit="GB"
    )
    return [power, peak]


def _grown(bench: Bench, *, dataset: str, sizes: tuple[int, ...]) -> dict[int, list[Finished]]:
    """Ingest each size in a process of its own, in turns."""
    folders: dict[str, Path] = {}
    for size in sizes:
        bench.say(f"growth: simulating {size:,} of {dataset} ...")
        folders[str(size)] = bench.folder / "growth" / dataset / str(size)
        finish(own_module("benchmarks.simulate", dataset, str(size), str(folders[str(size)])))

    def take(size: str) -> Finished:
        bench.say(f"growth: ingesting {size} of {dataset}")
        return finish(own_module("benchmarks.growth", dataset, str(folders[size])))

    taken = interleaved(
        list(folders), rounds=bench.sizes.growth_rounds, take=take, pause=partial(time.sleep, bench.sizes.pause_s)
    )
    return {int(size): finished for size, finished in taken.items()}


def main() -> None:
    """Ingest the files of a folder into a store that goes at once, and print the seconds as JSON."""
    from benchmarks.opponents.our_ingest import ingest

    dataset, folder = sys.argv[1], Path(sys.argv[2])
    started_s = time.process_time()
    with tempfile.TemporaryDirectory() as home:
        done: dict[str, Any] = ingest(dataset, files=sorted(folder.iterdir()), home=Path(home))
    done["cpu_s"] = time.process_time() - started_s
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
