"""What Prefect's server knows of the runs: a list of them, and the log of one with those of the runs that it started."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterStartTime,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort, LogSort

from storage.errors import SettingError

_PAGE = 200
# Prefect sorts a run that waits for its time by that time, so the runs of weeks to come would be the newest.
_STARTED = FlowRunFilterStartTime(is_null_=False)


@dataclass(frozen=True)
class RunLine:
    """A run that no other run started.

    Attributes:
        state: Name of its state, such as `Completed`, `Rejected` or `Running`.
        message: What its state says, one sentence; empty while it runs.
        started: ISO 8601, UTC; None if it has not started yet.
        seconds: How long it has run.
        deployment_id: Deployment that it is of; None if a command started it.
    """

    id: str
    name: str
    state: str
    message: str
    started: str | None
    seconds: float
    deployment_id: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class LogLine:
    """A line of the log of a run.

    Attributes:
        at: ISO 8601, UTC.
        level: Such as `INFO`.
        run: Name of the run that wrote it.
    """

    at: str
    level: str
    run: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Return the line as plain values."""
        return asdict(self)


def newest_runs(*, limit: int) -> tuple[RunLine, ...]:
    """Return the newest runs that no other run started, the newest first; those that wait for their time are left out."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True), start_time=_STARTED),
            sort=FlowRunSort.START_TIME_DESC,
            limit=limit,
        )
    return tuple(_line(run) for run in runs)


def _line(run: FlowRun) -> RunLine:
    return RunLine(
        id=str(run.id),
        name=run.name,
        state=str(run.state_name or "Unknown"),
        message=str(run.state.message or "") if run.state and run.state.is_final() else "",
        started=_utc(run.start_time),
        seconds=round(run.total_run_time.total_seconds(), 1),
        deployment_id=str(run.deployment_id) if run.deployment_id else None,
    )


def _utc(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def log_of(name: str, *, at_least: int = logging.INFO) -> tuple[LogLine, ...]:
    """Return the log of a run and of every run that it started, in order of time.

    Args:
        name: Name of the run, of several with one name the newest; or its id, of which the first digits are enough.
        at_least: Least level of a line.

    Raises:
        SettingError: There is no such run.
    """
    with get_client(sync_client=True) as client:
        run = _run_named(name, client=client)
        runs = {run.id: run.name, **_started_by([run.id], client=client)}
        lines = [line for line in _logs(list(runs), client=client) if line.level >= at_least]
    return tuple(
        LogLine(
            at=str(_utc(line.timestamp)),
            level=logging.getLevelName(line.level),
            run=runs.get(line.flow_run_id, ""),
            message=line.message,
        )
        for line in lines
    )


def _run_named(name: str, *, client: SyncPrefectClient) -> FlowRun:
    named = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), sort=FlowRunSort.START_TIME_DESC, limit=1
    )
    if named:
        return named[0]
    try:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(name)])))
    except ValueError:
        newest = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(start_time=_STARTED), sort=FlowRunSort.START_TIME_DESC, limit=_PAGE
        )
        found = [run for run in newest if len(name) >= 4 and str(run.id).startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    problem = "begins several runs" if found else "is no run"
    raise SettingError(f"{name!r} {problem}, expected a name or an id: see `retrain runs`")


def _started_by(parents: Sequence[UUID], *, client: SyncPrefectClient) -> dict[UUID, str]:
    """Return the names of the runs that some runs started, and of those that these started, by id."""
    found: dict[UUID, str] = {}
    while parents:
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=list(parents))), limit=_PAGE
        )
        parents = [run.id for run in children if run.id not in found]
        found |= {run.id: run.name for run in children}
    return found


def _logs(runs: list[UUID], *, client: SyncPrefectClient) -> Iterator[Any]:
    offset = 0
    while True:
        page = client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs)), limit=_PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC
        )
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
