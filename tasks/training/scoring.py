"""Score a model on the test split of a table."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from upath import UPath

from storage.checksums import CHECKSUMS, fault_of
from storage.errors import DataError
from storage.io import read_json, sha256_of, write_atomically, write_json, write_record
from storage.layout import Store
from storage.records import ModelVersion
from storage.references import Reference, TableRef
from storage.registry import Registry
from storage.tables import read_splits, read_table, write_table
from tasks.models import problem_named
from tasks.models.serialization import load_model_file, register_layers
from tasks.models.spec import Learner, Problem, ScoredSplit
from tasks.scoring import Outcomes, Uncertainty
from tasks.training.fitting import FittedRef
from tasks.training.identity import problem_answered_by
from tasks.training.uncertainty import uncertainty_file, uncertainty_json

# Of the exported model, kept with each version: a window of 1,440 steps and 14 columns has 80 kB.
EXAMPLES = 4

Predictions = dict[str, npt.NDArray[Any]]


class EvaluationRef(Reference):
    """Predictions of one model on one table's test split, and their scores."""

    training_key: str
    uri: str
    scores: dict[str, float]


def evaluate_fitted(fitted: FittedRef, *, store: Store) -> EvaluationRef:
    """Score the exported model of a training on the test split of its own table.

    A refit has seen every row of the table, so it has no scores: its examples are stored, by which the load check knows it.
    """
    folder = store.checkpoint_folder(fitted.table.version, fitted.training_key)
    problem = problem_named(fitted.table.dataset).with_task(read_json(folder / "fitted.json")["task"])
    exported, key = load_exported(folder), fitted.training_key
    if fitted.refit is None:
        return _evaluate(exported, problem=problem, table=fitted.table, training_key=key, store=store, is_own_table=True)
    splits, manifest = read_splits(fitted.table, store=store)
    path = store.evaluation(fitted.table.version, key).with_suffix(".npz")
    _save_examples(problem, learner=problem.restore(splits, manifest["normalisation"], exported), path=path)
    return EvaluationRef(training_key=key, uri=str(path), scores={})


def load_exported(folder: Any) -> Any:
    """Load the model that a finished training left in its folder, which may be on another host."""
    with tempfile.TemporaryDirectory() as local:
        path = Path(local, "model.keras")
        path.write_bytes((folder / "model.keras").read_bytes())
        return load_model_file(path)


def evaluate_version(version: ModelVersion, *, table: TableRef, registry: Registry, store: Store) -> EvaluationRef:
    """Score a registered version on the test split of a table, once for each table."""
    key = version.tags["training_key"]
    existing = _existing_evaluation(table, training_key=key, store=store)
    if existing:
        return existing
    from tasks.models.device import prepare_device

    prepare_device(1, require_gpu=False)
    register_layers()
    problem = problem_answered_by(version, dataset=table.dataset)
    # Of another table it may have been fitted on the validation rows: its errors there are too small to learn from.
    is_own_table = version.tags.get("table_version") == table.version
    model = registry.load_model(version)
    return _evaluate(model, problem=problem, table=table, training_key=key, store=store, is_own_table=is_own_table)


def _existing_evaluation(table: TableRef, *, training_key: str, store: Store) -> EvaluationRef | None:
    scores = store.evaluation(table.version, training_key).with_suffix(".json")
    if not scores.is_file():
        return None
    try:  # evaluations of version 0.1 do not say which examples they are of
        read_table(store.evaluation(table.version, training_key)).select(["row"])
        values = read_json(scores)
        files = {scores.with_name(name): digest for name, digest in values.get(CHECKSUMS, {}).items()}
        if any(fault_of(path, sha256=digest) for path, digest in files.items()):
            return None
    except (DataError, KeyError, AttributeError):  # a damaged one is made again
        return None
    uri = str(store.evaluation(table.version, training_key))
    # Release 0.1 wrote the scores alone.
    return EvaluationRef(training_key=training_key, uri=uri, scores=values.get("scores", values))


def _evaluate(
    exported: Any, *, problem: Problem, table: TableRef, training_key: str, store: Store, is_own_table: bool
) -> EvaluationRef:
    splits, manifest = read_splits(table, store=store)
    learner = problem.restore(splits, manifest["normalisation"], exported)
    path = store.evaluation(table.version, training_key)
    scored = problem.scored_split(learner)
    scores = problem.scoring.scores(scored.prediction, truth=scored.truth, naive=scored.naive, scale=scored.scale)
    columns: Predictions = {"prediction": scored.prediction, "truth": scored.truth, "naive": scored.naive, "row": scored.row}
    uncertainty = _uncertainty(problem, learner=learner, scored=scored, splits=splits) if is_own_table else None
    if uncertainty:
        columns |= uncertainty.columns
        scores |= uncertainty.scores
        write_json(uncertainty_file(path), uncertainty_json(uncertainty.state))
    write_table(pa.table({name: _column(values) for name, values in columns.items()}), path, checksums=True)
    _save_examples(problem, learner=learner, path=path.with_suffix(".npz"))
    written = [path, path.with_suffix(".npz"), *([uncertainty_file(path)] if uncertainty else [])]
    checksums = {each.name: sha256_of(each) for each in written}
    write_record(path.with_suffix(".json"), {"scores": scores, CHECKSUMS: checksums})  # last: it completes the evaluation
    return EvaluationRef(training_key=training_key, uri=str(path), scores=scores)


def _uncertainty(
    problem: Problem, *, learner: Learner, scored: ScoredSplit, splits: Mapping[str, pa.Table]
) -> Uncertainty | None:
    """Return intervals or calibrated probabilities that are learnt on the validation split; None if the problem has neither."""
    if problem.scored_validation is None:
        return None
    validation = _outcomes(problem.scored_validation(learner), table=splits["val"], problem=problem)
    return problem.scoring.uncertainty(validation, test=_outcomes(scored, table=splits["test"], problem=problem))


def _outcomes(scored: ScoredSplit, *, table: pa.Table, problem: Problem) -> Outcomes:
    """Return the predictions of a split, with the stamps of its targets where rows are a series."""
    stamps = problem.row_ids(table)[scored.row].astype("datetime64[s]") if problem.is_series else None
    return Outcomes(prediction=scored.prediction, truth=scored.truth, target_time=stamps)


def _save_examples(problem: Problem, *, learner: Learner, path: UPath) -> None:
    """Write inputs of the exported model with its predictions, npz."""
    inputs, outputs = problem.examples(learner, EXAMPLES)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, outputs=outputs)
    write_atomically(path, buffer.getvalue())


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Return values as a column, of lists where an example has several."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def scores_on(
    rows: npt.NDArray[np.bool_], *, predictions: Predictions, scores: Mapping[str, float], problem: Problem
) -> dict[str, float]:
    """Return the scores of an evaluation on some of its examples.

    Args:
        rows: Which examples, bool `(examples,)`.
        predictions: All predictions of the evaluation.
        scores: Its scores on all of them.
        problem: Its problem.
    """
    chosen = {name: predictions[name][rows] for name in ("prediction", "truth", "naive")}
    scale = scale_of(scores, problem=problem)
    return problem.scoring.scores(chosen["prediction"], truth=chosen["truth"], naive=chosen["naive"], scale=scale)


def scale_of(scores: Mapping[str, float], *, problem: Problem) -> float:
    """Return the scale of a scored split: the ratio of an error in its unit to the normalised one, or 1 without such scores."""
    primary, normalised = problem.scoring.primary.key, problem.scoring.validation.key
    return scores[primary] / scores[normalised] if scores.get(normalised) else 1.0


def read_predictions(evaluation: EvaluationRef, *, table: TableRef, store: Store) -> Predictions:
    """Return `prediction`, `truth`, `naive` and `row` of every test example, in the order of the split.

    They are those of a `ScoredSplit`: predictions of several classes are `(examples, classes)`. Evaluations that have them also
    hold the columns of `Uncertainty`.
    """
    stored = read_table(store.evaluation(table.version, evaluation.training_key))
    arrays = {name: stored[name].to_numpy() for name in stored.column_names if name != "prediction"}
    prediction = stored["prediction"].combine_chunks()
    if pa.types.is_fixed_size_list(prediction.type):
        arrays["prediction"] = prediction.flatten().to_numpy().reshape(len(prediction), -1)
    else:
        arrays["prediction"] = prediction.to_numpy(zero_copy_only=False)
    return arrays
