"""Trainings in MLflow that nobody can use any more, on a real database: found, removed with files and rows, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from storage.layout import Store
from storage.registry import Registry
from storage.registry_cleanup import Leftover, RegistryCleanup

MODEL = "jena-sample"
LATER = datetime.now(tz=UTC) + timedelta(days=1)
EARLIER = datetime.now(tz=UTC) - timedelta(days=1)


class Shelf:
    """A registry to which trainings are added without Keras."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.at(folder)
        self.registry = Registry.open(self.store)
        self.client: Any = self.registry.client
        self.cleanup = RegistryCleanup.of(self.registry, store=self.store)
        self.registry._make_model(MODEL)
        self.files = folder / "model files"
        self.files.mkdir()
        (self.files / "model.keras").write_bytes(b"x" * 1000)

    def training(self, *, status: str | None = "FINISHED", ours: bool = True, version: str = "complete") -> str:
        """Add a run with a logged model, and return its id; `version` is complete, incomplete or none."""
        experiment = self.registry._experiment_id(MODEL)
        tags = {"training_key": "k", "variant": "gru"} if ours else {}
        run_id = str(self.client.create_run(experiment, tags=tags, run_name="gru 0f").info.run_id)
        self.client.log_text(run_id, "{}", "manifest.json")
        logged = self.client.create_logged_model(experiment, name="gru", source_run_id=run_id)
        self.client.log_model_artifacts(logged.model_id, str(self.files))
        self.client.finalize_logged_model(logged.model_id, "READY")
        if status:
            self.client.set_terminated(run_id, status)
        if version != "none":
            made = self.client.create_model_version(MODEL, logged.artifact_location, run_id=run_id, tags=tags)
            if version == "complete":
                self.client.set_model_version_tag(MODEL, made.version, "complete", "true")
        return run_id

    def leftovers(self, *, failed_before: datetime = LATER, old_before: datetime = LATER) -> dict[str, Leftover]:
        found = self.cleanup.leftovers(MODEL, failed_before=failed_before, old_before=old_before)
        return {leftover.run_id: leftover for leftover in found}

    def stored(self) -> set[str]:
        """Return the runs and logged models that have files."""
        root = self.store.root / "mlflow" / "artifacts"
        return {path.parent.name for path in root.rglob("artifacts") if path.is_dir()}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Shelf(tmp_path)


def test_what_failed_was_deleted_or_has_no_version_is_left_over(shelf: Shelf) -> None:
    sound = shelf.training()
    expected = {
        shelf.training(status="FAILED", version="none"): "it was never finished",
        shelf.training(status=None, version="none"): "it was never finished",
        shelf.training(version="incomplete"): "it was never finished",
        shelf.training(version="none"): "its version was deleted",
    }
    deleted = shelf.training(version="none")
    shelf.client.delete_run(deleted)
    other = shelf.training(ours=False, version="none", status="FAILED")
    expected[deleted] = "its run was deleted"
    found = shelf.leftovers()
    assert {run_id: leftover.reason for run_id, leftover in found.items()} == expected
    # The manifest of two bytes, and the model.
    assert {leftover.size_bytes for leftover in found.values()} == {1002}
    for leftover in found.values():
        shelf.cleanup.remove(leftover)
    assert shelf.leftovers() == {}
    for run_id in expected:
        with pytest.raises(MlflowException):
            shelf.client.get_run(run_id)
    experiment = shelf.registry._experiment_id(MODEL)
    models = shelf.client.search_logged_models([experiment])
    assert {model.source_run_id for model in models} == {sound, other}
    assert shelf.stored() == {sound, other, *(model.model_id for model in models)}
    assert [version.run_id for version in shelf.registry.versions(MODEL)] == [sound]
    assert shelf.registry.read_file(sound, "manifest.json") == b"{}"
    with closing(sqlite3.connect(shelf.store.mlflow_folder / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)


def test_the_run_of_a_version_is_never_left_over(shelf: Shelf) -> None:
    run_id = shelf.training()
    shelf.client.delete_run(run_id)
    assert shelf.leftovers() == {}


def test_young_ones_stay(shelf: Shelf) -> None:
    shelf.training(status="FAILED", version="none")
    shelf.training(status=None, version="none")
    shelf.training(version="none")
    deleted = shelf.training(version="none")
    shelf.client.delete_run(deleted)
    assert shelf.leftovers(failed_before=EARLIER, old_before=EARLIER) == {}
    # A version that a person deleted waits for the longer age.
    reasons = {leftover.reason for leftover in shelf.leftovers(old_before=EARLIER).values()}
    assert reasons == {"it was never finished", "its run was deleted"}


def test_a_version_goes_with_its_run_model_and_files(shelf: Shelf) -> None:
    shelf.training()
    kept = shelf.training()
    old = shelf.registry.version(MODEL, 1)
    (training,) = shelf.cleanup.trainings_of([old], reason="old")
    assert training.numbers == (1,)
    shelf.cleanup.remove(training)
    assert [version.version for version in shelf.registry.versions(MODEL)] == [2]
    assert old.run_id not in shelf.stored()
    assert kept in shelf.stored()
    assert shelf.leftovers() == {}


def test_a_removal_that_is_killed_is_completed_by_the_next(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = shelf.training(status="FAILED", version="none")

    def killed(path: Any) -> None:
        raise KeyboardInterrupt(path)

    with monkeypatch.context() as patched:
        patched.setattr("storage.registry_cleanup.remove", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.cleanup.remove(shelf.leftovers()[run_id])
    again = shelf.leftovers()
    assert again[run_id].reason == "its run was deleted"
    shelf.cleanup.remove(again[run_id])
    assert run_id not in shelf.stored()
    assert shelf.leftovers() == {}


def test_a_file_outside_of_the_store_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    run_id = shelf.training(status="FAILED", version="none")
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    with closing(sqlite3.connect(shelf.store.mlflow_folder / "mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = ?", (outside.as_uri(),))
        database.commit()
    leftover = shelf.leftovers()[run_id]
    shelf.cleanup.remove(leftover)
    assert outside.is_dir()
    assert all(str(place).startswith(str(shelf.store.root / "mlflow" / "artifacts")) for place in leftover.places)
