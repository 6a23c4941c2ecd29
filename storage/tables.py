"""Read and write tables, and the manifest that makes a folder of them a table version."""

from __future__ import annotations

import base64
import hashlib
import io
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from storage.errors import DataError
from storage.io import read_json, sha256_of, write_atomically, write_record
from storage.journal import SharedValue
from storage.layout import MANIFEST, Store
from storage.references import TableRef


def write_table(table: pa.Table, path: UPath | Path, *, checksums: bool = False) -> None:
    """Write a table as zstd Parquet in one row group, atomically.

    With checksums a flipped bit is found by whoever reads the file; a table that has a manifest has its digest there.

    Equal content gives equal bytes, hence an equal digest: float64 becomes float32, chunks are joined, and metadata of other
    libraries is dropped.
    """
    plain = _plain(table)
    buffer = io.BytesIO()
    pq.write_table(plain, buffer, compression="zstd", row_group_size=max(plain.num_rows, 1), write_page_checksum=checksums)
    write_atomically(path, buffer.getvalue())


def write_tables(tables: Mapping[str, pa.Table], *, folder: UPath | Path) -> None:
    """Write each table as `write_table` does, under its name; they are compressed side by side."""
    with ThreadPoolExecutor() as pool:
        for written in [pool.submit(write_table, table, folder / f"{name}.parquet") for name, table in tables.items()]:
            written.result()


def write_staged(table: pa.Table, path: Path) -> None:
    """Write a table as it lies in memory, with the columns that `write_table` would give it, for the next step of this run."""
    plain = _plain(table)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, plain.schema) as writer:
        writer.write_table(plain)


def read_staged(path: Path) -> pa.Table:
    """Return a table that `write_staged` wrote. It is read when it is used, and stays readable if the file is removed.

    Raises:
        DataError: The file is not there, or is not whole.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: run ingestion again") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a staged table ({error}): run ingestion again") from error


def write_part(table: pa.Table, path: Path) -> None:
    """Write a table as it lies in memory, with its metadata, atomically: what was read from a raw file, for later runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _plain(table: pa.Table) -> pa.Table:
    """Return a table with float32 in the place of float64, in one chunk, and without metadata of other libraries."""
    fields = [field.with_type(pa.float32()) if pa.types.is_float64(field.type) else field for field in table.schema]
    return table.cast(pa.schema([field.remove_metadata() for field in fields])).combine_chunks()


def read_table(path: UPath | Path, *, columns: Sequence[str] | None = None, sha256: str | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns in the given order.

    Args:
        path: The file.
        columns: Names of columns; None: all.
        sha256: Digest that its bytes must have, as its manifest says; None: it is not looked at.

    Raises:
        DataError: The file is not there, is damaged, has another digest, or lacks a column.
    """
    try:
        with path.open("rb") as stream:
            source = io.BytesIO(_checked(stream.read(), path=path, sha256=sha256)) if sha256 else stream
            file = pq.ParquetFile(source, page_checksum_verification=True)
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(missing)}, it has {', '.join(file.schema_arrow.names)}: publish it again"
                )
            table = file.read(columns=list(columns) if columns is not None else None)
            schema = _written_schema(file)
        table = table.select(list(columns) if columns is not None else table.column_names)
        return table.cast(pa.schema([schema.field(name) for name in table.column_names])) if schema else table
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there: run ingestion again") from error
    except (pa.ArrowException, OSError, UnicodeError, KeyError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}): remove its folder and run ingestion again") from error


def _checked(data: bytes, *, path: UPath | Path, sha256: str) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise DataError(
            f"{path} has SHA-256 {digest}, its manifest says {sha256}: it was changed or damaged after it was published; the "
            "next `retrain ingest` makes the table again from its raw files"
        )
    return data


def is_whole(folder: UPath | Path) -> bool:
    """Tell whether a published folder has every file that its manifest lists, each with the digest that stands there."""
    try:
        files = read_manifest(folder)["files"]
        return all(sha256_of(folder / name) == described["sha256"] for name, described in files.items())
    except (DataError, OSError, KeyError, TypeError, AttributeError):
        return False


def write_manifest(folder: UPath | Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write `manifest.json` last: the content, and under `files` digest, size and rows of every Parquet file in the folder.

    Returns:
        The manifest as written.
    """
    files = {path.name: _describe_file(path) for path in sorted(UPath(folder).glob("*.parquet"), key=lambda path: path.name)}
    manifest = {**content, "files": files}
    write_record(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: UPath | Path) -> dict[str, Any]:
    """Read the manifest of a published folder.

    Raises:
        DataError: There is none, or it is not one.
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DataError(f"{folder / MANIFEST} does not list files: remove its folder and run ingestion again")
    return manifest


def exists(store: Store, dataset: str, version: str) -> bool:
    """Tell whether a table version was published."""
    return store.manifest(dataset, version).is_file()


def published_versions(store: Store, dataset: str) -> tuple[str, ...]:
    """Return every published version of a data set, sorted."""
    folder = store.table_folder(dataset, "any").parent
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []
    return tuple(name for name in names if exists(store, dataset, name))


def note_ingested(store: Store, dataset: str, version: str) -> None:
    """Note that a table version was ingested now, by which of two with the same newest reading the later one is known."""
    at = datetime.now(tz=UTC).isoformat(timespec="microseconds")
    _ingested(store, dataset).change(lambda times: times | {version: at})


def ingested_times(store: Store, dataset: str) -> dict[str, str]:
    """Return when each table version of a data set was ingested last, ISO 8601."""
    return _ingested(store, dataset).read()


def _ingested(store: Store, dataset: str) -> SharedValue:
    return SharedValue(store.ingested(dataset), beginning=store.first_ingested(dataset))


def newest_version(store: Store, dataset: str, *, simulated: bool) -> str:
    """Return the published version with the newest reading; of several the one that was ingested last.

    Raises:
        DataError: There is none, of the simulation or of real data as asked.
    """
    times = _ingested(store, dataset).read()
    ranked = []
    for version in published_versions(store, dataset):
        manifest = read_manifest(store.table_folder(dataset, version))
        if manifest["simulated"] == simulated:
            ranked.append((str(manifest["facts"].get("last_stamp", "")), str(times.get(version, "")), version))
    if not ranked:
        kind = "table of the sample" if simulated else "published table"
        raise DataError(f"{dataset} has no {kind}: run `retrain ingest {dataset}` first")
    return max(ranked)[2]


def _written_schema(file: pq.ParquetFile) -> pa.Schema | None:
    """Return the Arrow schema as written: Parquet has no time stamps in seconds and would return milliseconds."""
    packed = (file.metadata.metadata or {}).get(b"ARROW:schema")
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(packed))) if packed else None


def _describe_file(path: UPath | Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        rows = pq.ParquetFile(stream).metadata.num_rows
    return {"sha256": sha256_of(path), "size_bytes": path.stat().st_size, "rows": rows}


def read_splits(table: TableRef, *, store: Store) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Return every Parquet file of a table by its stem, and the manifest.

    Raises:
        DataError: A file is not what the manifest says.
    """
    folder = store.table_folder(table.dataset, table.version)
    manifest = read_manifest(folder)
    tables = {
        name.removesuffix(".parquet"): read_table(folder / name, sha256=described["sha256"])
        for name, described in manifest["files"].items()
    }
    return tables, manifest


def read_validation(table: TableRef, *, store: Store) -> Mapping[str, Any]:
    """Return the validation report of a table.

    Raises:
        DataError: It is not there, or is damaged.
    """
    report: Mapping[str, Any] = read_json(store.validation_report(table.dataset, table.version))
    return report
