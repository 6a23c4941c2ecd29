"""The Prefect tasks of promotion."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from storage.layout import Store
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import PromotionSettings, TrainSettings
from tasks.promotion import promote
from tasks.promotion.promote import PendingDecision
from tasks.promotion.rule import Decision
from tasks.training.steps import logger


@task(task_run_name="decide")
def decide(models: Sequence[ModelRef], table: TableRef, settings: PromotionSettings, placement: TrainSettings) -> PendingDecision:
    """Test the best version against the champion, and log the decision."""
    store = Store.from_environment()
    registry = Registry.open(store)
    return promote.decide_best(models, table=table, settings=settings, placement=placement, registry=registry, store=store)


@task(task_run_name="promote")
def apply(pending: PendingDecision, refitted: ModelRef | None) -> Decision:
    """Move the aliases as the decision says."""
    store = Store.from_environment()
    decision = promote.apply_decision(pending, refitted=refitted, registry=Registry.open(store), store=store)
    logger.info("%s: %s", pending.model_name, decision.reason)
    return decision
