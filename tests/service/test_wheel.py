"""The wheel, installed into an environment without the project, run in an empty folder: the command, a run, and the service."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from service_helpers import PORTS, free_ports

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("flows", "tasks", "storage", "pyproject.toml", "prefect.yaml", "MANIFEST.in", "README.md", "LICENSE")
OWN = ("RETRAIN_", "PREFECT_", "MLFLOW_", "PYTHONPATH")

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OWN)} | {"NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | more, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment, which has the libraries of this one, and of the project the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    made = run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("retrain-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    # A path in a .pth file is no site folder: the file that leads to this checkout is not read there.
    (libraries,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (libraries / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    done = run(*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return programs


@pytest.fixture
def ports() -> Mapping[str, str]:
    return dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))


def test_the_project_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import flows.cli.app, tasks.training.identity as i; print(flows.cli.app.__file__); print(i.code_version())"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    path, version = done.stdout.splitlines()
    assert Path(path).is_relative_to(installed.parent)
    assert version == run(installed / "retrain", "--version", cwd=tmp_path).stdout.strip().replace("retrain", "release")


def test_a_run_in_an_empty_folder_has_a_champion(installed: Path, tmp_path: Path) -> None:
    options = ("--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit")
    done = run(installed / "retrain", "run", "jena", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "jena-sample@1 is champion now" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"var"}
    listed = run(installed / "retrain", "models", "--json", cwd=tmp_path)
    assert [version["aliases"] for version in json.loads(listed.stdout)] == [["candidate", "champion"]]


def test_the_service_starts_and_ends(installed: Path, tmp_path: Path, ports: Mapping[str, str]) -> None:
    try:
        up = run(installed / "retrain", "up", cwd=tmp_path, **ports)
        assert up.returncode == 0, up.stdout + up.stderr
        assert "deployed prefect.yaml" in up.stdout
        assert "worker   pool gpu" in up.stdout
        runs = run(installed / "retrain", "runs", "--json", cwd=tmp_path, **ports)
        assert json.loads(runs.stdout) == []
    finally:
        down = run(installed / "retrain", "down", cwd=tmp_path, **ports)
    assert down.returncode == 0
    assert "stopped" in down.stdout
