"""The flow `rollback`: it makes the previous champion of a model the champion again."""

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.states import run_of_project
from tasks.config import RollbackSettings
from tasks.promotion import steps as promotion_steps
from tasks.promotion.rule import Decision


@flow(name="rollback", flow_run_name="rollback {settings.model}")
@run_of_project
def rollback(settings: RollbackSettings) -> Decision:
    """Take the champion of a model out of use, and make the one before it champion again, after a load check.

    Args:
        settings: The model, who says so, and why.
    """
    decision = promotion_steps.roll_back(settings)
    return cast("Decision", Completed(message=decision.reason, data=decision))
