"""The code that a model carries: whole, no more than it needs, and used by MLflow alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import RegistryError, SettingError
from storage.layout import Store
from storage.records import ModelVersion, RunRecord
from storage.registry import Registry
from tasks.models import model_code
from tasks.models.model_code import code_of
from tasks.models.networks.review_encoder import encoder_class
from tasks.models.networks.tfidf import empty_bag
from tasks.models.serialization import load_model_file, register_layers

WORDS = ("the", "film", "good", "bad")
TEXTS = np.array([["The good film"], ["bad, BAD film nevermet"]])
# Two tokens are no word; rank 1 is token 4. What no index has is left out.
TOKENS = [[1, 4, 6, 5], [1, 7, 7, 5]]


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    """The sum of the tokens of a text."""
    from tasks.datasets.imdb.text import APOSTROPHES, SPACES
    from tasks.models.networks.review_encoder import review_encoder

    text = keras.Input((1,), dtype="string", name="text")
    tokens = review_encoder(WORDS, spaces=SPACES, apostrophes=APOSTROPHES)(text)
    return keras.Model(text, keras.ops.sum(keras.ops.cast(tokens, "float32"), axis=1, keepdims=True), name="sums")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry.open(Store.at(tmp_path_factory.mktemp("registry")))


@pytest.fixture
def version(registry: Registry, model: Any) -> ModelVersion:
    record = RunRecord(
        run_name="sums",
        variant="sums",
        training_key="k",
        params={},
        metrics={},
        curves={},
        tags={},
        manifest={},
        input_example=TEXTS,
        output_example=np.zeros((2, 1), dtype=np.float32),
        pip_requirements=("keras==3.15.1",),
        code=code_of(model),
    )
    return registry.register("sums", model=model, record=record)


@pytest.fixture
def imports() -> Iterator[None]:
    """Take back what MLflow adds to the path of imports, and what is imported from there."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("retrain_model_"):
            del sys.modules[name]


def test_a_model_of_stock_layers_carries_no_code(keras: Any) -> None:
    assert code_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])) is None


def test_a_model_carries_its_own_layers_a_loader_and_no_more(keras: Any, model: Any) -> None:
    code = code_of(model)
    assert code is not None
    package = code.loader_module.partition(".")[0]
    assert package.startswith("retrain_model_")
    assert code.loader_module == f"{package}.tasks.models.mlflow_loader"
    assert [name.removeprefix(f"{package}/tasks/") for name, source in code.files.items() if source] == [
        "datasets/tokens.py",
        "models/mlflow_loader.py",
        "models/networks/review_encoder.py",
        "models/serialization.py",
    ]
    for name, source in code.files.items():
        assert f"{name.rpartition('/')[0]}/__init__.py" in code.files
        names = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
        assert not {each for each in names if str(each).startswith(("tasks", "storage", "flows"))}
    bag = code_of(empty_bag())
    assert bag is not None
    assert any(name.endswith("networks/tfidf.py") for name in bag.files)
    assert not any(name.endswith("review_encoder.py") for name in bag.files)
    assert bag.loader_module != code.loader_module  # other code, another package


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import tasks.metrics\n", "says `import tasks.metrics`: write `from"),
        ("from tasks.datasets import DATASETS\n", "imports DATASETS from the package tasks.datasets: import it from its module"),
    ],
)
def test_code_that_cannot_be_copied_is_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    for name in ("tasks/models/mlflow_loader.py", "tasks/models/networks/review_encoder.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    (tmp_path / "tasks" / "datasets").mkdir()
    monkeypatch.setattr(model_code, "_ROOT", tmp_path)
    with pytest.raises(SettingError, match=message):
        code_of(model)


def test_mlflow_loads_the_model_by_the_code_beside_it(
    keras: Any, registry: Registry, version: ModelVersion, model: Any, imports: None
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    loaded = mlflow.pyfunc.load_model(str(registry.model_folder(version)))
    code = code_of(model)
    assert code is not None
    assert type(loaded._model_impl).__module__ == code.loader_module
    for inputs in (TEXTS, pd.DataFrame({"text": TEXTS[:, 0]})):
        predicted = loaded.predict(inputs)
        assert predicted.dtype == np.float32
        assert predicted.tolist() == [[sum(tokens)] for tokens in TOKENS]
    # The copy has registered its class in place of the project's; a file is loaded with the class that is asked for.
    file = registry.model_folder(version) / "data" / "model.keras"
    assert type(load_model_file(file).get_layer("encode")) is encoder_class()


def test_the_project_loads_it_without_that_code(keras: Any, registry: Registry, version: ModelVersion) -> None:
    folder = registry.model_folder(version)
    for file in (folder / "code").rglob("*.py"):
        file.write_text("raise RuntimeError('imported')")
    register_layers()
    path, modules = list(sys.path), set(sys.modules)
    loaded = registry.load_model(version)
    assert loaded.get_layer("encode").words == WORDS
    assert sys.path == path
    assert not [name for name in set(sys.modules) - modules if name.startswith("retrain_model_")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("MLmodel", "  tensorflow:\n", "  tensorflow:\n    keras_module: evil\n"), r"MLmodel: \{'keras_module': 'evil'\}"),
        (("MLmodel", "    code: null\n", "    code: code\n"), r"MLmodel: \{'code': 'code'\}"),
        (("data/keras_module.txt", "tensorflow.keras", "evil"), r"keras_module\.txt: evil"),
    ],
    ids=["module", "code", "file"],
)
def test_a_model_that_would_bring_its_code_to_the_project_is_refused(
    keras: Any, registry: Registry, version: ModelVersion, change: tuple[str, str, str], message: str
) -> None:
    file, old, new = change
    path = registry.model_folder(version) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RegistryError, match=rf"sums@\d+ would import code of its own \({message}"):
        registry.load_model(version)
