"""What a run does that was given up and comes back, such as one on a host that was asleep: it ends without a trace.

The server marks a run without heartbeats as crashed, and its work goes on in another process: a training in a new run, a retrain
in another start of the same run. The old process, if it comes back, must say nothing to the server any more: the state that it
would report is that of the run which took its place.
"""

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound

logger = logging.getLogger("retrain")

CHECK_EVERY_S = 10
# A run that a worker starts has its id in this variable, which its subprocesses inherit.
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
# Of a run that was started again. Others, such as Suspended or Cancelling, belong to the process that runs.
_STARTED_AGAIN = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING})

_own: tuple[UUID, UUID] | None = None
"""The run that a worker started this process for, and the state `Running` that this start of it has."""


@contextmanager
def end_if_replaced() -> Iterator[None]:
    """End the process of the worker's run, also while the block runs, once the run was given up or started again elsewhere.

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
    watcher = threading.Thread(target=_watch, args=(done,), name="end-if-replaced", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        end_now_if_replaced()
        _own = None


def end_now_if_replaced() -> None:
    """End this process at once, and those of its trainings, if its run was given up or started again elsewhere."""
    if _own is None or not is_replaced(_state_of(_own[0]), own_state=_own[1]):
        return
    logger.warning("this run was given up while its host was not heard of, and goes on elsewhere: its process ends")
    for process in multiprocessing.active_children():
        process.kill()
    # Nothing is told to the server, neither by this process nor, because of the code 0, by its worker.
    os._exit(0)


def is_replaced(state: State | None, *, own_state: UUID) -> bool:
    """Tell from the state of a run on the server whether the start that has the state `own_state` was given up."""
    if state is None:
        return False
    return state.is_final() or (state.type in _STARTED_AGAIN and state.id != own_state)


def _state_of(run_id: UUID) -> State | None:
    """Return the state of a run; None if the server does not answer, or has deleted the run."""
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run_id).state
    except (httpx.HTTPError, ObjectNotFound):
        return None


def _watch(done: threading.Event) -> None:
    while not done.wait(CHECK_EVERY_S):
        end_now_if_replaced()
