"""The runs that several flow tests look at, each made once a session."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import NETWORK, SAMPLE_BUDGET, Done, Run, WarmCommand, retrain

# A refit costs a training more: `refit_run` and `refit_baseline_run` have it.
FIRST = ("run", "all", "--data", "sample", "--variants", NETWORK, "--no-refit", *SAMPLE_BUDGET)
EVERY_VARIANT = ("run", "all", "--data", "sample", "--variants", "all", "--no-refit", *SAMPLE_BUDGET)

_tried_again: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell of what a busy machine made Prefect try again: no test fails for it, and nobody would see it otherwise."""
    for line in _tried_again:
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist has no terminal: `tests/conftest.py` tells it in the process that has one."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried_again"] = _tried_again


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommand]:
    command = WarmCommand(tmp_path_factory.mktemp("warm"))
    try:
        yield command
    finally:
        command.close()


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end_to_end") / "var"


def _made(done: Done, *, home: Path, warm: WarmCommand) -> Run:
    with closing(sqlite3.connect(f"file:{home / 'prefect' / 'prefect.db'}?mode=ro", uri=True)) as database:
        again = database.execute("SELECT name, run_count FROM task_run WHERE run_count > 1").fetchall()
        logged = database.execute("SELECT timestamp, message FROM log WHERE level >= 30 ORDER BY timestamp").fetchall()
    _tried_again.extend(f"tried again: {name}, {count} times" for name, count in again)
    _tried_again.extend(f"  {timestamp} {message}" for timestamp, message in logged if again)
    assert done.code == 0, done.out + done.err
    listed = warm("models", "--json", home=home)
    assert listed.code == 0, listed.err
    return Run(done, home, json.loads(listed.out))


@pytest.fixture(scope="session")
def first_run(trained_home: Path, warm: WarmCommand) -> Run:
    """One network and the linear baselines of both data sets on the sample, from nothing."""
    return _made(retrain(*FIRST, home=trained_home), home=trained_home, warm=warm)


@pytest.fixture(scope="session")
def every_variant_run(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Run:
    """Every variant of both data sets, on a store of its own."""
    home = tmp_path_factory.mktemp("every_variant") / "var"
    return _made(retrain(*EVERY_VARIANT, home=home), home=home, warm=warm)


@pytest.fixture(params=["first_run", pytest.param("every_variant_run", marks=pytest.mark.slow)])
def new_run(request: pytest.FixtureRequest) -> Run:
    """A run on a new store: with one network of each data set, and with every variant."""
    run: Run = request.getfixturevalue(request.param)
    return run


@pytest.fixture(scope="session")
def refit_run(first_run: Run, tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Run:
    """A network of the Jena sample that becomes champion as it is by default: trained again on all rows."""
    home = _with_tables(first_run.home, home=tmp_path_factory.mktemp("refit") / "var")
    options = ("--data", "sample", "--variants", NETWORK, *SAMPLE_BUDGET)
    return _made(retrain("run", "jena", *options, home=home), home=home, warm=warm)


@pytest.fixture(scope="session")
def refit_baseline_run(first_run: Run, tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Run:
    """The same of a linear baseline, which is fitted in closed form."""
    home = _with_tables(first_run.home, home=tmp_path_factory.mktemp("refit_baseline") / "var")
    options = ("--data", "sample", "--variants", "ridge", "--allow-baselines")
    return _made(retrain("run", "jena", *options, home=home), home=home, warm=warm)


def _with_tables(other: Path, *, home: Path) -> Path:
    """Make a store that has published the same tables as another one, and nothing else."""
    for name in ("raw", "tables", "reports"):
        shutil.copytree(other / name, home / name)
    return home


@pytest.fixture(scope="session")
def second_run(first_run: Run, warm: WarmCommand) -> Run:
    """The same again."""
    home = first_run.home
    return _made(retrain(*FIRST, "--json", home=home), home=home, warm=warm)


@pytest.fixture(scope="session")
def worse_run(second_run: Run, warm: WarmCommand) -> Run:
    """One step of one epoch: a candidate that has learnt nothing."""
    home = second_run.home
    budget = ("--variants", NETWORK, "--epochs", "1", "--steps", "1", "--seed", "7")
    return _made(retrain("run", "jena", "--data", "sample", *budget, "--json", home=home), home=home, warm=warm)
