"""Measure the project beside what a user would use instead, and write docs/benchmarks.md and docs/benchmarks.json.

Run it on a quiet machine: `make bench`. Each part can be measured by itself; the others then stay as they were written.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.machine import circumstances
from benchmarks.measuring import Part, document, plain_part
from benchmarks.settings import QUICK, Sizes
from benchmarks.workers import ROOT
from storage.environment import Environment

PARTS = ("steps", "whole", "ingest", "fixed", "growth", "serve", "gpu")
WRITTEN = (ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.md")


def arguments() -> argparse.Namespace:
    """Return what the person asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part alone; can be given again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes that show that all works; nothing is written to docs/")
    parser.add_argument(
        "--mirror",
        action="append",
        help="folder with real files and a SHA256SUMS, in place of RETRAIN_MIRROR; can be given again",
    )
    parser.add_argument("--rewrite", action="store_true", help="measure nothing; write the markdown anew from the JSON")
    parser.add_argument("--rounds", type=int, help="turns of each way in a case of steps")
    parser.add_argument(
        "--before",
        type=Path,
        help="checkout of another commit, whose steps take turns with those of this one; nothing is written to docs/",
    )
    parser.add_argument("--alone", action="store_true", help="leave the opponents of steps out; with --before")
    asked = parser.parse_args()
    if asked.alone and not asked.before:
        parser.error("--alone compares with nothing: name a checkout with --before")
    return asked


def main() -> None:
    """Measure, print and write."""
    asked = arguments()
    if asked.rewrite:
        _write({})
        return
    sizes = QUICK if asked.quick else Sizes()
    if asked.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": asked.rounds})
    named = Environment.read().mirror
    mirrors = asked.mirror or ([named] if named else [])
    mirrors = [str(Path(mirror).resolve()) for mirror in mirrors]
    command = shlex.join(["python", "-m", "benchmarks", *_without_mirrors(sys.argv[1:])])
    parts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = asked.before.resolve() if asked.before else None
        bench = Bench(Path(folder), sizes=sizes, mirrors=mirrors, quick=asked.quick, before=before, alone=asked.alone)
        for name in asked.only or PARTS:
            around = circumstances(command)
            bench.say(f"== {name} (load {around['load at the start']})")
            part: Part = importlib.import_module(f"benchmarks.{name}").measure(bench)
            parts[name] = plain_part(part, circumstances=around)
            if not asked.quick and not before:
                _write(parts)
    if asked.quick:
        sys.stdout.write("QUICK RUN: tiny sizes, to see that all works. None of these figures means anything.\n\n")
    sys.stdout.write(document(parts))


def _write(parts: dict[str, Any]) -> None:
    """Write the parts measured now beside those that stand, in the usual order."""
    json_file, markdown_file = WRITTEN
    standing = json.loads(json_file.read_text(encoding="utf-8")) if json_file.is_file() else {}
    known = standing | parts
    ordered = {name: known[name] for name in PARTS if name in known}
    json_file.write_text(_placeless(json.dumps(ordered, indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")
    markdown_file.write_text(_placeless(document(ordered)), encoding="utf-8")


def _placeless(text: str) -> str:
    """Return a text without the folders of this machine, which a message of a failed opponent may name."""
    for place in (str(ROOT), sys.prefix, tempfile.gettempdir(), str(Path.home())):
        text = text.replace(place, "...")
    return text


def _without_mirrors(words: list[str]) -> list[str]:
    """Return the command without the folders of one machine."""
    text = re.sub(r"--mirror(=| )('[^']*'|\S+)", "--mirror=...", shlex.join(words))
    return shlex.split(text)


if __name__ == "__main__":
    main()
