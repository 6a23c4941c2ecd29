"""Requests that wait share a batch, each gets its own rows back, and a full queue says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import wait
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.serving.batching import Batcher, BusyError


class Held:
    """Squares rows, once it is released; keeps the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.began, self.released = threading.Event(), threading.Event()

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        self.batches.append(list(rows))
        self.began.set()
        assert self.released.wait(30)
        return [row * row for row in rows]


def test_what_waits_while_a_batch_is_predicted_shares_the_next_ones() -> None:
    model, other = Held(), Held()
    batcher = Batcher(max_rows=4, max_waiting_rows=100)
    answers = [batcher.submit(model.predict, [1])]
    assert model.began.wait(30)  # the first request waits for nobody
    answers += [batcher.submit(model.predict, rows) for rows in ([2, 3], [4], [5, 6])]
    answers += [batcher.submit(other.predict, [7]), batcher.submit(model.predict, [8])]
    model.released.set()
    other.released.set()
    batcher.close()
    assert [answer.result(0) for answer in answers] == [[1], [4, 9], [16], [25, 36], [49], [64]]
    # At most four rows, and never those of two models, in their order.
    assert model.batches == [[1], [2, 3, 4], [5, 6], [8]]
    assert other.batches == [[7]]


@given(sizes=st.lists(st.integers(1, 8), max_size=20), max_rows=st.integers(8, 16))
def test_every_request_gets_the_predictions_of_its_own_rows(sizes: list[int], max_rows: int) -> None:
    batcher = Batcher(max_rows=max_rows, max_waiting_rows=1_000)
    requests = [list(range(place, place + size)) for place, size in enumerate(sizes)]

    def negated(rows: Sequence[int]) -> list[int]:
        assert len(rows) <= max_rows
        return [-row for row in rows]

    answers = [batcher.submit(negated, rows) for rows in requests]
    batcher.close()
    assert [answer.result(0) for answer in answers] == [[-row for row in rows] for rows in requests]


def test_a_full_queue_takes_no_more() -> None:
    model = Held()
    batcher = Batcher(max_rows=4, max_waiting_rows=5)
    first = batcher.submit(model.predict, [1])
    assert model.began.wait(30)
    second = batcher.submit(model.predict, [2, 3, 4])
    with pytest.raises(BusyError):
        batcher.submit(model.predict, [5, 6, 7])
    third = batcher.submit(model.predict, [8, 9])  # five rows wait
    model.released.set()
    wait([first, second, third])
    batcher.close()
    assert third.result(0) == [64, 81]
    with pytest.raises(BusyError):
        batcher.submit(model.predict, [1])


def test_a_fault_is_the_answer_of_its_batch_alone() -> None:
    batcher = Batcher(max_rows=1, max_waiting_rows=10)

    def inverse(rows: Sequence[float]) -> list[float]:
        return [1 / row for row in rows]

    answers = [batcher.submit(inverse, [row]) for row in (2.0, 0.0, 4.0)]
    batcher.close()
    assert (answers[0].result(0), answers[2].result(0)) == ([0.5], [0.25])
    with pytest.raises(ZeroDivisionError):
        answers[1].result(0)


def test_a_request_that_was_given_up_is_not_predicted() -> None:
    model = Held()
    batcher = Batcher(max_rows=4, max_waiting_rows=10)
    first = batcher.submit(model.predict, [1])
    assert model.began.wait(30)
    given_up = batcher.submit(model.predict, [2])
    assert given_up.cancel()
    model.released.set()
    batcher.close()
    assert first.result(0) == [1]
    assert model.batches == [[1]]
