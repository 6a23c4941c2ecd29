"""Score a model on the test split of a table."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.io import read_json, write_atomically, write_json
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import Reference, TableRef
from storage.registry import Registry
from storage.tables import read_splits, read_table, write_table
from tasks.models import problem_named
from tasks.models.serialization import register_layers
from tasks.models.spec import Learner, Problem
from tasks.training.fitting import FittedRef

EXAMPLES = 16


class EvaluationRef(Reference):
    """Predictions of one model on one table's test split, and their scores."""

    training_key: str
    uri: str
    scores: dict[str, float]


def evaluate_fitted(fitted: FittedRef, *, store: Store) -> EvaluationRef:
    """Score the exported model of a training on the test split of its own table."""
    folder = store.checkpoint_folder(fitted.table.version, fitted.training_key)
    return _evaluate(load_exported(folder), table=fitted.table, training_key=fitted.training_key, store=store)


def load_exported(folder: Any) -> Any:
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
    from tasks.models.device import prepare_device

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
    problem = problem_named(table.dataset)
    splits, manifest = read_splits(table, store=store)
    learner = problem.restore(splits, manifest["normalisation"], exported)
    scores = _scores(problem, learner=learner, path=store.evaluation(table.version, training_key))
    inputs, outputs = problem.examples(learner, EXAMPLES)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, outputs=outputs)
    write_atomically(store.evaluation(table.version, training_key).with_suffix(".npz"), buffer.getvalue())
    write_json(store.evaluation(table.version, training_key).with_suffix(".json"), scores)  # last, as above
    return EvaluationRef(training_key=training_key, uri=str(store.evaluation(table.version, training_key)), scores=scores)


def _scores(problem: Problem, *, learner: Learner, path: Any) -> dict[str, float]:
    seen = problem.scored_split(learner)
    write_table(pa.table({"prediction": seen.prediction, "truth": seen.truth, "naive": seen.naive}), path)
    return problem.scoring.scores(seen.prediction, truth=seen.truth, naive=seen.naive, scale=seen.scale)


def read_predictions(evaluation: EvaluationRef, *, table: TableRef, store: Store) -> pa.Table:
    """Return `prediction`, `truth` and `naive` of every test example, in the order of the split."""
    return read_table(store.evaluation(table.version, evaluation.training_key))
