"""What goes of a store on a real object store, and what the doctor says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from object_store import KEY, ObjectStore, running_object_store
from retention_helpers import MadeUp

from tasks.diagnosis.network import check_object_store
from tasks.diagnosis.store import check_store
from tasks.retention.plan import store_items, tables_of
from tasks.retention.remove import remove_item
from tasks.retention.settings import RetentionSettings


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("objects")) as objects:
        yield objects


def test_old_things_go_and_what_is_needed_stays(objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = MadeUp(objects.store("retention"))
    for name, stamp in (("old", "2025"), ("newest", "2026")):
        made.table("jena", name, age_days=0, stamp=stamp)
        made.report("jena", name, age_days=0)
        made.evaluation(name, "k", age_days=0)
        made.checkpoint(name, "k", age_days=0)
    settings, now = RetentionSettings(keep=1), datetime.now(tz=UTC)

    def items_at(moment: datetime) -> set[tuple[str, str]]:
        items = store_items(made.store, known=made.known, gone=(), tables=tables_of(made.store), settings=settings, now=moment)
        if moment > now + timedelta(days=90):
            for item in items:
                remove_item(item, store=made.store)
        return {(item.kind, item.name) for item in items}

    assert items_at(now + timedelta(days=1)) == set()
    assert items_at(now + timedelta(days=20)) == {("checkpoint", "old-k"), ("checkpoint", "newest-k")}
    expected = {("table", "jena/old"), ("report", "jena/old"), ("evaluation", "old/k"), ("evaluation", "newest/k")}
    later = now + timedelta(days=100)
    assert items_at(later) == expected | {("checkpoint", "old-k"), ("checkpoint", "newest-k")}
    assert made.files() == {
        "tables/jena/newest/manifest.json",
        "tables/jena/newest/test.parquet",
        "reports/jena/newest/index.html",
        "reports/jena/newest/static/style.css",
    }
    assert items_at(later) == set()


def test_the_doctor_reads_the_store_and_its_clock(objects: ObjectStore) -> None:
    made = MadeUp(objects.store("doctor"))
    made.table("jena", "0f", age_days=0)
    address = "s3://retrain/doctor"
    found = [*check_store(address), *check_object_store(address, endpoint=objects.environment["AWS_ENDPOINT_URL"])]
    assert [finding.level for finding in found] == ["ok"] * 4
    assert [finding.check for finding in found] == ["store", "store", "reachable", "clocks"]


def test_a_wrong_key_is_a_fault_that_tells_none(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-key")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    (finding,) = check_store("s3://retrain/doctor")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert finding.level == "fault"
    assert "another-key" not in finding.text + finding.remedy
    assert KEY not in finding.text + finding.remedy
