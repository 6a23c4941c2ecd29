"""The flow `train`, and the task that runs it in a process of this host or on a worker.

There is no `from __future__ import annotations` here: a process pool pickles these functions by value, without the names
that occur only in annotations, so the annotations must be evaluated.
"""

import logging
import time
from typing import Any, cast

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun, State
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from flows.runtime.child_progress import ChildProgress
from flows.states import run_of_project
from storage.errors import ReplacedError, RetrainError
from storage.references import ModelRef, Refit, TableRef
from storage.retries import wait_while_away
from tasks.config import TrainSettings
from tasks.models import variant_named
from tasks.training import steps as training_steps

logger = logging.getLogger("retrain")

DEPLOYMENT = "train/train"
MAX_ATTEMPTS = 3
# Of one training by one parent run, over all starts of the parent.
MAX_RUNS = 20
POLL_S = 2


@flow(name="train", flow_run_name="train {table.dataset} {variant}")
@run_of_project
def train(
    table: TableRef,
    variant: str,
    settings: TrainSettings = TrainSettings(),  # noqa: B008  (frozen)
    refit: Refit | None = None,
) -> ModelRef:
    """Train, score and register one variant.

    Args:
        table: Published table to train on.
        variant: Network to train, such as gru_baseline.
        settings: Budget, seed and device.
        refit: For a training on the rows of every split, the version that passed promotion. None: train on the train rows.
    """
    with training_steps.claim(table, variant=variant, settings=settings, refit=refit) as existing:
        if existing:
            return existing
        fitted = training_steps.fit(table, variant, settings, refit)
        evaluation = training_steps.evaluate(fitted)
        return training_steps.register(fitted, evaluation)


@task(name="train", task_run_name="train {variant}")
def train_variant(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None = None) -> ModelRef:
    """Train in the process of this task, or on a worker of the work pool `gpu`.

    A linear baseline is always trained in this process, because it does not use a GPU.
    """
    if settings.run_on != "work_pool" or variant_named(variant, dataset=table.dataset).is_baseline:
        try:
            return train(table, variant, settings, refit)
        except ReplacedError:
            return _wait_for_equal_training(table, variant, settings, refit)
    state = _train_on_a_worker(table, variant, settings, refit)
    if state.name == "Replaced":
        return _wait_for_equal_training(table, variant, settings, refit)
    model = training_steps.registered_version(table, variant, settings, refit)
    if model is None:
        raise RetrainError(f"training of {variant} ended as {state.name}: {state.message}")
    logger.info("%s %s: registered as %s@%d", table.dataset, variant, model.name, model.version)
    return model.model_copy(update={"trained": True})


def _wait_for_equal_training(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None) -> ModelRef:
    """Return the version of an equal training that was begun later, by another parent, and has taken this one over.

    Raises:
        RetrainError: It registered nothing within the time that a training may take.
    """
    deadline_s = time.monotonic() + 3600 * settings.timeout_hours
    while time.monotonic() < deadline_s:
        model = training_steps.registered_version(table, variant, settings, refit)
        if model is not None:
            return model
        time.sleep(POLL_S)
    raise RetrainError(
        f"training of {variant} was taken over by an equal one, which registered nothing within {settings.timeout_hours:g} h: "
        "see how that one ended, and run again"
    )


def _train_on_a_worker(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None) -> State[Any]:
    """Run the deployment `train` on a worker, again after a crash, and return its final state.

    The idempotency key numbers the runs of a parent. A parent that is started again therefore finds the training that still
    runs for it, and starts no second one on the same checkpoint.
    """
    parameters = {
        "table": table.model_dump(),
        "variant": variant,
        "settings": settings.model_dump(),
        "refit": refit.model_dump() if refit else None,
    }
    name = f"{flow_run.root_flow_run_id} {variant}{' refit' if refit else ''}"
    attempts = 0
    for number in range(1, MAX_RUNS + 1):
        send = wait_while_away(run_deployment)
        run = cast("FlowRun", send(DEPLOYMENT, parameters=parameters, idempotency_key=f"{name} {number}", timeout=0))
        if run.state and run.state.is_final():
            continue  # an earlier start of this parent has waited for it
        state = _wait_for_end(run)
        attempts += 1
        # After a crash another worker may succeed: it resumes from the last epoch.
        if not state.is_crashed() or attempts == MAX_ATTEMPTS:
            return state
    raise RetrainError(f"training of {variant} was started {MAX_RUNS} times: see how its runs ended, then start a new retrain")


def _wait_for_end(run: FlowRun) -> State[Any]:
    """Return the final state of a run once it has one, and show how far it is until then."""
    progress = ChildProgress(run.id)
    while True:
        state = wait_while_away(_read_state)(run)
        if state and state.is_final():
            progress.look(at_once=True)
            return state
        progress.look()
        time.sleep(POLL_S)


def _read_state(run: FlowRun) -> State[Any] | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id).state
