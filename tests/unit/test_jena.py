"""The Jena data set: sources, repairs and splits."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jena_helpers import parse_frame, parsed_of, random_readings, repairs, weather

from storage.errors import DataError
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import COLUMNS
from tasks.datasets.jena.sample import SAMPLE_FILE, write_csv_zip
from tasks.datasets.request import SplitSettings, TableRequest
from tasks.datasets.spec import Parsed

TODAY = date(2026, 3, 10)


def test_keras_source_is_one_unpinned_zip() -> None:
    (file,) = jena.SPEC.sources["keras-2009-2016"].files({}, TODAY)
    assert file.name == "jena_climate_2009_2016.csv.zip"
    assert file.sha256 is None
    assert file.magic == b"PK"
    assert not file.growing
    assert [url.rsplit("/", 1)[1] for url in file.urls] == [file.name, file.name]
    # The file that the tutorial downloads has 13,565,642 bytes.
    assert 13_565_642 < file.max_bytes < 100_000_000


def excessive(parsed: Parsed) -> list[str]:
    return [repair.name for repair in parsed.repairs if not repair.is_within_limit]


NO_REPAIRS = dict.fromkeys(("repeated_rows", "contradicting_rows", "out_of_order_rows", "missing_values", "incomplete_rows"), 0)


def test_of_rows_with_one_stamp_the_first_is_kept_and_a_contradiction_counts_once(tmp_path: Path) -> None:
    frame = weather(1000)
    again = frame.iloc[[10, 20, 20]].assign(**{"p (mbar)": 1000.0})
    parsed = parse_frame(tmp_path, pd.concat([frame, again]).sort_values("Date Time", kind="stable"))
    assert repairs(parsed) == NO_REPAIRS | {"contradicting_rows": 2}
    assert next(repair.share for repair in parsed.repairs if repair.name == "contradicting_rows") == 2 / 1000
    assert parsed.table["pressure_mbar"].to_numpy() == pytest.approx(frame["p (mbar)"].to_numpy(), abs=1e-4)


def test_the_last_day_written_twice_costs_nothing(tmp_path: Path) -> None:
    # mpi_roof_2023b does so: 144 rows of its last 24 hours.
    frame = weather(26_496)
    parsed = parse_frame(tmp_path, pd.concat([frame, frame.iloc[-144:]]))
    assert repairs(parsed) == NO_REPAIRS | {"repeated_rows": 144}
    assert (parsed.facts["rows_read"], parsed.facts["rows"], excessive(parsed)) == (26_640, 26_496, [])


def test_contradictions_beyond_the_limit_are_told(tmp_path: Path) -> None:
    frame = weather(1000)
    # 5 of 1000 stamps is the limit, 6 is above.
    for count, expected in ((5, []), (6, ["contradicting_rows"])):
        again = frame.iloc[:count].assign(**{"p (mbar)": 1000.0})
        assert excessive(parse_frame(tmp_path, pd.concat([frame, again]))) == expected


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    frame = weather(2000)
    order = np.arange(2000)
    # Rows 100 and 101 come after row 104.
    order[100:105] = [102, 103, 104, 100, 101]
    parsed = parse_frame(tmp_path, frame.iloc[order])
    assert repairs(parsed) == NO_REPAIRS | {"out_of_order_rows": 2}
    assert (parsed.table["timestamp"].to_numpy() == frame["Date Time"].to_numpy()).all()
    assert (parsed.table["temperature_degc"].to_numpy() == frame["T (degC)"].to_numpy().astype(np.float32)).all()


def test_a_clock_that_runs_backwards_is_told(tmp_path: Path) -> None:
    for frame in (weather(2000).sample(frac=1, random_state=1), weather(2000).iloc[::-1]):
        assert excessive(parse_frame(tmp_path, frame)) == ["out_of_order_rows"]
    assert repairs(parse_frame(tmp_path, weather(2000).iloc[::-1]))["out_of_order_rows"] == 1999


def test_missing_values_are_interpolated_in_time(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[100:103, "wv (m/s)"] = [2.0, -9999, -9999, 5.0]
    frame.loc[200:202, "T (degC)"] = [10.0, -999.0, 12.0]
    frame.loc[300:302, "T (degC)"] = [10.0, np.nan, 12.0]
    parsed = parse_frame(tmp_path, frame)
    assert parsed.table["wind_speed_m_per_s"].to_pylist()[100:104] == [2, 3, 4, 5]
    assert parsed.table["temperature_degc"].to_pylist()[200:203] == [10, 11, 12]
    assert parsed.table["temperature_degc"].to_pylist()[300:303] == [10, 11, 12]
    assert parsed.facts["missing_values"] == {"temperature_degc": 2, "wind_speed_m_per_s": 2}
    assert repairs(parsed)["missing_values"] == 4
    assert next(repair.share for repair in parsed.repairs if repair.name == "missing_values") == 4 / (2000 * 14)


def test_wind_direction_is_interpolated_along_the_shorter_arc(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[100:103, "wd (deg)"] = [340, -9999, -9999, 10]
    frame.loc[200:202, "wd (deg)"] = [20, -9999, 350]
    direction = parse_frame(tmp_path, frame).table["wind_direction_deg"].to_pylist()
    assert direction[100:104] == [340, 350, 0, 10]
    assert direction[201] == 5


def test_a_hole_of_36_rows_is_filled_and_one_of_40_in_one_column_becomes_a_gap(tmp_path: Path) -> None:
    frame = weather(20_000)
    frame.loc[100:135, "wv (m/s)"] = -9999
    frame.loc[300:339, "max. wv (m/s)"] = -9999
    parsed = parse_frame(tmp_path, frame)
    assert repairs(parsed) == NO_REPAIRS | {"missing_values": 76, "incomplete_rows": 40}
    assert (parsed.facts["rows"], parsed.facts["gaps"], parsed.facts["missing_rows"], excessive(parsed)) == (19_960, 1, 40, [])
    segments = jena.SPEC.split(parsed).tables["train"]["segment"].to_numpy()
    assert segments[299] == 0
    assert segments[300] == 1


def test_hours_without_any_column_are_filled(tmp_path: Path) -> None:
    frame = weather(19_132)
    frame.loc[500:517, frame.columns[1:]] = -9999
    parsed = parse_frame(tmp_path, frame)
    assert repairs(parsed) == NO_REPAIRS | {"missing_values": 18 * 14}
    assert (parsed.facts["rows"], excessive(parsed)) == (19_132, [])


def test_holes_at_the_ends_and_across_a_gap_are_not_filled(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[[0, 1999, 500], "wv (m/s)"] = -9999
    parsed = parse_frame(tmp_path, frame.drop(index=range(501, 540)))
    assert repairs(parsed)["incomplete_rows"] == 3
    kept = np.setdiff1d(np.arange(1, 1999), np.arange(500, 540))
    assert (parsed.table["timestamp"].to_numpy() == frame["Date Time"].to_numpy()[kept]).all()


def test_a_hole_is_not_filled_across_the_edge_of_a_split(tmp_path: Path) -> None:
    frame = weather(2000)
    first_validation_row = round(2000 * 200_000 / 420_551)
    frame.loc[first_validation_row - 2 : first_validation_row + 1, "T (degC)"] = -9999
    parsed = parse_frame(tmp_path, frame)
    assert repairs(parsed)["incomplete_rows"] == 4
    assert jena.SPEC.split(parsed).tables["train"].num_rows == first_validation_row - 2


@pytest.mark.parametrize("rule", ["shares", "recent"])
def test_no_reading_after_train_changes_what_is_learnt_from_train(rule: Any, tmp_path: Path) -> None:
    """The leak test: a reading of a later split reaches neither the statistics nor a row of train."""
    frame = weather(9_000).assign()
    frame.loc[frame.index % 97 == 0, "T (degC)"] = -9999  # holes everywhere, so that filling could leak
    request = TableRequest(source="sample", split=SplitSettings(rule=rule, test_months=1, validation_months=1))

    def tables(data: pd.DataFrame) -> Any:
        path = write_csv_zip(data, tmp_path / SAMPLE_FILE)
        return jena.SPEC.split(jena.SPEC.parse({SAMPLE_FILE: path}, request))

    before = tables(frame)
    first = before.tables["train"].num_rows
    changed = frame.copy()
    changed.loc[changed.index > first, ["T (degC)", "p (mbar)"]] += 3.0
    after = tables(changed)
    assert after.normalisation == before.normalisation
    assert after.tables["train"].equals(before.tables["train"])
    assert not after.tables["val"].equals(before.tables["val"])


def test_missing_values_beyond_the_limit_are_told(tmp_path: Path) -> None:
    frame = weather(2000)
    # 140 of 28,000 readings is the limit.
    for count, expected in ((140, []), (141, ["missing_values"])):
        frame["wv (m/s)"] = np.where((np.arange(2000) % 2 == 1) & (np.arange(2000) < 2 * count), -9999, 3.0)
        assert excessive(parse_frame(tmp_path, frame)) == expected


def test_recent_splits_whole_days_set_in_months(tmp_path: Path) -> None:
    # Stamps from 2009-05-01 00:10 on, 110 days: the last is 2009-08-19 00:00, which ends the 18th.
    frame = weather(110 * 144, start="2009-05-01T00:10:00")
    request = TableRequest(source="sample", split=SplitSettings(rule="recent", test_months=1, validation_months=2))
    bounds = jena.SPEC.split(jena.SPEC.parse({SAMPLE_FILE: write_csv_zip(frame, tmp_path / SAMPLE_FILE)}, request)).bounds
    assert (bounds["train"]["first_stamp"], bounds["train"]["last_stamp"]) == ("2009-05-01T00:10:00", "2009-05-19T00:00:00")
    assert (bounds["val"]["first_stamp"], bounds["val"]["last_stamp"]) == ("2009-05-19T00:10:00", "2009-07-19T00:00:00")
    assert (bounds["test"]["first_stamp"], bounds["test"]["last_stamp"]) == ("2009-07-19T00:10:00", "2009-08-19T00:00:00")


def test_too_few_months_for_recent_are_refused(tmp_path: Path) -> None:
    request = TableRequest(source="sample", split=SplitSettings(rule="recent"))
    parsed = jena.SPEC.parse({SAMPLE_FILE: write_csv_zip(weather(2000), tmp_path / SAMPLE_FILE)}, request)
    with pytest.raises(DataError, match="too few for three splits: give a longer span, or split by shares"):
        jena.SPEC.split(parsed)


def test_gaps_and_spacings_are_counted(tmp_path: Path) -> None:
    # 80 minutes (7 rows missing), 30 minutes (2 missing), and one stamp five minutes off (two irregular spacings, one long).
    frame = weather(1000).drop(index=[*range(100, 107), 300, 301]).reset_index(drop=True)
    frame.loc[600, "Date Time"] += pd.Timedelta(minutes=5)
    facts = parse_frame(tmp_path, frame).facts
    assert (facts["rows_read"], facts["rows"]) == (991, 991)
    assert (facts["gaps"], facts["longest_gap_minutes"], facts["missing_rows"], facts["irregular_spacings"]) == (3, 80, 9, 4)
    assert (facts["first_stamp"], facts["last_stamp"]) == ("2009-05-01T00:00:00", "2009-05-07T22:30:00")


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(20, 3000), seed=st.integers(0, 10))
def test_splits_cover_all_rows_once_in_the_shares_of_the_full_file(rows: int, seed: int) -> None:
    parsed = parsed_of(random_readings(rows, seed))
    result = jena.SPEC.split(parsed)
    counts = [table.num_rows for table in result.tables.values()]
    assert list(result.tables) == ["train", "val", "test"]
    assert sum(counts) == rows
    assert abs(counts[0] - rows * 200_000 / 420_551) <= 0.5
    assert abs(counts[1] - rows * 100_000 / 420_551) <= 0.5
    joined = pa.concat_tables(result.tables.values())
    assert joined["timestamp"].equals(parsed.table["timestamp"])
    assert [bound["first_row"] for bound in result.bounds.values()] == [0, counts[0], counts[0] + counts[1]]
    assert [bound["rows"] for bound in result.bounds.values()] == counts


def test_full_file_splits_at_200000_and_100000_rows() -> None:
    # The repaired table is shorter than what was read; the shares follow what was read.
    parsed = parsed_of(random_readings(420_224, 1), rows_read=420_551)
    counts = {name: table.num_rows for name, table in jena.SPEC.split(parsed).tables.items()}
    assert counts == {"train": 200_000, "val": 100_000, "test": 120_224}


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(20, 500), seed=st.integers(0, 1000), factor=st.floats(-5, 5))
def test_statistics_come_from_the_train_rows_only(rows: int, seed: int, factor: float) -> None:
    columns = random_readings(rows, seed)
    first = round(rows * 200_000 / 420_551)
    changed = {
        name: np.concatenate([values[:first], values[first:] * np.float32(factor) + 100]) for name, values in columns.items()
    }
    one, two = jena.SPEC.split(parsed_of(columns)), jena.SPEC.split(parsed_of(changed))
    assert one.normalisation == two.normalisation
    assert one.tables["train"].equals(two.tables["train"])
    for name in COLUMNS:
        train = columns[name][:first].astype(np.float64)
        assert one.normalisation["mean"][name] == pytest.approx(train.sum() / first)
        assert one.normalisation["std"][name] == pytest.approx(np.sqrt(((train - train.sum() / first) ** 2).sum() / first))
        assert one.tables["train"][name].to_numpy().mean() == pytest.approx(0, abs=1e-5)


def test_normalised_values_by_hand() -> None:
    # 20 rows: 10 train (round(9.51)), 5 val (round(4.76)), 5 test. Train alternates 8 and 12: mean 10, population std 2.
    values = np.array([8, 12] * 5 + [14] * 5 + [7] * 5, dtype=np.float32)
    result = jena.SPEC.split(parsed_of(dict.fromkeys(COLUMNS, values)))
    assert result.normalisation["mean"]["pressure_mbar"] == 10
    assert result.normalisation["std"]["pressure_mbar"] == 2
    assert result.tables["train"]["pressure_mbar"].to_pylist() == [-1, 1] * 5
    assert result.tables["val"]["pressure_mbar"].to_pylist() == [2] * 5
    assert result.tables["test"]["pressure_mbar"].to_pylist() == [-1.5] * 5
    assert result.bounds["val"] == {
        "first_row": 10,
        "rows": 5,
        "first_stamp": "2009-05-01T01:40:00",
        "last_stamp": "2009-05-01T02:20:00",
    }
    assert result.tables["val"].schema == pa.schema(
        [("timestamp", pa.timestamp("s")), *((name, pa.float32()) for name in COLUMNS), ("segment", pa.int32())]
    )


def test_segments_number_the_unbroken_runs_of_the_whole_table() -> None:
    steps = np.full(20, 600)
    steps[[0, 4, 12]] = [0, 4800, 660]
    stamps = np.datetime64("2009-05-01T00:00:00", "s") + np.cumsum(steps) * np.timedelta64(1, "s")
    result = jena.SPEC.split(parsed_of(random_readings(20, 1), stamps=stamps))
    segments = [value for table in result.tables.values() for value in table["segment"].to_pylist()]
    assert segments == [0] * 4 + [1] * 8 + [2] * 8


def test_a_column_that_does_not_vary_is_named() -> None:
    columns = random_readings(100, 1) | {"wind_speed_m_per_s": np.full(100, 0.1, dtype=np.float32)}
    with pytest.raises(DataError, match=r"wind_speed_m_per_s is 0\.1 in every train row"):
        jena.SPEC.split(parsed_of(columns))


def test_too_few_rows_for_three_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"jena has 2 rows from .* too few for three splits"):
        jena.SPEC.split(parsed_of(random_readings(2, 1)))
