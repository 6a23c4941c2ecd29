"""Splits by time, unbroken runs and normalisation of a series that is not Jena's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import DataError
from tasks.datasets.time_series import (
    edge_facts,
    edges_in_shares,
    edges_of_facts,
    edges_of_months,
    normalise,
    run_numbers,
    spacing_facts,
    split_by_time,
)

HOUR = 3600
COLUMNS = ("load", "wind")


def stamps(spacings: list[int], first: int = 1_000_000) -> np.ndarray:
    return first + np.concatenate([[0], np.cumsum(spacings)]).astype(np.int64)


def hourly(rows: int, **columns: Any) -> pa.Table:
    seconds = stamps([HOUR] * (rows - 1)).astype("datetime64[s]")
    rng = np.random.default_rng(rows)
    readings = {name: np.asarray(columns.get(name, rng.normal(5, 2, rows)), dtype=np.float32) for name in COLUMNS}
    return pa.table({"time": seconds} | readings)


def split(table: pa.Table, *, train_rows: int, val_rows: int) -> Any:
    first = 1_000_000
    edges = (first + train_rows * HOUR, first + (train_rows + val_rows) * HOUR)
    return split_by_time(table, dataset="meter", timestamp="time", columns=COLUMNS, row_seconds=HOUR, edges=edges)


def test_gaps_and_irregular_spacings_by_hand() -> None:
    # Three missing hours, half an hour too early, one missing hour.
    seconds = stamps([HOUR, 4 * HOUR, HOUR, HOUR // 2, 2 * HOUR])
    assert spacing_facts(seconds, row_seconds=HOUR) == {
        "gaps": 2,
        "longest_gap_minutes": 240,
        "missing_rows": 4,
        "irregular_spacings": 3,
    }
    assert run_numbers(seconds, row_seconds=HOUR).tolist() == [0, 0, 1, 1, 2, 3]
    assert spacing_facts(seconds[:1], row_seconds=HOUR)["gaps"] == 0


@given(spacings=st.lists(st.sampled_from([60, 120, 600]), max_size=50), row_seconds=st.sampled_from([60, 600]))
def test_two_rows_are_of_one_run_when_every_spacing_between_them_is_regular(spacings: list[int], row_seconds: int) -> None:
    numbers = run_numbers(stamps(spacings), row_seconds=row_seconds)
    assert numbers.dtype == np.int32
    for first in range(len(numbers)):
        for last in range(first, len(numbers)):
            regular = all(spacing == row_seconds for spacing in spacings[first:last])
            assert (numbers[first] == numbers[last]) == regular


def test_shares_by_hand() -> None:
    seconds = np.arange(1000, dtype=np.int64)  # one row a second
    assert edges_in_shares(seconds, rows_read=1000, train=7, val=2, whole=10) == (700, 900)
    assert edges_in_shares(seconds[:11], rows_read=11, train=7, val=2, whole=10) == (8, 10)  # 7.7 and 2.2 rows
    # Rows that a repair dropped still count.
    assert edges_in_shares(seconds[:950], rows_read=1000, train=7, val=2, whole=10) == (700, 900)
    for rows in (0, 1, 2):
        assert edges_in_shares(seconds[:rows], rows_read=rows, train=7, val=2, whole=10) is None


def day_s(day: str) -> int:
    return int(np.datetime64(day, "s").astype(np.int64))


def test_edges_of_months_by_hand() -> None:
    # Hourly stamps that end their hour: 2020-01-01 01:00 to 2021-03-31 00:00, which ends the 30th of March.
    seconds = np.arange(day_s("2020-01-01") + HOUR, day_s("2021-03-31") + 1, HOUR)
    edges = edges_of_months(seconds, validation_months=1, test_months=2, row_seconds=HOUR)
    # Two months before the day after the 30th of March is the 31st of January; three before it is the last of December.
    assert edges == (day_s("2020-12-31") + HOUR, day_s("2021-01-31") + HOUR)
    # An hour more begins the 31st, and a month before the 1st of April is the 1st of March.
    edges = edges_of_months(np.append(seconds, seconds[-1] + HOUR), validation_months=12, test_months=1, row_seconds=HOUR)
    assert edges == (day_s("2020-03-01") + HOUR, day_s("2021-03-01") + HOUR)
    # February has no 31st day.
    until_march = seconds[seconds <= day_s("2020-03-31")]
    assert edges_of_months(until_march, validation_months=1, test_months=1, row_seconds=HOUR) == (
        day_s("2020-01-31") + HOUR,
        day_s("2020-02-29") + HOUR,
    )
    assert edges_of_months(seconds, validation_months=12, test_months=12, row_seconds=HOUR) is None
    assert edges_of_months(seconds[:0], validation_months=1, test_months=1, row_seconds=HOUR) is None


@given(rows=st.integers(24 * 70, 24 * 900), test_months=st.integers(1, 12), validation_months=st.integers(1, 12))
@settings(max_examples=60)
def test_recent_splits_hold_whole_days_and_follow_each_other(rows: int, test_months: int, validation_months: int) -> None:
    seconds = day_s("2019-01-01") + HOUR * np.arange(1, rows + 1)
    edges = edges_of_months(seconds, validation_months=validation_months, test_months=test_months, row_seconds=HOUR)
    if edges is None:
        assert rows <= 24 * 31 * (test_months + validation_months) + 24
        return
    assert all((edge - HOUR) % 86_400 == 0 for edge in edges)
    assert seconds[0] < edges[0] < edges[1] <= seconds[-1]
    test_days = (seconds[-1] - edges[1]) / 86_400
    assert 28 * test_months - 1 <= test_days <= 31 * test_months + 1
    assert edges_of_facts(edge_facts(edges)) == edges


@settings(max_examples=50, deadline=None)
@given(data=st.data(), rows=st.integers(4, 200))
def test_splits_are_consecutive_and_cover_every_row_once(data: st.DataObject, rows: int) -> None:
    train_rows = data.draw(st.integers(2, rows - 2))
    val_rows = data.draw(st.integers(1, rows - train_rows - 1))
    table = hourly(rows)
    result = split(table, train_rows=train_rows, val_rows=val_rows)
    counts = [part.num_rows for part in result.tables.values()]
    assert list(result.tables) == ["train", "val", "test"]
    assert counts == [train_rows, val_rows, rows - train_rows - val_rows]
    whole = pa.concat_tables(result.tables.values())
    assert whole.column_names == ["time", *COLUMNS, "segment"]
    assert whole["time"].equals(table["time"])
    assert [bound["first_row"] for bound in result.bounds.values()] == [0, train_rows, train_rows + val_rows]
    for name in COLUMNS:
        restored = whole[name].to_numpy() * result.normalisation["std"][name] + result.normalisation["mean"][name]
        np.testing.assert_allclose(restored, table[name].to_numpy(), atol=1e-4)


def test_statistics_by_hand_come_from_the_train_rows_alone() -> None:
    # Train alternates 8 and 12: mean 10, population deviation 2.
    load = [8, 12, 8, 12, 14, 14, 7, 7]
    result = split(hourly(8, load=load), train_rows=4, val_rows=2)
    assert (result.normalisation["mean"]["load"], result.normalisation["std"]["load"]) == (10, 2)
    assert [part["load"].to_pylist() for part in result.tables.values()] == [[-1, 1, -1, 1], [2, 2], [-1.5, -1.5]]
    assert result.bounds["val"] == {
        "first_row": 4,
        "rows": 2,
        "first_stamp": "1970-01-12T17:46:40",  # 1,000,000 s are 11 days, 13:46:40; and four hours
        "last_stamp": "1970-01-12T18:46:40",
    }


@pytest.mark.parametrize(("train_rows", "val_rows"), [(0, 2), (4, 0), (4, 4), (8, 1)])
def test_an_empty_split_is_refused(train_rows: int, val_rows: int) -> None:
    with pytest.raises(DataError, match=r"meter has 8 rows from .*, too few for three splits: give a longer span"):
        split(hourly(8), train_rows=train_rows, val_rows=val_rows)


def test_what_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(DataError, match=re.escape("load is 0.1 in every train row")):
        normalise(hourly(6, load=[0.1, 0.1, 0.1, 5, 6, 7]), columns=COLUMNS, train_rows=3)
    with pytest.raises(DataError, match="wind has missing values"):
        normalise(hourly(6, wind=[1, 2, 3, 4, 5, np.nan]), columns=COLUMNS, train_rows=3)
