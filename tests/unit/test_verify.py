"""`retrain verify`: one flipped bit is found in whatever file it is, and what can be made again is made again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sample_helpers import publish_sample, register
from upath import UPath

from storage.attempts import begin_attempt
from storage.checksums import CHECKSUMS, checksums_of
from storage.io import write_record
from storage.layout import Store
from storage.registry import Registry
from tasks.ingestion.pipeline import write_missing_docs
from tasks.prediction.issued import REVIEWS_SCHEMA, append_issued
from tasks.promotion.promote import promote_by_hand
from tasks.reporting.collect import RenderedReport, save_report
from tasks.training.fitting import Checkpoints
from tasks.verification.check import Checked, check_store
from tasks.verification.dependents import known_of
from tasks.verification.repair import repair_store
from tasks.verification.report import VerifiedRef, notes_of, rows_of, summary_of, verified

MODEL = "jena-sample"
# A database has no checksums of its pages; a flipped bit there is found only where SQLite sees it.
NOT_COMPARED = {"mlflow.db", ".made-by"}


@dataclass(frozen=True)
class Filled:
    home: Path
    table: str


@pytest.fixture(scope="module")
def filled(keras: object, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A store with one of everything that a run leaves."""
    home = tmp_path_factory.mktemp("verify") / "var"
    store = Store.at(home)
    table = publish_sample("jena", store=store)
    write_missing_docs("jena", store=store)
    registry = Registry.open(store)
    made = register(table, store=store, registry=registry, variant="ridge", steps=1)
    promote_by_hand(f"{MODEL}@{made.version.version}", registry=registry, store=store)
    report = RenderedReport("# Report\n", pictures={"test week": b"png"}, drawn_from="0", validation="", metrics=[], plain={})
    save_report(report, table=table, store=store)
    columns = {name: pa.nulls(1, REVIEWS_SCHEMA.field(name).type) for name in REVIEWS_SCHEMA.names}
    at = pa.array([np.datetime64("2026-11-28T10:00:00")]).cast(pa.timestamp("s"))
    issued = columns | {"model_version": pa.array([1], pa.int32()), "input_digest": pa.array(["a"]), "issued_at": at}
    append_issued(pa.table(issued, schema=REVIEWS_SCHEMA), model_name="imdb", store=store)
    folder = store.checkpoint_folder(table.version, "0f")
    attempt = begin_attempt(folder)
    np.savez(home / "arrays.npz", variable_0=np.arange(100.0))
    Checkpoints(folder, attempt=attempt).save((home / "arrays.npz").read_bytes())
    (home / "arrays.npz").unlink()
    watched = home / "monitoring" / "imdb" / "2026-11-28-0f"
    watched.mkdir(parents=True)
    (watched / "report.md").write_text("# Nothing\n")
    write_record(watched / "manifest.json", {"titles": [], CHECKSUMS: checksums_of(watched)})
    write_record(watched / "told.json", {"at": "2026-11-28T10:00:00+00:00"})
    return Filled(home, table.version)


@pytest.fixture
def store(filled: Filled, tmp_path: Path) -> Store:
    shutil.copytree(filled.home, tmp_path / "var")
    return Store.at(tmp_path / "var")


def damages(store: Store) -> list[Checked]:
    return [found for found in check_store(store, registry=Registry.open(store)) if found.fault]


def compared(store: Store) -> VerifiedRef:
    registry = Registry.open(store)
    return verified(check_store(store, registry=registry), known=known_of(store, registry=registry))


def flip(path: Path, *, bit: int | None = None) -> None:
    """Turn one bit of a file the other way round, by default the one in the middle."""
    data = bytearray(path.read_bytes())
    place = 4 * len(data) if bit is None else bit
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(data))


def files_of(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and ".scratch" not in path.parts and path.name not in NOT_COMPARED:
            yield path


def test_a_whole_store_is_found_whole(filled: Filled) -> None:
    found = compared(Store.at(filled.home))
    assert found.damages == ()
    assert found.without_checksum == {}
    assert set(found.checked) == {
        *("raw file", "table", "report", "evaluation", "checkpoint", "prediction", "monitoring", "log", "model", "database")
    }
    assert summary_of(found) == f"All {sum(found.checked.values()):,} files are as they were written"


def test_one_flipped_bit_is_found_in_every_file(filled: Filled) -> None:
    """A bit of each file, from a seed, and the first and the last bit of it."""
    store, chance, missed = Store.at(filled.home), random.Random(14), []
    files = list(files_of(filled.home))
    assert len(files) > 50
    for path in files:
        sound = path.read_bytes()
        bits = {chance.randrange(8 * len(sound)), 0, 8 * len(sound) - 1} if path.suffix != ".html" else {4 * len(sound)}
        for bit in sorted(bits):
            flip(path, bit=bit)
            found = damages(store)
            path.write_bytes(sound)
            if not found:
                missed.append((str(path.relative_to(filled.home)), bit))
    assert missed == []
    assert damages(store) == []


@pytest.mark.parametrize(
    ("place", "kind", "done"),
    [
        ("tables/jena/*/train.parquet", "table", "made again, equal"),
        ("tables/jena/*/manifest.json", "table", "put aside: the next retrain ingest makes it again"),
        ("raw/jena-sample/*/*.zip", "raw file", "put aside: the next retrain ingest fetches it again"),
        ("reports/jena/*/validation.json", "report", "made again"),
        ("reports/jena/*/index.html", "report", "made again"),
        ("reports/jena/*/SHA256SUMS", "report", "made again"),
        ("reports/jena/*/report.md", "report", "removed: the next retrain run on this table writes it"),
        ("evaluations/*/*.parquet", "evaluation", "scored again"),
        ("evaluations/*/*.json", "evaluation", "scored again"),
        ("checkpoints/*/checkpoint-1.npz", "checkpoint", "put aside: the next run goes on without it"),
        ("checkpoints/*/attempts/*.json", "checkpoint", "removed: the next attempt begins to count anew"),
    ],
)
def test_what_can_be_made_again_is_made_again(store: Store, place: str, kind: str, done: str) -> None:
    home = Path(str(store.root))
    path = next(each for each in sorted(home.glob(place)) if not each.name.endswith(".uncertainty.json"))
    sound = path.read_bytes()
    flip(path)
    (found,) = damages(store)
    assert (found.kind, found.name) == (kind, str(path.relative_to(home)))
    assert repair_store([found], registry=Registry.open(store), store=store) == {found.name: done}
    assert damages(store) == []
    if done in ("made again, equal", "scored again"):
        assert path.suffix == ".json" or path.read_bytes() == sound
    if "put aside" in done:
        assert not path.exists()


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("promotions/*/00000001.json", "log"),
        ("raw/*/locks/*.json", "log"),
        ("predictions/*/*/*.parquet", "prediction"),
        ("monitoring/*/*/report.md", "monitoring"),
        ("mlflow/artifacts/**/model.keras", "model"),
    ],
)
def test_what_cannot_be_made_again_is_left_and_said(store: Store, place: str, kind: str) -> None:
    home = Path(str(store.root))
    path = next(iter(sorted(home.glob(place))))
    flip(path)
    damaged = path.read_bytes()
    found = damages(store)
    assert [each.kind for each in found] == [kind]
    assert repair_store(found, registry=Registry.open(store), store=store) == {}
    assert path.read_bytes() == damaged
    (row,) = rows_of(compared(store))
    assert "backup" in row["remedy"]


def test_what_depends_on_a_damaged_table_is_said(store: Store, filled: Filled) -> None:
    flip(Path(str(store.table_folder("jena", filled.table))) / "test.parquet")
    (row,) = rows_of(compared(store))
    assert row["file"] == f"tables/jena/{filled.table}/test.parquet"
    assert row["needed by"] == f"{MODEL}@1 (candidate, champion)"
    assert summary_of(compared(store)).endswith("files is damaged")


def test_a_raw_file_is_needed_by_its_table_and_the_models_of_it(store: Store, filled: Filled) -> None:
    flip(next(iter(Path(str(store.root)).glob("raw/jena-sample/*/*.zip"))))
    (row,) = rows_of(compared(store))
    assert row["needed by"] == f"table jena/{filled.table}, {MODEL}@1 (candidate, champion)"


def lose(store: Store, pattern: str) -> None:
    for path in Path(str(store.root)).glob(pattern):
        path.unlink()


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        ("mlflow/artifacts/**/model.keras", "model"),
        ("tables/jena/*/val.parquet", "table"),
        ("reports/jena/*/validation.json", "report"),
        ("evaluations/*/*.npz", "evaluation"),
    ],
)
def test_a_lost_file_is_found(store: Store, lost: str, kind: str) -> None:
    lose(store, lost)
    assert {(each.kind, each.fault) for each in damages(store)} == {(kind, "it is not there")}


def test_files_of_a_release_without_checksums_are_read_and_said(store: Store) -> None:
    for pattern in ("predictions/*/*/*.sha256", "reports/*/*/SHA256SUMS", "mlflow/artifacts/**/artifacts/SHA256SUMS"):
        lose(store, pattern)
    found = compared(store)
    assert found.damages == ()
    assert found.without_checksum == {"prediction": 1, "report": 1, "model": 1}
    (note,) = notes_of(found)
    assert note.startswith("3 files are of a release that wrote no checksums, and were only read: 1 of kind report, 1 of kind")


@pytest.mark.parametrize("cut", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data + b"x"])
def test_a_checkpoint_that_is_cut_or_longer_is_found(store: Store, cut: Callable[[bytes], bytes]) -> None:
    (path,) = Path(str(store.root)).glob("checkpoints/*/checkpoint-1.npz")
    path.write_bytes(cut(path.read_bytes()))
    assert [each.kind for each in damages(store)] == ["checkpoint"]


def test_a_checkpoint_of_release_0_1_is_read(tmp_path: Path) -> None:
    folder = UPath(tmp_path)
    attempt = begin_attempt(folder)
    np.savez(tmp_path / "checkpoint.npz", variable_0=np.arange(10.0))
    data = (tmp_path / "checkpoint.npz").read_bytes()
    checkpoints = Checkpoints(folder, attempt=attempt)
    assert checkpoints.load() == data
    checkpoints.save(data)
    assert (tmp_path / "checkpoint-1.npz").read_bytes() != data
    assert Checkpoints(folder, attempt=attempt).load() == data
