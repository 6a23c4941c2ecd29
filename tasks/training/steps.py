"""The Prefect tasks of training: each wraps one function, and reads and writes through the store and the registry."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from filelock import Timeout
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run
from upath import UPath

from storage.attempts import Attempt, begin_attempt, require_last
from storage.disk import disk_error
from storage.errors import RetrainError
from storage.io import locked
from storage.layout import Store
from storage.progress import shown, write_note
from storage.references import ModelRef, Refit, TableRef
from storage.registry import Registry
from storage.retries import wait_while_away
from tasks.config import TrainSettings, site_requires_gpu
from tasks.models import variant_named
from tasks.models.device import Device, prepare_device
from tasks.models.training_loop import Progress
from tasks.training import fitting, identity, registering, scoring
from tasks.training.fitting import FittedRef
from tasks.training.scoring import EvaluationRef

logger = logging.getLogger("retrain")

# The server marks a silent run as crashed after 90 s. The lease lasts no longer, so that the training which follows a crash
# finds its device free.
LEASE_S = 90
# A terminal reads the progress files every 0.5 s, so it has read the last state of a file within this time.
KEEP_PROGRESS_FILE_S = 1.0


@task(task_run_name="find trained {variant}")
def find_trained(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None = None) -> ModelRef | None:
    """Return the version that an equal training registered before, or None."""
    model = registered_version(table, variant, settings, refit)
    if model:
        logger.info("%s %s: trained before, %s@%d", table.dataset, variant, model.name, model.version)
    return model


def registered_version(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None = None) -> ModelRef | None:
    """Return the version that an equal training has registered, or None; it is no step of a run."""
    store = Store.from_environment()
    registry = Registry.open(store)
    return registering.find_trained(table, variant=variant, settings=settings, registry=registry, store=store, refit=refit)


def _may_succeed_on_retry(task: Any, run: Any, state: State[Any]) -> bool:
    """Tell whether a retry, which resumes from the checkpoint, may succeed: not when input or settings are at fault."""
    del task, run
    error = state.result(raise_on_failure=False)
    return not isinstance(error, RetrainError) and disk_error(error, home="") is None


@contextmanager
def claim(table: TableRef, *, variant: str, settings: TrainSettings, refit: Refit | None = None) -> Iterator[ModelRef | None]:
    """Keep equal trainings one after the other, and yield the version that one before has registered, or None.

    The claim ends with the process that holds it: on one host it is a file lock, between hosts a lease of the Prefect server.
    """
    key = identity.training_key(table, variant=variant, settings=settings, refit=refit)
    store = Store.from_environment()
    lock = locked(store.progress(key))
    with ExitStack() as stack:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s %s: an equal training goes on, and its result is waited for", table.dataset, variant)
            lock.acquire()
        stack.callback(lock.release)
        stack.enter_context(_turn(f"training {key}"))
        registry = Registry.open(store)
        yield registering.find_trained(table, variant=variant, settings=settings, registry=registry, store=store, refit=refit)


@contextmanager
def _turn(name: str) -> Iterator[None]:
    """Hold the one slot of a global concurrency limit of this name, which goes when it is over.

    Whoever waits for a limit that is removed goes on: an equal training that both then begin is one of `storage.attempts`.
    """
    wait_while_away(_make_limit)(name, limit=1)
    try:
        with ExitStack() as stack:
            wait_while_away(lambda: stack.enter_context(concurrency(name, lease_duration=LEASE_S)))()
            yield
    finally:
        with get_client(sync_client=True) as client, suppress(ObjectNotFound, httpx.HTTPError):
            client.delete_global_concurrency_limit_by_name(name)


@task(
    task_run_name="fit {variant}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_succeed_on_retry,
)
def fit(table: TableRef, variant: str, settings: TrainSettings, refit: Refit | None = None) -> FittedRef:
    """Train a variant on a device of this host, and show its progress in the run and in the terminal."""
    store = Store.from_environment()
    is_baseline = variant_named(variant, dataset=table.dataset).is_baseline
    require_gpu = not is_baseline and (settings.require_gpu or site_requires_gpu())
    threads = identity.threads_for(variant_named(variant, dataset=table.dataset), settings=settings)
    device = prepare_device(threads, require_gpu=require_gpu)
    key = identity.training_key(table, variant=variant, settings=settings, refit=refit)
    title = f"{table.dataset} {variant} refit" if refit else f"{table.dataset} {variant}"
    # A linear baseline takes seconds, so it does not wait for a device.
    with nullcontext() if is_baseline else _lease(device, threads=threads):
        progress = _TrainingProgress(title, key=key, store=store)
        fitted = fitting.fit_variant(
            table,
            variant=variant,
            settings=settings,
            store=store,
            on_progress=progress,
            refit=refit,
            begin=lambda folder: begin_or_go_on(str(flow_run.id), folder=folder),
        )
        progress.close()
    return fitted


_begun: dict[str, Attempt] = {}
"""The attempts that this process has begun, by their run."""


def begin_or_go_on(run_id: str, *, folder: UPath) -> Attempt:
    """Begin an attempt for a run, or go on with the one that this process began for it.

    A retry on a host that was cut off must not take a training back from the run that has taken it over meanwhile.

    Raises:
        ReplacedError: Another run has taken the training over, or finished it.
    """
    begun = _begun.get(run_id)
    if begun is None:
        begun = _begun[run_id] = begin_attempt(folder)
    require_last(begun, folder=folder)
    return begun


@contextmanager
def _lease(device: Device, *, threads: int) -> Iterator[None]:
    """Reserve the device for one training: a GPU runs one at a time, a CPU as many as it has cores for.

    The Prefect server holds the lease. It expires when its holder dies, so no device stays reserved.
    """
    cores = max(1, (os.cpu_count() or 1) // threads)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "all") if device.kind == "gpu" else "cpu"
    name = re.sub(r"[^a-z0-9]+", "-", f"device {socket.gethostname()} {devices}".lower())
    with _slots(name, limit=1 if device.kind == "gpu" else cores):
        yield


@contextmanager
def _slots(name: str, *, limit: int) -> Iterator[None]:
    """Hold one of the slots of a global concurrency limit, which is made if it is not there."""
    wait_while_away(_make_limit)(name, limit=limit)
    with ExitStack() as stack:
        # A lease that was given and not heard of expires.
        wait_while_away(lambda: stack.enter_context(concurrency(name, lease_duration=LEASE_S, strict=True)))()
        yield


def _make_limit(name: str, *, limit: int) -> None:
    # If two trainings start at once, the second may fail to create a limit that the first has just created.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, limit=limit)


class _TrainingProgress:
    """Publish the progress of a training: an artifact of the run every epoch, a file for the terminal every call."""

    def __init__(self, title: str, *, key: str, store: Store) -> None:
        self._title = title
        self._file = store.progress(key)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        key = f"progress-{title.replace(' ', '-').replace('_', '-')}"
        self._artifact = cast("UUID", wait_while_away(create_progress_artifact)(0.0, key=key, description=title))
        self._metrics: Mapping[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        left = "" if progress.remaining_s is None else f", {timedelta(seconds=round(progress.remaining_s))} left"
        self._metrics = progress.metrics or self._metrics
        metrics = "".join(f", {name} {value:.4f}" for name, value in self._metrics.items())
        text = f"epoch {progress.epoch} of {progress.epochs}{metrics}{left}"
        write_note(self._file, title=self._title, share=progress.share, text=text, milestone=progress.epoch)
        if progress.metrics:
            logger.info("%s: %s", self._title, text)
            self._update(progress.share, description=f"{self._title}: {text}")

    def _update(self, share: float, *, description: str | None = None) -> None:
        """Update the artifact. A server that does not answer must not fail the training, so its error is only logged."""
        try:
            update_progress_artifact(self._artifact, 100 * share, description=description)
        except httpx.HTTPError as error:
            logger.warning("%s: its progress is not shown: %s", self._title, error)

    def close(self) -> None:
        """Set the artifact to 100 %, also after early stopping, and remove the file once a terminal has read it."""
        self._update(1.0)
        # Removed at once, the last epochs of a short training would not be shown. A timer, because scoring must not wait.
        threading.Timer(KEEP_PROGRESS_FILE_S, self._file.unlink, kwargs={"missing_ok": True}).start()


@task(task_run_name="evaluate {fitted.variant}")
def evaluate(fitted: FittedRef) -> EvaluationRef:
    """Score the exported model on the test split."""
    store = Store.from_environment()
    title = f"score {fitted.table.dataset} {fitted.variant}"
    with shown(title, file=store.progress(f"evaluate-{fitted.training_key}")):
        return scoring.evaluate_fitted(fitted, store=store)


@task(task_run_name="register {fitted.variant}")
def register(fitted: FittedRef, evaluation: EvaluationRef) -> ModelRef:
    """Register the exported model as a new version, with its manifest."""
    store = Store.from_environment()
    run_id = str(flow_run.root_flow_run_id or "")
    title = f"register {fitted.table.dataset} {fitted.variant}"
    with shown(title, file=store.progress(f"register-{fitted.training_key}")):
        return registering.register_fitted(
            fitted, evaluation=evaluation, registry=Registry.open(store), store=store, flow_run_id=run_id
        )
