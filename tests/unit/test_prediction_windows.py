"""Which windows are forecast from, on a series of a few rows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import DataError
from tasks.config import PredictSettings
from tasks.models.forecast import WindowTask
from tasks.prediction.windows import rows_asked

TASK = WindowTask(columns=("load",), target="load", lookback_rows=4, step_rows=2, horizon_rows=3)
HOUR_S = 3600


def hours(*numbers: int) -> np.ndarray:
    """Stamps so many hours after midnight."""
    return np.datetime64("2024-03-01T00:00:00") + np.array(numbers) * np.timedelta64(HOUR_S, "s")


def asked(stamp: np.ndarray, **settings: object) -> list[int]:
    return rows_asked(stamp, task=TASK, row_seconds=HOUR_S, settings=PredictSettings(**settings)).tolist()


def test_the_newest_window_ends_with_the_newest_reading() -> None:
    assert asked(hours(*range(6))) == [6]
    assert asked(hours(*range(4))) == [4]


def test_a_stamp_between_two_readings_is_served_by_the_one_before() -> None:
    assert asked(hours(*range(6)), at="2024-03-01T05:59") == [6]


def test_every_whole_window_from_a_stamp_to_a_stamp() -> None:
    # Hour 5 is missing: the run of hours 6 to 10 has two windows, that of 0 to 4 has two as well.
    stamp = hours(0, 1, 2, 3, 4, 6, 7, 8, 9, 10)
    assert asked(stamp, first="2024-03-01") == [4, 5, 9, 10]
    assert asked(stamp, first="2024-03-01T04:00", last="2024-03-01T09:00") == [5, 9]
    assert asked(stamp, every_rows=5) == [5, 10]
    assert asked(stamp, every_rows=1) == [4, 5, 9, 10]


@pytest.mark.parametrize(
    ("stamp", "settings", "message"),
    [
        (hours(0, 1, 2), {}, "there are 3 readings up to 2024-03-01T02:00:00, and a window has 4: give more"),
        (
            hours(0, 1, 2, 3, 4, 6, 7),
            {},
            "the window of 4 readings up to 2024-03-01T07:00:00 has a gap from 2024-03-01T04:00:00 to 2024-03-01T06:00:00, which "
            "no forecast may bridge; the newest whole window ends at 2024-03-01T04:00:00: give that stamp",
        ),
        (hours(0, 1, 3, 4), {}, "which no forecast may bridge: wait until enough readings have come"),
        (
            hours(*range(6)),
            {"at": "2024-03-01T06:00"},
            "there is no reading of 2024-03-01T06:00:00: the last one before it is of 2024-03-01T05:00:00",
        ),
        (hours(*range(6)), {"first": "2024-03-02"}, "there is no whole window of 4 rows among the 6 readings"),
    ],
    ids=["too short", "gap", "gap and nothing before", "future", "nothing from there on"],
)
def test_where_there_is_no_window_it_is_said(stamp: np.ndarray, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        asked(stamp, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": "2024-03-01", "every_rows": 2}, "`at` is one stamp"),
        ({"last": "2024-03-01"}, "`last` needs `first`"),
        ({"texts": ("good",), "input": {"path": "a.csv"}}, "texts and a file are both given"),
        ({"at": "yesterday"}, "should match pattern"),
        ({"every_rows": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PredictSettings(**settings)
