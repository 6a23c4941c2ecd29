"""The tutorials, followed in a copy of the project: what they say is done, and what they promise comes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from copy_of_the_project import ROOT, Followed, follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return follow(TUTORIALS / "add-a-data-set.md", into=tmp_path_factory.mktemp("data-set") / "copy")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load-store")


@pytest.fixture(scope="module")
def first_run(data_set: Followed, store: Path) -> str:
    done = data_set.run("run", "load", "--data", "sample", store=store)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_data_set_takes_two_files_and_one_line(data_set: Followed, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sum(data_set.new_files.values()) + data_set.changed_lines
    with capsys.disabled():
        sys.stdout.write(
            f"\nload data set: {len(data_set.new_files)} own files, {data_set.changed_lines} line elsewhere, {lines} in all\n"
        )
    assert len(data_set.new_files) == 2
    assert data_set.changed_lines == 1
    assert lines <= 200


def test_a_load_forecast_is_in_mw_from_terminal_to_picture(first_run: str, store: Path) -> None:
    rows = [line for line in first_run.splitlines() if re.match(r"│ (gru|ridge) ", line)]
    assert len(rows) == 2
    assert all(row.count(" MW ") == 2 for row in rows)
    (report,) = (store / "reports" / "load").glob("*/report.md")
    text = report.read_text(encoding="utf-8")
    assert "°C" not in text.replace("temperature_degc", "")
    assert "test MAE (MW)" in text
    assert "load 24 h before the target" in text
    assert "recurrent layer 1, GRU(32): fast loop" in text
    pictures = {path.name for path in report.parent.glob("*.png")}
    assert "load-of-the-whole-series-and-of-its-first-ten-days.png" in pictures


def test_nothing_is_trained_twice_and_another_question_has_a_name_of_its_own(
    data_set: Followed, first_run: str, store: Path
) -> None:
    def run(*more: str) -> dict[str, object]:
        done = data_set.run("run", "load", "--data", "sample", "--json", *more, store=store)
        assert done.returncode == 0, done.stdout + done.stderr
        (result,) = json.loads(done.stdout)
        return {
            "model": result["model"],
            "trained": {each["variant"]: each["trained"] for each in result["results"]},
            "reason": result["decision"]["reason"],
        }

    again = run()
    assert (again["model"], again["trained"]) == ("load-sample", {"gru": False, "ridge": False})
    question = run("--horizon-rows", "6", "--epochs", "1", "--steps", "20", "--no-refit")
    assert question["model"] == "load-load-mw-6-rows-sample"
    assert question["trained"] == {"gru": True, "ridge": True}
    # Another lookback answers the same question: its model competes with the others, on the examples of both.
    lookback = run("--lookback-rows", "72", "--no-refit")
    assert lookback["model"] == "load-sample"
    assert "champion v3" in str(lookback["reason"])  # which is v2, trained again on all rows
    assert lookback["trained"] == {"gru": True, "ridge": True}


def test_the_champion_forecasts_in_mw(data_set: Followed, first_run: str, store: Path) -> None:
    done = data_set.run("predict", "load-sample", store=store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "load (MW)" in done.stdout
    assert re.search(r"load-sample@\d+ as of \S+: -?\d+\.\d+ MW at \S+ \(80 %: ", done.stdout)


def test_a_data_set_holds_the_contracts(data_set: Followed) -> None:
    done = data_set.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts", "-k", "load and not documents")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 30


def test_the_other_data_sets_run_as_before(data_set: Followed) -> None:
    """A plain `retrain run` plans every data set with its own variants."""
    code = (
        "from flows.cli.plan import plan_runs; print([(p['dataset'], p['variants']) for p in "
        "plan_runs('all', variants=None, data={'data': 'sample', 'source': None, 'options': {}}, training={}, promotion={})])"
    )
    done = data_set.python("-c", code)
    networks = ("gru_baseline", "gru_dropout")
    assert done.stdout.strip() == str([("jena", networks), ("imdb", networks), ("load", ("gru",))]), done.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return follow(TUTORIALS / "add-a-network.md", into=tmp_path_factory.mktemp("network") / "copy")


def test_a_network_takes_no_file(network: Followed) -> None:
    assert network.new_files == {}
    assert network.changed_lines <= 20


def test_a_network_is_trained_registered_and_told_how_it_ran(network: Followed, tmp_path: Path) -> None:
    budget = ("--epochs", "1", "--steps", "20", "--no-refit")
    command = ("run", "jena", "--data", "sample", "--variants", "gru_wide", *budget, "--json")
    done = network.run(*command, store=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(done.stdout)
    assert {each["variant"]: each["trained"] for each in result["results"]} == {"gru_wide": True, "ridge": True}
    listed = network.run("variants", "jena", store=tmp_path)
    assert re.search(r"gru_wide .*GRU\(64\), Dense\(16\), Dense\(1\)", listed.stdout), listed.stdout + listed.stderr
    shown = network.run("show", "jena-sample@candidate", store=tmp_path)
    assert "recurrent layer 1, GRU(64): fast loop" in shown.stdout

    # A changed network is another training under the same name.
    networks = network.folder / "tasks" / "models" / "networks" / "jena.py"
    followed = networks.read_text(encoding="utf-8")
    networks.write_text(followed.replace("keras.layers.GRU(64)", "keras.layers.GRU(96)"), encoding="utf-8")
    done = network.run(*command, store=tmp_path)
    networks.write_text(followed, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(done.stdout)
    assert {each["variant"]: each["trained"] for each in result["results"]} == {"gru_wide": True, "ridge": False}


def test_a_network_holds_the_contracts(network: Followed) -> None:
    done = network.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts", "-k", "jena-gru_wide")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
