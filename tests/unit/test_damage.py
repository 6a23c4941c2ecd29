"""Damage in a store: what can be made again is made again, and what cannot is one line that names the file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from storage.attempts import begin_attempt
from storage.errors import RegistryError
from storage.layout import Store
from storage.registry import Registry
from storage.tables import is_whole, read_splits
from tasks.config import DataSettings, TrainSettings
from tasks.ingestion.fetching import fetch_raw
from tasks.ingestion.pipeline import find_published_table, parse_raw, publish_parsed, validate_parsed
from tasks.training.fitting import Checkpoints, fit_variant
from tasks.training.scoring import evaluate_fitted

SETTINGS = DataSettings(data="sample")


def flip(path: Path | UPath, *, share: float = 0.5) -> None:
    """Turn one bit of a file the other way round."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the table of the Jena sample."""
    home = tmp_path_factory.mktemp("damage")
    ingest(Store.at(home))
    return home


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Store:
    shutil.copytree(filled, tmp_path / "var")
    return Store.at(tmp_path / "var")


def ingest(store: Store) -> Any:
    raw = fetch_raw("jena", settings=SETTINGS, store=store, mirror=None)
    table = find_published_table(raw, store=store)
    if table is None:
        parsed = parse_raw(raw, store=store)
        table = publish_parsed(parsed, validation=validate_parsed(parsed, settings=SETTINGS, store=store), store=store)
    return table


@pytest.mark.parametrize("name", ["train.parquet", "val.parquet", "test.parquet", "manifest.json"])
def test_a_damaged_table_is_made_again_as_it_was(store: Store, name: str, caplog: pytest.LogCaptureFixture) -> None:
    before = ingest(store)
    folder = Path(store.table_folder("jena", before.version))
    sound = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".parquet", ".json")}
    if name == "manifest.json":
        (folder / name).write_bytes(b"{")
    else:
        flip(folder / name)
    with caplog.at_level(logging.WARNING, logger="retrain"):
        after = ingest(store)
    assert f"table {before.version} of jena was damaged after it was published: it is made again" in caplog.text
    assert after.version == before.version
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".parquet"} == {
        name: data for name, data in sound.items() if name.endswith(".parquet")
    }
    assert is_whole(folder)
    (damaged,) = (store.scratch / "damaged" / "jena").iterdir()
    assert damaged.name.startswith(before.version)


def test_one_split_in_the_place_of_another_is_found(store: Store) -> None:
    table = ingest(store)
    folder = Path(store.table_folder("jena", table.version))
    shutil.copyfile(folder / "val.parquet", folder / "train.parquet")
    assert not is_whole(folder)
    assert read_splits(ingest(store), store=store)[0]["train"].num_rows == table.rows["train"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", None])
def test_a_lost_validation_is_made_again(store: Store, content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    table = ingest(store)
    report = Path(store.validation_report("jena", table.version))
    if content is None:
        shutil.rmtree(report.parent)
    else:
        report.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="retrain"):
        again = ingest(store)
    assert (again.version, again.published) == (table.version, False)
    assert "the data is validated again" in caplog.text
    assert report.stat().st_size > 1_000


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_taken(tmp_path: Path) -> None:
    import io

    import numpy as np

    def checkpoint(value: float) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, variable_0=np.full(1_000, value))
        return stream.getvalue()

    folder = UPath(tmp_path)
    first, second = begin_attempt(folder), begin_attempt(folder)
    (folder / "checkpoint-1.npz").write_bytes(checkpoint(1))
    (folder / "checkpoint-2.npz").write_bytes(checkpoint(2))
    assert Checkpoints(folder, attempt=first).load() == checkpoint(2)
    flip(folder / "checkpoint-2.npz")
    assert Checkpoints(folder, attempt=second).load() == checkpoint(1)
    flip(folder / "checkpoint-1.npz")
    assert Checkpoints(folder, attempt=second).load() is None
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".npz") == [
        "damaged-checkpoint-1.npz",
        "damaged-checkpoint-2.npz",
    ]


def test_a_finished_training_that_was_damaged_is_trained_again(
    keras: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    table, settings = ingest(store), TrainSettings(epochs=1, steps_per_epoch=2)

    def fit() -> Any:
        return fit_variant(table, variant="gru_baseline", settings=settings, store=store, on_progress=lambda _: None)

    first = fit()
    folder = UPath(first.folder)
    assert fit().attempt.number == first.attempt.number + 1  # found as it is
    flip(folder / "model.keras", share=0.3)
    with caplog.at_level(logging.WARNING, logger="retrain"):
        again = fit()
    assert "holds a finished training that was damaged: it is trained again" in caplog.text
    assert evaluate_fitted(again, store=store).scores


def test_a_damaged_evaluation_is_computed_again(keras: Any, trained: Any) -> None:
    from tasks.training.scoring import evaluate_version

    version = trained.registry.version(trained.better.name, trained.better.version)
    evaluation = evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    path = Path(trained.store.evaluation(trained.table.version, version.tags["training_key"]))
    sound = path.read_bytes()
    flip(path, share=0.3)
    again = evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    assert again.scores == evaluation.scores
    assert path.read_bytes() == sound
    path.with_suffix(".json").write_bytes(b"{")
    assert (
        evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store).scores == evaluation.scores
    )


def test_a_damaged_model_of_the_registry_is_one_line(keras: Any, trained: Any, tmp_path: Path) -> None:
    registry: Registry = trained.registry
    version = registry.version(trained.worse.name, trained.worse.version)
    file = next(registry.model_folder(version).rglob("model.keras"))
    sound = file.read_bytes()
    try:
        file.write_bytes(sound[: len(sound) // 2])
        with pytest.raises(RegistryError, match=r"does not load .*: its files are damaged; restore them") as raised:
            registry.load_model(version)
        assert "\n" not in str(raised.value)
    finally:
        file.write_bytes(sound)
