"""The flow that trains one variant on one table, on whatever worker it is sent to.

Annotations are evaluated here (no `from __future__ import annotations`): a process pool sends these functions by value,
without the names that only a text annotation mentions.
"""

from typing import cast

from prefect import flow, task
from prefect.client.schemas import FlowRun
from prefect.deployments import run_deployment

from flows.outcomes import told_plainly
from storage.errors import RetrainError
from storage.references import ModelRef, TableRef
from tasks import training
from tasks.config import TrainSettings

DEPLOYMENT = "train/train"
ATTEMPTS = 3


@flow(name="train", flow_run_name="train {table.dataset} {variant}")
@told_plainly
def train(table: TableRef, variant: str, settings: TrainSettings = TrainSettings()) -> ModelRef:  # noqa: B008  (frozen)
    """Train, score and register one variant.

    Args:
        table: Published table to train on.
        variant: Network to train, such as gru_baseline.
        settings: Budget, seed and device.
    """
    fitted = training.fit(table, variant, settings)
    evaluation = training.evaluate(fitted)
    return training.register(fitted, evaluation)


@task(name="train", task_run_name="train {variant}")
def train_somewhere(table: TableRef, variant: str, settings: TrainSettings) -> ModelRef:
    """Train in the process that a task runner gave to this task, or on a worker of the gpu pool."""
    if settings.place == "here":
        return train(table, variant, settings)
    parameters = {"table": table.model_dump(), "variant": variant, "settings": settings.model_dump()}
    for _ in range(ATTEMPTS):
        run = cast("FlowRun", run_deployment(DEPLOYMENT, parameters=parameters, as_subflow=True))
        # A crash says nothing about the training: another worker takes it up from its last epoch.
        if run.state is None or not run.state.is_crashed():
            break
    model = training.find_trained.fn(table, variant, settings)
    if run.state is None or not run.state.is_completed() or model is None:
        state, message = (run.state.name, run.state.message) if run.state else ("no state", "")
        raise RetrainError(f"training of {variant} ended as {state} in run {run.name!r}: {message}")
    return model.model_copy(update={"trained": True})
