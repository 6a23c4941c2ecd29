"""A store that release 0.1.0 has filled at another place is opened by today's code, put right, and goes on.

`tests/data/store-0.1.0.tar.xz` was made by the code of that release, the last commit before decision 0016, with
`retrain run jena --data sample --variants gru_baseline --epochs 2 --steps 40` and `retrain promote jena-sample@1`. To be small it
has no raw files, no reports and evaluations, no `train.parquet`, two of the sixteen examples of each model, and no free pages in
its databases.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import WarmCommand, retrain

from storage.layout import Store
from storage.registry import Registry
from storage.schema import migrations_of, revision_of
from storage.tables import published_versions, read_table
from tasks.ingestion.pipeline import table_ref
from tasks.promotion.comparison import load_check

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "store-0.1.0.tar.xz"
MODEL = "jena-sample"


def query(home: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        return database.execute(text).fetchall()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store as it was, which nothing opens."""
    folder = tmp_path_factory.mktemp("packed")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "var"


@pytest.fixture(scope="module")
def opened(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that the tests open, one after the other."""
    home = tmp_path_factory.mktemp("opened") / "var"
    shutil.copytree(packed, home)
    return home


def retrains(home: Path) -> int:
    """Return how many runs of the flow `retrain` Prefect knows of."""
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        return int(
            database.execute(
                "SELECT count(*) FROM flow_run r JOIN flow f ON f.id = r.flow_id WHERE f.name = 'retrain'"
            ).fetchone()[0]
        )


def aliases(home: Path) -> dict[str, int]:
    return dict(query(home, "SELECT alias, version FROM registered_model_aliases"))


def test_the_doctor_tells_what_will_be_put_right_and_changes_nothing(packed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(packed.rglob("*"))}
    done = retrain("doctor", "--json", home=packed)
    findings = [each for each in json.loads(done.out)["findings"] if each["check"] == "databases"]
    assert [(each["level"], "absolute" in each["text"]) for each in findings] == [("ok", False), ("ok", False), ("warning", True)]
    assert {path: path.stat().st_mtime_ns for path in sorted(packed.rglob("*"))} == before


def test_versions_aliases_scores_and_decisions_are_those_of_before(packed: Path, opened: Path, warm: WarmCommand) -> None:
    versions = {(number, run_id) for number, run_id in query(packed, "SELECT version, run_id FROM model_versions")}
    assert len(versions) == 2
    assert {"champion", "previous"} <= aliases(packed).keys()
    listed = json.loads(warm("models", "--json", home=opened).out)
    assert {(each["version"], each["run_id"]) for each in listed} == versions
    assert {alias: each["version"] for each in listed for alias in each["aliases"]} == aliases(packed)
    lines = [json.loads(line) for line in (packed / "promotions" / f"{MODEL}.jsonl").read_text().splitlines()]
    shown = json.loads(warm("show", f"{MODEL}@champion", "--json", home=opened).out)
    plain = warm("show", f"{MODEL}@previous", home=opened)
    assert plain.code == 0, plain.err
    about = {line["decision"]["reason"] for line in lines if "decision" in line and line["candidate"] == shown["version"]}
    assert {each["decision"]["reason"] for each in shown["decisions"]} == about != set()
    assert shown["manifest"]["training_key"]
    # Nothing in the registry names the place where the store was made.
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")):
        assert not [
            place for (place,) in query(opened, f"SELECT {column} FROM {table}") if not place.startswith("mlflow-artifacts:")
        ]


def test_every_model_loads_and_predicts_what_it_did(opened: Path) -> None:
    store = Store.at(opened)
    registry = Registry.open(store)
    versions = registry.versions(MODEL)
    assert [
        load_check(version, registry=registry).detail for version in versions if not load_check(version, registry=registry).passed
    ] == []


def test_its_table_is_read(opened: Path) -> None:
    store = Store.at(opened)
    (version,) = published_versions(store, "jena")
    table = table_ref("jena", version=version, store=store, published=False)
    for split in ("val", "test"):
        rows = read_table(store.table_folder("jena", version) / f"{split}.parquet")
        assert rows.num_rows == table.rows[split]
        assert "temperature_degc" in rows.column_names


def test_it_goes_on(packed: Path, opened: Path, warm: WarmCommand) -> None:
    """A person promotes the version before, a run publishes a table by today's rules, trains, and the old runs are there."""
    before = aliases(opened)
    done = warm("promote", f"{MODEL}@{before['previous']}", home=opened)
    assert done.code == 0, done.err
    assert aliases(opened)["champion"] == before["previous"]
    old_tables = published_versions(Store.at(opened), "jena")
    ran = retrain(
        "run", "jena", "--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit", "--json", home=opened
    )
    assert ran.code == 0, ran.err
    (result,) = json.loads(ran.out)
    assert result["table"]["version"] not in old_tables
    assert set(old_tables) < set(published_versions(Store.at(opened), "jena"))
    assert result["decision"]["outcome"] in ("promoted", "kept")
    # The runs of before are there: one that failed, and one that completed.
    assert (retrains(packed), retrains(opened)) == (2, 3)
    shown = json.loads(warm("show", f"{MODEL}@{before['previous']}", "--json", home=opened).out)
    assert [each["by"] for each in shown["decisions"]][-1] == "person"
    assert revision_of(f"sqlite:///{opened}/mlflow/mlflow.db") == migrations_of("mlflow", dialect="sqlite").head


def test_cleaning_it_up_keeps_what_is_in_use(opened: Path, warm: WarmCommand) -> None:
    done = warm("gc", "--apply", "--older-than", "1d", "--leftover", "1d", "--keep", "1", "--json", home=opened)
    assert done.code == 0, done.err
    assert json.loads(warm("show", f"{MODEL}@champion", "--json", home=opened).out)["aliases"]
