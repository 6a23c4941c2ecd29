"""The Prefect tasks of retention: each tells what can go, and removes it if the settings say so."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from storage.layout import Store
from storage.registry import Registry
from tasks.retention import collect
from tasks.retention.needed import Waiting, WaitingRun, waiting_of
from tasks.retention.plan import Item
from tasks.retention.report import PrunedRef, markdown_of, pruned, rows_of, summary_of
from tasks.retention.runs import EndedRun, old_runs
from tasks.retention.settings import RetentionSettings

logger = logging.getLogger("retrain")
_PAGE = 200
_ENDED = [*TERMINAL_STATES]
_WAITING = [state for state in StateType if state not in TERMINAL_STATES]


@task(task_run_name="store and registry")
def prune_store(settings: RetentionSettings) -> PrunedRef:
    """Remove what nothing needs of the store and of MLflow, or tell what that is."""
    store = Store.from_environment()
    registry = Registry.open(store)
    now = datetime.now(tz=UTC)
    plan = collect.plan_store(settings=settings, registry=registry, store=store, waiting=_ask_waiting(), now=now)
    items = plan.items
    if settings.apply:
        items = collect.carry_out(plan, registry=registry, store=store, ask_waiting=_ask_waiting)
    return pruned(items, applied=settings.apply, notes=plan.notes)


@task(task_run_name="runs of Prefect")
def prune_runs(settings: RetentionSettings) -> PrunedRef:
    """Remove old runs with their logs, artifacts and children, or tell which these are. Prefect removes old events by itself."""
    made_champions = collect.runs_of_champions(Registry.open(Store.from_environment()))
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        ended = [
            EndedRun(
                run_id=str(run.id),
                name=run.name,
                group=str(run.deployment_id or flows.get(run.flow_id, run.flow_id)),
                ended=run.end_time or run.expected_start_time or datetime.now(tz=UTC),
            )
            for run in _runs(client, states=_ENDED, parents=None)
        ]
        old = old_runs(ended, made_champions=made_champions, settings=settings, now=datetime.now(tz=UTC))
        items = []
        for run in old:
            family = _family(client, UUID(run.run_id))
            if family is None:  # a child still runs
                continue
            items += [Item("Prefect run", run.name, str(each), 0, "older than the newest of its deployment") for each in family]
            if settings.apply:
                for each in family:
                    _delete(client, each)
    return pruned(items, applied=settings.apply)


@task(task_run_name="show")
def show(parts: Iterable[PrunedRef]) -> PrunedRef:
    """Publish what can go, or was removed, as an artifact of the run."""
    parts = tuple(parts)
    whole = PrunedRef(
        applied=any(part.applied for part in parts),
        items=tuple(item for part in parts for item in part.items),
        notes=tuple(note for part in parts for note in part.notes),
    )
    create_markdown_artifact(markdown_of(whole), key="retention", description=summary_of(whole))
    for row in rows_of(whole):
        logger.info("%s: %s, %s", row["what"], row["number"], row["size"])
    return whole


def _ask_waiting() -> Waiting:
    """Return what the runs that have not ended need."""
    with get_client(sync_client=True) as client:
        runs = [
            WaitingRun(
                state=str(run.state_type.value if run.state_type else ""),
                since=run.start_time or run.expected_start_time,
                parameters=run.parameters,
            )
            for run in _runs(client, states=_WAITING)
        ]
    return waiting_of(runs, now=datetime.now(tz=UTC))


def _runs(client: SyncPrefectClient, *, states: Iterable[StateType], parents: UUID | str | None = "any") -> Iterator[FlowRun]:
    """Yield runs in some states: of any parent, of none (None), or those that a run has started."""
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    if parents is None:
        chosen.parent_task_run_id = FlowRunFilterParentTaskRunId(is_null_=True)
    elif isinstance(parents, UUID):
        chosen.parent_flow_run_id = FlowRunFilterParentFlowRunId(any_=[parents])
    offset = 0
    while True:
        page = client.read_flow_runs(flow_run_filter=chosen, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE


def _family(client: SyncPrefectClient, run_id: UUID) -> tuple[UUID, ...] | None:
    """Return a run with all that it started, the children first; None while one of them has not ended."""
    if next(_runs(client, states=_WAITING, parents=run_id), None) is not None:
        return None
    family: list[UUID] = []
    for child in _runs(client, states=_ENDED, parents=run_id):
        below = _family(client, child.id)
        if below is None:
            return None
        family += below
    return (*family, run_id)


def _delete(client: SyncPrefectClient, run_id: UUID) -> None:
    """Delete a run, its artifacts first; Prefect deletes its logs, tasks and states with it."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    while artifacts := client.read_artifacts(artifact_filter=chosen, limit=_PAGE):
        for artifact in artifacts:
            with suppress(ObjectNotFound):
                client.delete_artifact(artifact.id)
    with suppress(ObjectNotFound):
        client.delete_flow_run(run_id)
