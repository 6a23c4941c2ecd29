"""The set-up shows how far it is, and what pip says when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / ".ci" / "install"
LOCK = """# made
one==1.0 \\
    --hash=sha256:0
two[extra]==2.0 ; python_version < "4" \\
    --hash=sha256:0
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(LOCK)
    return path


def run(folder: Path, lock: Path, *, pip: str) -> subprocess.CompletedProcess[str]:
    """Run the installation with a Python whose pip is a shell script; it stands in an environment of its own."""
    python = folder / "bin" / "python"
    (folder / "lib" / "python3" / "site-packages").mkdir(parents=True)
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{pip}\n")
    python.chmod(0o755)
    return subprocess.run([sys.executable, str(INSTALL), str(python), str(lock)], capture_output=True, text=True, check=False)


def test_each_quarter_is_told_where_there_is_no_terminal(tmp_path: Path, lock: Path) -> None:
    site = tmp_path / "lib" / "python3" / "site-packages"
    two = f"echo 'Collecting two[extra]==2.0'; sleep 1; mkdir {site}/one-1.0.dist-info; sleep 1"
    pip = f"echo 'Collecting one==1.0'; sleep 1; {two}"
    done = run(tmp_path, lock, pip=pip)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "      1 of 2 fetched, 0 installed",
        "      2 of 2 fetched, 0 installed",
        "      2 of 2 fetched, 1 installed",
        "      2 of 2 fetched, 2 installed",
    ]


def test_what_pip_says_of_a_failure_is_shown(tmp_path: Path, lock: Path) -> None:
    done = run(tmp_path, lock, pip="echo 'Collecting one==1.0'; echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; exit 1")
    assert done.returncode == 1
    assert "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout
