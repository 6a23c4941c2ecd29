"""The flow `promote`: it tests the best of some versions against the champion."""

from prefect import flow

from flows.states import fail_with_message
from storage.references import ModelRef, TableRef
from tasks.config import PromotionSettings
from tasks.promotion import steps as promotion_steps
from tasks.promotion.rule import Decision


@flow(name="promote", flow_run_name="promote {table.dataset}")
@fail_with_message
def promote(
    table: TableRef,
    models: tuple[ModelRef, ...],
    settings: PromotionSettings = PromotionSettings(),  # noqa: B008  (frozen)
) -> Decision:
    """Choose a candidate by validation, and move the `champion` alias to it only if it passes every check.

    Args:
        table: Table on whose test split the versions are compared.
        models: Versions to choose from; the best by validation is the candidate.
        settings: When the champion changes.
    """
    return promotion_steps.promote_best(models, table, settings)
