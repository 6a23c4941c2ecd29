"""Train one variant, from a published table to an exported model in its checkpoint folder."""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from upath import UPath

from storage.attempts import Attempt, begin_attempt, require_last
from storage.errors import RetrainError
from storage.io import write_atomically, write_json
from storage.layout import Store
from storage.references import Reference, Refit, TableRef
from storage.tables import read_splits
from tasks.config import TrainSettings
from tasks.datasets.spec import SPLITS
from tasks.models import build_learner
from tasks.models.signature import network_signature
from tasks.models.spec import Variant
from tasks.training.identity import budget_for, problem_asked_by, training_key, variant_with_settings
from tasks.training.seen import IDS_FILE, SPLITS_OF_A_TRAINING, describe_seen

logger = logging.getLogger("retrain")


class FittedRef(Reference):
    """A finished training in its checkpoint folder: `model.keras`, `fitted.json`, and ids of rows where they are no series.

    Attributes:
        attempt: Who owns the folder, as long as nobody has taken it over.
    """

    table: TableRef
    variant: str
    training_key: str
    folder: str
    attempt: Attempt
    refit: Refit | None = None


def threads_for(variant: Variant, *, settings: TrainSettings) -> int:
    """Return the threads of a training: one where its batch is not worth sharding over cores."""
    if variant.is_baseline or not settings.threads or settings.threads == 1:
        return 1
    return settings.threads if network_signature(variant).can_shard else 1


def fit_variant(
    table: TableRef,
    *,
    variant: str,
    settings: TrainSettings,
    store: Store,
    on_progress: Callable[[Any], None],
    refit: Refit | None = None,
    begin: Callable[[UPath], Attempt] = begin_attempt,
) -> FittedRef:
    """Train a variant, resuming from its checkpoint, and leave the exported model beside it.

    It takes the folder over from an earlier attempt, whose host may only be asleep. Each attempt has a checkpoint of its own, so
    the earlier one overwrites nothing, and it stops when it would write its next.

    A refit trains on the rows of every split. It keeps the normalisation statistics of the train rows, which the exported
    model carries.

    Raises:
        DeviceError: A GPU is required and there is none; no data has been read then.
        DataError: The training diverged.
        ReplacedError: Another run has taken the training over.
        RetrainError: It took longer than it may.
    """
    from tasks.models.device import prepare_device
    from tasks.models.training_loop import fit, fit_at_once

    problem = problem_asked_by(table, settings=settings)
    configured = variant_with_settings(table, variant=variant, settings=settings)
    threads = threads_for(configured, settings=settings)
    device = prepare_device(threads, require_gpu=settings.require_gpu and not configured.is_baseline)
    key = training_key(table, variant=variant, settings=settings, refit=refit)
    folder = store.checkpoint_folder(table.version, key)
    reference = partial(FittedRef, table=table, variant=variant, training_key=key, folder=str(folder), refit=refit)
    if (folder / "fitted.json").is_file():
        return reference(attempt=begin(folder))
    splits, manifest = read_splits(table, store=store)
    attempt = begin(folder)
    fitted_splits = with_all_rows_to_train(splits) if refit else splits
    learner = build_learner(
        fitted_splits,
        normalisation=manifest["normalisation"],
        problem=problem,
        variant=configured,
        device=device,
        seed=settings.seed,
    )
    notes = learner.describe_execution()
    for note in notes:
        logger.log(logging.WARNING if note.remedy else logging.INFO, "%s %s: %s", table.dataset, variant, note)
    checkpoints = Checkpoints(folder, attempt=attempt)
    budget = budget_for(problem, variant, settings=settings, simulated=table.simulated)
    if refit:
        budget = replace(budget, steps_per_epoch=refit.steps_per_epoch)
    if configured.fit_closed_form:
        fitted = fit_at_once(learner, fit_closed_form=configured.fit_closed_form, validate=refit is None)
    else:
        fitted = fit(
            learner,
            budget=budget,
            seed=settings.seed,
            is_better=problem.is_better,
            exact_epochs=refit.epochs if refit else None,
            on_progress=with_time_limit(on_progress, limit_s=3600 * settings.timeout_hours),
            load_checkpoint=checkpoints.load,
            save_checkpoint=checkpoints.save,
        )
    with tempfile.TemporaryDirectory() as local:
        path = Path(local, "model.keras")
        learner.export().save(path)
        require_last(attempt, folder=folder)
        write_atomically(folder / "model.keras", path.read_bytes())
    seen, ids = describe_seen(splits, names=SPLITS if refit else SPLITS_OF_A_TRAINING, problem=problem)
    if ids.size:
        write_atomically(folder / IDS_FILE, _npy(ids))
    record = asdict(fitted) | {
        "parameters": sum(int(np.prod(weight.shape)) for weight in learner.network.trainable_weights),
        "budget": asdict(budget),
        "settings": settings.model_dump(mode="json"),
        "task": dict(problem.task),
        "seen": seen,
        "fitted_rows": fitted_splits["train"].num_rows,
        "refit": refit.model_dump() if refit else None,
        "device": asdict(device),
        "batch_size": configured.batch_size,
        "learning_rate": configured.learning_rate,
        "execution": asdict(learner.execution) | {"notes": [str(note) for note in notes]},
    }
    require_last(attempt, folder=folder)
    write_json(folder / "fitted.json", record)  # last: a folder without it is an unfinished training
    checkpoints.remove()
    return reference(attempt=attempt)


class Checkpoints:
    """The checkpoints of one training: one file for each attempt at it."""

    def __init__(self, folder: UPath, *, attempt: Attempt) -> None:
        """Use the checkpoints in a folder, for one attempt."""
        self._folder = folder
        self._attempt = attempt
        self._own = folder / f"checkpoint-{attempt.number}.npz"

    def load(self) -> bytes | None:
        """Return the checkpoint of the last attempt that has one; None if there is none."""
        files = self._files()
        return max(files, key=_attempt_number).read_bytes() if files else None

    def save(self, data: bytes) -> None:
        """Write the checkpoint of this attempt, and remove those of earlier ones.

        Raises:
            ReplacedError: A later attempt has begun. It reads what was there when it began, and nothing is written.
        """
        require_last(self._attempt, folder=self._folder)
        write_atomically(self._own, data)
        for path in self._files():
            if _attempt_number(path) < self._attempt.number:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove every checkpoint."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[UPath]:
        return [path for path in self._folder.iterdir() if path.name.startswith("checkpoint") and path.suffix == ".npz"]


def _attempt_number(path: UPath) -> int:
    """Return the attempt that wrote a checkpoint; 0 for `checkpoint.npz`, as version 0.1.0 wrote it."""
    return int(path.stem.partition("-")[2] or 0)


def with_all_rows_to_train(splits: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Return the tables of a refit: `train` holds the rows of every split, in their order; the others stay as they are.

    A window of a series may then reach from one split into the next, where no gap lies between them.
    """
    return {**splits, "train": pa.concat_tables([splits[name] for name in SPLITS]).combine_chunks()}


def _npy(array: npt.NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def with_time_limit(
    on_progress: Callable[[Any], None], *, limit_s: float, clock_s: Callable[[], float] = time.monotonic
) -> Callable[[Any], None]:
    """Return a callback that passes progress on until the time is up.

    Raises:
        RetrainError: From the callback, when it is called later than `limit_s` after now.
    """
    started_s = clock_s()

    def checked(progress: Any) -> None:
        on_progress(progress)
        if clock_s() - started_s > limit_s:
            raise RetrainError(f"training was given up after {limit_s / 3600:g} h: raise timeout_hours, or run again: it goes on")

    return checked
