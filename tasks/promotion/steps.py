"""The Prefect task of promotion."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from storage.layout import Store
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import PromotionSettings
from tasks.promotion import promote
from tasks.promotion.rule import Decision
from tasks.training.steps import logger


@task(task_run_name="promote")
def promote_best(models: Sequence[ModelRef], table: TableRef, settings: PromotionSettings) -> Decision:
    """Test the best version against the champion, and move the aliases if it passes."""
    store = Store.from_environment()
    decision = promote.promote_best(models, table=table, settings=settings, registry=Registry.open(store), store=store)
    logger.info("%s: %s", models[0].name, decision.reason)
    return decision
