"""The runs that several flow tests look at, each made once a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_helpers import Done, Run, WarmCommand, retrain

SAMPLE_BUDGET = ("--epochs", "2", "--steps", "40")


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
    assert done.code == 0, done.out + done.err
    listed = warm("models", "--json", home=home)
    assert listed.code == 0, listed.err
    return Run(done, home, json.loads(listed.out))


@pytest.fixture(scope="session")
def first_run(trained_home: Path, warm: WarmCommand) -> Run:
    """Both data sets on the sample, from nothing."""
    return _made(retrain("run", "all", "--data", "sample", *SAMPLE_BUDGET, home=trained_home), home=trained_home, warm=warm)


@pytest.fixture(scope="session")
def second_run(first_run: Run, warm: WarmCommand) -> Run:
    """The same again."""
    home = first_run.home
    return _made(retrain("run", "all", "--data", "sample", *SAMPLE_BUDGET, "--json", home=home), home=home, warm=warm)


@pytest.fixture(scope="session")
def worse_run(second_run: Run, warm: WarmCommand) -> Run:
    """One step of one epoch: a candidate that has learnt nothing."""
    home = second_run.home
    budget = ("--variants", "gru_baseline", "--epochs", "1", "--steps", "1", "--seed", "7")
    return _made(retrain("run", "jena", "--data", "sample", *budget, "--json", home=home), home=home, warm=warm)
