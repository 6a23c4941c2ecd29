"""The processes of a run: where those of trainings come from, and a server that lets its writers wait."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from flow_helpers import ROOT, python

from flows.runtime import process_pool
from flows.runtime.new_database import DATABASE, new_database
from flows.runtime.server import prefect_server
from storage.database_file import template
from storage.errors import SettingError
from storage.layout import Store

WRITERS, WRITES = 8, 25

pytestmark = pytest.mark.slow


def described(names: tuple[str, ...]) -> dict[str, Any]:
    return {"parent": os.getppid(), "imported": [name for name in names if name in sys.modules]}


def in_a_training_process(*names: str) -> dict[str, Any]:
    with process_pool.TrainingPool(max_workers=1) as pool:
        assert pool._executor
        return pool._executor.submit(described, names).result()


# What trainings come from is started once in a process, perhaps by a test before this one: so this is asked in a new process.
ASKED_IN_A_NEW_PROCESS = """
import json, os
from test_process_pool import in_a_training_process

# The second pool is that of another data set.
pools = [in_a_training_process("keras", "tensorflow", "mlflow", "flows.train"), in_a_training_process()]
print(json.dumps({"own": os.getpid(), "pools": pools}))
"""


def test_a_training_finds_all_that_it_needs_imported(tmp_path: Path) -> None:
    path = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    done = python("-W", "ignore", "-c", ASKED_IN_A_NEW_PROCESS, home=tmp_path, PYTHONPATH=path)
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    first, second = found["pools"]
    assert first["imported"] == ["keras", "tensorflow", "mlflow", "flows.train"]
    assert first["parent"] == second["parent"] != found["own"]


def test_beside_a_gpu_each_imports_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "GPU_DRIVERS", (tmp_path,))
    assert in_a_training_process("keras", "tensorflow") == {"parent": os.getpid(), "imported": []}


def test_writers_that_come_together_are_all_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's own app let in 15 to 18 of these 200 and answered most of the others by 503 (measured three times)."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with prefect_server(Store.at(tmp_path)) as api, httpx.Client(base_url=api, timeout=60) as client:
        flow = client.post("/flows/", json={"name": "any"}).json()["id"]
        run = client.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "PENDING"}}).json()["id"]

        def write(writer: int) -> list[int]:
            given = [{"flow_run_id": run, "task_key": f"task {writer}", "dynamic_key": str(i)} for i in range(WRITES)]
            return [client.post("/task_runs/", json=one).status_code for one in given]

        with ThreadPoolExecutor(WRITERS) as writers:
            codes = Counter(code for done in writers.map(write, range(WRITERS)) for code in done)
    assert codes == {201: WRITERS * WRITES}


def flow_names(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / DATABASE)) as database:
        return [name for (name,) in database.execute("select name from flow")]


def test_a_new_store_gets_a_copy_of_the_cached_empty_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("PREFECT_HOME", str(first))
    with prefect_server(Store.at(tmp_path)) as api:
        httpx.post(f"{api}/flows/", json={"name": "of the first store"})
    assert flow_names(first) == ["of the first store"]
    cached = template("prefect")
    assert list(cached.parent.iterdir()) == [cached]
    with new_database(second):
        assert flow_names(second) == []
    with closing(sqlite3.connect(second / DATABASE)) as database:
        database.execute("insert into flow (id, name) values ('1', 'of the second store')")
        database.commit()
    # A database that is there stays, and is never cached.
    cached.unlink()
    with new_database(second):
        assert flow_names(second) == ["of the second store"]
    assert not cached.exists()


def test_no_second_server_starts_on_a_database_before_the_first_one_answers(tmp_path: Path) -> None:
    home = tmp_path / "home"
    entered = Event()

    def second() -> bool:
        with new_database(home):
            entered.set()
            return (home / DATABASE).exists()

    with ThreadPoolExecutor() as threads:
        with new_database(home):
            later = threads.submit(second)
            assert not entered.wait(0.3)
        assert later.result()


def test_a_file_that_is_no_database_is_told_and_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / DATABASE).write_bytes(b"half of a database")
    with pytest.raises(SettingError, match=rf"{DATABASE} cannot be read \(file is not a database\)"):
        new_database(home).__enter__()
    assert (home / DATABASE).read_bytes() == b"half of a database"
    (home / DATABASE).unlink()
    with new_database(home):
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"PREFECT_HOME is '.*/file/home', expected a folder that can be written"):
        new_database(tmp_path / "file" / "home").__enter__()


def test_a_database_elsewhere_is_left_to_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://nobody@127.0.0.1/none")
    with pytest.raises(SettingError, match=r"PostgreSQL at 127\.0\.0\.1:5432/none cannot be read"):
        new_database(tmp_path / "home").__enter__()
    assert not (tmp_path / "home").exists()
