"""The Prefect tasks of training: each reads and writes through the store and the registry and wraps one function."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import (
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run

from storage.errors import RetrainError
from storage.layout import Store
from storage.progress import write_note
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from tasks.config import TrainSettings, site_requires_gpu
from tasks.models import variant_named
from tasks.models.device import Device, prepare_device
from tasks.models.training_loop import Progress
from tasks.training import fitting, identity, registering, scoring
from tasks.training.fitting import FittedRef
from tasks.training.scoring import EvaluationRef

logger = logging.getLogger("retrain")


# No longer than a silent run is waited for, so that the training that follows a crash finds its device free.
SEEN_AFTER_S = 1.0  # a terminal looks twice a second


LEASE_S = 90


@task(task_run_name="find trained {variant}")
def find_trained(table: TableRef, variant: str, settings: TrainSettings) -> ModelRef | None:
    """Return the version that an equal training made before."""
    registry = Registry.open(Store.from_environment())
    found = registering.find_trained(table, variant=variant, settings=settings, registry=registry)
    if found:
        logger.info("%s %s: trained before, %s@%d", table.dataset, variant, found.name, found.version)
    return found


def _is_no_fault_of_input(task: Any, run: Any, state: State[Any]) -> bool:
    """Tell whether a failure may pass when the training is taken up again from its checkpoint."""
    del task, run
    return not isinstance(state.result(raise_on_failure=False), RetrainError)


@task(
    task_run_name="fit {variant}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_no_fault_of_input,
)
def fit(table: TableRef, variant: str, settings: TrainSettings) -> FittedRef:
    """Train a variant on a device of this host; its progress shows in the run and in the terminal."""
    store = Store.from_environment()
    chosen = variant_named(variant, dataset=table.dataset)
    on_gpu = not chosen.is_reference and (settings.require_gpu or site_requires_gpu())
    threads = fitting.threads_for(chosen, settings=settings)
    device = prepare_device(threads, require_gpu=on_gpu)
    key = identity.training_key(table, variant=variant, settings=settings)
    # A reference is done in seconds, and waits for nobody.
    with nullcontext() if chosen.is_reference else _lease(device, threads=threads):
        show = _ProgressShow(f"{table.dataset} {variant}", key=key, store=store)
        fitted = fitting.fit_variant(table, variant=variant, settings=settings, store=store, on_progress=show)
        show.close()
    return fitted


@contextmanager
def _lease(device: Device, *, threads: int) -> Iterator[None]:
    """Hold the device for one training: one at a time on a GPU, as many as there are cores for on a CPU.

    The lease is the server's and runs out by itself when its holder dies, so no device stays taken.
    """
    cores = max(1, (os.cpu_count() or 1) // threads)
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "all") if device.kind == "gpu" else "cpu"
    name = re.sub(r"[^a-z0-9]+", "-", f"device {socket.gethostname()} {which}".lower())
    # Of two trainings that begin at once, the second finds the limit made between its question and its answer.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, limit=1 if device.kind == "gpu" else cores)
    with concurrency(name, lease_duration=LEASE_S, strict=True):
        yield


class _ProgressShow:
    """Tell the Prefect run of every epoch, and a file in the store of every second."""

    def __init__(self, title: str, *, key: str, store: Store) -> None:
        self._title = title
        self._file = store.progress(key)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._artifact = cast(
            "UUID", create_progress_artifact(0.0, key=f"progress-{title.replace(' ', '-').replace('_', '-')}", description=title)
        )
        self._figures: Mapping[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        left = "" if progress.remaining_s is None else f", {timedelta(seconds=round(progress.remaining_s))} left"
        self._figures = progress.figures or self._figures
        figures = "".join(f", {name} {value:.4f}" for name, value in self._figures.items())
        text = f"epoch {progress.epoch} of {progress.epochs}{figures}{left}"
        write_note(self._file, title=self._title, share=progress.share, text=text, milestone=progress.epoch)
        if progress.figures:
            logger.info("%s: %s", self._title, text)
            self._update(progress.share, description=f"{self._title}: {text}")

    def _update(self, share: float, *, description: str | None = None) -> None:
        """Move the artifact on; a server that does not answer is no reason to lose a training."""
        try:
            update_progress_artifact(self._artifact, 100 * share, description=description)
        except httpx.HTTPError as error:
            logger.warning("%s: its progress is not shown: %s", self._title, error)

    def close(self) -> None:
        """Set the artifact to its end, early stopping or not, and take the file away when a terminal has seen it."""
        self._update(1.0)
        # At once, the last epochs of a short training would pass unseen; the process scores and registers meanwhile.
        threading.Timer(SEEN_AFTER_S, self._file.unlink, kwargs={"missing_ok": True}).start()


@task(task_run_name="evaluate {fitted.variant}")
def evaluate(fitted: FittedRef) -> EvaluationRef:
    """Score the exported model on the test split."""
    return scoring.evaluate_fitted(fitted, store=Store.from_environment())


@task(task_run_name="register {fitted.variant}")
def register(fitted: FittedRef, evaluation: EvaluationRef) -> ModelRef:
    """Make a version of the model, with all that it came from."""
    store = Store.from_environment()
    run_id = str(flow_run.root_flow_run_id or "")
    return registering.register_fitted(
        fitted, evaluation=evaluation, registry=Registry.open(store), store=store, flow_run_id=run_id
    )
