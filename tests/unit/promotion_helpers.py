"""A whole promotion without Prefect: decide, refit where it is due, and move the aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.folders import remove_folder
from storage.layout import Store
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import PromotionSettings, RollbackSettings, TrainSettings
from tasks.promotion.log import open_log, read_log
from tasks.promotion.promote import PendingDecision, apply_decision, decide_best, promote_by_hand
from tasks.promotion.rollback import roll_back
from tasks.promotion.rule import Decision
from tasks.training.fitting import fit_variant
from tasks.training.refit import REFIT_TAG, TWIN_TAG, RefitPlan
from tasks.training.registering import find_trained, register_fitted
from tasks.training.scoring import evaluate_fitted

NAME = "jena-sample"
REASON = "Forecasts were 3 °C too warm."


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


def write_log(lines: Sequence[Mapping[str, Any]], *, registry: Registry, store: Store, name: str = NAME) -> None:
    """Replace the log of decisions, as a kill at some earlier moment would have left it."""
    remove_folder(store.promotions(name))
    log = open_log(name, registry=registry, store=store)
    log.entries()
    for line in lines:
        assert log.add(line)


class Desk:
    """A person with the two trained versions, without aliases or log."""

    def __init__(self, trained: Any) -> None:
        self.trained, self.registry, self.store = trained, trained.registry, trained.store
        self.better, self.worse = trained.better.version, trained.worse.version
        self.clear()

    def clear(self) -> None:
        write_log([], registry=self.registry, store=self.store)
        for version in self.registry.versions(NAME):
            for alias in version.aliases:
                self.registry.delete_alias(NAME, alias)
            for tag in version.tags.keys() & {REFIT_TAG, TWIN_TAG}:
                self.registry._client.delete_model_version_tag(NAME, str(version.version), tag)

    def promote(self, version: int) -> Decision:
        return promote_by_hand(f"{NAME}@{version}", registry=self.registry, store=self.store)

    def roll_back(self, model: str = NAME, reason: str = REASON) -> Decision:
        settings = RollbackSettings(model=model, reason=reason, person="anna")
        return roll_back(settings, registry=self.registry, store=self.store)

    def run(self, *, promote: str = "auto") -> Decision:
        """A run that finds both versions trained before, without a refit."""
        settings = PromotionSettings(refit=False, promote=promote)
        models = (self.trained.better, self.trained.worse)
        pending = decide(models, table=self.trained.table, settings=settings, registry=self.registry, store=self.store)
        return apply_decision(pending, refitted=None, registry=self.registry, store=self.store)

    def aliases(self) -> dict[str, int]:
        return {alias: version.version for version in self.registry.versions(NAME) for alias in version.aliases}

    def lines(self) -> list[Any]:
        return list(read_log(NAME, registry=self.registry, store=self.store))
