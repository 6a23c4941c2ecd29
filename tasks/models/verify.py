"""Load a stored model in a fresh process and predict: what a user of the registry does, and the promotion's first check."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# A whole model repeats the trained one's arithmetic in another order of operations, in float32.
TOLERANCE = 1e-3
TIMEOUT_S = 300


def check_in_fresh_process(model_folder: Path, *, examples: bytes) -> tuple[bool, str]:
    """Return whether a model loads in a new process and predicts what it did when it was trained, and the detail.

    Args:
        model_folder: Local folder that holds one `.keras` file.
        examples: npz with `inputs` and `outputs` of the exported model.
    """
    files = sorted(model_folder.rglob("*.keras"))
    if len(files) != 1:
        return False, f"its folder holds {len(files)} .keras files, expected 1"
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "examples.npz"), Path(folder, "outputs.npy")
        given.write_bytes(examples)
        command = [sys.executable, "-m", "tasks.models.verify", str(files[0]), str(given), str(made)]
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False, f"it did not load and predict within {TIMEOUT_S} s in a fresh process"
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return False, f"it does not load in a fresh process: {last}"
        with np.load(given, allow_pickle=False) as arrays:
            expected = arrays["outputs"]
        predicted = np.load(made, allow_pickle=False)
    if predicted.shape != expected.shape:
        return False, f"a fresh process predicts shape {predicted.shape}, expected {expected.shape}"
    worst = float(np.max(np.abs(predicted - expected)))
    passed = bool(worst <= TOLERANCE)
    return passed, f"a fresh process predicts {len(expected)} examples within {worst:.1e} of the training's (limit {TOLERANCE:g})"


def predict_file(model_file: Path, *, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Load a whole model and return its predictions `(examples,)`.

    Args:
        model_file: A `.keras` file.
        inputs: Raw readings float32 `(examples, 1440, 14)`, or texts `(examples, 1)`.
    """
    import keras
    import tensorflow as tf

    from tasks.models.layers import register_layers

    register_layers()
    model = keras.saving.load_model(model_file, compile=False, safe_mode=True)
    return np.asarray(model(tf.constant(inputs), training=False), dtype=np.float32)[:, 0]


def main() -> None:
    """Predict the inputs of an npz with a model file and write them as npy."""
    model_file, given, made = (Path(argument) for argument in sys.argv[1:4])
    with np.load(given, allow_pickle=False) as arrays:
        inputs = arrays["inputs"]
    np.save(made, predict_file(model_file, inputs=inputs), allow_pickle=False)


if __name__ == "__main__":
    main()
