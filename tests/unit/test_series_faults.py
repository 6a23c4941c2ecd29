"""Signs of faults of a series: how long a value stays, hours of a day, summer time, and the hour at which a day peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets.series_faults import begins_summer_time, daily_peak_hours, hours_of_day, unchanged_hours

TEN_MINUTES = 600


def seconds(start: str, rows: int, *, row_seconds: int = TEN_MINUTES) -> np.ndarray:
    return np.datetime64(start, "s").astype(np.int64) + np.arange(rows) * row_seconds


def test_hours_for_which_a_value_stays() -> None:
    # Five equal rows are 50 minutes, less than an hour; six are an hour; twelve are two.
    values = np.array([1.0, *[2.0] * 5, *[3.0] * 6, 2.0, *[4.0] * 12], dtype=np.float32)
    expected = [0, *[0] * 5, *[1] * 6, 0, *[2] * 12]
    assert unchanged_hours(values, row_seconds=TEN_MINUTES).tolist() == expected
    assert unchanged_hours(values, row_seconds=TEN_MINUTES, only=3).tolist() == [0, *[0] * 5, *[1] * 6, 0, *[0] * 12]
    assert unchanged_hours(values, row_seconds=TEN_MINUTES, but_for=3).tolist() == [0, *[0] * 5, *[0] * 6, 0, *[2] * 12]
    assert unchanged_hours(values[:0], row_seconds=TEN_MINUTES).tolist() == []
    assert unchanged_hours(values[:1], row_seconds=TEN_MINUTES).tolist() == [0]


def test_a_missing_value_ends_a_run() -> None:
    values = np.array([5.0] * 6 + [np.nan] * 9 + [5.0] * 7, dtype=np.float32)
    hours = unchanged_hours(values, row_seconds=TEN_MINUTES)
    assert hours == pytest.approx([1] * 6 + [0] * 9 + [7 / 6] * 7)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), max_size=40))
def test_hours_are_those_of_counting_one_by_one(values: list[float]) -> None:
    expected: list[float] = []
    for row, value in enumerate(values):
        first, last = row, row
        while first > 0 and values[first - 1] == value:
            first -= 1
        while last + 1 < len(values) and values[last + 1] == value:
            last += 1
        rows = last - first + 1
        expected.append(rows if rows >= 3 and value != 1 else 0)
    hours = unchanged_hours(np.array(values, dtype=np.float32), row_seconds=3600, but_for=1, min_hours=3)
    assert hours.tolist() == expected


def test_hours_of_a_day_are_those_of_all_its_rows() -> None:
    # 22:00 to 23:50 of one day, 00:00 to 01:50 of the next; three rows of the first are flagged, six of the second.
    stamps = seconds("2020-05-01T22:00:00", 24)
    flags = np.isin(np.arange(24), [0, 5, 11, *range(12, 18)])
    hours = hours_of_day(flags, seconds=stamps, row_seconds=TEN_MINUTES)
    assert hours.tolist() == [0.5] * 12 + [1.0] * 12
    assert hours_of_day(flags & False, seconds=stamps, row_seconds=TEN_MINUTES).tolist() == [0.0] * 24
    # Stamps out of order are refused elsewhere; here each run of a day stands for itself.
    assert len(hours_of_day(flags, seconds=stamps[::-1], row_seconds=TEN_MINUTES)) == 24


@pytest.mark.parametrize(
    ("last", "following", "flagged"),
    [
        # The last Sundays of March were the 29th in 2020, the 31st in 2024 and the 27th in 2011.
        ("2020-03-29T02:00:00", "2020-03-29T03:10:00", True),
        ("2024-03-31T01:50:00", "2024-03-31T03:00:00", True),
        ("2011-03-27T02:00:00", "2011-03-27T03:10:00", True),
        ("2020-03-22T02:00:00", "2020-03-22T03:10:00", False),  # a Sunday, not the last
        ("2020-03-29T05:00:00", "2020-03-29T06:10:00", False),  # an hour of that day that is missing
        ("2020-03-29T02:00:00", "2020-03-29T03:00:00", False),  # 50 minutes
        ("2020-10-25T02:00:00", "2020-10-25T03:10:00", False),  # the night in which clocks go back
    ],
)
def test_the_hour_that_summer_time_leaves_out(last: str, following: str, flagged: bool) -> None:
    stamps = np.concatenate((seconds(last, 1) - [TEN_MINUTES, 0], seconds(following, 3)))
    assert begins_summer_time(stamps, row_seconds=TEN_MINUTES).tolist() == [0, 0, int(flagged), 0, 0]


def cycles(start: str, days: int, *, peak_hour: float) -> tuple[np.ndarray, np.ndarray]:
    stamps = seconds(start, days * 144)
    hour = stamps % 86_400 / 3600
    return (10 + 4 * np.cos((hour - peak_hour) / 24 * 2 * np.pi)).astype(np.float32), stamps


@pytest.mark.parametrize("peak_hour", [15.0, 16.0, 23.5])
def test_the_hour_of_a_pure_cycle(peak_hour: float) -> None:
    values, stamps = cycles("2020-04-01T00:00:00", 91, peak_hour=peak_hour)
    hours = daily_peak_hours(values, seconds=stamps, row_seconds=TEN_MINUTES)
    assert hours == pytest.approx(np.full(len(values), peak_hour), abs=1e-3)


def test_where_the_hour_cannot_be_told() -> None:
    # January to March, then 59 days of April to June.
    values, stamps = cycles("2021-01-01T00:00:00", 90 + 59, peak_hour=15)
    assert np.isnan(daily_peak_hours(values, seconds=stamps, row_seconds=TEN_MINUTES)).all()
    values, stamps = cycles("2021-01-01T00:00:00", 90 + 60, peak_hour=15)
    hours = daily_peak_hours(values, seconds=stamps, row_seconds=TEN_MINUTES)
    assert np.isnan(hours[: 90 * 144]).all()
    assert hours[90 * 144 :] == pytest.approx(np.full(60 * 144, 15), abs=1e-3)
    # One day lacks a reading, so 59 are left.
    values[100 * 144] = np.nan
    assert np.isnan(daily_peak_hours(values, seconds=stamps, row_seconds=TEN_MINUTES)).all()
    assert daily_peak_hours(values[:0], seconds=stamps[:0], row_seconds=TEN_MINUTES).tolist() == []


def test_every_quarter_has_its_own_hour_and_gaps_do_not_move_it() -> None:
    spring, stamps = cycles("2020-04-01T00:00:00", 183, peak_hour=15)
    summer, _ = cycles("2020-04-01T00:00:00", 183, peak_hour=16)
    values = np.where(np.arange(len(spring)) < 91 * 144, spring, summer)
    kept = np.ones(len(values), dtype=bool)
    kept[[50, 5_000, *range(20_000, 20_100)]] = False
    hours = daily_peak_hours(values[kept], seconds=stamps[kept], row_seconds=TEN_MINUTES)
    assert set(np.round(hours, 3).tolist()) == {15.0, 16.0}
    assert hours[kept.nonzero()[0] < 91 * 144] == pytest.approx(15, abs=1e-3)
