"""Keras with its own data sets: `timeseries_dataset_from_array` for Jena, `tf.data` from padded arrays for IMDB, default compile.

python keras_datasets.py FOLDER THREADS turns DATASET VARIANT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from turns import answer_requests, step_clock
from tutorial import BATCH_SIZE, DELAY, LOOKBACK, STEP, TEMPERATURE, imdb_model, jena_model, load


def jena_batches(data: np.ndarray, *, rows: int) -> tf.data.Dataset:
    """Return shuffled windows of the first `rows` rows, which are those of the training split, for ever.

    A window that begins at `i` ends with `i + 1434`; its target is the temperature at `i + 1440 + 144`.
    """
    train = data[:rows]
    return keras.utils.timeseries_dataset_from_array(
        train,
        targets=train[LOOKBACK + DELAY :, TEMPERATURE],
        sequence_length=LOOKBACK // STEP,
        sampling_rate=STEP,
        batch_size=BATCH_SIZE,
        shuffle=True,
    ).repeat()


def imdb_batches(reviews: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    """Return shuffled batches of padded reviews, for ever."""
    whole = tf.data.Dataset.from_tensor_slices((reviews, labels))
    return whole.shuffle(len(reviews)).batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE).repeat()


def main() -> None:
    """Train a few steps whenever asked."""
    folder, threads, dataset, variant = Path(sys.argv[1], sys.argv[4]), int(sys.argv[2]), *sys.argv[4:6]
    keras.utils.set_random_seed(0)
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if dataset == "jena":
        data, train_rows, probe_inputs, probe_targets = load(folder, "table", "train_rows", "probe_inputs", "probe_targets")
        model = jena_model(variant, features=data.shape[-1])
        batches = jena_batches(data, rows=int(train_rows.max()) + DELAY + 1)
    else:
        reviews, labels, probe_inputs, probe_targets = load(
            folder, "train_reviews", "train_labels", "probe_inputs", "probe_targets"
        )
        model = imdb_model(variant)
        batches = imdb_batches(reviews.astype(np.int32), labels)
    with np.load(folder / f"weights-{variant}.npz") as weights:
        model.set_weights([weights[name] for name in weights.files])

    def train(steps: int) -> dict[str, Any]:
        clock = step_clock(keras)
        model.fit(batches, steps_per_epoch=steps + 1, epochs=1, verbose=0, callbacks=[clock])
        return {"seconds": clock.seconds, "steps": clock.steps, "loss": clock.loss}

    def probe() -> dict[str, Any]:
        predicted = np.asarray(model(probe_inputs, training=False))[:, 0]
        return {"predicted": predicted.tolist(), "targets": probe_targets.tolist()}

    def describe() -> dict[str, Any]:
        return {"library": f"keras {keras.__version__}, tensorflow {tf.__version__}", "parameters": model.count_params()}

    answer_requests({"describe": describe, "probe": probe, "train": train})


if __name__ == "__main__":
    main()
