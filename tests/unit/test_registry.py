"""The registry on a real sqlite MLflow with tiny real Keras models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_server import tracking_server as running_server

from storage.errors import RegistryError, SettingError
from storage.layout import Store
from storage.records import DatasetRecord, RunRecord
from storage.registry import ATTEMPT_TAG, Registry

DIGEST = "0123456789abcdef" * 4
WINDOWS = np.linspace(-1.0, 1.0, 2 * 6 * 3, dtype=np.float32).reshape(2, 6, 3)
RECORD = RunRecord(
    run_name="jena gru_baseline",
    variant="gru_baseline",
    training_key="k1",
    params={"epochs": 3, "seed": 1},
    metrics={"test_mae_degc": 2.45},
    curves={"loss": [0.5, 0.4, 0.3], "val_loss": [0.6, 0.55, 0.57]},
    tags={"simulated": "false"},
    manifest={"table_version": "0f", "title": "für"},
    files={"report/report.md": b"# report\n"},
    input_example=WINDOWS,
    output_example=np.zeros((2, 1), dtype=np.float32),
    datasets=(DatasetRecord(name="jena", digest=DIGEST, uri="tables/jena/0f", context="train", rows=7),),
    pip_requirements=("keras==3.15.1",),
)


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def keras() -> Any:
    os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    return pytest.importorskip("keras")


@pytest.fixture(scope="session")
def model(keras: Any) -> Any:
    """A network with a registered layer of its own: MLflow pickles those unless it is kept from it."""

    @keras.saving.register_keras_serializable("registry_test")
    class Doubling(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2.0 * inputs

    return keras.Sequential([keras.Input((6, 3)), keras.layers.Flatten(), Doubling(), keras.layers.Dense(1)])


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(tmp_path_factory.mktemp("registry home"))  # a blank, as in many folder names


@pytest.fixture
def registry(home: Store) -> Registry:
    return Registry.open(home)


@pytest.fixture(scope="session")
def filled(home: Store, model: Any) -> Registry:
    """Model `jena`: version 1 (k1), version 2 (k1 again), version 3 (k2), a champion; nothing below changes it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    registry = Registry.open(home)
    registry.register("jena", model=model, record=RECORD)
    registry.register("jena", model=model, record=replace(RECORD, metrics={"test_mae_degc": 2.35}))
    registry.register("jena", model=model, record=replace(RECORD, training_key="k2", variant="gru_dropout"))
    registry.set_aliases("jena", {"previous": 1, "champion": 2, "candidate": 2})
    return registry


def test_a_registered_version_has_all_that_was_recorded(filled: Registry) -> None:
    version = filled.version("jena", 1)
    assert (version.name, version.version, version.variant, version.uri) == ("jena", 1, "gru_baseline", "models:/jena/1")
    assert version.metrics == {"test_mae_degc": 2.45}
    assert version.tags == {"simulated": "false", "variant": "gru_baseline", "training_key": "k1", "complete": "true"}
    assert version.created.endswith("+00:00")
    assert filled.read_file(version.run_id, "report/report.md") == b"# report\n"
    assert filled.read_file(version.run_id, "manifest.json").decode() == '{\n  "table_version": "0f",\n  "title": "für"\n}\n'


def test_the_run_holds_parameters_curves_and_the_full_digest(filled: Registry, home: Store) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home.mlflow_folder}/mlflow.db")
    version = filled.version("jena", 1)
    run = client.get_run(version.run_id)
    assert run.info.run_name == "jena gru_baseline"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "seed": "1"}
    curve = client.get_metric_history(version.run_id, "epoch/val_loss")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.6), (2, 0.55), (3, 0.57)]
    [table] = run.inputs.dataset_inputs
    assert table.dataset.digest == DIGEST[:36]
    assert {tag.key: tag.value for tag in table.tags} == {"mlflow.data.context": "train", "sha256": DIGEST}
    assert client.get_experiment(run.info.experiment_id).name == "jena"


def test_versions_come_newest_first_with_their_aliases(filled: Registry) -> None:
    assert filled.names() == ("jena",)
    assert [(entry.version, entry.aliases) for entry in filled.versions("jena")] == [
        (3, ()),
        (2, ("candidate", "champion")),
        (1, ("previous",)),
    ]
    assert filled.versions("imdb") == ()


def test_an_equal_training_is_found_by_its_key(filled: Registry) -> None:
    found = filled.find("jena", training_key="k1")
    assert found is not None
    assert (found.version, found.metrics) == (2, {"test_mae_degc": 2.35})
    assert filled.find("jena", training_key="k3") is None
    assert filled.find("imdb", training_key="k1") is None


def test_a_reference_names_a_version(filled: Registry) -> None:
    for reference, version in {"jena@3": 3, "jena@previous": 1, "jena@champion": 2, "jena": 2}.items():
        assert filled.resolve(reference).version == version
    candidate = filled.by_alias("jena", "candidate")
    assert candidate is not None
    assert candidate.version == 2
    assert filled.by_alias("jena", "nobody") is None
    assert filled.by_alias("imdb", "champion") is None


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("jena@9", r"'jena' has no version 9: choose jena@3, jena@2\|candidate\|champion, jena@1\|previous"),
        ("jena@best", r"'jena' has no alias 'best': choose jena@3"),
        ("imdb@1", "'imdb' has no versions, so no version 1: registered models are jena"),
        ("imdb", "'imdb' has no versions, so no alias 'champion'"),
        ("jena@", "names no model version: write MODEL"),
        ("@1", "names no model version"),
        ("a' or 'b", "cannot be a registered name"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(filled: Registry, reference: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        filled.resolve(reference)


def test_no_pickle_is_in_the_artifact_and_the_model_predicts_the_same(filled: Registry, home: Store, model: Any) -> None:
    import mlflow

    version = filled.version("jena", 1)
    folder = filled.model_folder(version)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert "data/model.keras" in files
    assert not [name for name in files if "pickle" in name or name.endswith(".pkl")]
    assert folder.is_relative_to(home.mlflow_folder / "artifacts")
    assert (folder / "requirements.txt").read_text().split() == [f"mlflow=={mlflow.__version__}", "keras==3.15.1"]
    loaded = filled.load_model(version)
    np.testing.assert_array_equal(loaded.predict_on_batch(WINDOWS), model.predict_on_batch(WINDOWS))


def test_a_pickle_among_the_files_is_refused(registry: Registry, model: Any) -> None:
    version = registry.register("jena-sample", model=model, record=RECORD)
    (registry.model_folder(version) / "data" / "global_custom_objects.cloudpickle").write_bytes(b"\x80\x04N.")
    with pytest.raises(RegistryError, match=r"jena-sample@1 holds a pickle \(global_custom_objects\.cloudpickle\)"):
        registry.load_model(version)


def test_the_signature_follows_from_the_example(filled: Registry) -> None:
    from mlflow.models import Model

    signature = Model.load(str(filled.model_folder(filled.version("jena", 1)))).signature
    assert [(str(entry.type), entry.shape) for entry in signature.inputs.inputs] == [("float32", (-1, 6, 3))]
    assert [(str(entry.type), entry.shape) for entry in signature.outputs.inputs] == [("float32", (-1, 1))]


@pytest.mark.parametrize(
    "example", [np.array(["good", "bad"]), np.array([["good"], ["bad"]]), np.array(["good", "bad"], dtype=object)]
)
def test_a_model_of_raw_text_comes_back(registry: Registry, keras: Any, example: Any) -> None:
    inputs = keras.Input(example.shape[1:], dtype="string")
    ids = keras.layers.Hashing(num_bins=8)(inputs if example.ndim == 2 else keras.ops.expand_dims(inputs, -1))
    whole = keras.Model(inputs, keras.layers.Dense(1)(keras.ops.cast(ids, "float32")))
    expected = whole.predict_on_batch(_tensor(example))
    version = registry.register("imdb", model=whole, record=replace(RECORD, input_example=example, output_example=expected))
    np.testing.assert_array_equal(registry.load_model(version).predict_on_batch(_tensor(example)), expected)


def _tensor(example: Any) -> Any:
    import tensorflow as tf

    return tf.constant(example.tolist())


def test_a_crash_while_registering_leaves_no_version(registry: Registry, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = registry._client
    with monkeypatch.context() as patch:

        def crash(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(client, "set_model_version_tag", crash)
        with pytest.raises(KeyboardInterrupt):
            registry.register("half", model=model, record=RECORD)
    assert registry.versions("half") == ()
    assert registry.find("half", training_key="k1") is None
    with pytest.raises(RegistryError, match="'half' has no versions"):
        registry.set_aliases("half", {"champion": 1})
    assert registry.register("half", model=model, record=RECORD).version == 2


def test_a_model_that_cannot_be_logged_fails_its_run(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="cannot register gru_baseline as broken"):
        registry.register("broken", model=object(), record=RECORD)
    experiment = registry._client.get_experiment_by_name("broken")
    [run] = registry._client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert registry.versions("broken") == ()


class AwayError(Exception):
    """What a run meets whose training was taken over."""


@pytest.mark.parametrize("asked_before", [0, 1])
def test_a_training_that_was_taken_over_leaves_no_version(registry: Registry, model: Any, asked_before: int) -> None:
    """The owner is asked for before a version is made, and again before it is completed."""
    asked = []

    def require_owner() -> None:
        asked.append(len(asked))
        if len(asked) > asked_before:
            raise AwayError

    with pytest.raises(AwayError):
        registry.register("taken-over", model=model, record=RECORD, require_owner=require_owner)
    assert registry.versions("taken-over") == ()
    assert registry._client.search_model_versions("name = 'taken-over'") == []


def test_what_earlier_attempts_left_cannot_be_completed_any_more(
    registry: Registry, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts 1 and 2 fall asleep before their versions are complete; attempt 2 is the owner, and then comes attempt 3."""
    from mlflow.exceptions import MlflowException

    client = registry._client

    def attempt(number: int) -> RunRecord:
        return replace(RECORD, tags={**RECORD.tags, ATTEMPT_TAG: str(number)})

    complete = registry.register("asleep", model=model, record=replace(attempt(1), training_key="k0"))
    with monkeypatch.context() as patch:
        patch.setattr(client, "set_model_version_tag", lambda *_: (_ for _ in ()).throw(AwayError))
        for number in (1, 2):
            with pytest.raises(AwayError):
                registry.register("asleep", model=model, record=attempt(number))
    (experiment,) = {
        run.info.experiment_id for run in client.search_runs([client.get_experiment_by_name("asleep").experiment_id])
    }
    asleep = client.create_run(experiment, tags={"training_key": "k1", ATTEMPT_TAG: "1"})
    registry.delete_unfinished("asleep", training_key="k1", before_attempt=2)
    assert {int(entry.version) for entry in client.search_model_versions("name = 'asleep'")} == {complete.version, 3}
    assert client.get_run(asleep.info.run_id).info.status == "KILLED"
    with pytest.raises(MlflowException, match="not found"):
        client.set_model_version_tag("asleep", "2", "complete", "true")
    registry.delete_unfinished("asleep", training_key="k1", before_attempt=3)
    assert [version.version for version in registry.versions("asleep")] == [complete.version]
    registry.delete_unfinished("of-no-experiment", training_key="k1", before_attempt=3)


def test_aliases_move(registry: Registry, model: Any) -> None:
    for _ in range(2):
        registry.register("aliases", model=model, record=RECORD)
    registry.set_aliases("aliases", {"champion": 1})
    registry.set_aliases("aliases", {"previous": 1, "champion": 2})
    assert registry.resolve("aliases@champion").version == 2
    with pytest.raises(RegistryError, match="no version 7"):
        registry.set_aliases("aliases", {"champion": 1, "previous": 7})
    assert registry.resolve("aliases@champion").version == 2
    with pytest.raises(RegistryError, match="cannot set alias 'v3' of aliases"):
        registry.set_aliases("aliases", {"v3": 1})


def test_tags_of_a_version_can_be_set_later(registry: Registry, model: Any) -> None:
    version = registry.register("tags", model=model, record=RECORD)
    registry.set_version_tags(version, {"refitted_as": "2", "simulated": "true"})
    assert registry.version("tags", 1).tags.items() >= {"refitted_as": "2", "simulated": "true", "training_key": "k1"}.items()
    with pytest.raises(RegistryError, match="cannot set tags of tags@7"):
        registry.set_version_tags(replace(version, version=7), {"refitted_as": "2"})


def test_a_file_stays_within_its_run(registry: Registry, filled: Registry, model: Any) -> None:
    with pytest.raises(RegistryError, match="leaves the run"):
        registry.register("files", model=model, record=replace(RECORD, files={"../x": b""}))
    with pytest.raises(RegistryError, match=r"cannot read nothing\.txt of run"):
        filled.read_file(filled.version("jena", 1).run_id, "nothing.txt")


def test_a_long_record_is_logged_whole(registry: Registry, model: Any) -> None:
    params = {f"p{number}": number for number in range(205)}
    curves = {f"c{number}": [float(number)] * 250 for number in range(10)}
    version = registry.register("long", model=model, record=replace(RECORD, params=params, curves=curves))
    run = registry._client.get_run(version.run_id)
    assert run.data.params == {key: str(value) for key, value in params.items()}
    assert len(registry._client.get_metric_history(version.run_id, "epoch/c9")) == 250


def test_the_tracking_uri_of_the_environment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert Registry.open(Store.at(tmp_path / "home")).names() == ()
    assert (tmp_path / "other.db").is_file()
    assert not (tmp_path / "home" / "mlflow" / "mlflow.db").exists()


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server on loopback."""
    options = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "served")]
    with running_server(tmp_path, *options) as address:
        yield address


@pytest.mark.slow
def test_a_run_against_a_server_prints_nothing(
    tracking_server: str, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    registry = Registry.open(Store.at(tmp_path / "home"))
    capfd.readouterr()
    version = registry.register("jena", model=model, record=RECORD)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(registry.load_model(version).predict_on_batch(WINDOWS), model.predict_on_batch(WINDOWS))


def test_a_remote_store_needs_a_tracking_uri() -> None:
    with pytest.raises(SettingError, match="MLFLOW_TRACKING_URI"):
        Registry.open(Store.at("memory://registry-test"))


@pytest.mark.slow
def test_processes_that_meet_a_new_database_do_not_break_it_and_say_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from storage.layout import Store; from storage.registry import Registry; "
        "assert Registry.open(Store.at(sys.argv[1])).names() == (); "
        "assert not {'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
    assert [(process.communicate(timeout=120)[0], process.returncode) for process in processes] == [("", 0)] * 3
