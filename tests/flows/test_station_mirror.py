"""Ingestion of the real files: counts and tokens that were taken from the data itself, not from a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow_helpers import ROOT, WarmCommand

FOLDERS = [Path(os.environ.get("RETRAIN_MIRROR") or "none"), ROOT.parent / "shared" / "data" / "mirror"]
# The tutorial prints this review: 218 tokens, of which these are the first after the padding.
TUTORIAL_REVIEW = [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65, 458, 4468, 66, 3941, 4, 173, 36, 256]
TUTORIAL_TOKENS = 218

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "var"


def mirror_with(*names: str) -> Path:
    for folder in FOLDERS:
        if all((folder / name).is_file() for name in (*names, "SHA256SUMS")):
            return folder.absolute()
    pytest.skip(f"no mirror holds {', '.join(names)}: name one in RETRAIN_MIRROR")


def manifest_of(table: dict[str, Any]) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(Path(table["uri"], "manifest.json").read_text())
    return manifest


@pytest.fixture(scope="module")
def jena(home: Path, warm: WarmCommand) -> dict[str, Any]:
    mirror = mirror_with("mpi_roof_2020a.zip", "mpi_roof_2020b.zip")
    station = {"source": "station", "options": {"from_period": "2020a", "to_period": "2020b"}}
    return warm.ingest("jena", home=home, mirror=mirror, data="mirror", **station)


@pytest.fixture(scope="module")
def imdb(home: Path, warm: WarmCommand) -> dict[str, Any]:
    return warm.ingest("imdb", home=home, mirror=mirror_with("imdb.npz", "imdb_word_index.json"), data="mirror")


def test_faults_of_2020_are_repaired_and_counted(jena: dict[str, Any]) -> None:
    manifest = manifest_of(jena)
    assert manifest["simulated"] is False
    assert manifest["source"] == "station"
    counts = {repair["name"]: repair["count"] for repair in manifest["repairs"]}
    # The stamp of 2020-05-12 06:00 comes twice, with equal readings.
    assert counts == {
        "repeated_rows": 1,
        "contradicting_rows": 0,
        "out_of_order_rows": 0,
        "missing_values": 1,
        "incomplete_rows": 0,
    }
    facts = manifest["facts"]
    assert facts["missing_values"] == {"wind_speed_m_per_s": 1}
    assert facts["gaps"] == 1
    assert facts["longest_gap_minutes"] == 100
    assert facts["missing_rows"] == 9
    assert facts["rows_read"] == 26_200 + 26_496
    assert facts["rows"] == 26_200 + 26_496 - 1


def test_rows_of_2020_are_split_in_the_shares_of_the_full_file(jena: dict[str, Any]) -> None:
    rows_read = 26_200 + 26_496
    train, val = round(rows_read * 200_000 / 420_551), round(rows_read * 100_000 / 420_551)
    assert jena["rows"] == {"train": train, "val": val, "test": rows_read - 1 - train - val}
    assert manifest_of(jena)["expectations"]["failed"] >= 0


def test_no_split_of_2020_holds_the_repeated_stamp_twice(jena: dict[str, Any]) -> None:
    stamps = [pq.read_table(Path(jena["uri"], f"{split}.parquet"))["timestamp"] for split in ("train", "val", "test")]
    seen = [stamp for column in stamps for stamp in column.to_pylist()]
    assert seen == sorted(set(seen))
    assert sum(stamp.isoformat() == "2020-05-12T06:00:00" for stamp in seen) == 1


def test_reviews_are_split_as_in_the_tutorial(imdb: dict[str, Any]) -> None:
    assert imdb["rows"] == {"train": 20_000, "val": 5_000, "test": 25_000}
    manifest = manifest_of(imdb)
    assert {repair["name"]: repair["count"] for repair in manifest["repairs"]} == {
        "empty_reviews": 0,
        "reviews_of_other_splits": 0,
    }
    assert sum(manifest["bounds"][split]["positives"] for split in ("train", "val")) == 12_500
    assert manifest["bounds"]["test"]["positives"] == 12_500


def test_the_review_of_the_tutorial_comes_out_of_the_published_table(imdb: dict[str, Any]) -> None:
    found = []
    for split in ("train", "val"):
        tokens = pq.read_table(Path(imdb["uri"], f"{split}.parquet"))["tokens"].to_pylist()
        found += [review for review in tokens if review[: len(TUTORIAL_REVIEW)] == TUTORIAL_REVIEW]
    assert [len(review) for review in found] == [TUTORIAL_TOKENS]
    assert max(found[0]) < 10_000


def test_the_same_files_again_publish_nothing(jena: dict[str, Any], home: Path, warm: WarmCommand) -> None:
    mirror = mirror_with("mpi_roof_2020a.zip", "mpi_roof_2020b.zip")
    station = {"source": "station", "options": {"from_period": "2020a", "to_period": "2020b"}}
    again = warm.ingest("jena", home=home, mirror=mirror, data="mirror", **station)
    assert again == {**jena, "published": False}
