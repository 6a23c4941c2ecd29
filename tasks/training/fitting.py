"""Train one variant, from a published table to an exported model in its checkpoint folder."""

from __future__ import annotations

import io
import logging
import struct
import tempfile
import time
import zipfile
import zlib
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
from storage.checksums import sha256_of_bytes
from storage.disk import require_free
from storage.errors import DataError, RetrainError
from storage.io import CHECKSUM, read_json, sha256_of, write_atomically, write_record
from storage.layout import Store
from storage.references import Reference, Refit, TableRef
from storage.tables import read_splits
from tasks.config import TrainSettings
from tasks.datasets.spec import SPLITS
from tasks.models import build_learner
from tasks.training.identity import budget_for, problem_asked_by, threads_for, training_base, training_key, variant_with_settings
from tasks.training.seen import IDS_FILE, SPLITS_OF_A_TRAINING, describe_seen

logger = logging.getLogger("retrain")

# Weights, best weights and two moments in a checkpoint, of which the next is written beside it, then the exported model.
_COPIES_KEPT = 9
_SPARE_BYTES = 1_000_000
# The record that ends a zip without a comment.
_END_OF_ZIP, _END_OF_ZIP_BYTES = b"PK\x05\x06", 22


class FittedRef(Reference):
    """A finished training in its checkpoint folder: `model.keras`, `fitted.json`, and ids of rows where they are no series.

    Attributes:
        attempt: Who owns the folder, as long as nobody has taken it over.
    """

    table: TableRef
    variant: str
    training_key: str
    training_base: str
    folder: str
    attempt: Attempt
    refit: Refit | None = None


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
    base = training_base(table, variant=variant, settings=settings, refit=refit)
    reference = partial(
        FittedRef, table=table, variant=variant, training_key=key, training_base=base, folder=str(folder), refit=refit
    )
    if _is_finished(folder):
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
    weights_bytes = 4 * learner.network.count_params()
    require_free(folder, needed=_COPIES_KEPT * weights_bytes + _SPARE_BYTES, what="this training")
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
        exported = path.read_bytes()
        write_atomically(folder / "model.keras", exported)
    seen, ids = describe_seen(splits, names=SPLITS if refit else SPLITS_OF_A_TRAINING, problem=problem)
    if ids.size:
        write_atomically(folder / IDS_FILE, npy(ids))
    record = asdict(fitted) | {
        "parameters": sum(int(np.prod(weight.shape)) for weight in learner.network.trainable_weights),
        "budget": asdict(budget),
        "settings": settings.model_dump(mode="json"),
        "task": dict(problem.task),
        "seen": seen,
        "fitted_rows": fitted_splits["train"].num_rows,
        "refit": refit.model_dump() if refit else None,
        "device": asdict(device),
        "model_sha256": sha256_of_bytes(exported),
        "ids_sha256": sha256_of(folder / IDS_FILE) if ids.size else None,
        "batch_size": configured.batch_size,
        "learning_rate": configured.learning_rate,
        "execution": asdict(learner.execution) | {"notes": [str(note) for note in notes]},
    }
    require_last(attempt, folder=folder)
    write_record(folder / "fitted.json", record)  # last: a folder without it is an unfinished training
    checkpoints.remove()
    return reference(attempt=attempt)


def _is_finished(folder: UPath) -> bool:
    """Tell whether a training has ended here and left what it made, whole; if it is damaged, it is removed and made again."""
    record = folder / "fitted.json"
    if not record.is_file():
        return False
    try:
        written = read_json(record)
        expected = {"model.keras": written.get("model_sha256"), IDS_FILE: written.get("ids_sha256")}
        if all(digest is None or sha256_of(folder / name) == digest for name, digest in expected.items()):
            return True
    except (DataError, AttributeError, OSError):
        pass
    logger.warning("%s holds a finished training that was damaged: it is trained again", folder)
    record.unlink()
    return False


class Checkpoints:
    """The checkpoints of one training: one file for each attempt at it."""

    def __init__(self, folder: UPath, *, attempt: Attempt) -> None:
        """Use the checkpoints in a folder, for one attempt."""
        self._folder = folder
        self._attempt = attempt
        self._own = folder / f"checkpoint-{attempt.number}.npz"

    def load(self) -> bytes | None:
        """Return the checkpoint of the last attempt that has a whole one; None if there is none. A damaged one is put aside."""
        for path in sorted(self._files(), key=_attempt_number, reverse=True):
            data = path.read_bytes()
            if (checkpoint := whole_checkpoint(data)) is not None:
                return checkpoint
            logger.warning("%s is damaged: it is put aside, and the training goes on without it", path)
            write_atomically(path.with_name(f"damaged-{path.name}"), data)
            path.unlink()
        return None

    def save(self, data: bytes) -> None:
        """Write the checkpoint of this attempt, and remove those of earlier ones.

        Raises:
            ReplacedError: A later attempt has begun. It reads what was there when it began, and nothing is written.
        """
        require_last(self._attempt, folder=self._folder)
        write_atomically(self._own, data + _checksum_line(data))
        for path in self._files():
            if _attempt_number(path) < self._attempt.number:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove every checkpoint."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[UPath]:
        return [path for path in self._folder.iterdir() if path.name.startswith("checkpoint") and path.suffix == ".npz"]


def _checksum_line(checkpoint: bytes) -> bytes:
    return f"{CHECKSUM}:{sha256_of_bytes(checkpoint)}\n".encode()


def whole_checkpoint(data: bytes) -> bytes | None:
    """Return the npz in a checkpoint, which is followed by a line with its checksum; None if it is not as it was written.

    One of release 0.1 ends with its npz. Its members have checksums of their own.
    """
    if data[-_END_OF_ZIP_BYTES:].startswith(_END_OF_ZIP):
        return data if _has_whole_members(data) else None
    length = len(_checksum_line(b""))
    return data[:-length] if data[-length:] == _checksum_line(data[:-length]) else None


def _has_whole_members(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError, struct.error):
        return False


def _attempt_number(path: UPath) -> int:
    """Return the attempt that wrote a checkpoint; 0 for `checkpoint.npz`, as version 0.1.0 wrote it."""
    return int(path.stem.partition("-")[2] or 0)


def with_all_rows_to_train(splits: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Return the tables of a refit: `train` holds the rows of every split, in their order; the others stay as they are.

    A window of a series may then reach from one split into the next, where no gap lies between them.
    """
    return {**splits, "train": pa.concat_tables([splits[name] for name in SPLITS]).combine_chunks()}


def npy(array: npt.NDArray[np.int64]) -> bytes:
    """Return an array as the content of an npy file."""
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
