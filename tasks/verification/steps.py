"""The Prefect tasks of a verification: compare, repair, and show what was found."""

from __future__ import annotations

import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact

from storage.layout import Store
from storage.registry import Registry
from tasks.verification.check import check_store
from tasks.verification.dependents import known_of
from tasks.verification.repair import repair_store
from tasks.verification.report import VerifiedRef, markdown_of, rows_of, summary_of, verified
from tasks.verification.settings import VerificationSettings

logger = logging.getLogger("retrain")


@task(task_run_name="compare and repair")
def compare(settings: VerificationSettings) -> VerifiedRef:
    """Read every file of the store and of its registry, and make again what is damaged, if the settings say so."""
    store = Store.from_environment()
    registry = Registry.open(store)
    found = tuple(check_store(store, registry=registry))
    ref = verified(found, known=known_of(store, registry=registry))
    if not settings.repair or not ref.damages:
        return ref
    done = repair_store([each for each in found if each.fault], registry=registry, store=store)
    return ref.model_copy(
        update={"damages": tuple(damage | {"repaired": done.get(damage["name"], "")} for damage in ref.damages)}
    )


@task(task_run_name="show")
def show(ref: VerifiedRef) -> VerifiedRef:
    """Publish what was found as an artifact of the run."""
    create_markdown_artifact(markdown_of(ref), key="verification", description=summary_of(ref))
    for row in rows_of(ref):
        logger.warning("%s is damaged: %s; needed by %s; %s", row["file"], row["fault"], row["needed by"], row["remedy"])
    return ref
