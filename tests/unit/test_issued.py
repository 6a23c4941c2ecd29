"""Issued predictions: each is kept once, in the file of its month, and read in the order of its issue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.layout import Store
from tasks.prediction.issued import REVIEWS_SCHEMA, SERIES_SCHEMA, TABLE, append_issued, read_issued


def forecasts(*as_of: str, version: int = 1, origin: str = TABLE, value: float = 10.0) -> pa.Table:
    stamps = np.array(as_of, dtype="datetime64[s]")
    rows = len(stamps)
    columns = {name: pa.nulls(rows, SERIES_SCHEMA.field(name).type) for name in SERIES_SCHEMA.names}
    columns |= {
        "model": pa.array(["load"] * rows),
        "model_version": pa.array([version] * rows, pa.int32()),
        "origin": pa.array([origin] * rows),
        "issued_at": pa.array([np.datetime64("2026-11-28T10:00:00")] * rows).cast(pa.timestamp("s")),
        "as_of": pa.array(stamps),
        "target_time": pa.array(stamps + np.timedelta64(87_000, "s")),
        "prediction": pa.array([value] * rows, pa.float32()),
    }
    return pa.table(columns, schema=SERIES_SCHEMA)


def labels(*digests: str, version: int = 1, issued_at: str = "2026-11-28T10:00:00") -> pa.Table:
    columns = {name: pa.nulls(len(digests), REVIEWS_SCHEMA.field(name).type) for name in REVIEWS_SCHEMA.names}
    columns |= {
        "model_version": pa.array([version] * len(digests), pa.int32()),
        "input_digest": pa.array(digests),
        "issued_at": pa.array([np.datetime64(issued_at)] * len(digests)).cast(pa.timestamp("s")),
    }
    return pa.table(columns, schema=REVIEWS_SCHEMA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path)


def files(store: Store, model: str = "load") -> list[str]:
    root = Path(str(store.predictions_folder(model)))
    return sorted(str(path.relative_to(root).parent) for path in root.rglob("*.parquet"))


def read(store: Store, since: str | None = None) -> list[str]:
    table = read_issued("load", store=store, schema=SERIES_SCHEMA, since=None if since is None else np.datetime64(since))
    return [str(value) for value in table["as_of"].to_numpy().astype("datetime64[m]")]


def test_what_was_issued_is_kept_by_month_and_read_in_order(store: Store) -> None:
    kept = append_issued(forecasts("2024-02-01T00:10", "2024-01-31T23:50"), model_name="load", store=store)
    assert kept.num_rows == 2
    assert files(store) == ["2024-01", "2024-02"]
    assert read(store) == ["2024-01-31T23:50", "2024-02-01T00:10"]
    assert read(store, since="2024-02-15") == ["2024-02-01T00:10"]


def test_the_same_issue_is_kept_once_whatever_comes_with_it(store: Store) -> None:
    append_issued(forecasts("2024-01-31T23:40", "2024-01-31T23:50"), model_name="load", store=store)
    again = append_issued(forecasts("2024-01-31T23:50", "2024-01-31T23:50", value=99.0), model_name="load", store=store)
    assert again.num_rows == 0
    assert files(store) == ["2024-01"]
    new = append_issued(forecasts("2024-01-31T23:50", "2024-02-01T00:00", value=99.0), model_name="load", store=store)
    assert [str(stamp) for stamp in new["as_of"].to_pylist()] == ["2024-02-01 00:00:00"]
    kept = read_issued("load", store=store, schema=SERIES_SCHEMA)
    assert kept["prediction"].to_pylist() == [10.0, 10.0, 99.0]


def test_another_version_issues_for_the_same_target(store: Store) -> None:
    append_issued(forecasts("2024-01-31T23:50"), model_name="load", store=store)
    assert append_issued(forecasts("2024-01-31T23:50", version=2), model_name="load", store=store).num_rows == 1


def test_forecasts_from_a_file_are_kept_and_not_compared_with_what_happened(store: Store) -> None:
    append_issued(forecasts("2024-01-31T23:50"), model_name="load", store=store)
    assert append_issued(forecasts("2024-01-31T23:50", origin="file 0f"), model_name="load", store=store).num_rows == 1
    assert read(store) == ["2024-01-31T23:50"]


def test_what_two_hosts_wrote_at_once_is_read_once(store: Store) -> None:
    append_issued(forecasts("2024-01-31T23:50"), model_name="load", store=store)
    written = next(Path(str(store.predictions_folder("load"))).rglob("*.parquet"))
    (written.parent / "of-another-host.parquet").write_bytes(written.read_bytes())
    assert read(store) == ["2024-01-31T23:50"]


def test_a_text_is_kept_once_in_whatever_month_it_comes_again(store: Store) -> None:
    assert append_issued(labels("a", "b", "a"), model_name="reviews", store=store).num_rows == 2
    later = append_issued(labels("b", "c", issued_at="2026-12-02T10:00:00"), model_name="reviews", store=store)
    assert later["input_digest"].to_pylist() == ["c"]
    kept = read_issued("reviews", store=store, schema=REVIEWS_SCHEMA)
    assert kept["input_digest"].to_pylist() == ["a", "b", "c"]


def test_a_model_that_issued_nothing_has_no_rows(store: Store) -> None:
    assert read_issued("load", store=store, schema=SERIES_SCHEMA).num_rows == 0
