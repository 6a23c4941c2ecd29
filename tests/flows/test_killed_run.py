"""A run that is cut short, with Ctrl-C or by a kill, and the next one, which goes on where it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_helpers import NETWORK, Done, WarmCommand, contents, environment, query, retrain

# Half of it on a machine of its own with two cores; a busy one is given time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLED = ("run", "jena", "--data", "sample", "--variants", NETWORK, "--epochs", "6", "--steps", "30", "--no-refit")


def epochs_in_checkpoints(home: Path) -> int:
    """Complete epochs that a killed training could go on from; a checkpoint appears whole or not at all."""
    found = 0
    for path in home.glob("checkpoints/*/checkpoint-*.npz"):
        with contextlib.suppress(FileNotFoundError), np.load(path, allow_pickle=False) as arrays:
            found = max(found, len(json.loads(arrays["state"].tobytes())["seconds"]))
    return found


def cut_short(home: Path, *, epochs: int, by: signal.Signals) -> Done:
    """Start the run and end it, as a terminal or a machine does, in all its processes, after so many complete epochs."""
    started = time.monotonic()
    printed = [home.parent / name for name in ("stdout", "stderr")]
    with printed[0].open("wb") as out, printed[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.app", *KILLED],
            cwd=home,
            env=environment(home),
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            while epochs_in_checkpoints(home) < epochs:
                assert process.poll() is None, printed[1].read_text()
                assert time.monotonic() < started + 240
                time.sleep(0.05)
            os.killpg(process.pid, by)
            code = process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Done(code, printed[0].read_text(), printed[1].read_text())


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A store whose run was ended with Ctrl-C in the middle of training."""
    home = tmp_path_factory.mktemp("killed") / "var"
    home.mkdir()
    return home, cut_short(home, epochs=1, by=signal.SIGINT)


@pytest.fixture(scope="module")
def killed(interrupted: tuple[Path, Done]) -> Path:
    """The same store, where the next run was killed, and with it everything that could tell of it."""
    home = interrupted[0]
    cut_short(home, epochs=2, by=signal.SIGKILL)
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database, database:
        # As many killed runs as the machine has devices for, each with its lease.
        changed = database.execute("UPDATE concurrency_limit_v2 SET active_slots = \"limit\" WHERE name LIKE 'device%'").rowcount
        assert changed == 1
    return home


@dataclass(frozen=True)
class Resumed:
    """The same run once more, and what stood there before it."""

    done: Done
    models_before: list[dict[str, Any]]
    tables_before: list[list[str]]


@pytest.fixture(scope="module")
def resumed(killed: Path, warm: WarmCommand) -> Resumed:
    models = warm("models", "--json", home=killed).json
    tables = [sorted(path.name for path in table.iterdir()) for table in killed.glob("tables/*/[0-9a-f]*")]
    return Resumed(retrain(*KILLED, "--json", home=killed), models, tables)


def test_ctrl_c_ends_the_run_at_once_in_one_line(interrupted: tuple[Path, Done]) -> None:
    home, done = interrupted
    assert done.code == 130
    # Python's own tracker of semaphores may add that it cleaned up after the trainings.
    assert "retrain: stopped; the next run resumes from the last complete epoch\n" in done.err
    assert "Traceback" not in done.out + done.err
    assert ("CRASHED",) in query(home, "SELECT state_type FROM flow_run WHERE name LIKE 'retrain-jena %'")


def test_a_killed_run_registers_nothing_and_publishes_nothing_half(resumed: Resumed) -> None:
    # The linear baseline is done in seconds, before the training was killed.
    assert {model["variant"] for model in resumed.models_before} <= {"ridge"}
    assert resumed.tables_before == [["manifest.json", "test.parquet", "train.parquet", "val.parquet"]]


def test_a_killed_run_goes_on_from_its_last_epoch(killed: Path, resumed: Resumed, warm: WarmCommand) -> None:
    done = resumed.done
    assert done.code == 0, done.err
    (result,) = done.json
    assert result["table"]["published"] is False
    trained = result["results"][0]
    assert (trained["variant"], trained["trained"]) == ("gru_baseline", True)
    shown = warm("show", f"jena-sample@{trained['version']}", "--json", home=killed).json
    training = shown["manifest"]["training"]
    assert 2 <= training["resumed_from"] < 6
    assert training["epochs_run"] == 6
    assert {name: len(curve) for name, curve in training["curves"].items()} == {"loss": 6, "val_loss": 6}


def test_a_killed_run_is_marked_as_crashed_by_the_next_one(killed: Path, resumed: Resumed) -> None:
    assert resumed.done.code == 0
    states = query(killed, "SELECT DISTINCT state_type FROM flow_run")
    assert set(states) <= {("CRASHED",), ("COMPLETED",)}
    told = query(killed, "SELECT count(*) FROM flow_run_state WHERE message LIKE 'Its process was killed%'")
    assert told[0][0] >= 1
    assert query(killed, "SELECT count(*) FROM concurrency_limit_v2 WHERE active_slots > 0") == [(0,)]


def test_after_the_kill_only_whole_versions_stand(killed: Path, resumed: Resumed, warm: WarmCommand) -> None:
    listed = warm("models", "--json", home=killed).json
    assert sorted(entry["version"] for entry in listed) == [1, 2]
    assert {entry["variant"] for entry in listed} == {"gru_baseline", "ridge"}
    with closing(sqlite3.connect(f"file:{killed / 'mlflow' / 'mlflow.db'}?mode=ro", uri=True)) as database:
        assert database.execute("SELECT version FROM model_versions").fetchall() == [(1,), (2,)]
        statuses = [status for (status,) in database.execute("SELECT status FROM runs").fetchall()]
    # A version has a finished run of its own. What the kill struck while it was registered has failed, or is marked as killed.
    assert statuses.count("FINISHED") == 2
    assert set(statuses) <= {"FINISHED", "FAILED", "KILLED"}
    tables = list((killed / "tables" / "jena").iterdir())
    assert [path.name for path in tables if not path.name.startswith(".")] == [resumed.done.json[0]["table"]["version"]]
    assert not any(name.startswith("checkpoints/") for name in contents(killed))
