"""A whole promotion without Prefect: decide, refit where it is due, and move the aliases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.layout import Store
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import PromotionSettings, TrainSettings
from tasks.promotion.promote import PendingDecision, apply_decision, decide_best
from tasks.promotion.rule import Decision
from tasks.training.fitting import fit_variant
from tasks.training.refit import RefitPlan
from tasks.training.registering import find_trained, register_fitted
from tasks.training.scoring import evaluate_fitted


def promote_best(
    models: Sequence[ModelRef], *, table: TableRef, settings: PromotionSettings, registry: Registry, store: Store
) -> Decision:
    pending = decide(models, table=table, settings=settings, registry=registry, store=store)
    refitted = refit_version(pending.refit, table=table, registry=registry, store=store) if pending.refit else None
    return apply_decision(pending, refitted=refitted, registry=registry, store=store)


def decide(
    models: Sequence[ModelRef], *, table: TableRef, settings: PromotionSettings, registry: Registry, store: Store
) -> PendingDecision:
    return decide_best(models, table=table, settings=settings, placement=TrainSettings(), registry=registry, store=store)


def refit_version(
    plan: RefitPlan, *, table: TableRef, registry: Registry, store: Store, on_progress: Any = lambda progress: None
) -> ModelRef:
    existing = find_trained(table, variant=plan.variant, settings=plan.settings, registry=registry, store=store, refit=plan.refit)
    if existing:
        return existing
    fitted = fit_variant(
        table, variant=plan.variant, settings=plan.settings, store=store, on_progress=on_progress, refit=plan.refit
    )
    evaluation = evaluate_fitted(fitted, store=store)
    return register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-refit")
