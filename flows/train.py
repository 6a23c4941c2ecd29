"""The flow that trains one variant on one table, on whatever worker it is sent to.

Annotations are evaluated here (no `from __future__ import annotations`): a process pool sends these functions by value,
without the names that only a text annotation mentions.
"""

from prefect import flow, task

from storage.references import ModelRef, TableRef
from tasks import training
from tasks.config import TrainSettings


@flow(name="train", flow_run_name="train {table.dataset} {variant}")
def train(table: TableRef, variant: str, settings: TrainSettings = TrainSettings()) -> ModelRef:  # noqa: B008  (frozen)
    """Train, score and register one variant.

    Args:
        table: Published table to train on.
        variant: Network to train, such as gru_baseline.
        settings: How it is trained.
    """
    fitted = training.fit(table, variant, settings)
    evaluation = training.evaluate(fitted)
    return training.register(fitted, evaluation)


@task(name="train", task_run_name="train {variant}")
def train_in_process(table: TableRef, variant: str, settings: TrainSettings) -> ModelRef:
    """Run the flow `train` in the process that a task runner gave to this task."""
    return train(table, variant, settings)
