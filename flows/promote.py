"""The flow `promote`: it tests the best of some versions against the champion."""

import os
from typing import Any

from prefect import flow

from flows.approve import hand_over
from flows.runtime.process_pool import TrainingPool
from flows.runtime.replaced import end_now_if_replaced
from flows.states import run_of_project
from flows.train import train_variant
from storage.references import ModelRef, TableRef
from tasks.config import PromotionSettings, TrainSettings
from tasks.promotion import steps as promotion_steps
from tasks.promotion.rule import Decision
from tasks.training import steps as training_steps
from tasks.training.refit import RefitPlan

# Prefect types `task_runner` for runners of threads, and its own process pool has another type of future.
_POOL: Any = TrainingPool


@flow(name="promote", flow_run_name="promote {table.dataset}", task_runner=_POOL(max_workers=1))
@run_of_project
def promote(
    table: TableRef,
    models: tuple[ModelRef, ...],
    settings: PromotionSettings = PromotionSettings(),  # noqa: B008  (frozen)
    training: TrainSettings = TrainSettings(),  # noqa: B008
) -> Decision:
    """Choose a candidate by validation, refit it if it passes every check, and only then move the `champion` alias.

    Args:
        table: Table on whose test split the versions are compared.
        models: Versions to choose from; the best by validation is the candidate.
        settings: When the champion changes.
        training: Where the candidate is trained again on all rows. Its budget and seed stay its own.
    """
    end_now_if_replaced()
    pending = promotion_steps.decide(models, table, settings, training)
    refitted = refit_version(table, pending.refit) if pending.refit else None
    end_now_if_replaced()
    decision = promotion_steps.apply(pending, refitted)
    return hand_over(decision, model=models[0].name, settings=settings)


def refit_version(table: TableRef, plan: RefitPlan) -> ModelRef:
    """Train a version again on the rows of every split, in a process of its own or on a worker, unless it was done before."""
    existing = training_steps.find_trained(table, plan.variant, plan.settings, plan.refit)
    if existing:
        return existing
    settings = plan.settings
    if settings.run_on != "work_pool":
        settings = settings.with_threads_for(1, cores=os.cpu_count() or 1)
    return train_variant.submit(table, plan.variant, settings, plan.refit).result()
