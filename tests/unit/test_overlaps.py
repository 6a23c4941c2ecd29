"""Overlapping files: what a trusted file has too is left out, what contradicts it or is only here stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.datasets.overlaps import without_known_rows
from tasks.datasets.repairs import Part, repair_row_order
from tasks.datasets.request import QualityLimits


def part(**rows: float) -> Part:
    """Rows as `_stamp=value`, in two columns of which the second is twice the first."""
    stamps = np.array([int(stamp.removeprefix("_")) for stamp in rows], dtype=np.int64)
    values = np.array(list(rows.values()), dtype=np.float32)
    return stamps, {"one": values, "two": 2 * values}


def rows(parts: list[Part]) -> list[dict[int, float]]:
    return [dict(zip(stamps.tolist(), readings["one"].tolist(), strict=True)) for stamps, readings in parts]


NEWEST = part(_10=1, _20=2, _30=3)


def test_equal_rows_of_an_older_state_are_left_out_and_its_older_rows_stay() -> None:
    cut, left_out = without_known_rows([NEWEST, part(_5=9, _10=1, _20=2)], trusted=[])
    assert rows(cut) == [{10: 1, 20: 2, 30: 3}, {5: 9}]
    assert left_out == 2


def test_rows_that_the_newest_state_lost_come_from_an_older_one() -> None:
    cut, left_out = without_known_rows([part(_10=1, _40=4), part(_10=1, _20=2, _30=3)], trusted=[])
    assert rows(cut) == [{10: 1, 40: 4}, {20: 2, 30: 3}]
    assert left_out == 1


def test_a_state_that_adds_nothing_is_no_part() -> None:
    cut, left_out = without_known_rows([NEWEST, part(_10=1, _20=2), NEWEST], trusted=[])
    assert (len(cut), left_out) == (1, 5)


def test_a_row_that_contradicts_stays_and_is_counted_once() -> None:
    cut, _ = without_known_rows([NEWEST, part(_20=7), part(_5=9, _20=7)], trusted=[])
    seconds, readings, repairs = repair_row_order(cut, limits=QualityLimits())
    assert seconds.tolist() == [5, 10, 20, 30]
    assert readings["one"].tolist() == [9, 1, 2, 3]
    assert {repair.name: repair.count for repair in repairs} == {
        "repeated_rows": 0,
        "contradicting_rows": 1,
        "out_of_order_rows": 0,
    }


def test_a_reading_of_one_column_is_enough_to_contradict() -> None:
    stamps, readings = part(_20=2)
    other: Any = {**readings, "two": readings["two"] + 1}
    assert len(without_known_rows([NEWEST, (stamps, other)], trusted=[])[0]) == 2


@pytest.mark.parametrize(
    ("newer", "older", "known"),
    [
        (1, 1, True),
        (1, 2, False),
        (1, np.nan, True),
        (1, -9999, True),
        (np.nan, np.nan, True),
        (-9999, 1, False),
        (np.nan, 1, False),
    ],
)
def test_a_missing_reading_contradicts_nothing_and_what_a_newer_state_lacks_is_no_known_row(
    newer: float, older: float, known: bool
) -> None:
    assert without_known_rows([part(_10=newer), part(_10=older)], trusted=[], sentinel=-999)[1] == int(known)


def test_without_a_sentinel_every_number_is_a_reading() -> None:
    assert without_known_rows([part(_10=1), part(_10=-9999)], trusted=[])[1] == 0


def test_the_newest_state_is_cut_by_trusted_files_and_keeps_what_they_have_not() -> None:
    cut, left_out = without_known_rows([NEWEST], trusted=[part(_10=1), part(_5=9, _20=8)])
    assert rows(cut) == [{20: 2, 30: 3}]
    assert left_out == 1


def test_a_day_that_a_file_repeats_is_still_a_repeat() -> None:
    repeated = (np.array([10, 20, 20], dtype=np.int64), {"one": np.array([1, 2, 2], dtype=np.float32)})
    cut, left_out = without_known_rows([repeated], trusted=[])
    assert left_out == 0
    assert repair_row_order(cut, limits=QualityLimits())[2][0].count == 1
