"""Every promise of docs/explanation/reliability.md that can be counted: tried, survived, seeds, seconds.

    make test-faults                     (all; about three quarters of an hour on two cores)
    make test-faults FAULTS="--only plausible --seeds 10"

Needs the real data of a mirror (RETRAIN_MIRROR) for the plausible faults.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from jena_helpers import MIRROR, real  # noqa: E402
from planted import fuzz, jena_planted, review_planted  # noqa: E402
from planted.plausible import JenaBench, ReviewBench  # noqa: E402

from tasks.datasets.imdb import spec as imdb  # noqa: E402
from tasks.datasets.request import TableRequest  # noqa: E402


@dataclass(frozen=True)
class Counted:
    """What came of one kind of faults.

    Attributes:
        seeds: How the faults can be made again.
        remarks: Each fault that was not survived.
    """

    what: str
    tried: int
    survived: int
    seeds: str
    seconds: float
    remarks: tuple[str, ...] = ()


def plausible(asked: argparse.Namespace) -> Iterator[Counted]:
    """Plant each plausible fault with several seeds, and count those that the suite sees."""
    station = JenaBench(real(MIRROR, ["mpi_roof_2020a.zip", "mpi_roof_2020b.zip"]))
    files = {name: MIRROR / name for name in ("imdb.npz", "imdb_word_index.json")}
    reviews = ReviewBench(imdb.SPEC.parse(files, TableRequest(source="keras")))
    for what, bench, faults, seeds in (
        ("plausible faults of Jena", station, jena_planted.FAULTS, asked.seeds),
        ("plausible faults of reviews", reviews, review_planted.FAULTS, max(1, asked.seeds // 5)),
    ):
        started, missed, tried = time.monotonic(), [], 0
        for name, fault in faults.items():
            for seed in range(1, seeds + 1):
                tried += 1
                if not bench.plant(fault, seed=seed).severity:  # type: ignore[arg-type]
                    missed.append(f"{name}, seed {seed}")
        yield Counted(what, tried, tried - len(missed), f"1 to {seeds}", time.monotonic() - started, tuple(missed))


def files(asked: argparse.Namespace) -> Iterator[Counted]:
    """Read randomly damaged files of every format for some seconds each."""
    for name in fuzz.FORMATS:
        started, number, failed = time.monotonic(), 0, []
        while time.monotonic() - started < asked.seconds:
            error = fuzz.try_one(name, number)
            if error is not None:
                failed.append(f"{number}: {type(error).__name__}: {str(error)[:100]}")
            number += 1
        seconds = time.monotonic() - started
        yield Counted(f"damaged files: {name}", number, number - len(failed), f"0 to {number - 1}", seconds, tuple(failed[:5]))


TESTS = {
    "kills": ("kills while databases are made", ("tests/unit/test_database_file.py",)),
    "runs": ("equal runs at once", ("tests/flows/test_equal_runs.py",)),
    "killed": ("killed runs", ("tests/flows/test_killed_run.py",)),
    "hosts": ("odd hosts and headers", ("tests/unit/test_raw_files.py", "tests/unit/test_living_files.py")),
    "secrets": ("secrets in addresses", ("tests/unit/test_redaction.py",)),
    "disks": ("full disks, damaged files of the store", ("tests/unit/test_disk.py", "tests/unit/test_damage.py")),
}
"""What is counted as tests: by name, what it is and its files."""


def tests(name: str) -> Iterator[Counted]:
    """Run the tests of a kind of faults, the long ones too, and count them."""
    what, paths = TESTS[name]
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-header", "-p", "no:cacheprovider", "-rfE", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    summary = done.stdout.strip().splitlines()[-1]
    counts = {word: int(number) for number, word in (part.split()[:2] for part in summary.split(" in ")[0].split(", "))}
    passed, failed = counts.get("passed", 0), counts.get("failed", 0) + counts.get("errors", 0) + counts.get("error", 0)
    remarks = tuple(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    yield Counted(what, passed + failed, passed, "in the tests", time.monotonic() - started, remarks)


def main() -> None:
    """Run what is asked for, print a line for each kind as it ends, and fail if something was not survived."""
    kinds: dict[str, Callable[[argparse.Namespace], Iterator[Counted]]] = {"plausible": plausible, "files": files}
    parser = argparse.ArgumentParser(prog="make test-faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=(*kinds, *TESTS), help="this kind alone; can be given again")
    parser.add_argument("--seeds", type=int, default=5, help="of each plausible fault")
    parser.add_argument("--seconds", type=float, default=60, help="of damaged files, for each format")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    lost = 0
    sys.stdout.write("| what | tried | survived | seeds | seconds |\n|---|---|---|---|---|\n")
    for name in asked.only or (*kinds, *TESTS):
        for counted in kinds[name](asked) if name in kinds else tests(name):
            cells = (counted.what, f"{counted.tried:,}", f"{counted.survived:,}", counted.seeds, f"{counted.seconds:.0f}")
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
            for remark in counted.remarks:
                sys.stdout.write(f"    not survived: {remark}\n")
            sys.stdout.flush()
            lost += counted.tried - counted.survived
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
