"""Whether each part of a running service, and each queue, is well."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.runtime.automations import ask
from flows.runtime.service import HEALTH, Service, has_worker, is_healthy
from flows.runtime.supervisor import programs
from flows.runtime.worker import POOLS
from tasks.diagnosis.finding import Finding

# A run that was asked for starts within seconds; one that waits for its turn in a deployment is not late.
MAX_LATE = timedelta(minutes=5)


def status_of(service: Service, *, now: datetime | None = None) -> tuple[Finding, ...]:
    """Return what is found of each part of a service and of each pool's queue; nothing is changed.

    Args:
        service: The service, as it was started.
        now: What counts as now; None: the clock.
    """
    running = programs(service)
    if not running:
        return (Finding("service", "fault", "it does not run on this host", "retrain up"),)
    api = f"{service.address('prefect')}/api"
    servers = [_server(service, name, running=running) for name in service.servers]
    servers.append(_recovery(service, running=running))
    if not is_healthy(service.address("prefect") + HEALTH["prefect"]):
        return tuple(servers)
    pools = [finding for pool in POOLS for finding in _pool(api, pool, running=running, now=now or datetime.now(UTC))]
    return (*servers, *pools)


def _server(service: Service, name: str, *, running: dict[str, tuple[str, str]]) -> Finding:
    state, said = running.get(name, ("unknown", ""))
    log = service.folder / f"{name}.log"
    if state != "RUNNING":
        return Finding(name, "fault", f"{state.lower()} ({said})", f"retrain up starts it; why it ended is in {log}")
    if not is_healthy(service.address(name) + HEALTH[name]):
        return Finding(name, "fault", f"it runs and does not answer at {service.address(name)}", f"see {log}")
    return Finding(name, "ok", f"{service.public_address(name)}, {_uptime(said)}")


def _recovery(service: Service, *, running: dict[str, tuple[str, str]]) -> Finding:
    state, said = running.get("recovery", ("unknown", ""))
    if state != "RUNNING":
        log = service.folder / "recovery.log"
        return Finding("recovery", "fault", f"{state.lower()}: no dead run is found", f"retrain up starts it; see {log}")
    return Finding("recovery", "ok", f"it finds runs whose process has died, {_uptime(said)}")


def _pool(api: str, pool: str, *, running: dict[str, tuple[str, str]], now: datetime) -> Iterator[Finding]:
    """Yield what is found of the worker of this host, and of the queue of its pool."""
    name = f"worker-{pool}"
    state, said = running.get(name, ("unknown", ""))
    try:
        heard_of = has_worker(api, pool)
        queue = _queue(api, pool, now=now)
    except OSError:
        yield Finding(name, "fault", "Prefect's server does not answer", "retrain up")
        return
    if state == "RUNNING" and heard_of:
        yield Finding(name, "ok", f"it serves the pool {pool}, {_uptime(said)}")
    elif heard_of:
        yield Finding(name, "warning", f"{state.lower()}; a worker of another host serves the pool", "retrain up starts it")
    else:
        yield Finding(name, "fault", f"{state.lower()}; no worker serves the pool {pool}", "retrain up")
    yield queue


def _queue(api: str, pool: str, *, now: datetime) -> Finding:
    name = f"queue {pool}"
    running = _runs(api, pool, state={"type": {"any_": ["RUNNING"]}})
    late = [_stamp(run["expected_start_time"]) for run in _runs(api, pool, state={"name": {"any_": ["Late"]}})]
    text = f"{len(running)} run{'s' if len(running) != 1 else ''} at work, {len(late)} late"
    oldest = min(late, default=now)
    if now - oldest > MAX_LATE:
        minutes = (now - oldest) / timedelta(minutes=1)
        return Finding(name, "fault", f"{text}, the oldest for {minutes:.0f} minutes", "see whether a worker serves the pool")
    return Finding(name, "ok", text)


def _runs(api: str, pool: str, *, state: dict[str, Any]) -> list[dict[str, Any]]:
    asked = {"flow_runs": {"state": state}, "work_pools": {"name": {"any_": [pool]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(ask(api, "/flow_runs/filter", asked))


def _stamp(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _uptime(said: str) -> str:
    """Return the uptime of what supervisord says, such as `pid 123, uptime 0:01:02`."""
    return said.partition(", ")[2] or said
