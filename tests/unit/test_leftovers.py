"""What killed runs leave in MLflow and in the store is ended or removed by the next one; what lives is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from storage.layout import Store
from storage.registry import Registry
from storage.registry_cleanup import end_trainings
from storage.temporary import remove_staging_of_dead


def begun(client: Any, experiment: str, **tags: str) -> tuple[str, str]:
    """Begin a training in MLflow as `Registry.register` does, and return the ids of its run and its model."""
    run = client.create_run(experiment, tags=tags).info.run_id
    return run, client.create_logged_model(experiment, name="gru_baseline", source_run_id=run).model_id


def test_the_trainings_of_dead_runs_are_ended(tmp_path: Path) -> None:
    registry = Registry.open(Store.at(tmp_path))
    client = registry.client
    experiment = client.create_experiment("jena", artifact_location="mlflow-artifacts:/jena")
    dead = begun(client, experiment, training_key="0f", flow_run_id="dead")
    alive = begun(client, experiment, training_key="1f", flow_run_id="alive")
    foreign = begun(client, experiment, flow_run_id="dead")  # no training of this project

    end_trainings({"dead"}, registry=registry)

    def states(run: str, model: str) -> tuple[str, str]:
        return client.get_run(run).info.status, str(client.get_logged_model(model).status.value)

    assert states(*dead) == ("KILLED", "FAILED")
    assert states(*alive) == ("RUNNING", "PENDING")
    assert states(*foreign) == ("RUNNING", "PENDING")
    end_trainings({"dead"}, registry=registry)
    assert states(*dead) == ("KILLED", "FAILED")


def test_staging_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    own = store.staging("jena", "0123456789ab")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    key, host, _ = own.name.rsplit("-", 2)
    dead = [own.with_name(f"{key}-{host}-{process.pid}"), own.with_name(f"{key}-{host}-{process.pid}-table")]
    other_host = own.with_name(f"{key}-00000000-{process.pid}")
    for folder in (own, other_host, *dead):
        folder.mkdir(parents=True)
        (folder / "parsed.arrow").write_bytes(b"half")
    remove_staging_of_dead(store)
    assert sorted(path.name for path in own.parent.iterdir()) == sorted([own.name, other_host.name])


def test_a_store_without_staging_has_nothing_to_remove(tmp_path: Path) -> None:
    remove_staging_of_dead(Store.at(tmp_path))
