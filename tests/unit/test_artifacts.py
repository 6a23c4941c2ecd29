"""Locations in the registry are relative to the store: wherever it lies, and whether a server or a process resolves them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_server import tracking_server
from object_store import ObjectStore, running_object_store
from postgres_helpers import running_postgres
from sqlalchemy import create_engine, text

from storage import artifacts
from storage.database import registry_database
from storage.errors import RegistryError
from storage.layout import Store
from storage.records import DatasetRecord, RunRecord
from storage.registry import Registry

ROOT = Path(__file__).parents[2]
IMPORTED_FROM = (ROOT, ROOT / "tests", Path(__file__).parent)
WINDOWS = np.linspace(-1.0, 1.0, 2 * 6 * 3, dtype=np.float32).reshape(2, 6, 3)
RECORD = RunRecord(
    run_name="jena tiny",
    variant="tiny",
    training_key="k1",
    params={"epochs": 3},
    metrics={"test_mae_degc": 2.45},
    curves={"loss": [0.5, 0.4]},
    tags={"simulated": "false"},
    manifest={"table_version": "0f"},
    files={"report/report.md": b"# report\n"},
    input_example=WINDOWS,
    output_example=np.zeros((2, 1), dtype=np.float32),
    datasets=(DatasetRecord(name="jena", digest="0f" * 32, uri="tables/jena/0f", context="train", rows=7),),
    pip_requirements=("keras==3.15.1",),
)


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    return keras.Sequential([keras.Input((6, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])


@pytest.fixture(scope="module")
def filled(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one registered model, its champion; tests copy it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    home = tmp_path_factory.mktemp("filled home")
    registry = Registry.open(Store.at(home))
    registry.register("jena", model=model, record=RECORD)
    registry.set_aliases("jena", {"champion": 1})
    registry.metric_history("jena-monitoring", run_name="jena").append({"mae": [(1, 2.0)]})
    return home


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects


def values_of(database: Path) -> Iterator[tuple[str, str]]:
    """Yield every text in a database, with its table and column."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]
            for row in connection.execute(f"SELECT * FROM {table}").fetchall():
                yield from (
                    (f"{table}.{column}", value) for column, value in zip(columns, row, strict=True) if isinstance(value, str)
                )


def make_absolute(database: Path | str, *, place: str) -> int:
    """Give a database, by its file or address, the absolute locations that version 0.1 recorded; return how many there are."""
    places = {
        "experiments": ["artifact_location"],
        "runs": ["artifact_uri"],
        "logged_models": ["artifact_location"],
        "model_versions": ["source", "storage_location"],
    }
    engine = create_engine(f"sqlite:///{database}" if isinstance(database, Path) else database)
    count = 0
    with engine.begin() as connection:
        for table, columns in places.items():
            for column in columns:
                query = f"UPDATE {table} SET {column} = :place || substr({column}, 19) WHERE {column} LIKE 'mlflow-artifacts:/%'"
                count += connection.execute(text(query), {"place": f"{place}/mlflow/artifacts/"}).rowcount
    engine.dispose()
    return count


GO_ON = """
import json, sys
import numpy as np
from dataclasses import replace
from storage.layout import Store
from storage.registry import Registry
from test_artifacts import RECORD, WINDOWS
registry = Registry.open(Store.from_environment())
champion = registry.resolve("jena@champion")
model = registry.load_model(champion)
report = registry.read_file(champion.run_id, "report/report.md").decode()
made = registry.register("jena", model=model, record=replace(RECORD, training_key=sys.argv[1]))
registry.set_aliases("jena", {"champion": made.version})
again = registry.load_model(registry.resolve("jena@champion"))
assert np.array_equal(model.predict_on_batch(WINDOWS), again.predict_on_batch(WINDOWS))
print(json.dumps({"outputs": model.predict_on_batch(WINDOWS).tolist(), "report": report, "version": made.version}))
"""


def python(code: str, *arguments: str, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, IMPORTED_FROM)), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def go_on(home: str, *, key: str, cwd: Path, **variables: str) -> dict[str, Any]:
    """Load the champion in a process of its own, and register and load another version there."""
    answer = python(GO_ON, key, cwd=cwd, RETRAIN_HOME=home, **variables)
    said: dict[str, Any] = json.loads(answer.splitlines()[-1])
    assert said["report"] == "# report\n"
    return said


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


# --- what is recorded


def test_no_path_of_the_machine_is_recorded(filled: Path) -> None:
    absolute = [(where, value) for where, value in values_of(filled / "mlflow" / "mlflow.db") if str(filled.parent) in value]
    assert absolute == []
    locations = {where: value for where, value in values_of(filled / "mlflow" / "mlflow.db") if "mlflow-artifacts:" in value}
    assert locations["model_versions.source"].startswith("mlflow-artifacts:/jena/models/m-")
    assert not [value for where, value in values_of(filled / "mlflow" / "mlflow.db") if "file:" in value or "mlruns" in value]


def test_real_trainings_record_no_path_of_the_machine(trained: Any) -> None:
    home = Path(str(trained.store.root))
    assert [pair for pair in values_of(home / "mlflow" / "mlflow.db") if str(home) in pair[1]] == []


# --- a store that has moved


def test_a_store_goes_on_where_it_was_copied_to(filled: Path, tmp_path: Path, empty: Path, model: Any) -> None:
    old, new = tmp_path / "old", tmp_path / "new place"
    shutil.copytree(filled, old)
    shutil.copytree(old, new)
    shutil.rmtree(old)
    said = go_on(str(new), key="k2", cwd=empty)
    np.testing.assert_allclose(said["outputs"], model.predict_on_batch(WINDOWS), atol=1e-6)
    assert said["version"] == 2
    assert not old.exists()
    assert list(empty.iterdir()) == []
    assert go_on(str(new), key="k3", cwd=empty)["version"] == 3


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_a_store_of_version_0_1_goes_on_wherever_it_lies_now(filled: Path, tmp_path: Path, empty: Path, scheme: str) -> None:
    old, new = tmp_path / "old place", tmp_path / "new"
    shutil.copytree(filled, new)
    database = new / "mlflow" / "mlflow.db"
    # Two experiments, Default too; two runs, one model, its version's two places.
    assert make_absolute(database, place=old.as_uri() if scheme else str(old)) == 3 + 2 + 1 + 2
    assert go_on(str(new), key="k2", cwd=empty)["version"] == 2
    assert not old.exists()
    assert [value for _, value in values_of(database) if str(tmp_path) in value or old.as_uri() in value] == []
    assert go_on(str(new), key="k3", cwd=empty)["version"] == 3


def test_what_a_moved_store_went_on_to_write_at_its_old_place_is_fetched(filled: Path, tmp_path: Path, empty: Path) -> None:
    """Version 0.1 wrote there as long as it could."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(filled, old)
    shutil.copytree(filled, new)
    make_absolute(new / "mlflow" / "mlflow.db", place=old.as_uri())
    shutil.rmtree(new / "mlflow" / "artifacts" / "jena")
    before = sorted(str(path) for path in old.rglob("*"))
    assert go_on(str(new), key="k2", cwd=empty)["version"] == 2
    assert sorted(str(path) for path in old.rglob("*")) == before


def test_a_correction_is_whole_or_not_at_all(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    shutil.copytree(filled, home)
    database, store = home / "mlflow" / "mlflow.db", Store.at(home)
    make_absolute(database, place="file:///old")
    before = sorted(values_of(database))
    correct, calls = artifacts._correct, []

    def die(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        correct(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "_correct", die)
        with pytest.raises(KeyboardInterrupt):
            Registry.open(store)
    assert sorted(values_of(database)) == before
    assert artifacts.make_relative(f"sqlite:///{database}", store=store) == 3
    assert artifacts.make_relative(f"sqlite:///{database}", store=store) == 0


def test_what_is_not_of_the_project_stays_where_it_is(filled: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    home = tmp_path / "home"
    shutil.copytree(filled, home)
    client = MlflowClient(f"sqlite:///{home}/mlflow/mlflow.db")
    client.create_experiment("other", artifact_location="file:///elsewhere/mlruns/other")
    client.create_experiment("team", artifact_location="s3://bucket/mlflow/artifacts/another-name")
    registry = Registry.open(Store.at(home))
    found = {name: registry._client.get_experiment_by_name(name).artifact_location for name in ("other", "team", "jena")}
    assert found == {
        "other": "file:///elsewhere/mlruns/other",
        "team": "s3://bucket/mlflow/artifacts/another-name",
        "jena": "mlflow-artifacts:/jena",
    }


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("mlflow-artifacts:/jena/1/artifacts", "jena/1/artifacts"),
        ("file:///an%20old/place/mlflow/artifacts/jena/1/artifacts", "jena/1/artifacts"),
        ("s3://bucket/prefix/mlflow/artifacts/jena-sample/models/m-1/artifacts", "jena-sample/models/m-1/artifacts"),
        ("file:///elsewhere/mlruns/1", None),
        ("models:/m-1", None),
    ],
)
def test_a_location_lies_in_the_store(tmp_path: Path, location: str, expected: str | None) -> None:
    place = artifacts.stored_at(location, store=Store.at(tmp_path))
    assert (place and str(place)) == (expected and f"{tmp_path}/mlflow/artifacts/{expected}")


def test_a_location_that_leaves_the_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="leaves its folder"):
        artifacts.stored_at("mlflow-artifacts:/jena/../../../etc", store=Store.at(tmp_path))


# --- on S3


def test_a_store_on_s3_goes_on_after_a_copy_from_a_local_disk(
    filled: Path, tmp_path: Path, empty: Path, objects: ObjectStore
) -> None:
    """The database lies elsewhere, as PostgreSQL would; its locations are those of the local store of version 0.1."""
    store = objects.store("moved")
    store.root.fs.put(f"{filled}/mlflow/artifacts/", f"{store.artifacts.path}/", recursive=True)
    database = tmp_path / "registry.db"
    shutil.copy(filled / "mlflow" / "mlflow.db", database)
    make_absolute(database, place="file:///gone")
    said = go_on(str(store.root), key="k2", cwd=empty, MLFLOW_TRACKING_URI=f"sqlite:///{database}", **objects.environment)
    assert said["version"] == 2
    assert list(empty.iterdir()) == []
    assert not Path("/gone").exists()

    # And back to a local disk.
    home = tmp_path / "back"
    store.root.fs.get(f"{store.root.path}/", f"{home}/", recursive=True)
    shutil.copy(database, home / "mlflow" / "mlflow.db")
    assert go_on(str(home), key="k3", cwd=empty)["version"] == 3


def test_a_team_on_postgresql_and_s3_goes_on_under_another_prefix(
    empty: Path, objects: ObjectStore, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_postgres() as postgres:
        monkeypatch.setenv("RETRAIN_DATABASE_URL", f"{postgres}/moved")
        old, new = objects.store("old"), objects.store("new")
        registry = Registry.open(old)
        registry.register("jena", model=model, record=RECORD)
        registry.set_aliases("jena", {"champion": 1})
        address = registry_database(old)
        # Version 0.1 recorded the address of the bucket.
        assert make_absolute(address, place=str(old.root)) == 2 + 1 + 1 + 2
        files = old.root.fs
        for name in files.find(old.root.path):
            files.pipe_file(name.replace(old.root.path, new.root.path, 1), files.cat_file(name))
        files.rm(old.root.path, recursive=True)
        assert go_on(str(new.root), key="k2", cwd=empty)["version"] == 2
        # SeaweedFS lists an emptied folder as an object of its own.
        assert [path for path in files.find(old.root.path) if path.rstrip("/") != old.root.path.rstrip("/")] == []
        assert artifacts.make_relative(address, store=new) == 0


# --- through a server


def test_a_server_and_a_process_see_the_same_files(filled: Path, tmp_path: Path, empty: Path, model: Any) -> None:
    """As `retrain up` starts it, on a store of version 0.1 that has moved; the client has neither the store nor its disk."""
    home, server_folder = tmp_path / "home", tmp_path / "server"
    shutil.copytree(filled, home)
    server_folder.mkdir()
    database = home / "mlflow" / "mlflow.db"
    make_absolute(database, place="file:///old")
    Registry.open(Store.at(home))  # `retrain up` does so before it starts the server
    options = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(Store.at(home).artifacts)]
    with tracking_server(server_folder, *options) as address:
        client_home = tmp_path / "client"
        assert go_on(str(client_home), key="k2", cwd=empty, MLFLOW_TRACKING_URI=address)["version"] == 2
        assert [path.name for path in empty.iterdir()] == []
        assert not (client_home / "mlflow").exists()
        new = python(FIRST, cwd=empty, RETRAIN_HOME=str(client_home), MLFLOW_TRACKING_URI=address)
        assert new.split() == ["1", "mlflow-artifacts:/first"]
    assert not list(server_folder.glob("mlruns*"))
    # Without the server the same versions are there, and one is added.
    assert go_on(str(home), key="k3", cwd=empty)["version"] == 3
    assert sorted(path.name for path in (home / "mlflow" / "artifacts").iterdir()) == ["first", "jena"]


FIRST = """
from storage.layout import Store
from storage.registry import Registry
from test_artifacts import RECORD
registry = Registry.open(Store.from_environment())
model = registry.load_model(registry.resolve("jena@champion"))
version = registry.register("first", model=model, record=RECORD)
registry.load_model(version)
print(version.version, registry._client.get_experiment_by_name("first").artifact_location)
"""


def test_a_server_that_would_have_files_on_the_clients_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    server_folder = tmp_path / "server"
    server_folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with tracking_server(
        server_folder, "--backend-store-uri", f"sqlite:///{server_folder}/s.db", "--no-serve-artifacts"
    ) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        registry = Registry.open(Store.at(tmp_path / "home"))
        for _ in range(2):
            with pytest.raises(RegistryError, match=r"keeps files in '.*mlruns/\d', which is not on this host: start it with"):
                registry.register("jena", model=model, record=RECORD)
        assert not list(tmp_path.rglob("mlruns"))
    # Started otherwise, the same database serves the same model's name.
    options = ["--backend-store-uri", f"sqlite:///{server_folder}/s.db", "--artifacts-destination", str(tmp_path / "served")]
    with tracking_server(server_folder, *options) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert Registry.open(Store.at(tmp_path / "home")).register("jena", model=model, record=RECORD).version == 1


# --- MLflow by itself


ALONE = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.pyfunc.load_model("models:/jena@champion").predict(np.zeros((1, 6, 3), dtype=np.float32)).shape)
"""


def test_plain_mlflow_finds_the_files_by_the_entry_point_of_the_project(filled: Path, tmp_path: Path, empty: Path) -> None:
    """As the project's installation says it to MLflow; without the project a server is needed, and MLflow says so."""
    home = tmp_path / "home"
    shutil.copytree(filled, home)
    installed = entry_points_of_the_project(tmp_path / "installed")
    said = python(ALONE, f"sqlite:///{home}/mlflow/mlflow.db", cwd=empty, PYTHONPATH=f"{installed}:{ROOT}")
    assert said.splitlines()[-1] == "(1, 1)"


def entry_points_of_the_project(folder: Path) -> Path:
    """Write what an installation of the project writes: its entry points, as `pyproject.toml` has them."""
    import tomllib

    project: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in points.items()) for group, points in groups)
    )
    return folder


def test_a_model_is_registered_again_under_another_experiment(filled: Path, tmp_path: Path, model: Any) -> None:
    home = tmp_path / "home"
    shutil.copytree(filled, home)
    registry = Registry.open(Store.at(home))
    version = registry.register("jena-sample", model=model, record=replace(RECORD, training_key="k9"))
    assert registry.model_folder(version).is_relative_to(home / "mlflow" / "artifacts" / "jena-sample")
