"""How much a retrain adds to each store, and what `retrain gc` gives back.

python -m benchmarks.housekeeping [--runs N]

Each retrain is of the Jena sample with a seed of its own, so it trains, registers and reports anew; a table is published once.
At the end a second table is published, as versions on the newest table stay. Then everything is made older than any age that `gc`
is asked for, and `gc` leaves the newest of each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from storage.io import read_json, write_record

OLD_DAYS = 200
_DAY_S = 86_400
_BUDGET = ("--variants", "gru_baseline", "--epochs", "1", "--steps", "20")
PARTS = {
    "Prefect's database": "prefect/prefect.db",
    "MLflow's database": "mlflow/mlflow.db",
    "model files": "mlflow/artifacts",
    "tables": "tables",
    "reports": "reports",
    "evaluations": "evaluations",
    "log of decisions": "promotions",
}


def age_everything(home: Path) -> None:
    """Make everything in a local store as old as if nobody had touched it for `OLD_DAYS`."""
    then = time.time() - OLD_DAYS * _DAY_S
    for path in home.rglob("*"):
        os.utime(path, (then, then))
    for ingested in home.glob("tables/*/.ingested*"):
        for file in [ingested] if ingested.is_file() else ingested.iterdir():
            times = {version: re.sub(r"20\d\d-", "2020-", at) for version, at in read_json(file).items()}
            write_record(file, times)
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        database.execute(f"UPDATE flow_run SET end_time = datetime(end_time, '-{OLD_DAYS} days')")
        database.commit()
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        shift_ms = OLD_DAYS * _DAY_S * 1000
        database.execute(f"UPDATE runs SET start_time = start_time - {shift_ms}, end_time = end_time - {shift_ms}")
        database.execute(f"UPDATE model_versions SET creation_time = creation_time - {shift_ms}")
        database.commit()


def sizes_bytes(home: Path) -> dict[str, int]:
    """Return the bytes of each part of a local store; of a database without its free pages, which new rows take first."""
    sizes = {}
    for name, part in PARTS.items():
        path = home / part
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                pages, free, page_bytes = (
                    database.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "freelist_count", "page_size")
                )
            sizes[name] = (pages - free) * page_bytes
        else:
            sizes[name] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return sizes


def table(
    first: Mapping[str, int], grown: Mapping[str, int], last: Mapping[str, int], after: Mapping[str, int], *, runs: int
) -> str:
    """Return the growth a run, and what was there before and after `gc`, as a table."""
    lines = ["| part of the store | growth a retrain | before `gc` | after |", "|---|---|---|---|"]
    for name in first:
        growth = (grown[name] - first[name]) / (runs - 1) / 1000
        lines.append(f"| {name} | {growth:,.0f} kB | {last[name] / 1000:,.0f} kB | {after[name] / 1000:,.0f} kB |")
    return "\n".join(lines)


def main() -> None:
    """Run some retrains and `gc`, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.housekeeping", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="retrains; the first one makes tables and databases")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "var")
        _retrain("run", "jena", "--data", "sample", *_BUDGET, "--seed", "0", home=home)
        first = sizes_bytes(home)
        for seed in range(1, runs):
            _retrain("run", "jena", "--data", "sample", *_BUDGET, "--seed", str(seed), home=home)
        grown = sizes_bytes(home)
        _retrain("ingest", "jena", "--data", "sample", "--limit", "missing_values=0.3", home=home)
        last = sizes_bytes(home)
        age_everything(home)
        # The first of the two leaves those runs of Prefect whose versions the same `gc` removes.
        for _ in range(2):
            done = _retrain("gc", "--keep", "1", "--keep-versions", "1", "--apply", "--json", home=home)
        sys.stdout.write(f"{table(first, grown, last, sizes_bytes(home), runs=runs)}\n")
        sys.stdout.write(f"left for a third gc: {len(json.loads(done)['items'])}\n")


def _retrain(*arguments: str, home: Path) -> str:
    command = [sys.executable, "-m", "flows.cli.app", *arguments]
    done = subprocess.run(command, env={**os.environ, "RETRAIN_HOME": str(home)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
