"""Every promise of docs/explanation/reliability.md that can be counted: tried, survived, seeds, seconds.

    make test-faults                     (all; hours on two cores)
    make test-faults FAULTS="--only plausible --seeds 10"

Needs the real data of a mirror (RETRAIN_MIRROR) for the plausible faults.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "unit", "flows"))]

from jena_helpers import MIRROR, real  # noqa: E402
from planted import fuzz, jena_planted, kill_points, review_planted, small_disks  # noqa: E402
from planted.plausible import JenaBench, ReviewBench  # noqa: E402
from postgres_helpers import running_postgres  # noqa: E402

from tasks.datasets.imdb import spec as imdb  # noqa: E402
from tasks.datasets.request import TableRequest  # noqa: E402

_POINTS_AT_ONCE = 25


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


def points(asked: argparse.Namespace) -> Iterator[Counted]:
    """Kill each making of a database at every statement that writes, or at every so manieth, and open what is left."""
    length = _POINTS_AT_ONCE * asked.every
    for making in kill_points.MAKINGS:
        started, tried, lost, first = time.monotonic(), 0, [], 1
        with (
            running_postgres() if making in kill_points.ON_POSTGRES else nullcontext() as server,
            ThreadPoolExecutor(2) as threads,
        ):

            def count(first: int, making: str = making, server: str | None = server) -> dict[int, tuple[int, int]]:
                with tempfile.TemporaryDirectory() as folder:
                    chunk = range(first, first + length, asked.every)
                    return kill_points.killed_and_opened(making, Path(folder), chunk, server=server)

            is_whole = False
            while not is_whole:
                for found in threads.map(count, (first, first + length)):
                    killed = {each: opened for each, (status, opened) in found.items() if status == signal.SIGKILL}
                    tried += len(killed)
                    lost += [f"statement {each}" for each, opened in killed.items() if opened]
                    is_whole = is_whole or len(killed) < len(found)  # all statements had been made before
                first += 2 * length
        seconds = time.monotonic() - started
        seeds = f"statements 1 to {1 + (tried - 1) * asked.every}, every {asked.every}"
        yield Counted(f"kills while tables are made: {making}", tried, tried - len(lost), seeds, seconds, tuple(lost))


def sizes(asked: argparse.Namespace) -> Iterator[Counted]:
    """Run on disks of every size, two at a time."""
    started = time.monotonic()
    wanted = range(asked.smallest, asked.largest + 1, asked.step)
    with ThreadPoolExecutor(2) as threads:
        faults = dict(zip(wanted, threads.map(small_disks.fault_on, wanted), strict=True))
    lost = tuple(f"{size} MB: {fault}" for size, fault in faults.items() if fault)
    seeds = f"{asked.smallest} to {asked.largest} MB, every {asked.step}"
    yield Counted("runs on small disks", len(faults), len(faults) - len(lost), seeds, time.monotonic() - started, lost)


TESTS = {
    "kills": ("kills while databases are made", ("tests/unit/test_database_file.py",)),
    "runs": ("equal runs at once", ("tests/flows/test_equal_runs.py",)),
    "killed": ("killed runs", ("tests/flows/test_killed_run.py",)),
    "hosts": ("odd hosts and headers", ("tests/unit/test_raw_files.py", "tests/unit/test_living_files.py")),
    "secrets": ("secrets in addresses", ("tests/unit/test_redaction.py",)),
    "disks": (
        "full and read-only disks",
        ("tests/unit/test_disk.py", "tests/flows/test_read_only.py", "tests/flows/test_foreign_owner.py"),
    ),
    "store": (
        "damaged files of the store",
        (
            "tests/unit/test_damage.py",
            "tests/unit/test_verify.py",
            "tests/unit/test_checksums.py",
            "tests/flows/test_verify_command.py",
        ),
    ),
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
    kinds: dict[str, Callable[[argparse.Namespace], Iterator[Counted]]] = {
        "plausible": plausible,
        "files": files,
        "points": points,
        "sizes": sizes,
    }
    parser = argparse.ArgumentParser(prog="make test-faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=(*kinds, *TESTS), help="this kind alone; can be given again")
    parser.add_argument("--seeds", type=int, default=5, help="of each plausible fault")
    parser.add_argument("--every", type=int, default=10, help="of the statements at which a making of tables is killed")
    parser.add_argument("--smallest", type=int, default=1, help="MB of the smallest disk")
    parser.add_argument("--largest", type=int, default=60, help="MB of the largest disk")
    parser.add_argument("--step", type=int, default=1, help="MB from one disk to the next")
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
