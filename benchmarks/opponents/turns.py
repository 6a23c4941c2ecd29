"""How an opponent takes turns: one JSON request a line on standard input, one JSON answer a line on standard output.

It needs nothing but the standard library and, for the clock, the Keras that is handed to it, so that every environment can
run it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def answer_requests(requests: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer until standard input ends.

    Args:
        requests: What can be asked, by name. To each answer is added how long it took, in seconds of wall clock and of
            processor.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    for line in sys.stdin:
        request = json.loads(line)
        started, started_cpu = time.perf_counter(), time.process_time()
        answer = requests[request.pop("do")](**request)
        answer |= {"whole_s": time.perf_counter() - started, "cpu_s": time.process_time() - started_cpu}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def step_clock(keras: Any) -> Any:
    """Return a Keras callback that times the steps of one call of `fit` from the end of the first to the end of the last.

    What `fit` does before its first step is done once an epoch of hundreds of steps, and is left out.
    """

    class StepClock(keras.callbacks.Callback):  # type: ignore[misc]
        """`seconds` for `steps` steps; `loss` is the mean over the steps of the call."""

        steps, seconds, loss = -1, 0.0, 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            self.steps = batch
            if batch == 0:
                float((logs or {})["loss"])  # waits for a backend that computes behind one's back
                self._started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            del epoch
            self.loss = float((logs or {})["loss"])
            self.seconds = time.perf_counter() - self._started

    return StepClock()
