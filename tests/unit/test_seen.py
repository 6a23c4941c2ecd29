"""What a version has seen: recorded with it, or told by what there is of a version of before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.layout import Store
from storage.records import ModelVersion
from storage.tables import read_splits
from tasks.models import PROBLEMS
from tasks.training.seen import SeenRows, describe_seen, ids_of_test_rows, seen_by

NAME = "jena-sample"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))), st.lists(st.integers(0, 50)))
def test_a_row_was_seen_if_a_span_or_the_ids_hold_it(ends: list[tuple[int, int]], ids: list[int]) -> None:
    spans = tuple((min(pair), max(pair)) for pair in ends)
    seen = SeenRows(spans=spans, ids=np.unique(np.array(ids, dtype=np.int64)))
    expected = [row in ids or any(first <= row <= last for first, last in spans) for row in range(52)]
    assert seen.among(np.arange(52)).tolist() == expected


def test_a_series_is_described_by_the_first_and_last_stamp_of_each_split() -> None:
    def split(*stamps: str) -> pa.Table:
        return pa.table({"timestamp": pa.array(np.array(stamps, dtype="datetime64[s]"))})

    splits = {
        "train": split("2009-01-01T00:10", "2009-01-01T00:20"),
        "val": split("2009-01-01T00:30"),
        "test": split("2010-01-01"),
    }
    described, ids = describe_seen(splits, names=("train", "val"), problem=PROBLEMS["jena"])
    assert described == {
        "train": {"rows": 2, "first_stamp": "2009-01-01T00:10:00", "last_stamp": "2009-01-01T00:20:00"},
        "val": {"rows": 1, "first_stamp": "2009-01-01T00:30:00", "last_stamp": "2009-01-01T00:30:00"},
    }
    assert ids.size == 0


def test_reviews_are_described_by_their_ids(tiny: Any) -> None:
    splits, _ = tiny("imdb")
    described, ids = describe_seen(splits, names=("train", "val"), problem=PROBLEMS["imdb"])
    assert described == {"train": {"rows": 96}, "val": {"rows": 96}}
    seen = SeenRows(ids=ids)
    assert seen.among(PROBLEMS["imdb"].row_ids(splits["train"].slice(40))).all()
    # The label and the place in the file are no part of what a review is.
    moved = splits["val"].set_column(2, "review", pa.array(np.arange(96)))
    assert seen.among(PROBLEMS["imdb"].row_ids(moved)).all()
    texts = {tuple(review) for name in ("train", "val") for review in splits[name]["tokens"].to_pylist()}
    expected = [tuple(review) in texts for review in splits["test"]["tokens"].to_pylist()]
    assert seen.among(PROBLEMS["imdb"].row_ids(splits["test"])).tolist() == expected


class Manifest:
    """The manifest of a registered version, which a test may change as older code would have left it."""

    def __init__(self, trained: Any) -> None:
        self.registry = trained.registry
        self.version: ModelVersion = trained.registry.version(NAME, trained.better.version)
        self.content: dict[str, Any] = json.loads(trained.registry.read_file(self.version.run_id, "manifest.json"))

    def write(self, content: dict[str, Any]) -> None:
        self.registry._client.log_text(self.version.run_id, json.dumps(content), "manifest.json")


@pytest.fixture
def manifest(trained: Any) -> Iterator[Manifest]:
    manifest = Manifest(trained)
    yield manifest
    manifest.write(manifest.content)


def seen(trained: Any, *, store: Store | None = None) -> SeenRows:
    version = trained.registry.version(NAME, trained.better.version)
    return seen_by(version, problem=PROBLEMS["jena"], registry=trained.registry, store=store or trained.store)


def test_a_version_has_seen_its_train_and_validation_rows_and_no_test_row(trained: Any) -> None:
    splits, _ = read_splits(trained.table, store=trained.store)
    rows = seen(trained)
    assert rows.is_known
    assert [len(splits[name]) for name in ("train", "val")] == [
        int(rows.among(PROBLEMS["jena"].row_ids(splits[name])).sum()) for name in ("train", "val")
    ]
    assert not rows.among(ids_of_test_rows(trained.table, problem=PROBLEMS["jena"], store=trained.store)).any()


def test_a_version_without_a_record_has_seen_what_its_manifest_says_of_its_splits(trained: Any, manifest: Manifest) -> None:
    recorded = seen(trained)
    training = {name: value for name, value in manifest.content["training"].items() if name != "seen"}
    manifest.write({**manifest.content, "training": training})
    assert seen(trained).spans == recorded.spans

    # A manifest without bounds: the table itself tells, as long as it is there.
    table = {name: value for name, value in manifest.content["table"].items() if name != "bounds"}
    manifest.write({**manifest.content, "training": training, "table": table})
    assert seen(trained).spans == recorded.spans


def test_nobody_knows_what_a_version_has_seen_whose_record_and_table_are_gone(
    trained: Any, manifest: Manifest, tmp_path: Any
) -> None:
    training = {name: value for name, value in manifest.content["training"].items() if name != "seen"}
    table = {name: value for name, value in manifest.content["table"].items() if name != "bounds"}
    manifest.write({**manifest.content, "training": training, "table": table})
    rows = seen(trained, store=Store.at(tmp_path))
    assert (rows.is_known, rows.spans) == (False, ())
    assert not rows.among(np.arange(5)).any()
