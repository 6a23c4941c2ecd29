"""The tutorial of the living series, followed: its commands run in their order, and what they print is what stands there."""

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

import pytest
from copy_of_the_project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUTORIAL = ROOT / "docs" / "tutorials" / "a-living-series.md"
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


def follow(text: str, *, folder: Path) -> Iterator[Step]:
    """Yield every step of a tutorial as it is done."""
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
    reader = Reader(folder, port, inherited | {"PATH": path, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"})
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


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return list(follow(TUTORIAL.read_text(encoding="utf-8"), folder=tmp_path_factory.mktemp("living-tutorial")))


def test_every_command_prints_what_the_tutorial_shows(steps: list[Step]) -> None:
    shown = [step for step in steps if step.expected is not None]
    assert len(shown) >= 9
    for step in shown:
        assert plain(step.printed) == plain(str(step.expected)), f"{step.commands}\n{step.printed}"


def test_the_first_run_makes_a_champion_and_the_last_one_is_measured_against_it(steps: list[Step]) -> None:
    first, last = (step.printed for step in steps if step.commands.startswith("retrain run"))
    made = re.search(r"Promoted v\d+, trained again on all rows as v(\d+): first model that beats the naive baseline", first)
    assert made, first
    assert f"champion v{made[1]}" in last


def test_only_the_fault_ends_with_an_error(steps: list[Step]) -> None:
    assert [step.code for step in steps if "=login" in step.commands] == [2]
    assert {step.code for step in steps if "=login" not in step.commands} == {0}


def test_the_rows_of_the_tutorial_are_those_of_its_days(steps: list[Step]) -> None:
    """The first row is of 2022-01-01 00:10, and a day has 144: 1,157 days to 3 March 2025, and 1,472 to 12 January 2026."""
    splits: Mapping[str, int] = {}
    totals = []
    for step in steps:
        for found in re.findall(r"published, table .* rows: train ([\d,]+), val ([\d,]+), test ([\d,]+)", step.printed):
            totals.append(sum(int(count.replace(",", "")) for count in found))
            splits = dict(zip(("train", "val", "test"), (int(count.replace(",", "")) for count in found), strict=True))
    # 10 and 17 March, 21 July, 24 November, 12 January.
    assert totals == [144 * days for days in (1_164, 1_171, 1_297, 1_423, 1_472)]
    # From 12 January 2024 to that of 2025 there is a 29 February.
    assert splits == {"train": 144 * (1_472 - 365 - 366), "val": 144 * 366, "test": 144 * 365}
