"""From a published table to a registered version: training, scoring and registering, without Prefect."""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.errors import RetrainError
from storage.folders import remove_folder
from storage.layout import Store
from storage.raw_files import digest_of_json, read_json, sha256_of, write_atomically, write_json
from storage.records import DatasetRecord, ModelVersion, RunRecord
from storage.references import ModelRef, Reference, TableRef
from storage.registry import Registry
from storage.tables import read_splits, read_table, write_table
from tasks.config import TrainSettings
from tasks.metrics import classification_scores, forecast_scores
from tasks.models import variant_named, view_named
from tasks.models.layers import register_layers
from tasks.models.spec import Budget, Learner, Variant, View

# Raised by hand whenever an equal configuration would train to other weights.
TRAINING_VERSION = 5
KEY_DIGITS = 16
EXAMPLES = 16
REQUIREMENTS = ("keras", "tensorflow", "numpy")


class FittedRef(Reference):
    """A finished training in its checkpoint folder: `model.keras` and `fitted.json`."""

    table: TableRef
    variant: str
    training_key: str
    folder: str


class EvaluationRef(Reference):
    """Predictions of one model on one table's test split, and their scores."""

    training_key: str
    uri: str
    scores: dict[str, float]


def model_name(table: TableRef) -> str:
    """Return the registered model that competes on this table: a simulation never shares one with real data."""
    return f"{table.dataset}-sample" if table.simulated else table.dataset


def budget_for(view: View, variant: str, *, settings: TrainSettings, simulated: bool) -> Budget:
    """Return the budget of a training: the settings' where they say one, else the variant's, or the sample's."""
    own = variant_named(variant, dataset=view.dataset)
    usual = view.sample_budget if simulated else Budget(own.epochs, own.steps_per_epoch, settings.patience_epochs)
    return Budget(
        epochs=settings.epochs or usual.epochs,
        steps_per_epoch=settings.steps_per_epoch or usual.steps_per_epoch,
        patience_epochs=settings.patience_epochs,
    )


def training_key(table: TableRef, *, variant: str, settings: TrainSettings) -> str:
    """Return the digest of all that a training follows from, so that equal trainings are recognised."""
    view = view_named(table.dataset)
    chosen = variant_named(variant, dataset=table.dataset)
    content: dict[str, Any] = {"table": table.version, "variant": variant, "summary": chosen.summary}
    content["training_version"] = TRAINING_VERSION
    if chosen.is_reference:  # no budget and no seed changes what it is
        return digest_of_json(content, length=KEY_DIGITS)
    content |= {
        "batch_size": chosen.batch_size,
        "learning_rate": chosen.learning_rate,
        "budget": asdict(budget_for(view, variant, settings=settings, simulated=table.simulated)),
        "seed": settings.seed,
    }
    return digest_of_json(content, length=KEY_DIGITS)


def threads_for(variant: Variant, *, settings: TrainSettings) -> int:
    """Return the threads of a training: one where its batch cannot be split over cores."""
    return settings.threads or 1 if variant.splits else 1


def fit_variant(
    table: TableRef, *, variant: str, settings: TrainSettings, store: Store, on_progress: Callable[[Any], None]
) -> FittedRef:
    """Train a variant, resuming from its checkpoint, and leave the exported model beside it.

    Raises:
        DeviceError: A GPU is required and there is none; no data has been read then.
        DataError: The training diverged.
        RetrainError: It took longer than it may.
    """
    from tasks.models.engine.execution import kernel_for, prepare_device
    from tasks.models.engine.train_step import on_every
    from tasks.models.training_loop import fit, solve

    view, chosen = view_named(table.dataset), variant_named(variant, dataset=table.dataset)
    threads = threads_for(chosen, settings=settings)
    device = prepare_device(threads, require_gpu=settings.require_gpu and not chosen.is_reference)
    key = training_key(table, variant=variant, settings=settings)
    folder = store.checkpoint_folder(table.version, key)
    reference = FittedRef(table=table, variant=variant, training_key=key, folder=str(folder))
    if (folder / "fitted.json").is_file():
        return reference
    splits, manifest = read_splits(table, store=store)
    kernel = kernel_for(chosen, device=device)
    with on_every(device):
        learner = view.learner(splits, manifest["normalisation"], chosen, kernel, settings.seed)
    checkpoint = folder / "checkpoint.npz"
    budget = budget_for(view, variant, settings=settings, simulated=table.simulated)
    if chosen.solve:
        fitted = solve(learner, solver=chosen.solve)
    else:
        fitted = fit(
            learner,
            budget=budget,
            seed=settings.seed,
            is_better=view.is_better,
            on_progress=bounded(on_progress, limit_s=3600 * settings.timeout_hours),
            load_checkpoint=lambda: checkpoint.read_bytes() if checkpoint.is_file() else None,
            save_checkpoint=lambda data: write_atomically(checkpoint, data),
        )
    with tempfile.TemporaryDirectory() as local:
        path = Path(local, "model.keras")
        learner.export().save(path)
        write_atomically(folder / "model.keras", path.read_bytes())
    described = asdict(fitted) | {
        "parameters": sum(int(np.prod(weight.shape)) for weight in learner.network.trainable_weights),
        "budget": asdict(budget),
        "settings": settings.model_dump(mode="json"),
        "device": asdict(device),
        "kernel": asdict(kernel),
    }
    write_json(folder / "fitted.json", described)  # last: a folder without it is an unfinished training
    checkpoint.unlink(missing_ok=True)
    return reference


def bounded(
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


def evaluate_fitted(fitted: FittedRef, *, store: Store) -> EvaluationRef:
    """Score the exported model of a training on the test split of its own table."""
    folder = store.checkpoint_folder(fitted.table.version, fitted.training_key)
    return _evaluate(_exported(folder), table=fitted.table, training_key=fitted.training_key, store=store)


def _exported(folder: Any) -> Any:
    """Load the model that a finished training left in its folder, which may be on another host."""
    import keras

    register_layers()
    with tempfile.TemporaryDirectory() as local:
        path = Path(local, "model.keras")
        path.write_bytes((folder / "model.keras").read_bytes())
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def evaluate_version(version: ModelVersion, *, table: TableRef, registry: Registry, store: Store) -> EvaluationRef:
    """Score a registered version on the test split of a table, once for each table."""
    key = version.tags["training_key"]
    standing = _standing_evaluation(table, training_key=key, store=store)
    if standing:
        return standing
    from tasks.models.engine.execution import prepare_device

    prepare_device(1, require_gpu=False)
    register_layers()
    return _evaluate(registry.load_model(version), table=table, training_key=key, store=store)


def _standing_evaluation(table: TableRef, *, training_key: str, store: Store) -> EvaluationRef | None:
    scores = store.evaluation(table.version, training_key).with_suffix(".json")
    if not scores.is_file():
        return None
    uri = str(store.evaluation(table.version, training_key))
    return EvaluationRef(training_key=training_key, uri=uri, scores=read_json(scores))


def _evaluate(exported: Any, *, table: TableRef, training_key: str, store: Store) -> EvaluationRef:
    view = view_named(table.dataset)
    splits, manifest = read_splits(table, store=store)
    learner = view.restore(splits, manifest["normalisation"], exported)
    scores = _scores(view, learner=learner, path=store.evaluation(table.version, training_key))
    inputs, outputs = view.examples(learner, EXAMPLES)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, outputs=outputs)
    write_atomically(store.evaluation(table.version, training_key).with_suffix(".npz"), buffer.getvalue())
    write_json(store.evaluation(table.version, training_key).with_suffix(".json"), scores)  # last, as above
    return EvaluationRef(training_key=training_key, uri=str(store.evaluation(table.version, training_key)), scores=scores)


def _scores(view: View, *, learner: Learner, path: Any) -> dict[str, float]:
    seen = view.test_view(learner)
    write_table(pa.table({"prediction": seen.prediction, "truth": seen.truth, "naive": seen.naive}), path)
    if view.kind == "forecast":
        return forecast_scores(seen.prediction, truth_degc=seen.truth, naive_degc=seen.naive, std_degc=seen.scale)
    share = float(np.mean(seen.naive == seen.truth))
    return classification_scores(seen.prediction, label=seen.truth, majority_share=share)


def read_predictions(evaluation: EvaluationRef, *, table: TableRef, store: Store) -> pa.Table:
    """Return `prediction`, `truth` and `naive` of every test example, in the order of the split."""
    return read_table(store.evaluation(table.version, evaluation.training_key))


def find_trained(table: TableRef, *, variant: str, settings: TrainSettings, registry: Registry) -> ModelRef | None:
    """Return the version that an equal training made before, if there is one."""
    key = training_key(table, variant=variant, settings=settings)
    found = registry.find(model_name(table), training_key=key)
    return None if found is None else model_ref(found, trained=False)


def model_ref(version: ModelVersion, *, trained: bool) -> ModelRef:
    """Return the reference to a registered version."""
    return ModelRef(
        name=version.name,
        version=version.version,
        variant=version.variant,
        run_id=version.run_id,
        uri=version.uri,
        trained=trained,
    )


def register_fitted(
    fitted: FittedRef, *, evaluation: EvaluationRef, registry: Registry, store: Store, flow_run_id: str
) -> ModelRef:
    """Register a finished training with all that it came from, and remove its checkpoint folder."""
    folder = store.checkpoint_folder(fitted.table.version, fitted.training_key)
    described = read_json(folder / "fitted.json")
    table_folder = store.table_folder(fitted.table.dataset, fitted.table.version)
    manifest = read_json(table_folder / "manifest.json")
    with np.load(
        io.BytesIO(store.evaluation(fitted.table.version, fitted.training_key).with_suffix(".npz").read_bytes())
    ) as saved:
        inputs, outputs = saved["inputs"], saved["outputs"]
    exported = _exported(folder)
    code = code_version()
    record = RunRecord(
        run_name=f"{fitted.variant} {fitted.table.version}",
        variant=fitted.variant,
        training_key=fitted.training_key,
        params=_flat(described["settings"]) | {f"budget.{name}": value for name, value in described["budget"].items()},
        metrics=evaluation.scores | described["validation"],
        curves=described["curves"],
        tags={
            "table_version": fitted.table.version,
            "simulated": str(fitted.table.simulated).lower(),
            "source": manifest["source"],
            "flow_run_id": flow_run_id,
            "code": code,
        },
        manifest={
            "table": manifest,
            "training": described,
            "variant": fitted.variant,
            "training_key": fitted.training_key,
            "scores": evaluation.scores,
            "flow_run_id": flow_run_id,
            "code": code,
            "lock": lock_digest(),
            "libraries": library_versions(),
        },
        files={"examples.npz": _npz(inputs=inputs, outputs=outputs)},
        input_example=inputs,
        output_example=outputs[:, None],
        datasets=[
            DatasetRecord(
                name=f"{fitted.table.dataset}-{split}",
                digest=manifest["files"][f"{split}.parquet"]["sha256"],
                uri=f"{table_folder}/{split}.parquet",
                context=split,
                rows=rows,
            )
            for split, rows in fitted.table.rows.items()
        ],
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
    )
    version = registry.register(model_name(fitted.table), model=exported, record=record)
    remove_folder(folder)
    return model_ref(version, trained=True)


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on."""
    names = ("tensorflow", "keras", "numpy", "pandas", "pyarrow", "great-expectations", "mlflow", "prefect")
    return {name: importlib.metadata.version(name) for name in names}


def code_version() -> str:
    """Return the commit of the code, `-dirty` when files differ from it, or `unknown` outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607  (git of the PATH is meant)
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def lock_digest() -> str:
    """Return the SHA-256 of the lock file that the environment is made from, or `unknown`."""
    lock = Path(__file__).resolve().parents[2] / "requirements.lock"
    return sha256_of(lock) if lock.is_file() else "unknown"
