"""What killed runs have left: runs in Prefect and MLflow that seem to go on, devices that seem taken, and unfinished folders.

A run with a temporary server is told by nobody when it is killed. Each such run holds a share of one lock; whoever gets the lock
alone, when it starts, knows that no other one lives.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.layout import Store
from storage.temporary import remove_staging_of_dead

_LOCK = ".runs.lock"
_CRASHED = "Its process was killed; this was found when the next run started."
_PAGE, _MAX_PAGES = 200, 50


@contextmanager
def share_of_database(home: Path, *, alone: Callable[[], None]) -> Iterator[None]:
    """Hold a share of the lock of a database while the block runs; before it, `alone` is called if nobody else has a share.

    The lock ends with the process that holds it, however that ends. It holds between the processes of one host.

    Args:
        home: Prefect's folder.
        alone: Clears what killed runs have left.
    """
    with (home / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            alone()
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def clear_dead_runs(store: Store) -> None:
    """End runs that seem to go on, here and in MLflow, and release what they hold.

    Runs of a deployment are left to the service that started them.
    """
    remove_staging_of_dead(store)
    if dead := _end_dead_runs():
        from storage.registry import Registry
        from storage.registry_cleanup import end_trainings

        end_trainings(dead, registry=Registry.open(store))


def _end_dead_runs() -> tuple[str, ...]:
    """Mark the runs that seem to go on as crashed, and return their ids."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    release_stale_leases()
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]))
    unfinished = FlowRunFilter(state=state, deployment_id=FlowRunFilterDeploymentId(is_null_=True))
    dead: list[str] = []
    with get_client(sync_client=True) as client:
        for _ in range(_MAX_PAGES):
            runs = client.read_flow_runs(flow_run_filter=unfinished, limit=_PAGE)
            for run in runs:
                client.set_flow_run_state(run.id, Crashed(message=_CRASHED), force=True)
            dead += [str(run.id) for run in runs]
            if len(runs) < _PAGE:
                break
    return tuple(dead)


def release_stale_leases() -> None:
    """Release leases left by killed runs. A temporary Prefect server never expires leases, so a new run would wait forever.

    On a database that several hosts share, another run that trains at the same time loses its lease too, and then shares its
    device with this run.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with get_client(sync_client=True) as client:
        for limit in client.read_global_concurrency_limits(limit=_PAGE):
            if limit.active_slots:
                client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=0))
