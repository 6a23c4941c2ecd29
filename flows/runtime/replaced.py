"""What the process of a run does once the run is no longer its own: it ends and tells the server no state.

A run was *replaced* if its host was asleep and comes back. The server has marked it as crashed, for want of heartbeats, and its
work goes on in another process: a training in a new run, a retrain in another start of the same run. The state that the old
process would report is that of the run which took its place.

A run was *suspended* if a person has pressed Pause in the UI. When it is resumed, a worker starts it again.
"""

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Literal, NoReturn
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogHandler

logger = logging.getLogger("retrain")

CHECK_EVERY_S = 10
# A run that a worker starts has its id in this variable, which its subprocesses inherit.
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
# Of a run that was started again. Cancelling belongs to the process that runs.
_STARTED_AGAIN = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING})

Taken = Literal["replaced", "suspended"]
_TOLD: dict[Taken, str] = {
    "replaced": "this run was given up while its host was not heard of, and goes on elsewhere: its process ends",
    "suspended": "this run was paused: its process ends, and Resume starts it again from what is on record",
}

_own: tuple[UUID, UUID] | None = None
"""The run that a worker started this process for, and the state `Running` that this start of it has."""


@contextmanager
def end_if_replaced() -> Iterator[None]:
    """End the process of the worker's run, also while the block runs, once the run was replaced or suspended.

    Flows that are called by another flow, or by a command, are left alone: they end with their caller.
    """
    global _own  # noqa: PLW0603  (one process, one run)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run is None or flow_run.state is None or str(flow_run.id) != os.environ.get(RUN_VARIABLE):
        yield
        return
    _own = (flow_run.id, flow_run.state.id)
    done = threading.Event()
    # In the context of the run, so that the page of the run shows what is logged.
    watcher = threading.Thread(target=copy_context().run, args=(_watch, done), name="end-if-replaced", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        # A run that suspends itself comes here too, and its engine has yet to end it.
        if _taken() == "replaced":
            _end("replaced")
        _own = None


def end_now_if_replaced() -> None:
    """End this process at once, and those of its trainings, if its run was replaced or suspended."""
    taken = _taken()
    if taken:
        _end(taken)


def how_taken(state: State | None, *, own_state: UUID) -> Taken | None:
    """Tell from the state of a run on the server whether the start that has the state `own_state` was replaced or suspended.

    A pause without a new start waits within its process, which goes on.
    """
    if state is None:
        return None
    if state.is_final() or (state.type in _STARTED_AGAIN and state.id != own_state):
        return "replaced"
    return "suspended" if state.type is StateType.PAUSED and state.state_details.pause_reschedule else None


def _taken() -> Taken | None:
    return how_taken(_state_of(_own[0]), own_state=_own[1]) if _own else None


def _end(taken: Taken) -> NoReturn:
    logger.warning(_TOLD[taken])
    if taken == "suspended":
        APILogHandler().flush()
    for process in multiprocessing.active_children():
        process.kill()
    # No state is told to the server, neither by this process nor, because of the code 0, by its worker.
    os._exit(0)


def _state_of(run_id: UUID) -> State | None:
    """Return the state of a run; None if the server does not answer, or has deleted the run."""
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run_id).state
    except (httpx.HTTPError, ObjectNotFound):
        return None


def _watch(done: threading.Event) -> None:
    before: Taken | None = None
    while not done.wait(CHECK_EVERY_S):
        taken = _taken()
        # A run that suspends itself tells the server first, and has ended before the second look.
        if taken == "replaced" or (taken == "suspended" == before):
            _end(taken)
        before = taken
