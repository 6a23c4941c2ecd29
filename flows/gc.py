"""The flow `gc`: it removes what is old and what nothing needs."""

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.states import run_of_project
from tasks.retention import steps as retention_steps
from tasks.retention.report import PrunedRef, summary_of
from tasks.retention.settings import RetentionSettings


@flow(name="gc", flow_run_name="gc")
@run_of_project
def gc(settings: RetentionSettings = RetentionSettings()) -> PrunedRef:  # noqa: B008  (frozen)
    """Remove old tables, reports, scratch, checkpoints and runs that nothing refers to, or tell what would be removed.

    Args:
        settings: Ages, counts, and whether anything is removed.
    """
    store = retention_steps.prune_store(settings)
    runs = retention_steps.prune_runs(settings)
    result = retention_steps.show([store, runs])
    return cast("PrunedRef", Completed(message=summary_of(result), data=result))
