"""Load a stored model in a fresh process and predict: what a user of the registry does, and the promotion's first check."""

from __future__ import annotations

import multiprocessing
import os
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

    The process has made no model before, and shares no memory with this one; a run that trains starts it from one that has
    imported Keras already.

    Args:
        model_folder: Local folder that holds one `.keras` file.
        examples: npz with `inputs` and `outputs` of the exported model.
    """
    files = sorted(model_folder.rglob("*.keras"))
    if len(files) != 1:
        return False, f"its folder holds {len(files)} .keras files, expected 1"
    with tempfile.TemporaryDirectory() as folder:
        names = ("examples.npz", "outputs.npy", "error.txt")
        examples_file, outputs_file, error_file = (Path(folder, name) for name in names)
        examples_file.write_bytes(examples)
        way = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(way)
        process = context.Process(target=_predict_to, args=(files[0], examples_file, outputs_file, error_file))
        process.start()
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
            return False, f"it did not load and predict within {TIMEOUT_S} s in a fresh process"
        if process.exitcode != 0 or not outputs_file.is_file():
            last = error_file.read_text(encoding="utf-8") if error_file.is_file() else f"it ended with code {process.exitcode}"
            return False, f"it does not load in a fresh process: {last}"
        with np.load(examples_file, allow_pickle=False) as arrays:
            expected = arrays["outputs"]
        predicted = np.load(outputs_file, allow_pickle=False)
    if predicted.shape != expected.shape:
        return False, f"a fresh process predicts shape {predicted.shape}, expected {expected.shape}"
    worst = float(np.max(np.abs(predicted - expected)))
    passed = bool(worst <= TOLERANCE)
    return passed, f"a fresh process predicts {len(expected)} examples within {worst:.1e} of the training's (limit {TOLERANCE:g})"


def _predict_to(model_file: Path, examples_file: Path, outputs_file: Path, error_file: Path) -> None:
    """Predict the inputs of an npz with a model file and write them as npy, or the last line of the error; prints nothing."""
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    # Hide the GPUs: a training may be using them.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        with np.load(examples_file, allow_pickle=False) as arrays:
            inputs = arrays["inputs"]
        np.save(outputs_file, predict_file(model_file, inputs=inputs), allow_pickle=False)
    except Exception as error:  # whatever it is, the model cannot be used
        lines = f"{type(error).__name__}: {error}".strip().splitlines()
        error_file.write_text(lines[-1], encoding="utf-8")
        raise SystemExit(1) from None


def predict_file(model_file: Path, *, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Load a whole model and return its predictions `(examples,)`, or `(examples, classes)`.

    Args:
        model_file: A `.keras` file.
        inputs: Raw readings float32 `(examples, lookback_rows, columns)`, or texts `(examples, 1)`.
    """
    import tensorflow as tf

    from tasks.models.engine.train_step import one_value_a_row
    from tasks.models.serialization import load_model_file

    model = load_model_file(model_file)
    return one_value_a_row(np.asarray(model(tf.constant(inputs), training=False), dtype=np.float32))
