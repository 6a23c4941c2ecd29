"""The Jena data set: sources, repairs and splits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jena_helpers import parse_frame, parsed_of, random_readings, repairs, weather

from storage.errors import DataError, SettingError
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import COLUMNS
from tasks.datasets.spec import Parsed, SourceFile


def test_keras_source_is_one_unpinned_zip_and_ignores_foreign_options() -> None:
    (file,) = jena.SPEC.sources["keras-2009-2016"].files({"first_half_year": "nonsense"})
    assert file.name == "jena_climate_2009_2016.csv.zip"
    assert file.sha256 is None
    assert file.magic == b"PK"
    assert not file.growing
    assert [url.rsplit("/", 1)[1] for url in file.urls] == [file.name, file.name]
    # The file that the tutorial downloads has 13,565,642 bytes.
    assert 13_565_642 < file.max_bytes < 100_000_000


def station(first: Any, last: Any, today: str = "2026-03-10") -> tuple[SourceFile, ...]:
    return jena.SPEC.sources["station"].files({"first_half_year": first, "last_half_year": last, "today": today})


def test_station_range_crosses_years_and_includes_both_ends() -> None:
    files = station("2009b", "2011a")
    assert [file.name for file in files] == [f"mpi_roof_{half}.zip" for half in ("2009b", "2010a", "2010b", "2011a")]
    assert files[0].urls == ("https://www.bgc-jena.mpg.de/wetter/mpi_roof_2009b.zip",)


@pytest.mark.parametrize(
    ("today", "growing"),
    [("2025-07-01", True), ("2025-12-31", True), ("2026-01-14", True), ("2026-01-15", False), ("2026-06-01", False)],
)
def test_half_year_grows_until_two_weeks_after_its_end(today: str, growing: bool) -> None:
    (file,) = station("2025b", "2025b", today)
    assert file.growing is growing


def test_the_clock_stands_in_when_no_day_is_given() -> None:
    (file,) = jena.SPEC.sources["station"].files({"first_half_year": "2004a", "last_half_year": "2004a"})
    assert not file.growing


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2009c", "2010a", "first_half_year is '2009c': give a year and a or b, such as 2009a"),
        ("2009a", "10a", "last_half_year is '10a': give a year and a or b"),
        (None, "2010a", "first_half_year is None: give a year"),
        ("2009a\n", "2010a", "give a year and a or b"),
        ("2003b", "2010a", "first_half_year is '2003b': the station's files begin with 2004a"),
        ("2010a", "2009b", "'2010a' to '2009b' are reversed"),
        ("2010a", "2026b", "last_half_year is '2026b', which is in the future on 2026-03-10"),
    ],
)
def test_impossible_half_years_are_refused(first: Any, last: Any, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        station(first, last)


def test_impossible_today_is_refused() -> None:
    with pytest.raises(SettingError, match=r"today is '31\.01\.2024': give a date such as 2024-01-31"):
        station("2009a", "2009a", today="31.01.2024")


def test_of_repeated_stamps_the_first_is_kept(tmp_path: Path) -> None:
    frame = weather(1000)
    again = frame.iloc[[10, 20, 20]].assign(**{"p (mbar)": 1000.0})
    parsed = parse_frame(tmp_path, pd.concat([frame, again]).sort_values("Date Time", kind="stable"))
    assert repairs(parsed) == {"repeated_stamps": 3, "out_of_order_rows": 0, "sentinel_values": 0}
    assert parsed.repairs[0].share == 3 / 1003
    assert parsed.table["pressure_mbar"].to_numpy() == pytest.approx(frame["p (mbar)"].to_numpy(), abs=1e-4)


def test_a_block_written_twice_is_repeated_stamps_not_disorder(tmp_path: Path) -> None:
    frame = weather(1000)
    parsed = parse_frame(tmp_path, pd.concat([frame.iloc[:600], frame.iloc[597:]]))
    assert repairs(parsed) == {"repeated_stamps": 3, "out_of_order_rows": 0, "sentinel_values": 0}
    assert parsed.facts["rows"] == 1000


def test_repeated_stamps_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    frame = weather(1000)
    # 5 of 1005 is below 0.005, 6 of 1006 is above.
    parse_frame(tmp_path, pd.concat([frame, frame.iloc[:5]]))
    with pytest.raises(DataError, match=r"repeated_stamps: 6 of 1006 rows, a share of 0\.0060, expected at most 0\.005: check"):
        parse_frame(tmp_path, pd.concat([frame, frame.iloc[:6]]))


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    frame = weather(2000)
    order = np.arange(2000)
    # Rows 100 and 101 come after row 104.
    order[100:105] = [102, 103, 104, 100, 101]
    parsed = parse_frame(tmp_path, frame.iloc[order])
    assert repairs(parsed) == {"repeated_stamps": 0, "out_of_order_rows": 2, "sentinel_values": 0}
    assert (parsed.table["timestamp"].to_numpy() == frame["Date Time"].to_numpy()).all()
    assert (parsed.table["temperature_degc"].to_numpy() == frame["T (degC)"].to_numpy().astype(np.float32)).all()


def test_a_shuffled_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out_of_order_rows: \d+ of 2000 rows, a share of 0\.9\d+, expected at most 0\.001"):
        parse_frame(tmp_path, weather(2000).sample(frac=1, random_state=1))


def test_a_file_in_reverse_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="out_of_order_rows: 1999 of 2000 rows"):
        parse_frame(tmp_path, weather(2000).iloc[::-1])


def test_sentinels_are_interpolated_in_time(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[100:103, "wv (m/s)"] = [2.0, -9999, -9999, 5.0]
    frame.loc[200:202, "T (degC)"] = [10.0, -999.0, 12.0]
    parsed = parse_frame(tmp_path, frame)
    assert parsed.table["wind_speed_m_per_s"].to_pylist()[100:104] == [2, 3, 4, 5]
    assert parsed.table["temperature_degc"].to_pylist()[200:203] == [10, 11, 12]
    assert parsed.facts["sentinels"] == {"temperature_degc": 1, "wind_speed_m_per_s": 2}
    assert repairs(parsed)["sentinel_values"] == 3


def test_wind_direction_is_interpolated_along_the_shorter_arc(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[100:103, "wd (deg)"] = [340, -9999, -9999, 10]
    frame.loc[200:202, "wd (deg)"] = [20, -9999, 350]
    direction = parse_frame(tmp_path, frame).table["wind_direction_deg"].to_pylist()
    assert direction[100:104] == [340, 350, 0, 10]
    assert direction[201] == 5


def test_a_hole_of_36_rows_is_filled_and_one_of_37_is_not(tmp_path: Path) -> None:
    frame = weather(20_000)
    frame.loc[100:135, "wv (m/s)"] = -9999
    frame.loc[300:336, "max. wv (m/s)"] = -9999
    parsed = parse_frame(tmp_path, frame)
    assert parsed.table["wind_speed_m_per_s"].null_count == 0
    assert parsed.facts["null_values"] == {"max_wind_speed_m_per_s": 37}
    assert repairs(parsed)["sentinel_values"] == 73


def test_holes_at_the_edges_and_across_a_gap_stay_null(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[[0, 1999, 500], "wv (m/s)"] = -9999
    parsed = parse_frame(tmp_path, frame.drop(index=range(501, 540)))
    missing = np.flatnonzero(np.isnan(parsed.table["wind_speed_m_per_s"].to_numpy()))
    assert missing.tolist() == [0, 500, 1999 - 39]


def test_sentinels_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    frame = weather(2000)
    frame.loc[100:109, "wv (m/s)"] = -9999
    assert repairs(parse_frame(tmp_path, frame))["sentinel_values"] == 10
    frame.loc[110, "wv (m/s)"] = -9999
    with pytest.raises(DataError, match=r"sentinel_values: 11 of 2000 rows, a share of 0\.0055, expected at most 0\.005"):
        parse_frame(tmp_path, frame)


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
    assert abs(counts[0] / rows - 0.47556) <= 0.51 / rows
    assert abs(counts[1] / rows - 0.23778) <= 0.51 / rows
    joined = pa.concat_tables(result.tables.values())
    assert joined["timestamp"].equals(parsed.table["timestamp"])
    assert [bound["first_row"] for bound in result.bounds.values()] == [0, counts[0], counts[0] + counts[1]]
    assert [bound["rows"] for bound in result.bounds.values()] == counts


def test_full_file_splits_at_200000_and_100000_rows() -> None:
    # The repaired table is shorter than what was read; the shares follow what was read.
    parsed = parsed_of(random_readings(420_224, 1))
    parsed = Parsed(table=parsed.table, repairs=(), facts={"rows_read": 420_551})
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
    with pytest.raises(DataError, match="jena has 2 rows, too few for three splits"):
        jena.SPEC.split(parsed_of(random_readings(2, 1)))
