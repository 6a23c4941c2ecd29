"""What the project uses of the inside of its libraries is there: docs/explanation/library-internals.md has the table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from storage.layout import Store
from storage.registry import Registry
from tasks.datasets.spec import Expectation


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_a_prefect_command_runs_with_immediate_transactions() -> None:
    code = """
import sys
from flows.runtime import prefect_app
from prefect.server.database.configurations import AioSqliteConfiguration

sys.argv = ["prefect", "version"]
try:
    prefect_app.main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(AioSqliteConfiguration.begin_transaction.__module__)
"""
    assert python(code).splitlines()[-1] == "flows.runtime.prefect_app"


def test_the_app_of_the_server_can_be_asked_for_again() -> None:
    """Each action of an automation asks for it, when it has long started: no message would be sent otherwise."""
    code = """
import asyncio
from flows.runtime import prefect_app

prefect_app.serve_own_pages()
from prefect.server.api import server

app = server.create_app(ephemeral=True)
app.middleware_stack = app.build_middleware_stack()
again = server.create_app(ephemeral=True)
print(app is again, sum(each.cls is prefect_app.AskNoOtherHost for each in again.user_middleware))
"""
    assert python(code).splitlines()[-1] == "True 1"


def test_the_server_of_mlflow_becomes_one_process(tmp_path: Path) -> None:
    code = f"""
import os, sys
from flows.runtime import mlflow_server

def told(file, command, environment):
    print(file == sys.executable, *command[1:3], "--workers 1" in " ".join(command), environment["_MLFLOW_SERVER_FILE_STORE"])
    raise SystemExit(0)

os.execvpe = told
sys.argv = ["mlflow", "server", "--workers", "1", "--port", "1", "--backend-store-uri", "sqlite:///{tmp_path}/mlflow.db"]
mlflow_server.main()
"""
    assert python(code).splitlines()[-1] == f"True -m uvicorn True sqlite:///{tmp_path}/mlflow.db"


def test_logs_and_events_can_be_drained_in_a_given_time() -> None:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        _, late = worker.drain_all(timeout=20)
        assert not late


def test_leases_are_stored_in_files() -> None:
    code = """
import flows
from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage

print(type(get_concurrency_lease_storage()).__module__)
"""
    assert python(code) == "prefect.server.concurrency.lease_storage.filesystem"


def test_the_preloaded_modules_are_those_that_mlflow_uses(tmp_path: Path) -> None:
    before = [name for name in sys.modules if name.startswith("mlflow.store.")]
    Registry.open(Store.at(tmp_path))
    opened = {name for name in sys.modules if name.endswith(".sqlalchemy_store")} | set(before)
    assert {"mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"} <= opened


def test_a_validation_leaves_nothing_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingestion.validation import run_suite

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expectation = Expectation("column_values_to_not_be_null", {"column": "a"}, "critical", "A value is missing.")
    assert run_suite(pd.DataFrame({"a": [1.0]}), name="any", expectations=(expectation,)).outcomes[0].success
    assert list(tmp_path.iterdir()) == []


def test_saving_a_model_warns_of_the_copy_argument_of_numpy(keras: Any, tmp_path: Path) -> None:
    # Once this fails, the filters in storage/mlflow_compat.py and tests/conftest.py can be removed.
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.warns(DeprecationWarning, match="__array__ implementation doesn't accept a copy keyword"):
        model.save(tmp_path / "model.keras")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs the process table of Linux")
def test_the_fork_server_starts_before_its_first_process() -> None:
    code = """
import os
from pathlib import Path
from flows.runtime import process_pool

process_pool.PRELOADED, process_pool.GPU_DRIVERS = "json", ()
process_pool.start_importing()
children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
with process_pool.TrainingPool(max_workers=1) as pool:
    parent = pool._executor.submit(os.getppid).result()
print(str(parent) in children)
"""
    assert python(code) == "True"
