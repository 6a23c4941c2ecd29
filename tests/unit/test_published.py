"""Published tables are listed and opened by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_helpers import publish_sample

from storage.errors import DataError, SettingError
from storage.layout import Store
from storage.references import TableRef
from tasks.ingestion.published import find_table, open_table, published_tables


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(tmp_path_factory.mktemp("published") / "var")


@pytest.fixture(scope="module")
def table(store: Store) -> TableRef:
    return publish_sample("jena", store=store)


def test_a_table_is_listed_as_its_manifest_describes_it(store: Store, table: TableRef) -> None:
    (listed,) = published_tables(store=store)
    assert (listed.dataset, listed.version, listed.source, listed.origin) == ("jena", table.version, "sample", "sample")
    assert listed.simulated
    assert not listed.accepted
    assert {split: listed.rows[split] for split in table.rows} == table.rows
    assert listed.newest == table.newest
    assert listed.ingested
    assert published_tables("jena", store=store) == (listed,)
    assert published_tables("imdb", store=store) == ()


@pytest.mark.parametrize("digits", [4, 12])
def test_a_table_is_found_by_the_first_digits_of_its_version(store: Store, table: TableRef, digits: int) -> None:
    found = find_table(f"jena@{table.version[:digits]}", store=store)
    assert (found.version, found.rows) == (table.version, table.rows)


def test_a_name_without_a_version_is_the_newest_table_of_the_simulation_or_of_real_data(store: Store, table: TableRef) -> None:
    assert find_table("jena-sample", store=store).version == table.version
    with pytest.raises(DataError, match="jena has no published table: run `retrain ingest jena` first"):
        find_table("jena", store=store)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jena@zzzz", "'zzzz' is no version of a table of jena: published are "),
        ("jena@0", "'0' is no version"),
        ("imdb@0123", "published are none yet: run `retrain ingest imdb` first"),
        ("weather", "unknown data set 'weather'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(store: Store, table: TableRef, name: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        find_table(name, store=store)


def test_the_splits_are_normalised_and_the_manifest_turns_them_into_units_again(store: Store, table: TableRef) -> None:
    """The train rows of a normalised column have mean 0 and deviation 1."""
    splits, manifest = open_table("jena-sample", store=store)
    assert {name: splits[name].num_rows for name in table.rows} == table.rows
    train = splits["train"]["temperature_degc"].to_numpy()
    assert abs(train.mean()) < 1e-3
    assert abs(train.std() - 1) < 1e-3
    degrees = train * manifest["normalisation"]["std"]["temperature_degc"] + manifest["normalisation"]["mean"]["temperature_degc"]
    assert -40 < degrees.min() < degrees.max() < 45


def test_a_changed_file_is_not_opened(store: Store, table: TableRef, tmp_path: Path) -> None:
    path = Path(store.table_folder("jena", table.version)) / "test.parquet"
    sound = path.read_bytes()
    try:
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        with pytest.raises(DataError, match="it was changed or damaged"):
            open_table("jena-sample", store=store)
    finally:
        path.write_bytes(sound)
    assert np.isfinite(open_table("jena-sample", store=store)[0]["test"]["pressure_mbar"].to_numpy()).all()
