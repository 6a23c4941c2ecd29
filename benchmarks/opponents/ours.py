"""The project's own training, through the functions that its tasks call: `prepare_device`, `build_learner`, `fit`.

python -m benchmarks.opponents.ours TABLE DATA THREADS turns DATASET VARIANT
python -m benchmarks.opponents.ours TABLE DATA THREADS whole DATASET VARIANT EPOCHS STEPS

TABLE is the folder of a published table, DATA the arrays of the other opponents; STEPS 0 is one pass, THREADS 0 every core,
as for a training alone.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.opponents.turns import answer_requests
from storage.tables import read_manifest, read_table
from tasks.models import build_learner, problem_named, variant_named
from tasks.models.device import prepare_device
from tasks.models.spec import Budget
from tasks.models.training_loop import fit


class Unvalidated:
    """A learner without its validation, so that `fit` times steps alone."""

    def __init__(self, learner: Any) -> None:
        self._learner = learner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def validation(self) -> dict[str, float]:
        """Return figures that mean nothing."""
        return {"val_loss": 0.0, "val_accuracy": 0.0}


class Ours:
    """A variant on a published table."""

    def __init__(self, table: Path, *, dataset: str, variant: str, threads: int) -> None:
        started = time.perf_counter()
        self.device = prepare_device(threads, require_gpu=False)
        self.problem, chosen = problem_named(dataset), variant_named(variant, dataset=dataset)
        manifest = read_manifest(table)
        splits = {name.removesuffix(".parquet"): read_table(table / name) for name in manifest["files"]}
        self.learner = build_learner(
            splits,
            normalisation=manifest["normalisation"],
            problem=self.problem,
            variant=chosen,
            device=self.device,
            seed=0,
        )
        self.dataset, self.ready_s = dataset, time.perf_counter() - started
        self._seeds = itertools.count()

    def describe(self) -> dict[str, Any]:
        """Return what was built."""
        import keras

        parameters = sum(int(np.prod(weight.shape)) for weight in self.learner.network.trainable_weights)
        backend = sys.modules[self.device.backend]
        return {
            "library": f"retrain, keras {keras.__version__}, {self.device.backend} {backend.__version__}",
            "parameters": parameters,
            "epoch_steps": self.learner.batches(seed=0, epoch=0, steps=None)[0],
            "device": asdict(self.device),
            "kernel": asdict(self.learner.execution),
            "ready_s": self.ready_s,
            "tensorflow_imported": "tensorflow" in sys.modules,
        }

    def start_from(self, weights: Path) -> None:
        """Take the weights that every opponent begins with."""
        with np.load(weights) as saved:
            self.learner.network.set_weights([saved[name] for name in saved.files])

    def train(self, steps: int) -> dict[str, Any]:
        """Train one epoch of so many steps, 0 for one pass, without validation."""
        losses: list[float] = []
        started = time.perf_counter()
        budget = Budget(epochs=1, steps_per_epoch=steps or None, patience_epochs=1)
        seed = next(self._seeds)
        fitted = fit(Unvalidated(self.learner), budget=budget, seed=seed, is_better=lambda _new, _old: True)
        seconds = time.perf_counter() - started
        losses += fitted.curves["loss"]
        taken = self.learner.batches(seed=seed, epoch=0, steps=steps or None)[0]
        return {"seconds": seconds, "steps": taken, "loss": losses[0]}

    def probe(self, data: Path) -> dict[str, Any]:
        """Return predictions of the plain network on the examples that every opponent predicts."""
        inputs, targets = np.load(data / "probe_inputs.npy"), np.load(data / "probe_targets.npy")
        predicted = np.asarray(self.learner.network(inputs, training=False))[:, 0]
        return {"predicted": predicted.tolist(), "targets": targets.tolist()}

    def equality(self, batches: int) -> dict[str, Any]:
        """Compare the loss of each batch as it is trained with that of the plain network on the same reviews, padded to 500."""
        import keras

        full = self.learner.network.input_shape[1]
        tokens = keras.Input((full,), dtype="int32")
        plain = keras.Model(tokens, self.learner.network(tokens))
        plain.compile(jit_compile=False)
        differences, compared, examples = [], 0, 0
        for batch in itertools.islice(self.learner.batches(seed=0, epoch=0, steps=None)[1], batches):
            padded = np.pad(batch.inputs, ((0, 0), (full - batch.inputs.shape[1], 0)))
            ours, theirs = (
                _cross_entropy(model, inputs, batch.targets) for model, inputs in ((batch.model, batch.inputs), (plain, padded))
            )
            differences.append(abs(ours - theirs))
            compared, examples = compared + 1, examples + len(batch.inputs)
        return {"largest_difference": max(differences), "batches": compared, "examples": examples}

    def whole(self, *, epochs: int, steps: int) -> dict[str, Any]:
        """Train and validate as a run does, with a checkpoint after each epoch and nothing else."""
        budget = Budget(epochs=epochs, steps_per_epoch=steps or None, patience_epochs=epochs)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder, "checkpoint.npz")
            started = time.perf_counter()
            fitted = fit(
                self.learner,
                budget=budget,
                seed=0,
                is_better=self.problem.is_better,
                save_checkpoint=lambda data: checkpoint.write_bytes(data) and None,
            )
            fit_s = time.perf_counter() - started
        return {"ready_s": self.ready_s, "fit_s": fit_s, "epochs": fitted.epochs_run, "val_loss": fitted.validation["val_loss"]}


def _cross_entropy(model: Any, inputs: Any, targets: Any) -> float:
    probability = np.asarray(model.predict_on_batch(inputs), dtype=np.float64).clip(1e-7, 1 - 1e-7)
    return float(-np.mean(targets * np.log(probability) + (1 - targets) * np.log1p(-probability)))


def main() -> None:
    """Train as the arguments say."""
    table, data, threads, mode, dataset, variant = sys.argv[1:7]
    ours = Ours(Path(table), dataset=dataset, variant=variant, threads=int(threads) or os.cpu_count() or 1)
    if mode == "whole":
        sys.stdout.write(json.dumps(ours.whole(epochs=int(sys.argv[7]), steps=int(sys.argv[8]))) + "\n")
        return
    folder = Path(data, dataset)
    weights = folder / f"weights-{variant}.npz"
    if weights.is_file():  # the variants that are compared with others
        ours.start_from(weights)
    answer_requests(
        {
            "describe": ours.describe,
            "probe": lambda: ours.probe(folder),
            "train": ours.train,
            "equality": ours.equality,
        }
    )


if __name__ == "__main__":
    main()
