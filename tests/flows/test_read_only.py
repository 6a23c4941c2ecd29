"""A store, a home or a temporary folder that cannot be written: what only reads works, all else is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_helpers import retrain

from storage.layout import Store
from storage.registry import Registry

NAME = "jena-sample"


@pytest.fixture
def fixed(tmp_path: Path) -> Iterator[Path]:
    """A store with a registry and one version without files, on a disk that is then mounted read-only."""
    made, home = tmp_path / "made", tmp_path / "disk"
    client = Registry.open(Store.at(made))._client
    experiment = client.create_experiment(NAME, artifact_location=f"mlflow-artifacts:/{NAME}")
    client.create_registered_model(NAME)
    run = client.create_run(experiment).info.run_id
    client.create_model_version(NAME, f"mlflow-artifacts:/{NAME}/none", run_id=run, tags={"complete": "true"})
    home.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(home)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a disk")
    try:
        shutil.copytree(made, home, dirs_exist_ok=True)
        subprocess.run(["/bin/mount", "-o", "remount,ro", str(home)], check=True)
        yield home
    finally:
        subprocess.run(["/bin/umount", "-l", str(home)], check=True)


def test_what_only_reads_works_on_a_read_only_store(fixed: Path, tmp_path: Path) -> None:
    done = retrain("models", "--json", home=tmp_path, RETRAIN_HOME=str(fixed))
    assert done.code == 0, done.err
    assert [(version["name"], version["version"]) for version in json.loads(done.out)] == [(NAME, 1)]
    assert done.err == ""


@pytest.mark.parametrize("command", [("run", "jena", "--data", "sample"), ("promote", NAME), ("gc",), ("verify",), ("up",)])
def test_what_writes_says_in_one_line_why_it_cannot(fixed: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = retrain(*command, home=tmp_path, RETRAIN_HOME=str(fixed))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(
        f"retrain: RETRAIN_HOME cannot be '{fixed}' (Read-only file system): name a folder that can be written"
    )


@pytest.mark.parametrize("name", ["HOME", "TMPDIR", "XDG_CACHE_HOME"])
def test_a_folder_of_the_user_that_cannot_be_written_stops_nothing(fixed: Path, tmp_path: Path, name: str) -> None:
    """Only caches and temporary files lie there; temporary ones then go where Python finds room."""
    variables = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""} | {name: str(fixed)}
    done = retrain("ingest", "jena", "--data", "sample", "--json", home=tmp_path / "var", **variables)
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["published"]
    assert "Traceback" not in done.err
