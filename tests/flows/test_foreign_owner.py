"""A part of the store that belongs to somebody else: one line that names it, and the next run completes once it is given back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow_helpers import Done, retrain

RUN = ("run", "jena", "--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit")
# Another limit is another table: everything is made again.
ANEW = ("--limit", "missing_values=0.004")
# Root may read and write everything; without these rights it is a user like any other.
AS_A_USER = ("/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all")
NOBODY = 65_534

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def can_take_rights_away() -> bool:
    return os.getuid() == 0 and Path(AS_A_USER[0]).exists() and subprocess.run([*AS_A_USER, "true"], check=False).returncode == 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not can_take_rights_away():
        pytest.skip("only root can give a part of a store to somebody else")
    home = tmp_path_factory.mktemp("owned") / "var"
    done = retrain(*RUN, home=home)
    assert done.code == 0, done.err
    return home


@contextmanager
def owned_by_somebody_else(path: Path) -> Iterator[None]:
    """While the block runs, a folder or file is closed to everybody but its owner, who is nobody."""
    before = path.stat()
    path.chmod(0o700 if path.is_dir() else 0o600)
    os.chown(path, NOBODY, NOBODY)
    try:
        yield
    finally:
        os.chown(path, before.st_uid, before.st_gid)
        path.chmod(before.st_mode & 0o7777)


def run_as_user(home: Path) -> Done:
    return retrain(*RUN, *ANEW, home=home, before=AS_A_USER)


# What a run on another table reads or writes; a folder stands for all that is in it.
@pytest.mark.parametrize(
    "name",
    [
        "raw",
        "raw/jena-sample",
        "tables",
        "tables/jena",
        "reports",
        "reports/jena",
        "evaluations",
        "promotions",
        "promotions/jena-sample",
        "mlflow",
        "mlflow/mlflow.db",
        "mlflow/artifacts",
        "prefect",
        "prefect/prefect.db",
        ".scratch",
        ".scratch/progress",
    ],
)
def test_a_foreign_part_is_one_line_or_stops_nothing(filled: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path / "var"
    shutil.copytree(filled, home)
    part = home / name
    assert part.exists()
    with owned_by_somebody_else(part):
        done = run_as_user(home)
    assert "Traceback" not in done.out + done.err
    if done.code != 0:
        assert done.code == 2
        (line,) = [line for line in done.err.splitlines() if line.startswith("retrain:")]
        # SQLite does not say which file it could not open, so that of the registry is told by the folder of the store.
        assert str(part) in line or (name == "mlflow" and str(home) in line)
        assert re.search(r"let this user|can be written", line), line
    after = run_as_user(home)
    assert after.code == 0, after.err
