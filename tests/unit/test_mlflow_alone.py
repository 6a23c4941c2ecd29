"""A registered model is used by MLflow alone, and what is served is what was scored."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow_server import tracking_server
from sample_helpers import Registered, publish, register

from storage.layout import Store
from storage.registry import Registry
from tasks.config import DataSettings
from tasks.models.load_check import TOLERANCE

ROOT = Path(__file__).parents[2]
MIRRORS = [Path(os.environ.get("RETRAIN_MIRROR", "")), ROOT.parent / "shared" / "data" / "mirror"]
RAW_REVIEWS = Path("reviews", "aclImdb_test.parquet")
REVIEWS_A_CALL = 1_000  # numpy's texts all have the length of the longest


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(tmp_path_factory.mktemp("registry home"))


@pytest.fixture(scope="module")
def models(keras: Any, samples: Any, own_store: Store) -> dict[str, Registered]:
    """One network a data set, and the baseline whose layer is the project's own, trained for a step on the samples."""
    registry = Registry.open(own_store)
    return {
        f"{dataset} {variant}": register(
            samples.tables[dataset], store=samples.store, registry=registry, variant=variant, steps=1
        )
        for dataset, variant in (("jena", "gru_baseline"), ("imdb", "gru_baseline"), ("imdb", "tfidf_logistic"))
    }


@pytest.fixture
def imports() -> Iterator[None]:
    """Take back what MLflow adds to the path of imports."""
    path = list(sys.path)
    yield
    sys.path[:] = path


def test_what_is_installed_with_a_model_is_pinned_and_whole(models: dict[str, Registered]) -> None:
    for model in models.values():
        required = [line.partition("==") for line in (model.folder / "requirements.txt").read_text().split()]
        assert sorted(name for name, _, _ in required) == ["keras", "mlflow", "numpy", "pandas", "tensorflow"]
        assert all(version for _, _, version in required)


def test_mlflow_gives_the_predictions_of_the_training(models: dict[str, Registered], imports: None) -> None:
    import mlflow.pyfunc

    for model in models.values():
        loaded = mlflow.pyfunc.load_model(str(model.folder))
        predicted = loaded.predict(model.inputs)
        np.testing.assert_allclose(predicted[:, 0], model.outputs, atol=TOLERANCE)
        if model.version.name.startswith("imdb"):
            frame = pd.DataFrame({"text": model.inputs[:, 0]})
            np.testing.assert_array_equal(loaded.predict(frame), predicted)


def test_mlflow_refuses_inputs_of_another_shape(models: dict[str, Registered], imports: None) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    texts, windows = (mlflow.pyfunc.load_model(str(models[f"{name} gru_baseline"].folder)) for name in ("imdb", "jena"))
    with pytest.raises(MlflowException, match="does not match expected shape"):
        texts.predict(np.array([["two", "columns"]]))
    with pytest.raises(MlflowException, match="does not match expected shape"):
        windows.predict(np.zeros((1, 7, 14), dtype=np.float32))
    with pytest.raises(MlflowException, match="dtype of input float64"):
        windows.predict(np.zeros((1, 1440, 14)))


PREDICT = """
import json
import sys
from importlib.util import find_spec

import mlflow
import numpy as np

assert not [name for name in ("flows", "tasks", "storage", "prefect", "great_expectations") if find_spec(name)]
predictions = {}
for name in sys.argv[1:]:
    with np.load(f"{name.partition('@')[0]}.npz") as arrays:
        predictions[name] = mlflow.pyfunc.load_model(f"models:/{name}").predict(arrays["inputs"])[:, 0].tolist()
print(json.dumps(predictions))
"""


def snippets_of_the_page() -> str:
    """Return the code of the page on how to use a model, on the models of the simulation."""
    page = (ROOT / "docs" / "how-to" / "use-a-model.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    assert code.count("@champion") == 2
    return code.replace("@champion", "-sample@champion")


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_an_environment_with_nothing_but_the_requirements_predicts_the_same(
    models: dict[str, Registered], samples: Any, own_store: Store, tmp_path: Path
) -> None:
    """A new environment from the model's own requirements.txt, in an empty folder, without the project."""
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW", "RETRAIN"))}
    python = tmp_path / "venv" / "bin" / "python"

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    chosen = {f"{name}-sample@champion": models[f"{name} gru_baseline"] for name in ("jena", "imdb")}
    assert len({(model.folder / "requirements.txt").read_text() for model in chosen.values()}) == 1
    run(python, "-m", "pip", "install", "-q", "-r", models["imdb gru_baseline"].folder / "requirements.txt")

    for model in chosen.values():
        Registry.open(own_store).set_aliases(model.version.name, {"champion": model.version.version})
        np.savez(folder / f"{model.version.name}.npz", inputs=model.inputs)
    (folder / "predict.py").write_text(PREDICT)
    (raw,) = Path(str(samples.store.root), "raw", "jena-sample").glob("*/*.zip")
    shutil.copy(raw, folder / "jena_climate_2009_2016.csv.zip")
    (folder / "page.py").write_text(snippets_of_the_page())
    # As the service has it: without the project, MLflow asks a server for the files.
    database, artifacts = own_store.mlflow_folder / "mlflow.db", str(own_store.artifacts)
    options = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", artifacts]
    with tracking_server(tmp_path, *options) as environment["MLFLOW_TRACKING_URI"]:
        predicted = json.loads(run(python, "predict.py", *chosen).splitlines()[-1])
        printed = run(python, "page.py")
    for name, model in chosen.items():
        np.testing.assert_allclose(predicted[name], model.outputs, atol=TOLERANCE)
    assert len(re.findall(r"\[+\s*-?\d+\.\d+\]+", printed)) == 3  # of two texts and one window


@pytest.fixture(scope="module")
def mirror() -> Path:
    for folder in MIRRORS:
        if folder != Path() and (folder / "imdb.npz").is_file() and (folder.parent / RAW_REVIEWS).is_file():
            return folder
    pytest.skip("no raw reviews: ../shared/data has no mirror with imdb.npz, or no reviews/aclImdb_test.parquet")


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_raw_test_reviews_are_scored_as_the_encoded_ones(keras: Any, mirror: Path, own_store: Store, imports: None) -> None:
    import mlflow.pyfunc

    table = publish("imdb", settings=DataSettings(data="mirror"), store=own_store, mirror=str(mirror))
    model = register(table, store=own_store, registry=Registry.open(own_store), variant="gru_baseline", steps=120)
    loaded = mlflow.pyfunc.load_model(str(model.folder))
    raw = pq.read_table(mirror.parent / RAW_REVIEWS, columns=["text", "label"]).to_pandas()
    assert len(raw) == 25_000
    chunks = [raw["text"].iloc[start : start + REVIEWS_A_CALL] for start in range(0, len(raw), REVIEWS_A_CALL)]
    probability = np.concatenate([loaded.predict(chunk.to_frame().reset_index(drop=True))[:, 0] for chunk in chunks])
    accuracy = np.mean((probability > 0.5) == raw["label"].to_numpy())
    sys.stdout.write(f"accuracy on raw reviews {accuracy:.4f}, registered {model.scores['accuracy']:.4f}\n")
    assert accuracy > 0.6
    assert accuracy == pytest.approx(model.scores["accuracy"], abs=0.001)
