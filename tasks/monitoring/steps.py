"""The Prefect tasks of monitoring."""

from __future__ import annotations

import logging
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event

from storage.layout import Store
from storage.references import Reference
from storage.registry import Registry
from storage.retries import wait_while_away
from tasks.config import MonitorSettings
from tasks.monitoring import collect
from tasks.monitoring.report import metric_history

logger = logging.getLogger("retrain")


class MonitoredRef(Reference):
    """What a run of monitoring found and kept.

    Attributes:
        uri: Folder of the result.
        summary: One sentence.
        is_new: False if an equal run had found it before.
    """

    model: str
    uri: str
    summary: str
    is_new: bool


@task(task_run_name="watch {model}")
def watch(model: str, settings: MonitorSettings) -> MonitoredRef:
    """Compare readings, predictions and errors with those of the training, and keep what was found."""
    store = Store.from_environment()
    monitored = collect.monitor_model(model, settings=settings, registry=Registry.open(store), store=store)
    report = monitored.report
    for finding in report.findings:
        logger.warning("%s: %s", finding.verdict, finding.reason)
    return MonitoredRef(model=model, uri=str(monitored.folder), summary=report.summary, is_new=monitored.is_new)


@task(task_run_name="show {monitored.model}")
def show(monitored: MonitoredRef) -> dict[str, Any]:
    """Publish the page as an artifact and the metrics in MLflow; return what was found as plain values."""
    kept = collect.read_result(monitored.uri)
    wait_while_away(create_markdown_artifact)(kept.markdown, key=f"monitoring-{monitored.model}", description=monitored.summary)
    registry = Registry.open(Store.from_environment())
    registry.metric_history(f"{monitored.model}-monitoring", run_name=monitored.model).append(metric_history(kept.report))
    return kept.report.as_dict() | {"folder": monitored.uri}


@task(task_run_name="tell {monitored.model}")
def tell(monitored: MonitoredRef) -> None:
    """Emit `retrain.fault`, `retrain.drift` and `retrain.performance` for what is new, once for each result.

    A label says whether a sensor is at fault, because training on its readings would be no cure.
    """
    kept = collect.read_result(monitored.uri)
    if collect.was_told(kept.folder):
        return
    faults = [finding.subject for finding in kept.report.findings if finding.cause == "fault"]
    for kind in ("fault", "drift", "performance"):
        new = [finding for finding in kept.report.findings if finding.is_new and finding.kind == kind]
        if new:
            emit_event(
                f"retrain.{kind}",
                resource={
                    "prefect.resource.id": f"retrain.model.{monitored.model}",
                    "prefect.resource.name": monitored.model,
                    "retrain.faults": ", ".join(dict.fromkeys(faults)) or "none",
                },
                payload={
                    "version": kept.report.champion,
                    "simulated": kept.report.simulated,
                    "day": kept.report.watch.day,
                    "findings": [
                        {"subject": finding.subject, "verdict": finding.verdict, "reason": finding.reason} for finding in new
                    ],
                },
            )
    collect.mark_told(kept.folder)
