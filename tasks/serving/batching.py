"""One batch at a time: what waits while a batch is predicted goes into the next one together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Predict = Callable[[Sequence[Any]], Sequence[Any]]


class BusyError(Exception):
    """More rows are waiting than the server takes."""


@dataclass(frozen=True)
class _Request:
    predict: Predict
    rows: Sequence[Any]
    answer: Future[Sequence[Any]] = field(default_factory=Future)


class Batcher:
    """A thread that predicts the rows of requests in the order in which they came.

    A network takes little longer for eight rows than for one, so requests that wait at the same time share a batch. None waits
    for others that may come.
    """

    def __init__(self, *, max_rows: int, max_waiting_rows: int) -> None:
        """Start the thread.

        Args:
            max_rows: Rows of a batch of several requests; no request has more.
            max_waiting_rows: Rows that may wait.
        """
        self._max_rows, self._max_waiting_rows = max_rows, max_waiting_rows
        self._requests: deque[_Request] = deque()
        self._waiting_rows = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, predict: Predict, rows: Sequence[Any]) -> Future[Sequence[Any]]:
        """Return the future predictions of rows, one each.

        Args:
            predict: Predicts rows; those of requests with the same function may be predicted together.
            rows: At most `max_rows`.

        Raises:
            BusyError: Too many rows are waiting, or the batcher was closed.
        """
        request = _Request(predict, rows)
        with self._changed:
            if self._is_closed or self._waiting_rows + len(rows) > self._max_waiting_rows:
                raise BusyError
            self._requests.append(request)
            self._waiting_rows += len(rows)
            self._changed.notify()
        return request.answer

    def close(self) -> None:
        """Predict what is waiting, take no more, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            rows = [row for request in batch for row in request.rows]
            try:
                predictions = batch[0].predict(rows)
            except Exception as error:  # it is the requests' answer
                for request in batch:
                    request.answer.set_exception(error)
                continue
            first = 0
            for request in batch:
                request.answer.set_result(predictions[first : first + len(request.rows)])
                first += len(request.rows)

    def _next_batch(self) -> list[_Request]:
        """Wait for requests and take those that share a batch; none once the batcher is closed and empty."""
        with self._changed:
            batch: list[_Request] = []
            while not batch:
                while not self._requests:
                    if self._is_closed:
                        return []
                    self._changed.wait()
                batch = self._take_batch()
            return batch

    def _take_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        n_rows = 0
        while self._requests:
            request = self._requests[0]
            if batch and (request.predict != batch[0].predict or n_rows + len(request.rows) > self._max_rows):
                break
            self._requests.popleft()
            self._waiting_rows -= len(request.rows)
            if request.answer.set_running_or_notify_cancel():  # else its client has gone away
                batch.append(request)
                n_rows += len(request.rows)
        return batch
