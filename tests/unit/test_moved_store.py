"""A store with real models goes on where it was copied to: another folder, and S3; nothing is written to where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore, running_object_store
from test_artifacts import make_absolute, python, values_of

from storage.layout import Store

pytestmark = pytest.mark.slow

NAME = "jena-sample"

# A person promotes the worse version, then a run compares both and promotes the better one; last, a version is added.
GO_ON = """
import json, sys
from storage.layout import Store
from storage.records import RunRecord
from storage.references import ModelRef, TableRef
from storage.registry import Registry
from storage.tables import newest_version
from tasks.config import PromotionSettings, TrainSettings
from tasks.promotion.log import read_log
from tasks.promotion.promote import apply_decision, decide_best, promote_by_hand
from tasks.training.registering import find_trained

store = Store.from_environment()
registry = Registry.open(store)
table = TableRef.model_validate_json(sys.argv[1])
better, worse = (ModelRef.model_validate_json(text) for text in sys.argv[2:4])
for version in registry.versions(worse.name):
    for alias in version.aliases:  # of other tests
        registry.delete_alias(worse.name, alias)
assert newest_version(store, "jena", simulated=True) == table.version
promote_by_hand(f"{worse.name}@{worse.version}", registry=registry, store=store)
settings = PromotionSettings(refit=False, margin=0.001)
pending = decide_best(
    [better, worse], table=table, settings=settings, placement=TrainSettings(), registry=registry, store=store
)
decision = apply_decision(pending, refitted=None, registry=registry, store=store)
found = find_trained(
    table, variant="gru_baseline", settings=TrainSettings.model_validate_json(sys.argv[4]), registry=registry, store=store
)
champion = registry.resolve(f"{worse.name}@champion")
record = RunRecord(
    run_name="again", variant="gru_baseline", training_key="again", params={}, metrics=champion.metrics, curves={},
    tags=champion.tags, manifest={}, pip_requirements=["keras"],
)
made = registry.register(worse.name, model=registry.load_model(champion), record=record)
again = registry.load_model(made).get_weights()
assert all((a == b).all() for a, b in zip(registry.load_model(champion).get_weights(), again, strict=True))
print(json.dumps({
    "outcome": decision.outcome, "champion": champion.version, "found": found and found.version, "made": made.version,
    "lines": len(read_log(worse.name, registry=registry, store=store)),
}))
"""


COUNT_WEIGHTS = f"""
from storage.layout import Store
from storage.registry import Registry
registry = Registry.open(Store.from_environment())
print(len(registry.load_model(registry.resolve("{NAME}@champion")).get_weights()))
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects


@pytest.fixture
def copied(trained: Any, tmp_path: Path) -> Path:
    """A copy of the store with two trained versions, with the locations of version 0.1 in a place that is gone; no scores."""
    home = tmp_path / "copied"
    left_out = ("evaluations", "promotions", ".scratch", "reports", "*.lock")
    shutil.copytree(str(trained.store.root), home, ignore=shutil.ignore_patterns(*left_out))
    assert make_absolute(home / "mlflow" / "mlflow.db", place=(tmp_path / "old").as_uri()) > 8
    return home


def go_on(trained: Any, *, home: str, cwd: Path, **variables: str) -> dict[str, Any]:
    cwd.mkdir()
    references = [value.model_dump_json() for value in (trained.table, trained.better, trained.worse, trained.better_settings)]
    said: dict[str, Any] = json.loads(python(GO_ON, *references, cwd=cwd, RETRAIN_HOME=home, **variables).splitlines()[-1])
    assert list(cwd.iterdir()) == []
    return said


def check(said: dict[str, Any], *, trained: Any) -> None:
    better = trained.better.version
    assert (said["outcome"], said["champion"], said["found"]) == ("promoted", better, better)
    assert said["made"] > trained.worse.version
    assert said["lines"] == 2 + 3  # of the person, and of the run


@pytest.mark.slow
def test_on_another_disk(trained: Any, copied: Path, tmp_path: Path) -> None:
    new = copied.rename(tmp_path / "another place")
    check(go_on(trained, home=str(new), cwd=tmp_path / "work"), trained=trained)
    assert not (tmp_path / "old").exists()
    assert not copied.exists()
    assert not [text for _, text in values_of(new / "mlflow" / "mlflow.db") if str(tmp_path) in text or "file:" in text]


@pytest.mark.slow
def test_on_s3_and_back_on_a_disk(trained: Any, copied: Path, objects: ObjectStore, tmp_path: Path) -> None:
    """The database is restored elsewhere, as PostgreSQL would be."""
    database = tmp_path / "registry.db"
    (copied / "mlflow" / "mlflow.db").rename(database)
    store = objects.store("restored")
    store.root.fs.put(f"{copied}/", f"{store.root.path}/", recursive=True)
    shutil.rmtree(copied)
    variables = {**objects.environment, "MLFLOW_TRACKING_URI": f"sqlite:///{database}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    check(go_on(trained, home=str(store.root), cwd=tmp_path / "work", **variables), trained=trained)
    written = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")}
    assert written == {"cache", "registry.db", "work"}
    assert not Path("/old").exists()

    back = tmp_path / "back"
    store.root.fs.get(f"{store.root.path}/", f"{back}/", recursive=True)
    shutil.copy(database, back / "mlflow" / "mlflow.db")
    lines = sorted(path.name for path in Path(str(Store.at(back).promotions(NAME))).iterdir())
    assert lines == [f"0000000{number}.json" for number in range(1, 6)]
    (tmp_path / "again").mkdir()
    assert int(python(COUNT_WEIGHTS, cwd=tmp_path / "again", RETRAIN_HOME=str(back)).split()[-1]) > 3
