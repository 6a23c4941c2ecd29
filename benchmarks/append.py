"""What it costs to take in the newest week of a series of twenty years: one process, from its start to the published table.

python -m benchmarks.append make FOLDER      writes a mirror of twenty years, and of the week after them
python -m benchmarks.append MIRROR DAY HOME  ingests it as of a day
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measuring import Goal, Table, ceiling_goal, spread_of
from benchmarks.workers import Finished, finish, own_module

AIM_S = 6.0
FIRST_YEAR, DAY, DAYS_OF_CURRENT = 2006, date(2026, 3, 2), 130
WEEK = timedelta(days=7)
ROWS_A_DAY = 144


def appended(bench: Bench) -> tuple[Goal, Table, dict[str, Any]]:
    """Ingest twenty years, then a week more, the same week again and again from the same store, each in a new process."""
    folder = bench.folder / "append"
    first_year = FIRST_YEAR if not bench.quick else DAY.year - 3
    bench.say(f"growth: simulating {DAY.year - first_year} years and a week ...")
    finish(own_module("benchmarks.append", "make", str(folder), str(first_year)))

    def take(mirror: str, day: date, home: Path) -> Finished:
        bench.say(f"growth: ingesting as of {day}")
        return finish(own_module("benchmarks.append", str(folder / mirror), str(day), str(home)))

    homes = [folder / f"home-{number}" for number in range(bench.sizes.growth_rounds)]
    before = [take("before", DAY, home) for home in homes]
    after = [take("after", DAY + WEEK, home) for home in homes]
    rows = tuple(
        (
            name,
            f"{sum(taken[-1].answer['rows'].values()):,}",
            spread_of([one.wall_s for one in taken]).text(),
            ", ".join(f"{lap} {seconds:.2f}" for lap, seconds in taken[-1].answer["laps"].items()),
            spread_of([one.peak_bytes for one in taken], scale=1e-9).text(),
        )
        for name, taken in (("everything for the first time", before), ("a week more", after))
    )
    columns = ("what comes", "rows", "the whole process in s", "steps of the last round in s", "peak memory in GB")
    notes = (
        "a mirror in a folder with files of the station's names; the second line reads the newest file alone, because what was "
        "read from the others is kept by their digests",
        "the time of a process with its imports, to the published table; Prefect and the Data Docs are left out",
    )
    median_s = spread_of([one.wall_s for one in after]).median
    name = f"jena: a week appended to {DAY.year - first_year} years, whole process to the published table"
    goal = ceiling_goal(name, against="-", value=median_s, at_most=AIM_S, unit="s")
    return goal, Table("Appending a week", columns, rows, notes), {"turns": [vars(one) for one in (*before, *after)]}


def _make(folder: Path, *, first_year: int) -> None:
    """Write both states of the mirror; the files of finished periods are the same in both."""
    import numpy as np

    from tasks.datasets.jena.physics import STAMP_HEADER
    from tasks.datasets.jena.sample import simulated_weather, write_csv_zip

    rows = ((DAY + WEEK) - date(first_year, 1, 1)).days * ROWS_A_DAY
    series = simulated_weather(rows, seed=1, start=f"{first_year}-01-01T00:10:00")
    stamps = series[STAMP_HEADER].to_numpy().astype("datetime64[s]")

    def between(first: date, end: date) -> Any:
        # A stamp marks the end of its row, so the midnight that ends a period belongs to it.
        start, stop = np.searchsorted(stamps, np.array([first, end], dtype="datetime64[s]"), side="right")
        return series.iloc[start:stop]

    periods = [(f"{year}{half}", date(year, 7 if half == "b" else 1, 1)) for year in range(first_year, 2024) for half in "ab"]
    periods += [(str(year), date(year, 1, 1)) for year in range(2024, DAY.year)]
    ends = [first for _, first in periods[1:]] + [date(DAY.year, 1, 1)]
    for state, day in (("before", DAY), ("after", DAY + WEEK)):
        mirror = folder / state
        mirror.mkdir(parents=True)
        for (period, first), end in zip(periods, ends, strict=True):
            file = mirror / f"mpi_roof_{period}.zip"
            if state == "before":
                write_csv_zip(between(first, end), file)
            else:
                os.link(folder / "before" / file.name, file)
        write_csv_zip(between(day - timedelta(days=DAYS_OF_CURRENT), day), mirror / "mpi_roof.zip")
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(mirror.iterdir())}
        (mirror / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")


def _ingest(mirror: str, *, day: str, home: str) -> dict[str, Any]:
    """Ingest the mirror as of a day into a store, and return rows and seconds of each step."""
    os.environ["RETRAIN_TODAY"] = day
    from storage.layout import Store
    from tasks.config import DataSettings
    from tasks.datasets.jena.station import StationOptions
    from tasks.ingestion import fetching, pipeline

    store = Store.at(home)
    years = sorted(path.name[9:13] for path in Path(mirror).glob("mpi_roof_*.zip"))
    options = StationOptions(from_period=years[0], to_period="latest")
    settings = DataSettings(data="mirror", source="station", options=options)
    laps: dict[str, float] = {}
    started_s = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started_s
        laps[name] = time.perf_counter() - started_s
        started_s = time.perf_counter()

    raw = fetching.fetch_raw("jena", settings=settings, store=store, mirror=mirror)
    lap("fetch")
    parsed = pipeline.parse_raw(raw, store=store)
    lap("parse")
    validation = pipeline.validate_parsed(parsed, settings=settings, store=store)
    lap("validate")
    table = pipeline.publish_parsed(parsed, validation=validation, store=store)
    lap("publish")
    return {"rows": table.rows, "laps": laps, "published": table.published}


def main() -> None:
    """Make the mirror, or ingest one and print what it took as JSON."""
    if sys.argv[1] == "make":
        _make(Path(sys.argv[2]), first_year=int(sys.argv[3]))
        return
    mirror, day, home = sys.argv[1:4]
    sys.stdout.write(json.dumps(_ingest(mirror, day=day, home=home)) + "\n")


if __name__ == "__main__":
    main()
