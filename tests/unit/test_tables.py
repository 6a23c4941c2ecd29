"""Parquet in and out: nothing of a value is lost, equal content has equal bytes, a changed file is found."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from storage.errors import DataError
from storage.layout import Store
from storage.references import TableRef
from storage.tables import (
    exists,
    is_whole,
    newest_version,
    note_ingested,
    read_manifest,
    read_splits,
    read_staged,
    read_table,
    write_manifest,
    write_staged,
    write_table,
    write_tables,
)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),  # the bits of a float32: every NaN payload, -0.0 and the subnormals are among them
        st.lists(st.integers(0, 2**16 - 1), max_size=5),
        st.integers(-(2**40), 2**40),
        st.integers(-(2**31), 2**31 - 1),
    ),
    max_size=20,
)


def bits(column: pa.ChunkedArray) -> list[int]:
    return column.combine_chunks().to_numpy(zero_copy_only=False).view(np.uint32).tolist()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_table_comes_back_bit_for_bit(rows: list[tuple[int, list[int], int, int]]) -> None:
    floats = np.array([row[0] for row in rows], dtype=np.uint32).view(np.float32)
    table = pa.table(
        {
            "temperature_degc": pa.array(floats, type=pa.float32()),
            "tokens": pa.array([row[1] for row in rows], type=pa.list_(pa.uint16())),
            "stamp": pa.array([row[2] for row in rows], type=pa.int64()).cast(pa.timestamp("s")),
            "row": pa.array([row[3] for row in rows], type=pa.int32()),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.parquet")
        write_table(table, path)
        back = read_table(path)
    assert back.schema == table.schema
    assert bits(back["temperature_degc"]) == [row[0] for row in rows]
    assert back.drop_columns(["temperature_degc"]).equals(table.drop_columns(["temperature_degc"]))


def test_the_sign_of_zero_and_the_payload_of_nan_are_kept(tmp_path: Path) -> None:
    payloads = [0x80000000, 0x7FC00001, 0xFFC12345]
    values = np.frombuffer(struct.pack("<3I", *payloads), dtype=np.float32)
    write_table(pa.table({"x": values}), tmp_path / "x.parquet")
    assert bits(read_table(tmp_path / "x.parquet")["x"]) == payloads


def test_a_staged_table_comes_back_as_a_written_one_and_outlives_its_file(tmp_path: Path) -> None:
    stamps = pa.array([0, 600], type=pa.int64()).cast(pa.timestamp("s"))
    table = pa.table({"stamp": stamps, "x": [0.1, None], "tokens": [[1, 2], []]}).replace_schema_metadata({"pandas": "any"})
    write_table(table, tmp_path / "x.parquet")
    write_staged(table, tmp_path / "x.arrow")
    staged = read_staged(tmp_path / "x.arrow")
    (tmp_path / "x.arrow").unlink()
    assert staged.schema == read_table(tmp_path / "x.parquet").schema
    assert staged.schema.field("x").type == pa.float32()
    assert staged.equals(read_table(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match="is not there: run ingestion again"):
        read_staged(tmp_path / "x.arrow")
    (tmp_path / "x.arrow").write_bytes(b"half of a table")
    with pytest.raises(DataError, match="is not a staged table"):
        read_staged(tmp_path / "x.arrow")


def test_tables_that_are_written_together_are_those_written_one_by_one(tmp_path: Path) -> None:
    tables = {name: pa.table({"x": np.full(50, number, dtype=np.float32)}) for number, name in enumerate(("a", "b", "c"))}
    write_tables(tables, folder=tmp_path)
    for name, table in tables.items():
        write_table(table, tmp_path / "one.parquet")
        assert (tmp_path / f"{name}.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    with pytest.raises(NotADirectoryError):
        write_tables(tables, folder=tmp_path / "a.parquet" / "sub")


def test_the_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    whole = pa.table({"x": pa.array([1.0, 2.0, 3.0], type=pa.float32())})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)]).replace_schema_metadata({"pandas": "anything"})
    write_table(whole, tmp_path / "a.parquet")
    write_table(chunked, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_it_is_one_row_group_of_float32_and_zstd(tmp_path: Path) -> None:
    rows = 2**20 + 1  # Parquet's default would make two row groups of these
    write_table(pa.table({"x": np.zeros(rows, dtype=np.float64)}), tmp_path / "x.parquet")
    metadata = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert (metadata.num_row_groups, metadata.num_rows) == (1, rows)
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).column(0).physical_type == "FLOAT"


def test_columns_come_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    write_table(pa.table({"a": [1], "b": [2], "c": [3]}), tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet", columns=["c", "a"]).to_pydict() == {"c": [3], "a": [1]}


def test_faulty_files_are_told_in_one_line(tmp_path: Path) -> None:
    write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column b, it has a"):
        read_table(tmp_path / "x.parquet", columns=["a", "b"])
    with pytest.raises(DataError, match=r"y\.parquet is not there"):
        read_table(tmp_path / "y.parquet")
    (tmp_path / "z.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"z\.parquet is not a readable Parquet file"):
        read_table(tmp_path / "z.parquet")


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    store = Store.at(tmp_path if request.param == "local" else "memory://tables-test")
    place = store.table_folder("jena", f"v{abs(hash(request.node.name))}")
    write_table(pa.table({"x": [1, 2, 3]}), place / "train.parquet")
    write_table(pa.table({"x": [4]}), place / "test.parquet")
    return place


def test_the_manifest_names_digest_size_and_rows_of_each_file(folder: UPath) -> None:
    written = write_manifest(folder, {"version": "0f", "bounds": {"train": [0, 3]}})
    assert read_manifest(folder) == written
    assert written["version"] == "0f"
    assert list(written["files"]) == ["test.parquet", "train.parquet"]
    data = (folder / "train.parquet").read_bytes()
    assert written["files"]["train.parquet"] == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "rows": 3}
    # The digest of the content without its own: keys sorted, nothing between them.
    text = json.dumps(written, sort_keys=True, separators=(",", ":")).encode()
    assert json.loads((folder / "manifest.json").read_text()) == written | {"sha256": hashlib.sha256(text).hexdigest()}


def test_a_manifest_that_is_none_is_refused(folder: UPath) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is not there"):
        read_manifest(folder)
    (folder / "manifest.json").write_bytes(b"[]")
    with pytest.raises(DataError, match="does not list files"):
        read_manifest(folder)
    (folder / "manifest.json").write_bytes(b"{")
    with pytest.raises(DataError, match="is not JSON"):
        read_manifest(folder)


def test_a_version_exists_when_its_manifest_does(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    folder = store.table_folder("jena", "0f")
    write_table(pa.table({"x": [1]}), folder / "train.parquet")
    assert not exists(store, "jena", "0f")
    write_manifest(folder, {})
    assert exists(store, "jena", "0f")


def test_the_newest_version_has_the_newest_reading_and_of_several_it_was_ingested_last(tmp_path: Path) -> None:
    store = Store.at(tmp_path)

    def publish(version: str, *, last_stamp: str, simulated: bool = False) -> None:
        folder = store.table_folder("load", version)
        write_tables({"train": pa.table({"x": [1]})}, folder=folder)
        write_manifest(folder, {"simulated": simulated, "facts": {"last_stamp": last_stamp}})
        note_ingested(store, "load", version)

    with pytest.raises(DataError, match="load has no published table: run `retrain ingest load` first"):
        newest_version(store, "load", simulated=False)
    publish("0a", last_stamp="2024-01-02T00:00:00")
    publish("0b", last_stamp="2024-01-02T00:00:00")
    publish("0c", last_stamp="2024-01-01T00:00:00")
    publish("0d", last_stamp="2025-01-01T00:00:00", simulated=True)
    assert newest_version(store, "load", simulated=False) == "0b"
    # The first one is ingested again, and found unchanged.
    note_ingested(store, "load", "0a")
    assert newest_version(store, "load", simulated=False) == "0a"
    assert newest_version(store, "load", simulated=True) == "0d"
    with pytest.raises(DataError, match="rain has no table of the sample"):
        newest_version(store, "rain", simulated=True)


def flipped(data: bytes, *, at: int) -> bytes:
    """The same bytes with one bit the other way round."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_table_of_which_a_bit_was_flipped_or_a_file_replaced_is_not_read(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    folder = store.table_folder("load", "0f")
    write_tables({"train": pa.table({"x": [1, 2, 3]}), "val": pa.table({"x": [4]})}, folder=folder)
    write_manifest(folder, {})
    table = TableRef(dataset="load", version="0f", uri=str(folder), simulated=False, rows={})
    assert read_splits(table, store=store)[0]["train"]["x"].to_pylist() == [1, 2, 3]
    assert is_whole(folder)
    whole = (folder / "train.parquet").read_bytes()
    for damaged in (flipped(whole, at=len(whole) // 2), flipped(whole, at=5), (folder / "val.parquet").read_bytes()):
        (folder / "train.parquet").write_bytes(damaged)
        assert not is_whole(folder)
        with pytest.raises(DataError, match=r"train\.parquet has SHA-256 .* its manifest says .* was changed or damaged"):
            read_splits(table, store=store)
    (folder / "train.parquet").write_bytes(whole)
    assert is_whole(folder)
    (folder / "val.parquet").unlink()
    assert not is_whole(folder)
