"""From a csv to checked Parquet: the project's whole ingestion beside pandas with naive checks, in turns, on the same file."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measuring import Part, Table, interleaved, ratio_goal, spread_of
from benchmarks.workers import OPPONENTS, Worker, finish, own_module
from tasks.datasets.jena.sample import SAMPLE_FILE

AIM = 4.0
OURS, PANDAS = "ours, to a published table", "pandas, to one Parquet file"


def measure(bench: Bench) -> Part:
    """Measure both ways in processes that stay alive, so that no import counts."""
    sizes, folder = bench.sizes, bench.folder / "ingest"
    bench.say(f"ingest: simulating {sizes.ingest_rows:,} rows ...")
    finish(own_module("benchmarks.simulate", "jena", str(sizes.ingest_rows), str(folder)))
    file = str(folder / SAMPLE_FILE)
    workers = {
        OURS: Worker(own_module("benchmarks.opponents.our_ingest")),
        PANDAS: Worker([sys.executable, str(OPPONENTS / "pandas_ingest.py")]),
    }
    try:
        first = {name: worker.ask("train", file=file) for name, worker in workers.items()}
        turns = interleaved(
            list(workers),
            rounds=sizes.ingest_rounds,
            take=lambda name: workers[name].ask("train", file=file),
            pause=partial(time.sleep, sizes.pause_s),
        )
    finally:
        for worker in workers.values():
            worker.close()
    spreads = {name: spread_of([turn["seconds"] for turn in taken]) for name, taken in turns.items()}
    rows = tuple(
        (
            name,
            spreads[name].text(),
            f"{spreads[name].median / spreads[OURS].median:.2f}x",
            ", ".join(f"{lap} {spread_of([turn['laps'][lap] for turn in taken]).median:.2f}" for lap in taken[0]["laps"]),
            spread_of([turn["seconds"] + turn.get("docs_s", 0) for turn in taken]).text(),
            f"{first[name]['seconds']:.2f}",
            str(taken[0]["checks"]),
            f"{taken[-1]['peak_bytes'] / 1e9:.2f}",
        )
        for name, taken in turns.items()
    )
    columns = (
        "way",
        "s",
        "by ours",
        "steps in s",
        "s with Data Docs",
        "first time in s",
        "checks",
        "peak memory of the process in GB",
    )
    ours_rows = sum(turns[OURS][0]["rows"].values())
    notes = (
        f"{sizes.ingest_rows:,} simulated rows, {ours_rows:,} in the table; imports are not counted",
        "ours fetches with a digest, repairs, judges the whole suite, splits, normalises and writes three Parquet files and a "
        "manifest, and then the Data Docs; pandas reads, checks and writes one file",
    )
    with_docs = spread_of([turn["seconds"] + turn["docs_s"] for turn in turns[OURS]])
    goals = tuple(
        ratio_goal(
            f"ingest of {sizes.ingest_rows:,} rows{what}",
            against="pandas: read, to_datetime, naive checks, to_parquet",
            ratio=spreads[PANDAS].median / seconds,
            at_least=AIM,
        )
        for what, seconds in ((", to the published table", spreads[OURS].median), (", with Data Docs", with_docs.median))
    )
    values: dict[str, Any] = {"first": first, "turns": turns}
    return Part("ingest", goals, (Table("A csv to Parquet", columns, rows, notes),), values)
