"""The load check in a fresh process: what it lets pass, and everything it must not."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.models.load_check import check_in_fresh_process, predict_file

INPUTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
# Each output is the sum of its inputs: -1 + 2i / 11, three at a time.
OUTPUTS = INPUTS.sum(axis=1)


def npz(*, inputs: np.ndarray = INPUTS, outputs: np.ndarray = OUTPUTS) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, outputs=outputs)
    return buffer.getvalue()


@pytest.fixture
def folder(keras: Any, preloaded_processes: None, tmp_path: Path) -> Callable[..., Path]:
    """Write a model that adds its inputs, times a weight, as MLflow lays it out."""

    def write(weight: float = 1.0) -> Path:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.full((3, 1), weight, dtype=np.float32)])
        (tmp_path / "model" / "data").mkdir(parents=True)
        model.save(tmp_path / "model" / "data" / "model.keras")
        return tmp_path / "model"

    return write


def test_a_model_that_predicts_what_it_did_passes(folder: Callable[..., Path]) -> None:
    passed, detail = check_in_fresh_process(folder(), examples=npz())
    assert passed
    assert "a fresh process predicts 4 examples within" in detail


def test_other_predictions_do_not_pass(folder: Callable[..., Path]) -> None:
    # The largest sum is 27/11 = 2.4545; a thousandth more of the weight is 0.0025 more, past the limit of 0.001.
    passed, detail = check_in_fresh_process(folder(weight=1.001), examples=npz())
    assert not passed
    assert "within 2.5e-03 of the training's (limit 0.001)" in detail


def test_nan_does_not_pass(folder: Callable[..., Path]) -> None:
    """A difference that is no number is not small, not even that of two NaN."""
    passed, detail = check_in_fresh_process(folder(weight=np.nan), examples=npz(outputs=np.full_like(OUTPUTS, np.nan)))
    assert passed is False
    assert "nan" in detail


def test_a_truncated_file_does_not_load(folder: Callable[..., Path]) -> None:
    model = folder()
    file = model / "data" / "model.keras"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    passed, detail = check_in_fresh_process(model, examples=npz())
    assert not passed
    assert detail.startswith("it does not load in a fresh process: ")
    assert len(detail) > len("it does not load in a fresh process: no message")


def test_a_folder_without_one_file_is_told(tmp_path: Path) -> None:
    assert check_in_fresh_process(tmp_path, examples=npz()) == (False, "its folder holds 0 .keras files, expected 1")
    for name in ("a.keras", "b.keras"):
        (tmp_path / name).write_bytes(b"")
    assert check_in_fresh_process(tmp_path, examples=npz()) == (False, "its folder holds 2 .keras files, expected 1")


def test_a_file_predicts_in_this_process_too(folder: Callable[..., Path]) -> None:
    predicted = predict_file(folder(weight=2.0) / "data" / "model.keras", inputs=INPUTS)
    assert predicted.shape == (4,)
    np.testing.assert_allclose(predicted, 2 * OUTPUTS, rtol=1e-6)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the description of a network in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def call(module: str, name: str, **arguments: Any) -> Callable[[dict[str, Any]], None]:
    """Put an object of another module in the place of the last layer."""

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1] = {"module": module, "class_name": name, "config": arguments, "registered_name": None}

    return change


@pytest.mark.parametrize(
    "change",
    [
        call("os", "system", command="touch HERE"),
        call("subprocess", "Popen", args=["touch", "HERE"]),
        call("builtins", "exec", source="open('HERE', 'w')"),
        call("keras.utils", "get_file", fname="HERE", origin="file:///etc/hostname", cache_dir="FOLDER"),
    ],
    ids=["os.system", "subprocess", "exec", "a function of Keras"],
)
def test_a_hostile_model_is_refused_and_calls_nothing(
    folder: Callable[..., Path], tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    place = folder()
    mark = tmp_path / "called"

    def planted(config: dict[str, Any]) -> None:
        change(config)
        text = json.dumps(config).replace("HERE", str(mark)).replace("FOLDER", str(tmp_path))
        config.update(json.loads(text))

    rewritten(place / "data" / "model.keras", planted)
    passed, detail = check_in_fresh_process(place, examples=npz())
    assert not passed, detail
    assert not mark.exists()
    assert not (tmp_path / "datasets").exists()


def test_a_layer_with_code_of_its_own_is_refused(keras: Any, folder: Callable[..., Path]) -> None:
    place = folder()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda values: values.sum(axis=1, keepdims=True))])
    model.save(place / "data" / "model.keras")
    passed, detail = check_in_fresh_process(place, examples=npz())
    assert not passed
    assert "Lambda" in detail or "lambda" in detail
