"""The flow that puts the best of some versions to the promotion test."""

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
    """Choose by validation, test against the champion, and move the alias only when every check passes.

    Args:
        table: Table whose test split decides.
        models: Versions among which the best by validation is the candidate.
        settings: Rule by which a new champion is made.
    """
    return promotion_steps.decide(models, table, settings)
