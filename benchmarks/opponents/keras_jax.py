"""Keras on JAX, which compiles the whole step by default; batches are gathered with numpy in one go.

python keras_jax.py FOLDER THREADS turns DATASET VARIANT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before JAX is imported: it sizes its pools then. The launcher knows no other number than 1 and JAX's own, which is 0.
os.environ.update({"KERAS_BACKEND": "jax"})
os.environ.update({"NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if sys.argv[2] == "1" else {})
import jax
import keras
import numpy as np
from turns import answer_requests, step_clock

LOOKBACK, STEP, DELAY = 1440, 6, 144
TEMPERATURE = 1
BATCH_SIZE = 128


def jena_batches(data: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield random windows and their targets for ever."""
    rng = np.random.default_rng(0)
    offsets = np.arange(-LOOKBACK, 0, STEP)
    while True:
        chosen = rng.choice(rows, size=BATCH_SIZE)
        yield data[chosen[:, None] + offsets], data[chosen + DELAY, TEMPERATURE]


def network(dataset: str, variant: str, *, shape: tuple[int, ...]) -> keras.Model:
    """Return the network, compiled by default."""
    layers = keras.layers
    if dataset == "jena":
        dropout = {"gru_baseline": 0.0, "gru_dropout": 0.2}[variant]
        body = [layers.GRU(32, dropout=dropout, recurrent_dropout=dropout), layers.Dense(1)]
    else:
        recurrent = {"gru_baseline": layers.GRU, "lstm": layers.LSTM, "simple_rnn": layers.SimpleRNN}[variant]
        body = [layers.Embedding(10_000, 32), recurrent(32), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input(shape), *body])
    loss = "mae" if dataset == "jena" else "binary_crossentropy"
    model.compile(optimizer="rmsprop", loss=loss, metrics=[] if dataset == "jena" else ["acc"])
    return model


def main() -> None:
    """Train a few steps whenever asked."""
    folder, dataset, variant = Path(sys.argv[1], sys.argv[4]), *sys.argv[4:6]
    keras.utils.set_random_seed(0)
    probe_inputs, probe_targets = np.load(folder / "probe_inputs.npy"), np.load(folder / "probe_targets.npy")
    model = network(dataset, variant, shape=probe_inputs.shape[1:])
    if dataset == "jena":
        source = jena_batches(np.load(folder / "table.npy"), np.load(folder / "train_rows.npy"))
    else:
        reviews, labels = np.load(folder / "train_reviews.npy").astype(np.int32), np.load(folder / "train_labels.npy")
        rng = np.random.default_rng(0)
    with np.load(folder / f"weights-{variant}.npz") as weights:
        model.set_weights([weights[name] for name in weights.files])

    def train(steps: int) -> dict[str, Any]:
        clock = step_clock(keras)
        if dataset == "jena":
            model.fit(source, steps_per_epoch=steps + 1, epochs=1, verbose=0, callbacks=[clock])
        else:
            chosen = rng.permutation(len(reviews))[: BATCH_SIZE * (steps + 1)]
            model.fit(reviews[chosen], labels[chosen], batch_size=BATCH_SIZE, epochs=1, verbose=0, callbacks=[clock])
        return {"seconds": clock.seconds, "steps": clock.steps, "loss": clock.loss}

    def probe() -> dict[str, Any]:
        predicted = np.asarray(model(probe_inputs, training=False))[:, 0]
        return {"predicted": predicted.tolist(), "targets": probe_targets.tolist()}

    def describe() -> dict[str, Any]:
        return {"library": f"keras {keras.__version__}, jax {jax.__version__}", "parameters": model.count_params()}

    answer_requests({"describe": describe, "probe": probe, "train": train})


if __name__ == "__main__":
    main()
