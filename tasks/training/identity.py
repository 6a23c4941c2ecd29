"""What a training follows from: its registered name, its budget and its key; and which code it was made with."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.io import digest_of_json, sha256_of
from storage.records import ModelVersion
from storage.references import Refit, TableRef
from tasks.config import TrainSettings
from tasks.models import problem_named, variant_named
from tasks.models.signature import network_signature
from tasks.models.spec import Budget, Problem, Variant

# Raised by hand whenever the training itself, and not a network or a setting, would lead to other weights.
TRAINING_VERSION = 6
KEY_DIGITS = 16

# Of a version: the key that its training has with one thread.
BASE_TAG = "training_base"


def model_name(table: TableRef, *, problem: Problem | None = None) -> str:
    """Return the registered model that competes on this table: a simulation never shares one with real data.

    A problem that is asked another question than the data set's own has a name of its own too.
    """
    name = f"{table.dataset}{problem.model_suffix if problem else ''}"
    return f"{name}-sample" if table.simulated else name


def problem_asked_by(table: TableRef, *, settings: TrainSettings) -> Problem:
    """Return the problem of a table's data set, asked what the settings say.

    Raises:
        SettingError: It cannot be asked that.
    """
    return problem_named(table.dataset, forecast=settings.forecast)


def problem_answered_by(version: ModelVersion, *, dataset: str) -> Problem:
    """Return the problem as it was when a version was trained: another lookback reads other rows of the same table."""
    problem, task = problem_named(dataset), version.tags.get("task")
    return problem.with_task(json.loads(task)) if task else problem


def budget_for(problem: Problem, variant: str, *, settings: TrainSettings, simulated: bool) -> Budget:
    """Return the budget of a training: the settings' where they say one, else the variant's, or the sample's."""
    own = problem.variants[variant]
    usual = problem.sample_budget if simulated else Budget(own.epochs, own.steps_per_epoch, settings.patience_epochs)
    return Budget(
        epochs=settings.epochs or usual.epochs,
        steps_per_epoch=settings.steps_per_epoch or usual.steps_per_epoch,
        patience_epochs=settings.patience_epochs,
    )


def variant_with_settings(table: TableRef, *, variant: str, settings: TrainSettings) -> Variant:
    """Return a variant for the windows, the batch size and the learning rate that the settings give it."""
    variant_named(variant, dataset=table.dataset)
    own = problem_asked_by(table, settings=settings).variants[variant]
    return own.with_settings(batch_size=settings.batch_size, learning_rate=settings.learning_rate)


def threads_for(variant: Variant, *, settings: TrainSettings) -> int:
    """Return the threads of a training: one where its batch is not worth sharding over cores."""
    if variant.is_baseline or not settings.threads or settings.threads == 1:
        return 1
    return settings.threads if network_signature(variant).can_shard else 1


def training_key(table: TableRef, *, variant: str, settings: TrainSettings, refit: Refit | None = None) -> str:
    """Return the digest of all that a training follows from, so that equal trainings are recognised.

    It holds the table, the network as built with its optimizer, schedule and initialisation, the task of the problem, every
    setting that changes weights, and the threads among which a batch is sharded, because another number of them sums in another
    order. Summaries, comments and the device are no part of it. A refit has a key of its own, which holds that of its twin.
    """
    base = training_base(table, variant=variant, settings=settings, refit=refit)
    threads = threads_for(variant_with_settings(table, variant=variant, settings=settings), settings=settings)
    return base if threads == 1 else digest_of_json({"base": base, "threads": threads}, length=KEY_DIGITS)


def training_base(table: TableRef, *, variant: str, settings: TrainSettings, refit: Refit | None = None) -> str:
    """Return the training key with one thread, by which trainings are recognised that differ in their threads alone."""
    if refit:
        twin = refit.twin_key or training_base(table, variant=variant, settings=settings)
        steps = {"epochs": refit.epochs, "steps_per_epoch": refit.steps_per_epoch}
        return digest_of_json({"twin": twin, "rows": "all", **steps}, length=KEY_DIGITS)
    problem = problem_asked_by(table, settings=settings)
    configured = variant_with_settings(table, variant=variant, settings=settings)
    content: dict[str, Any] = {
        "table": table.version,
        "variant": variant,
        "network": network_signature(configured).digest,
        "task": dict(problem.task),
        "training_version": TRAINING_VERSION,
    }
    if configured.is_baseline:  # no budget and no seed changes what it is
        return digest_of_json(content, length=KEY_DIGITS)
    content |= {
        "batch_size": configured.batch_size,
        "learning_rate": configured.learning_rate,
        "budget": asdict(budget_for(problem, variant, settings=settings, simulated=table.simulated)),
        "seed": settings.seed,
    }
    return digest_of_json(content, length=KEY_DIGITS)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on."""
    names = ("tensorflow", "keras", "numpy", "pandas", "pyarrow", "great-expectations", "mlflow", "prefect")
    return {name: importlib.metadata.version(name) for name in names}


def code_version() -> str:
    """Return the commit of the code, `-dirty` when files differ from it; of an installed package its release; else `unknown`."""
    root = Path(__file__).resolve().parents[2]
    if Path(str(importlib.metadata.distribution("retrain").locate_file("tasks"))).resolve() == root / "tasks":
        # It may lie within the checkout of another project, whose commit says nothing.
        return f"release {importlib.metadata.version('retrain')}"
    try:
        description = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607  (git of the PATH is meant)
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return description.stdout.strip()


def lock_digest() -> str:
    """Return the SHA-256 of the lock file that the environment of this host is made from, or `unknown`."""
    name = "requirements-gpu.lock" if shutil.which("nvidia-smi") else "requirements.lock"  # as the Makefile chooses
    lock = Path(__file__).resolve().parents[2] / name
    return sha256_of(lock) if lock.is_file() else "unknown"
