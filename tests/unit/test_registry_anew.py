"""A registry that was lost and made anew: decisions about its versions do not count for those of the same numbers."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from storage.layout import Store
from storage.registry import CHAMPION, PREVIOUS, Registry
from tasks.promotion.log import open_log, read_log, settle, superseded_since

NAME = "jena-sample"


def with_versions(store: Store, count: int = 2) -> Registry:
    """A registry whose model has some complete versions, without files."""
    registry = Registry.open(store)
    experiment = registry.client.create_experiment(NAME, artifact_location=f"mlflow-artifacts:/{NAME}")
    registry.client.create_registered_model(NAME)
    for _ in range(count):
        run = registry.client.create_run(experiment).info.run_id
        registry.client.create_model_version(NAME, f"mlflow-artifacts:/{NAME}/none", run_id=run, tags={"complete": "true"})
    return registry


def with_the_log_of(store: Store, *, home: Path) -> Store:
    """A store with a new registry and an old log, as where `mlflow.db` was lost. MLflow keeps an open one by its path."""
    shutil.copytree(str(store.promotions(NAME)), str(Store.at(home).promotions(NAME)))
    return Store.at(home)


def promoted(version: int, *, over: int | None, at: str = "2026-11-29T10:00:00+00:00") -> list[dict[str, object]]:
    """The lines of a run that promoted a version."""
    decision = {"outcome": "promoted", "reason": "r", "candidate": f"v{version}", "champion": f"v{over}" if over else None}
    line = {
        "at": at,
        "key": f"k{version}",
        "candidate": version,
        "by": "run",
        "decision": {**decision, "checks": [], "refit": None},
    }
    move = {"at": at, "key": f"k{version}", "candidate": version, "before": over, "moves": {CHAMPION: version, PREVIOUS: over}}
    return [line, move]


def test_lines_about_a_lost_registry_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.at(tmp_path)
    registry = with_versions(store)
    log = open_log(NAME, registry=registry, store=store)
    for version, over in ((1, None), (2, 1)):
        log.entries()
        assert all(log.add(line) for line in promoted(version, over=over))
        settle(NAME, registry=registry, store=store)
    assert superseded_since([line for line in read_log(NAME, registry=registry, store=store) if line["candidate"] == 1])

    store = with_the_log_of(store, home=tmp_path / "anew")
    anew = with_versions(store)
    with caplog.at_level(logging.WARNING, logger="retrain"):
        standing = settle(NAME, registry=anew, store=store)
    assert (standing.champion, standing.lines) == (None, [])
    assert "its 6 logged decisions are about versions of a registry that was lost or emptied" in caplog.text
    # The new version 1 can become champion, and once it has, nothing is told any more.
    assert all(standing.log.add(line) for line in promoted(1, over=None))
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="retrain"):
        champion = settle(NAME, registry=anew, store=store).champion
    assert champion is not None
    assert champion.version == 1
    assert caplog.text == ""
    # What was logged before stays for people to read.
    assert len(list(store.promotions(NAME).iterdir())) == 9


def test_a_model_that_is_not_registered_has_no_decisions(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    assert open_log(NAME, registry=with_versions(store), store=store).add(promoted(1, over=None)[0])
    store = with_the_log_of(store, home=tmp_path / "anew")
    assert read_log(NAME, registry=Registry.open(store), store=store) == []


def test_lines_of_earlier_releases_count_if_they_are_not_older_than_the_model(tmp_path: Path) -> None:
    """They do not say in which registry they were made."""
    store = Store.at(tmp_path)
    registry = with_versions(store)
    folder = store.promotions(NAME)
    folder.mkdir(parents=True)
    for number, at in enumerate(("2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"), start=1):
        (folder / f"{number:08d}.json").write_text(json.dumps(promoted(number, over=None, at=at)[0]))
    assert [line["candidate"] for line in read_log(NAME, registry=registry, store=store)] == [2]
