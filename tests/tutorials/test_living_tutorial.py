"""The tutorial of the living series, followed: its commands run in their order, and what they print is what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from copy_of_the_project import ROOT
from follow_tutorial import Step, follow, plain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUTORIAL = ROOT / "docs" / "tutorials" / "a-living-series.md"


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
