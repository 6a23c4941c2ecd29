"""A network that a person trains in plain Keras, as in a notebook: its examples, its scores, and its version in the registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.attempts import begin_attempt
from storage.checksums import sha256_of_bytes
from storage.errors import SettingError
from storage.io import digest_of_json, sha256_of, write_atomically, write_record
from storage.layout import Store
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from storage.tables import read_splits
from tasks.config import TrainSettings
from tasks.ingestion.published import find_table, open_table
from tasks.models import learner_of_network, problem_named
from tasks.models.device import Device
from tasks.models.spec import Floats, Learner, Problem
from tasks.training.fitting import FittedRef, npy
from tasks.training.identity import KEY_DIGITS
from tasks.training.registering import register_fitted
from tasks.training.scoring import evaluate_fitted
from tasks.training.seen import IDS_FILE, SPLITS_OF_A_TRAINING, describe_seen

if TYPE_CHECKING:
    import keras

_NAME = re.compile(r"[a-z][a-z0-9_]*")
NOTE = "trained in plain Keras, outside of the pipeline"


def examples_of(table: str, split: str, *, store: Store, every: int = 1) -> tuple[npt.NDArray[Any], Floats]:
    """Return what a network reads and what it should say, of the examples of one split.

    Of a series these are windows, float32 `(examples, steps, columns)`, and targets, float32 `(examples, 1)`, both normalised by
    the train rows. Of reviews they are tokens, int32 `(examples, tokens)`, and labels, float32 `(examples, 1)`.

    Args:
        table: Name of a published table, see `tasks.ingestion.published.find_table`.
        split: `train`, `val` or `test`.
        store: Store that holds the table.
        every: Take one example of so many. Windows overlap, so that all of a long series may not fit into the memory.

    Raises:
        SettingError: There is no such table.
        DataError: The data set has no table yet, or a file is damaged.
    """
    splits, manifest = open_table(table, store=store)
    problem = problem_named(manifest["dataset"])
    if problem.arrays is None:
        raise SettingError(f"{problem.dataset} gives no arrays: set `arrays` of its problem")
    return problem.arrays(splits, split, every)


def score_network(network: keras.Model, table: str, *, store: Store) -> dict[str, float]:
    """Return the scores of a network on the test split of a table, as a run of the project computes them.

    What a version has beside its network is learnt when it is registered: its calibration is therefore told there.

    Args:
        network: Reads what `examples_of` gives, and says one value an example.
        table: Name of a published table.
        store: Store that holds the table.

    Raises:
        SettingError: There is no such table, or the network cannot be used on it.
    """
    splits, manifest = open_table(table, store=store)
    problem = problem_named(manifest["dataset"])
    scored = problem.scored_split(
        learner_of_network(network, splits=splits, normalisation=manifest["normalisation"], problem=problem)
    )
    return problem.scoring.scores(scored.prediction, truth=scored.truth, naive=scored.naive, scale=scored.scale)


def register_network(
    network: keras.Model,
    table: str,
    *,
    name: str,
    summary: str,
    curves: Mapping[str, Sequence[float]],
    store: Store,
    seed: int = 0,
) -> ModelRef:
    """Score a network and register it as a new version of the model of a table, with the alias `candidate`.

    It is taken to have seen the rows of `train`, and to have been chosen by those of `val`. A person promotes it after a load
    check (`retrain promote`), or compares it first (`retrain compare`). An equal network on an equal table is registered once.

    Args:
        network: Reads what `examples_of` gives, and says one value an example.
        table: Name of a published table, which it was trained on.
        name: Variant by which it is listed, such as `my_gru`; none of the project's own.
        summary: What it is, in a few words.
        curves: `history.history` of Keras's `fit`: one value an epoch by metric.
        store: Store that holds table and registry.
        seed: Seed that it was trained with, for the record.

    Raises:
        SettingError: The name cannot be, there is no such table, or the network cannot be used on it.
    """
    found = find_table(table, store=store)
    problem = problem_named(found.dataset)
    if not _NAME.fullmatch(name) or name in problem.variants:
        own = ", ".join(sorted(problem.variants))
        raise SettingError(f"name is {name!r}, expected lower-case letters, digits and _, and none of the project's own: {own}")
    splits, manifest = read_splits(found, store=store)
    learner = learner_of_network(network, splits=splits, normalisation=manifest["normalisation"], problem=problem)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        learner.export().save(path)
        exported = path.read_bytes()
    weights = [sha256_of_bytes(np.ascontiguousarray(weight).tobytes()) for weight in learner.network.get_weights()]
    key = digest_of_json({"own": name, "table": found.version, "weights": weights}, length=KEY_DIGITS)
    registry = Registry.open(store)
    fitted = _finish(
        found,
        name=name,
        key=key,
        exported=exported,
        record=_record(learner, splits=splits, problem=problem, summary=summary, curves=curves, seed=seed),
        ids=describe_seen(splits, names=SPLITS_OF_A_TRAINING, problem=problem)[1],
        store=store,
    )
    evaluation = evaluate_fitted(fitted, store=store)
    model = register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="")
    registry.set_aliases(model.name, {"candidate": model.version})
    return model


def _record(
    learner: Learner,
    *,
    splits: Mapping[str, pa.Table],
    problem: Problem,
    summary: str,
    curves: Mapping[str, Sequence[float]],
    seed: int,
) -> dict[str, Any]:
    """Return what is recorded of a training that this project has not made."""
    import keras

    epochs = max((len(values) for values in curves.values()), default=0)
    return {
        "curves": {metric: [float(value) for value in values] for metric, values in curves.items()},
        "best_epoch": epochs,
        "epochs_run": epochs,
        "validation": learner.validation(),
        "seconds_per_epoch": 0.0,
        "seconds": 0.0,
        "resumed_from": 0,
        "summary": summary,
        "parameters": sum(int(np.prod(weight.shape)) for weight in learner.network.trainable_weights),
        "budget": {"epochs": epochs, "steps_per_epoch": None, "patience_epochs": epochs},
        "settings": TrainSettings(seed=seed).model_dump(mode="json"),
        "task": dict(problem.task),
        "seen": describe_seen(splits, names=SPLITS_OF_A_TRAINING, problem=problem)[0],
        "fitted_rows": splits["train"].num_rows,
        "refit": None,
        "device": asdict(Device(kind="unknown", count=1, backend=keras.backend.backend())),
        "execution": {"notes": [NOTE]},
    }


def _finish(
    table: TableRef, *, name: str, key: str, exported: bytes, record: dict[str, Any], ids: npt.NDArray[np.int64], store: Store
) -> FittedRef:
    """Leave a training in its folder as the pipeline does, so that the same steps score and register it."""
    folder = store.checkpoint_folder(table.version, key)
    attempt = begin_attempt(folder)
    write_atomically(folder / "model.keras", exported)
    if ids.size:
        write_atomically(folder / IDS_FILE, npy(ids))
    digests = {
        "model_sha256": sha256_of_bytes(exported),
        "ids_sha256": sha256_of(folder / IDS_FILE) if ids.size else None,
    }
    write_record(folder / "fitted.json", record | digests)
    return FittedRef(table=table, variant=name, training_key=key, training_base=key, folder=str(folder), attempt=attempt)
