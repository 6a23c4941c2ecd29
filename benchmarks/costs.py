"""What a run costs on this machine: start-up, ingestion at full size, the sample from nothing, and a run with nothing to do.

Run it on a quiet machine: `.venv/bin/python -m benchmarks.costs`. The figures of long trainings stand in docs/results.md.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-m", "flows.cli"]
FULL_ROWS = 420_551


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(*arguments: str, home: str) -> None:
    """Run the command in a store of its own and fail with it."""
    environment = {**os.environ, "RETRAIN_HOME": home}
    subprocess.run([*COMMAND, *arguments], env=environment, check=True, capture_output=True)


def ingest_seconds(home: str) -> dict[str, float]:
    """Ingest a simulated Jena file of the real one's size; imports and the making of the file are not counted."""
    import great_expectations  # noqa: F401  (an import is not part of ingestion)

    from storage.files import fetch
    from storage.layout import Store
    from storage.references import RawRef
    from tasks import preparation
    from tasks.datasets.simulate_jena import simulated_weather, write_csv_zip

    store = Store.at(home)
    path = Path(home, "full.csv.zip")
    write_csv_zip(simulated_weather(FULL_ROWS, seed=1, start="2009-01-01T00:10:00"), path)
    laps: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        laps[name] = time.perf_counter() - started
        started = time.perf_counter()

    name = "jena_climate_2009_2016.csv.zip"
    file = fetch(name, urls=(str(path),), store=store, dataset="jena", origin="benchmark", max_bytes=1 << 30)
    raw = RawRef(dataset="jena", source="sample", origin="sample", simulated=True, files=(file,))
    lap("fetch")
    parsed = preparation.parse_raw(raw, store=store)
    lap("parse")
    validation = preparation.validate_parsed(parsed, store=store)
    lap("validate")
    preparation.publish_parsed(parsed, validation=validation, store=store)
    lap("publish")
    return laps


def main() -> None:
    """Measure and print one line a figure."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as home:
        times = [seconds(lambda: run("--help", home=home)) for _ in range(10)]
        print(f"retrain --help                         {statistics.median(times):6.2f} s (median of {len(times)})")
        first = seconds(lambda: run("run", "all", "--data", "sample", home=home))
        print(f"retrain run all --data sample          {first:6.1f} s")
        second = seconds(lambda: run("run", "all", "--data", "sample", home=home))
        print(f"the same again, nothing changed        {second:6.1f} s")
        peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        print(f"peak memory of the largest process     {peak_gb:6.2f} GB")
    with tempfile.TemporaryDirectory() as home:
        laps = ingest_seconds(home)
        detail = ", ".join(f"{name} {value:.2f}" for name, value in laps.items())
        print(f"ingest of {FULL_ROWS:,} simulated rows    {sum(laps.values()):6.2f} s ({detail})")


if __name__ == "__main__":
    main()
