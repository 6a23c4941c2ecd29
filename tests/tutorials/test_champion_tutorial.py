"""The tutorial of a champion at work, followed on the reconstructed years: what is promised comes, whatever the scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from copy_of_the_project import ROOT
from follow_tutorial import Step, follow, plain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUTORIAL = ROOT / "docs" / "tutorials" / "champion-at-work.md"
RECONSTRUCTED = ROOT.parent / "shared" / "data" / "reconstructed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("champion-tutorial")


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[Step]:
    if not (RECONSTRUCTED / "SHA256SUMS").is_file():
        pytest.skip("the reconstructed years are not here")
    variables = {"RETRAIN_MIRROR": str(RECONSTRUCTED), "COLUMNS": "130"}
    return list(follow(TUTORIAL.read_text(encoding="utf-8"), folder=folder, variables=variables))


def printed_after(steps: list[Step], command: str) -> list[str]:
    return [step.printed for step in steps if command in step.commands]


def lines_that_must_agree(text: str) -> list[str]:
    """Lines of an output without figures that follow from weights, and without what the monitor says of errors."""
    lines = plain(text)
    varying_words = (
        (r"\b\d+ %", "N %"),
        (r"by \S+, who", "by PERSON, who"),
        (r"on \d{4}-\d\d-\d\d:", "on DAY:"),
        (r"[\d,]+ a second", "N a second"),
    )
    for varying, word in varying_words:
        lines = [re.sub(varying, word, line) for line in lines]
    return [line for line in lines if not re.search(r"persistence|│ (last 28|December|March|June|September)", line)]


def test_every_command_prints_what_the_tutorial_shows(steps: list[Step]) -> None:
    shown = [step for step in steps if step.expected is not None]
    assert len(shown) >= 8
    for step in shown:
        expected = lines_that_must_agree(str(step.expected))
        assert lines_that_must_agree(step.printed) == expected, f"{step.commands}\n{step.printed}"
    assert {step.code for step in steps} == {0}


def test_forecasts_are_kept_once(steps: list[Step], folder: Path) -> None:
    one, early, many = printed_after(steps, "retrain predict")
    assert "1 of 1 kept" in one
    assert "1 of 1 kept" in early
    # The stamps of January and February were issued one by one before, where they are full hours.
    rows = re.search(r"([\d,]+) of ([\d,]+) kept", many)
    assert rows
    assert int(rows[2].replace(",", "")) - int(rows[1].replace(",", "")) == 2
    assert (folder / "forecast.csv").read_text().count("\n") == 2
    assert (folder / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_the_monitor_names_the_fault_and_nothing_before_and_after_it(steps: list[Step]) -> None:
    before, broken, repaired = printed_after(steps, "retrain monitor")
    assert "fault of temperature_degc" in broken
    for sound in (before, repaired):
        assert "fault of" not in sound


def test_the_champion_comes_back(steps: list[Step]) -> None:
    (printed,) = printed_after(steps, "retrain rollback")
    listed = [line for line in printed.splitlines() if line.startswith("│ jena@")]
    assert [line for line in listed if "champion" in line] == [line for line in listed if "jena@3" in line]
