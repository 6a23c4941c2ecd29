"""`retrain gc` on a real store of the sample: told first, then removed, with what is in use untouched."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import WarmCommand, retrain

from benchmarks.housekeeping import age_everything

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = "jena-sample"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows(home: Path, query: str) -> Any:
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Path:
    """Three tables: one that nothing names, one that a champion was trained on, and the newest one."""
    home = tmp_path_factory.mktemp("gc") / "var"

    sample = ("jena", "--data", "sample")
    # The run is made by a command with a Prefect server of its own, whose database lies in this store.
    for command, *arguments in (
        (warm, "ingest", *sample, "--limit", "missing_values=0.3"),
        (retrain, "run", *sample, "--variants", "ridge", "--allow-baselines", "--no-refit"),
        (warm, "ingest", *sample, "--limit", "missing_values=0.2"),
    ):
        done = command(*arguments, home=home)
        assert done.code == 0, done.err
    for name in ("checkpoints/0123456789ab-0f/checkpoint.npz", ".scratch/partial/jena/0f/a.zip"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"x" * 1000)
    age_everything(home)
    return home


def test_the_store_is_told_then_cleaned_and_goes_on(aged: Path, warm: WarmCommand) -> None:
    home = aged
    tables = {path.name for path in (home / "tables" / "jena").iterdir() if not path.name.startswith(".")}
    champion = json.loads(warm("show", f"{MODEL}@champion", "--json", home=home).out)
    trained_on = champion["manifest"]["table"]["version"]
    files = {str(path) for path in home.rglob("*") if path.is_file() and "prefect" not in path.parts}
    before = size_of(home / "tables") + size_of(home / "reports") + size_of(home / "checkpoints")
    assert len(tables) == 3
    runs = rows(home, "SELECT count(*) FROM flow_run")[0][0]

    told = retrain("gc", "--keep", "1", "--json", home=home)
    assert told.code == 0, told.err
    plan = json.loads(told.out)
    assert not plan["applied"]
    assert files <= {str(path) for path in home.rglob("*") if path.is_file()}
    by_kind: dict[str, list[Any]] = {}
    for item in plan["items"]:
        by_kind.setdefault(item["kind"], []).append(item)
    (table,) = by_kind["table"]
    assert [item["version"] for item in by_kind["report"]] == [table["version"]]
    assert table["version"] in tables - {trained_on}
    assert {item["name"] for item in by_kind["checkpoint"]} == {"0123456789ab-0f"}
    assert "partial/jena/0f/a.zip" in {item["name"] for item in by_kind["scratch"]}

    done = retrain("gc", "--keep", "1", "--apply", "--json", home=home)
    assert done.code == 0, done.err
    assert {(item["kind"], item["name"]) for item in json.loads(done.out)["items"]} >= {
        (item["kind"], item["name"]) for item in plan["items"] if item["kind"] != "Prefect run"
    }
    after = size_of(home / "tables") + size_of(home / "reports") + size_of(home / "checkpoints")
    freed = sum(item["size_bytes"] for kind in ("table", "report", "checkpoint") for item in by_kind[kind])
    assert before - after == freed > 0
    assert {path.name for path in (home / "tables" / "jena").iterdir() if not path.name.startswith(".")} == tables - {
        table["version"]
    }
    # The run that made the champion stays, and logs and artifacts are all of runs that are there.
    assert rows(home, "SELECT count(*) FROM flow_run WHERE name NOT LIKE 'gc%'")[0][0] == runs
    known = "SELECT id FROM flow_run"
    assert rows(home, f"SELECT count(*) FROM log WHERE flow_run_id IS NOT NULL AND flow_run_id NOT IN ({known})") == [(0,)]
    assert rows(home, f"SELECT count(*) FROM artifact WHERE flow_run_id IS NOT NULL AND flow_run_id NOT IN ({known})") == [(0,)]

    again = retrain("gc", "--keep", "1", "--apply", "--json", home=home)
    assert json.loads(again.out)["items"] == []

    shown = warm("show", f"{MODEL}@champion", "--json", home=home)
    assert json.loads(shown.out) == champion
    found = warm("run", "jena", "--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit", "--json", home=home)
    assert found.code == 0, found.err
    (result,) = json.loads(found.out)
    assert (result["table"]["version"], result["table"]["published"]) == (trained_on, False)
    assert [each["trained"] for each in result["results"]] == [False]


def test_a_table_for_people_says_what_to_do(aged: Path, warm: WarmCommand) -> None:
    done = warm("gc", "--older-than", "5000d", "--leftover", "5000d", home=aged)
    assert done.code == 0, done.err
    assert "Nothing is old that nothing needs." in done.out


def test_an_age_that_cannot_be_is_one_line(aged: Path, warm: WarmCommand) -> None:
    done = warm("gc", "--older-than", "soon", home=aged)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("retrain: --older-than is 'soon'")
