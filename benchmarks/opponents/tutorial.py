"""The tutorial's way as a plain Keras script: batches filled in Python loops, reviews padded to 500, default compile.

python tutorial.py FOLDER THREADS turns DATASET VARIANT
python tutorial.py FOLDER THREADS whole EPOCHS STEPS
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from turns import answer_requests, step_clock

LOOKBACK, STEP, DELAY = 1440, 6, 144
TEMPERATURE = 1
BATCH_SIZE = 128
MAX_FEATURES, MAXLEN = 10_000, 500


def windows(data: np.ndarray, rows: np.ndarray, *, shuffle: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of samples and targets for ever: random ones of these rows, or all of them in order."""
    i = 0
    while True:
        if shuffle:
            chosen = rows[np.random.randint(0, len(rows), size=BATCH_SIZE)]  # noqa: NPY002  (as in the tutorial)
        else:
            if i + BATCH_SIZE >= len(rows):
                i = 0
            chosen = rows[i : i + BATCH_SIZE]
            i += len(chosen)
        samples = np.zeros((len(chosen), LOOKBACK // STEP, data.shape[-1]))
        targets = np.zeros((len(chosen),))
        for j, row in enumerate(chosen):
            indices = range(row - LOOKBACK, row, STEP)
            samples[j] = data[indices]
            targets[j] = data[row + DELAY][TEMPERATURE]
        yield samples, targets


def jena_model(variant: str, *, features: int) -> keras.Model:
    """Return the tutorial's network for the temperature."""
    dropout = {"gru_baseline": 0.0, "gru_dropout": 0.2}[variant]
    recurrent = keras.layers.GRU(32, dropout=dropout, recurrent_dropout=dropout)
    model = keras.Sequential([keras.Input((None, features)), recurrent, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.RMSprop(), loss="mae")
    return model


def imdb_model(variant: str) -> keras.Model:
    """Return the tutorial's network for the reviews."""
    layer = {"gru_baseline": keras.layers.GRU, "lstm": keras.layers.LSTM, "simple_rnn": keras.layers.SimpleRNN}[variant]
    embedding, head = keras.layers.Embedding(MAX_FEATURES, 32), keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((MAXLEN,)), embedding, layer(32), head])
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["acc"])
    return model


def load(folder: Path, *names: str) -> list[np.ndarray]:
    """Return arrays by name."""
    return [np.load(folder / f"{name}.npy") for name in names]


def take_turns(folder: Path, *, dataset: str, variant: str, described: dict[str, Any]) -> None:
    """Train a few steps whenever asked."""
    if dataset == "jena":
        data, rows = load(folder, "table", "train_rows")
        model = jena_model(variant, features=data.shape[-1])
        source = windows(data, rows, shuffle=True)
    else:
        reviews, labels = load(folder, "train_reviews", "train_labels")
        reviews = reviews.astype(np.int32)
        model = imdb_model(variant)
    with np.load(folder / f"weights-{variant}.npz") as weights:
        model.set_weights([weights[name] for name in weights.files])
    probe_inputs, probe_targets = load(folder, "probe_inputs", "probe_targets")

    def train(steps: int) -> dict[str, Any]:
        clock = step_clock(keras)
        if dataset == "jena":
            model.fit(source, steps_per_epoch=steps + 1, epochs=1, verbose=0, callbacks=[clock])
        else:
            chosen = np.random.permutation(len(reviews))[: BATCH_SIZE * (steps + 1)]  # noqa: NPY002
            model.fit(reviews[chosen], labels[chosen], batch_size=BATCH_SIZE, epochs=1, verbose=0, callbacks=[clock])
        return {"seconds": clock.seconds, "steps": clock.steps, "loss": clock.loss}

    def probe() -> dict[str, Any]:
        predicted = np.asarray(model(probe_inputs, training=False))[:, 0]
        return {"predicted": predicted.tolist(), "targets": probe_targets.tolist()}

    answer_requests({"describe": lambda: described | {"parameters": model.count_params()}, "probe": probe, "train": train})


def train_whole(folder: Path, *, epochs: int, steps: int) -> dict[str, float]:
    """Train both Jena variants, one after the other, with the whole validation split after each epoch."""
    data, train_rows, val_rows = load(folder, "table", "train_rows", "val_rows")
    best = {}
    for variant in ("gru_baseline", "gru_dropout"):
        model = jena_model(variant, features=data.shape[-1])
        history = model.fit(
            windows(data, train_rows, shuffle=True),
            steps_per_epoch=steps,
            epochs=epochs,
            validation_data=windows(data, val_rows, shuffle=False),
            validation_steps=len(val_rows) // BATCH_SIZE,
            verbose=0,
        )
        best[variant] = min(history.history["val_loss"])
    return best


def main() -> None:
    """Train as the arguments say."""
    folder, threads, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    keras.utils.set_random_seed(0)
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if mode == "whole":
        best = train_whole(folder / "jena", epochs=int(sys.argv[4]), steps=int(sys.argv[5]))
        sys.stdout.write(json.dumps({"val_loss": best}) + "\n")
        return
    dataset, variant = sys.argv[4:6]
    described = {"library": f"keras {keras.__version__}, tensorflow {tf.__version__}"}
    take_turns(folder / dataset, dataset=dataset, variant=variant, described=described)


if __name__ == "__main__":
    main()
