"""The Prefect task of reporting."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from storage.layout import Store
from storage.progress import shown
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from storage.retries import wait_while_away
from tasks.promotion.rule import Decision
from tasks.reporting import collect

logger = logging.getLogger("retrain")


@task(task_run_name="report")
def report(table: TableRef, models: Sequence[ModelRef], decision: Decision) -> dict[str, Any]:
    """Publish report, scores and expectations as artifacts of the run; return the same as plain values."""
    store = Store.from_environment()
    with shown(f"write the report of {table.dataset}", file=store.progress(f"report-{table.dataset}")):
        rendered = collect.run_report(table, models=models, decision=decision, registry=Registry.open(store), store=store)
    key = models[0].name
    publish = wait_while_away(create_markdown_artifact)
    publish(rendered.markdown, key=f"report-{key}", description=decision.reason)
    wait_while_away(create_table_artifact)(rendered.metrics, key=f"metrics-{key}", description="Scores on the test split")
    publish(rendered.validation, key=f"expectations-{key}", description="Expectations by severity, and each that failed")
    collect.save_report(rendered, table=table, store=store)
    if warning := rendered.plain["champion_warning"]:
        logger.warning("%s: %s", key, warning)
        emit_event(
            "retrain.champion.loses",
            resource={"prefect.resource.id": f"retrain.model.{key}", "prefect.resource.name": key},
            payload={"champion": decision.champion, "reason": warning},
        )
    return rendered.plain
