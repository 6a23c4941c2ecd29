"""The Prefect tasks of promotion."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.events import emit_event
from prefect.runtime import flow_run

from storage.layout import Store
from storage.progress import shown
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import ApprovalRequest, PromotionSettings, RollbackSettings, TrainSettings, Verdict
from tasks.promotion import approval, promote, rollback
from tasks.promotion.promote import PendingDecision
from tasks.promotion.rule import ROLLED_BACK, Decision
from tasks.training.steps import logger


@task(task_run_name="decide")
def decide(models: Sequence[ModelRef], table: TableRef, settings: PromotionSettings, placement: TrainSettings) -> PendingDecision:
    """Test the best version against the champion, and log the decision."""
    store = Store.from_environment()
    registry = Registry.open(store)
    # The candidate is loaded in a process of its own, which takes seconds.
    with shown(f"test the best of {table.dataset}", file=store.progress(f"decide-{table.dataset}")):
        return promote.decide_best(models, table=table, settings=settings, placement=placement, registry=registry, store=store)


@task(task_run_name="promote")
def apply(pending: PendingDecision, refitted: ModelRef | None) -> Decision:
    """Move the aliases as the decision says."""
    store = Store.from_environment()
    decision = promote.apply_decision(pending, refitted=refitted, registry=Registry.open(store), store=store)
    logger.info("%s: %s", pending.model_name, decision.reason)
    if pending.key:
        tell_of_champion(decision, model=pending.model_name)
    return decision


@task(task_run_name="roll back {settings.model}")
def roll_back(settings: RollbackSettings) -> Decision:
    """Make the previous champion the champion again."""
    store = Store.from_environment()
    decision = rollback.roll_back(settings, registry=Registry.open(store), store=store)
    logger.info("%s: %s", settings.model, decision.reason)
    tell_of_champion(decision, model=settings.model)
    return decision


@task(task_run_name="{verdict.decision} {request.model}")
def carry_out(request: ApprovalRequest, verdict: Verdict) -> Decision:
    """Do what a person says to a version that waits."""
    store = Store.from_environment()
    run_id = str(flow_run.root_flow_run_id)
    decision = approval.carry_out(request, verdict=verdict, run_id=run_id, registry=Registry.open(store), store=store)
    model = request.model.partition("@")[0]
    logger.info("%s: %s", model, decision.reason)
    tell_of_champion(decision, model=model)
    return decision


def tell_of_champion(decision: Decision, *, model: str) -> None:
    """Emit the event `retrain.champion` if a decision made another version champion; automations can react to it."""
    if decision.outcome not in ("promoted", ROLLED_BACK):
        return
    emit_event(
        "retrain.champion",
        resource={"prefect.resource.id": f"retrain.model.{model}", "prefect.resource.name": model},
        payload={
            "outcome": decision.outcome,
            "champion": decision.refit or decision.candidate,
            "before": decision.champion,
            "reason": decision.reason,
        },
    )
