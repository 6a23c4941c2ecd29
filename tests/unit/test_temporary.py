"""Temporary files of a process lie in a folder of its own, which goes with it, also where a process of it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import multiprocessing, multiprocessing.util, os, signal, sys, tempfile
from pathlib import Path
from storage.temporary import shared_temporary_folder, use_own_temporary_folder

def work():
    Path(tempfile.mkstemp()[1]).write_text("left by a process of the pool")
    os._exit(0)

if __name__ == "__main__":
    own = use_own_temporary_folder()
    assert use_own_temporary_folder() == own, "the second call keeps the folder"
    assert Path(tempfile.gettempdir()) == own and shared_temporary_folder() == Path(sys.argv[1])
    process = multiprocessing.get_context("forkserver").Process(target=work)
    process.start()
    process.join()
    multiprocessing.util.get_temp_dir()  # removed by multiprocessing at the exit, which complains where it is not there
    assert any(path.is_file() and path.read_text() for path in own.iterdir() if path.is_file())
    if len(sys.argv) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder: Path, *arguments: str) -> int:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, because that of a socket may have about 100 characters."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        folder = Path(made, "t")
        folder.mkdir()
        yield folder


def test_nothing_is_left_in_the_temporary_folder(folder: Path) -> None:
    assert run(folder) == 0
    assert list(folder.iterdir()) == []
    assert run(folder, "killed") == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.startswith(f"retrain-run-{os.getuid()}-")
    # The next process removes it, and what is not its own stays.
    (folder / "retrain-run-0-living").mkdir()
    (folder / f"retrain-run-{os.getuid()}-{os.getpid()}-alive").mkdir()
    assert run(folder) == 0
    assert {path.name for path in folder.iterdir()} == {"retrain-run-0-living", f"retrain-run-{os.getuid()}-{os.getpid()}-alive"}


def test_where_the_path_of_a_socket_would_be_too_long_the_shared_folder_is_used(tmp_path: Path) -> None:
    script = "import sys; from storage.temporary import *; assert str(use_own_temporary_folder()) == sys.argv[1]"
    long = tmp_path / ("x" * 60)
    long.mkdir()
    environment = {**os.environ, "TMPDIR": str(long), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script, str(long)], env=environment, check=True)
    assert list(long.iterdir()) == []
