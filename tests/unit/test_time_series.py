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
from tasks.datasets.time_series import normalise, rows_in_shares, run_numbers, spacing_facts, split_by_time

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
    return split_by_time(
        table, dataset="meter", timestamp="time", columns=COLUMNS, row_seconds=HOUR, train_rows=train_rows, val_rows=val_rows
    )


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
    assert rows_in_shares(1000, train=7, val=2, whole=10) == (700, 200)
    assert rows_in_shares(11, train=7, val=2, whole=10) == (8, 2)  # 7.7 and 2.2


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
    with pytest.raises(DataError, match="meter has 8 rows, too few for three splits: give a longer span"):
        split(hourly(8), train_rows=train_rows, val_rows=val_rows)


def test_what_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(DataError, match=re.escape("load is 0.1 in every train row")):
        normalise(hourly(6, load=[0.1, 0.1, 0.1, 5, 6, 7]), columns=COLUMNS, train_rows=3)
    with pytest.raises(DataError, match="wind has missing values"):
        normalise(hourly(6, wind=[1, 2, 3, 4, 5, np.nan]), columns=COLUMNS, train_rows=3)
