"""Rows are known again in another table by their ids."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets.row_ids import content_ids, stamp_ids

REVIEWS = pa.list_(pa.uint16())


def reviews(*tokens: list[int]) -> pa.Table:
    return pa.table({"tokens": pa.array(tokens, type=REVIEWS)})


def test_a_stamp_is_its_seconds_since_1970() -> None:
    stamps = np.array(["1970-01-01T00:00:10", "1970-01-02T00:00:00"], dtype="datetime64[s]")
    for unit in ("s", "ms"):
        table = pa.table({"timestamp": pa.array(stamps.astype(f"datetime64[{unit}]"))})
        np.testing.assert_array_equal(stamp_ids(table), [10, 86_400])


def test_an_id_is_the_start_of_the_digest_of_the_content() -> None:
    content = (2).to_bytes(8, "little") + (513).to_bytes(2, "little")  # one token of two bytes, after its length
    (row_id,) = content_ids(reviews([513]))
    assert row_id == int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)


def test_equal_content_has_an_equal_id_wherever_it_stands() -> None:
    first, second, again = content_ids(reviews([1, 2], [3], [1, 2]))
    assert first == again != second
    np.testing.assert_array_equal(content_ids(reviews([9], [1, 2], [3]).slice(1)), [first, second])


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=8))
def test_ids_are_equal_where_rows_are(rows: list[list[int]]) -> None:
    ids = content_ids(reviews(*rows))
    assert len(set(ids.tolist())) == len({tuple(row) for row in rows})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1.0], "b": [2.0]}, {"a": [2.0], "b": [1.0]}),
        ({"a": ["xy"], "b": ["z"]}, {"a": ["x"], "b": ["yz"]}),
        ({"a": [1], "b": [[1]]}, {"a": [1], "b": [[1, 1]]}),
    ],
    ids=["numbers", "texts", "lists"],
)
def test_every_column_counts_at_its_place(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert content_ids(pa.table(one)) != content_ids(pa.table(other))
