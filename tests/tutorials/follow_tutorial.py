"""Follow a tutorial: run its commands in their order, and compare what they print with what stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_server

from copy_of_the_project import ROOT

PORT = "8090"
_BASH = shutil.which("bash") or "bash"
_STEP = re.compile(r"^```sh\n(?P<commands>.*?)^```\n\n(?:```\n(?P<printed>.*?)^```)?", re.MULTILINE | re.DOTALL)
# What differs from run to run: table versions, hours, seconds, the order of trainings that run side by side, and scores, which
# depend on the machine's arithmetic.
_VARYING = (
    (r"\b[0-9a-f]{12}\b", "VERSION"),
    (r"\b\d?\d:\d\d:\d\d\b", "TIME"),
    (r"\d+ s\b", "SECONDS"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "CREATED"),
    (r"[+-]?\d+\.\d+", "SCORE"),
    (r"p [<=] SCORE", "P"),
    (r"\bv\d+\b", "vN"),
    (r"@\d+\b", "@N"),
    (r"[ ─━]{2,}", " "),
    (r" +$", ""),
)
# Progress of trainings, decisions, and the rows of variants in the table of a run.
_OF_A_TRAINING = r": epoch \d+ of \d+, loss|Promoted v|Kept champion|Rejected v|trained again|is worse than|is better than|│ v\d"


@dataclass(frozen=True)
class Step:
    """Commands of the tutorial, what should be printed, and what was."""

    commands: str
    expected: str | None
    printed: str
    code: int


@dataclass
class Reader:
    """Somebody who follows the tutorial: a shell whose variables stay, and a terminal in which the station runs."""

    folder: Path
    port: str
    variables: dict[str, str]
    stations: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, commands: str) -> tuple[str, int]:
        """Return what commands print, and the exit code of the last one."""
        commands = commands.replace(PORT, self.port).replace("tests/living/", f"{ROOT}/tests/living/")
        if "station.py" in commands and "--today" in commands:
            station = subprocess.Popen(
                [sys.executable, *shlex.split(commands)[1:]],
                env=self.variables,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.stations.append(station)
            assert station.stdout
            return station.stdout.readline().replace(self.port, PORT), 0
        left = self.folder / "variables"
        script = f"{commands}\ncode=$?\nenv -0 > {left}\nexit $code\n"
        done = subprocess.run(
            [_BASH, "-c", script],
            env=self.variables,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.variables = dict(entry.split("=", 1) for entry in left.read_text().split("\0") if entry)
        return done.stdout.replace(self.port, PORT).replace(f"{self.folder}/", ".../"), done.returncode

    def close(self) -> None:
        for station in self.stations:
            station.terminate()  # Ctrl-C is ignored by what a shell has started in the background
            station.wait(timeout=30)
            assert station.stdout
            station.stdout.close()


def follow(text: str, *, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Step]:
    """Yield every step of a tutorial as it is done, in a shell that has further variables."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, arguments in (("retrain", "-m flows.cli.app"), ("python", "")):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (bin_folder / name).chmod(0o755)
    with create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    own = ("RETRAIN_", "PREFECT_", "MLFLOW_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    path = f"{bin_folder}:{inherited['PATH']}"
    reader = Reader(
        folder, port, inherited | {"PATH": path, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"} | dict(variables or {})
    )
    try:
        for step in _STEP.finditer(text):
            printed, code = reader.follow(step["commands"])
            yield Step(step["commands"], step["printed"], printed, code)
    finally:
        reader.close()


def plain(printed: str) -> list[str]:
    """Return the lines of an output without what differs from run to run, and without those that follow from scores."""
    lines = []
    for each in printed.splitlines():
        if re.search(_OF_A_TRAINING, each):
            continue
        line = each
        for pattern, word in _VARYING:
            line = re.sub(pattern, word, line)
        lines.append(line)
    return lines
