"""Register a finished training, or find the version that an equal training made."""

from __future__ import annotations

import importlib.metadata
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from storage.attempts import require_last
from storage.folders import remove_folder
from storage.io import read_json
from storage.layout import Store
from storage.records import DatasetRecord, ModelVersion, RunRecord
from storage.references import ModelRef, Refit, TableRef
from storage.registry import ATTEMPT_TAG, Registry
from tasks.config import TrainSettings
from tasks.models import problem_named
from tasks.models.model_code import code_of
from tasks.models.spec import Problem
from tasks.training.fitting import FittedRef
from tasks.training.identity import (
    BASE_TAG,
    code_version,
    library_versions,
    lock_digest,
    model_name,
    problem_asked_by,
    training_key,
)
from tasks.training.model_card import ScoreInterval, model_card, score_interval
from tasks.training.refit import TWIN_TAG
from tasks.training.scoring import EvaluationRef, load_exported, read_predictions
from tasks.training.seen import IDS_FILE
from tasks.training.uncertainty import UNCERTAINTY_FILE, UNCERTAINTY_TAG, uncertainty_file

# Beside MLflow, which is pinned with them: what a loaded model imports, and pandas, which MLflow checks its inputs with.
REQUIREMENTS = ("keras", "tensorflow", "numpy", "pandas")


def find_trained(
    table: TableRef,
    *,
    variant: str,
    settings: TrainSettings,
    registry: Registry,
    store: Store,
    refit: Refit | None = None,
) -> ModelRef | None:
    """Return the version that an equal training made before, if there is one.

    Where the settings leave the threads to the host, a training with any number of them is as good.

    A run that was killed right after it had registered the version has left its checkpoint folder, which is removed.
    """
    key = training_key(table, variant=variant, settings=settings, refit=refit)
    name = model_name(table, problem=problem_asked_by(table, settings=settings))
    version = registry.find(name, training_key=key)
    if version is None and settings.threads is None:
        version = registry.find(name, training_key=key, tag=BASE_TAG)
    if version is None:
        return None
    remove_folder(store.checkpoint_folder(table.version, version.tags["training_key"]))
    return model_ref(version, trained=False)


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
    """Register a finished training with all that it came from, once, and remove its checkpoint folder.

    What an earlier attempt has left half registered is deleted, so an attempt that was asleep cannot complete it any more. An
    attempt that was replaced makes no version: `Registry.register` asks before it makes one and before it completes it.

    Raises:
        ReplacedError: Another run has taken the training over.
    """
    folder = store.checkpoint_folder(fitted.table.version, fitted.training_key)
    require_last(fitted.attempt, folder=folder)
    training = read_json(folder / "fitted.json")
    problem = problem_named(fitted.table.dataset).with_task(training["task"])
    table_folder = store.table_folder(fitted.table.dataset, fitted.table.version)
    manifest = read_json(table_folder / "manifest.json")
    with np.load(
        io.BytesIO(store.evaluation(fitted.table.version, fitted.training_key).with_suffix(".npz").read_bytes())
    ) as saved:
        inputs, outputs = saved["inputs"], saved["outputs"]
    files = {"examples.npz": _npz(inputs=inputs, outputs=outputs)}
    if (folder / IDS_FILE).is_file():
        files[IDS_FILE] = (folder / IDS_FILE).read_bytes()
    name = model_name(fitted.table, problem=problem)
    existing = registry.find(name, training_key=fitted.training_key)
    if existing:  # the attempt before was cut off after it had completed the version
        remove_folder(folder)
        return model_ref(existing, trained=True)
    registry.delete_unfinished(name, training_key=fitted.training_key, before_attempt=fitted.attempt.number)
    uncertainty = _uncertainty(fitted, name=name, registry=registry, store=store)
    if uncertainty:
        files[UNCERTAINTY_FILE] = uncertainty
    exported = load_exported(folder)
    code = code_version()
    scored = _scored(fitted, evaluation=evaluation, problem=problem, name=name, registry=registry, store=store)
    summary = training.get("summary") or problem.variants[fitted.variant].summary
    record = RunRecord(
        run_name=f"{fitted.variant} {fitted.table.version}" + (" refit" if fitted.refit else ""),
        variant=fitted.variant,
        training_key=fitted.training_key,
        params=_flat(training["settings"])
        # A network that was trained outside of the pipeline does not tell of these.
        | {name: training[name] for name in ("batch_size", "learning_rate") if name in training}
        | {f"budget.{name}": value for name, value in training["budget"].items()},
        metrics=evaluation.scores | training["validation"],
        curves=training["curves"],
        tags={
            "table_version": fitted.table.version,
            "simulated": str(fitted.table.simulated).lower(),
            "source": manifest["source"],
            "flow_run_id": flow_run_id,
            ATTEMPT_TAG: str(fitted.attempt.number),
            BASE_TAG: fitted.training_base,
            "code": code,
            "task": json.dumps(training["task"], sort_keys=True),
        }
        | ({TWIN_TAG: str(fitted.refit.twin)} if fitted.refit else {})
        | ({UNCERTAINTY_TAG: json.loads(uncertainty)["kind"]} if uncertainty else {}),
        manifest={
            "table": manifest,
            "training": training,
            "variant": fitted.variant,
            "summary": summary,
            "training_key": fitted.training_key,
            "scores": evaluation.scores,
            "score_interval": asdict(scored.interval) if scored.interval and not fitted.refit else None,
            "flow_run_id": flow_run_id,
            "code": code,
            "lock": lock_digest(),
            "libraries": library_versions(),
        },
        files=files,
        input_example=inputs,
        output_example=outputs[:, None] if outputs.ndim == 1 else outputs,
        datasets=[
            DatasetRecord(
                name=f"{fitted.table.dataset}-{split}",
                digest=manifest["files"][f"{split}.parquet"]["sha256"],
                uri=f"{table_folder.relative_to(store.root)}/{split}.parquet",
                context=split,
                rows=rows,
            )
            for split, rows in fitted.table.rows.items()
        ],
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        code=code_of(exported),
        description=model_card(
            variant=fitted.variant,
            summary=summary,
            table=manifest,
            training=training,
            scores=scored.scores,
            interval=scored.interval,
            scoring=problem.scoring,
            twin=fitted.refit.twin if fitted.refit else None,
        ),
    )
    version = registry.register(
        name, model=exported, record=record, require_owner=lambda: require_last(fitted.attempt, folder=folder)
    )
    remove_folder(folder)
    return model_ref(version, trained=True)


@dataclass(frozen=True)
class _Scored:
    """The scores that stand for a version on its model card, and the interval of the primary one."""

    scores: Mapping[str, float]
    interval: ScoreInterval | None


def _scored(
    fitted: FittedRef, *, evaluation: EvaluationRef, problem: Problem, name: str, registry: Registry, store: Store
) -> _Scored:
    """Return the scores of a version, or for a refit those that are recorded of its twin."""
    if fitted.refit:
        twin = registry.read_json(registry.version(name, fitted.refit.twin).run_id, "manifest.json")
        interval = twin.get("score_interval")
        return _Scored(twin["scores"], ScoreInterval(**interval) if interval else None)
    predictions = read_predictions(evaluation, table=fitted.table, store=store)
    losses = problem.scoring.row_losses(predictions["prediction"], truth=predictions["truth"])
    interval = score_interval(losses, scoring=problem.scoring)
    score = evaluation.scores[problem.scoring.primary.key]
    # A data set's own primary score may be something else than the mean loss, and then has no interval here.
    return _Scored(evaluation.scores, interval if interval.low <= score <= interval.high else None)


def _uncertainty(fitted: FittedRef, *, name: str, registry: Registry, store: Store) -> bytes | None:
    """Return the content of `uncertainty.json`, that of the twin for a refit; None if the version has none."""
    if fitted.refit:
        twin = registry.version(name, fitted.refit.twin)
        return registry.read_file(twin.run_id, UNCERTAINTY_FILE) if UNCERTAINTY_TAG in twin.tags else None
    path = uncertainty_file(store.evaluation(fitted.table.version, fitted.training_key))
    return path.read_bytes() if path.is_file() else None


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were set, those of a group under `group.name`."""
    groups = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    flat = {name: value for name, value in settings.items() if value is not None and name not in groups}
    return flat | {f"{group}.{name}": value for group, values in groups.items() for name, value in _flat(values).items()}
