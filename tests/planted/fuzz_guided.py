"""Damaged files that are led by coverage: libFuzzer, by Atheris, looks for those that reach new lines of the readers.

    pip install atheris
    python -m planted.fuzz_guided --seconds 600 --only zip --only csv      (in tests/, with the project on the path)

Each format runs in a process of its own, because libFuzzer ends its process. Whatever brings out something else than an error of
the project is kept in `tests/planted/corpus/<format>/`; a test that replays it belongs to the first file there. Atheris is no
dependency of the project: it has wheels for few versions of Python.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
# libFuzzer's own leaks and limits are those of Python; a reader that asks for more than this has a fault.
MEMORY_MB = 2_000


def folder_of(name: str) -> Path:
    """The folder of a format's examples that once failed."""
    return CORPUS / re.sub(r"[^a-z0-9]+", "-", name.lower())


def run_format(name: str, *, seconds: int, seeds: Path) -> None:
    """Fuzz one format until the time is over or something fails; libFuzzer ends this process."""
    import atheris

    with atheris.instrument_imports(include=["storage", "tasks"]):
        from planted import fuzz

    import logging
    import warnings

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    def one(content: bytes) -> None:
        error = fuzz.fault_of(name, content)
        if error is not None:
            raise error

    kept = folder_of(name)
    (seeds / "sound").write_bytes(fuzz.FORMATS[name][1]())
    options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", "-timeout=30", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={kept}/", str(seeds), str(kept)], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz each format in turn, and print how many examples were tried and what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each format")
    parser.add_argument("--only", action="append", help="this format alone; can be given again")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        run_format(asked.one, seconds=asked.seconds, seeds=asked.corpus)
        return
    from planted.fuzz import FORMATS

    failed = False
    for name in asked.only or FORMATS:
        started = time.monotonic()
        kept = folder_of(name)
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as seeds:
            command = [sys.executable, "-m", "planted.fuzz_guided", "--one", name, "--seconds", str(asked.seconds)]
            command += ["--corpus", seeds]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if not any(kept.iterdir()):
            kept.rmdir()
        tried = re.search(r"stat::number_of_executed_units: +(\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        error = re.search(r"(?m)^ *(\w+(?:Error|Exception)\b.*)$", done.stderr) if done.returncode else None
        failed = failed or bool(done.returncode)
        sys.stdout.write(
            f"{name}: {int(tried[1]) if tried else 0:,} tried in {time.monotonic() - started:.0f} s, "
            f"{reached[-1] if reached else 0} places reached{f'; FAILED: {error[1][:200]}' if error else ''}\n"
        )
        if done.returncode and not error:
            sys.stdout.write(done.stderr[-1_000:] + "\n")
        sys.stdout.flush()
    sys.exit(failed)


if __name__ == "__main__":
    main()
