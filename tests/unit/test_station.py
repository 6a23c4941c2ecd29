"""Which files of the station should exist on a day, where they may be, and which rows each promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jena_helpers import repairs
from pydantic import ValidationError

from storage.errors import DataError, SettingError
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.sample import SAMPLE_FILE, simulated_weather, write_csv_zip
from tasks.datasets.jena.station import (
    ADDRESSES,
    Period,
    StationOptions,
    goes_on,
    period_asked,
    period_named,
    period_of_file,
    station_files,
)
from tasks.datasets.request import QualityLimits, SplitSettings, TableRequest
from tasks.datasets.spec import Parsed, SourceFile

TODAY = date(2026, 3, 2)


# --- periods


@pytest.mark.parametrize(
    ("value", "first", "end"),
    [
        ("2004", date(2004, 1, 1), date(2005, 1, 1)),
        ("2023a", date(2023, 1, 1), date(2023, 7, 1)),
        ("2023b", date(2023, 7, 1), date(2024, 1, 1)),
        ("2024-02", date(2024, 2, 1), date(2024, 3, 1)),
        ("2025-12", date(2025, 12, 1), date(2026, 1, 1)),
        ("2024-02-29", date(2024, 2, 29), date(2024, 3, 1)),
        ("2025-12-31", date(2025, 12, 31), date(2026, 1, 1)),
    ],
)
def test_a_period_has_a_first_day_and_a_day_after_its_last(value: str, first: date, end: date) -> None:
    assert period_named(value, name="from_period") == Period(first, end)


@pytest.mark.parametrize(
    "value", ["", "2009c", "09", "2009-1", "2009-01-1", "2009a-01", "latest", " 2009", "2009\n", "zweitausend"]
)
def test_a_malformed_period_is_refused_by_name_and_with_examples(value: str) -> None:
    with pytest.raises(SettingError, match=r"from_period is .*: give a year, half-year, month or day such as 2009, 2009a"):
        period_named(value, name="from_period")


@pytest.mark.parametrize("value", ["2023-02-29", "2024-13", "2024-00", "2024-04-31", "9999-12-31"])
def test_a_day_that_is_in_no_calendar_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match=f"to_period is '{value}', which is no day"):
        period_named(value, name="to_period")


@pytest.mark.parametrize("value", ["2003", "2003b", "2003-12-31", "0000", "0001"])
def test_a_period_before_the_first_file_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match=r"the station's files begin with 2004|which is no day"):
        period_named(value, name="from_period")


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, Period(date(2009, 1, 1), None)),
        ("2025-06-09", "latest", Period(date(2025, 6, 9), None)),
        ("2009a", "2009a", Period(date(2009, 1, 1), date(2009, 7, 1))),
        ("2009", "2014a", Period(date(2009, 1, 1), date(2014, 7, 1))),
        ("2014", "2014a", Period(date(2014, 1, 1), date(2014, 7, 1))),
        ("2009b", "2009", Period(date(2009, 7, 1), date(2010, 1, 1))),
        ("2026", "2026", Period(date(2026, 1, 1), date(2027, 1, 1))),  # a year that has begun
        ("2026-03-02", "2026-03-02", Period(date(2026, 3, 2), date(2026, 3, 3))),
    ],
)
def test_a_span_goes_from_the_first_day_of_one_period_to_the_end_of_another(
    first: str | None, last: str | None, expected: Period
) -> None:
    assert period_asked({"from_period": first, "to_period": last}, today=TODAY) == expected


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2026-03-03", "latest", "from_period is '2026-03-03', which is in the future on 2026-03-02"),
        ("2027", None, "from_period is '2027', which is in the future"),
        ("2009", "2026b", "to_period is '2026b', which is in the future"),
        ("2014", "2009", "periods '2014' to '2009' are reversed: give the earlier one as from_period"),
        ("2014b", "2014a", "reversed"),
        ("2014-02", "2014-01-31", "reversed"),
        ("2014-03-15", "2014-03-14", "reversed"),
    ],
)
def test_spans_that_cannot_be_are_refused(first: str, last: str | None, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        period_asked({"from_period": first, "to_period": last}, today=TODAY)


def test_a_series_goes_on_unless_its_last_period_is_named() -> None:
    assert goes_on({})
    assert goes_on({"from_period": "2020", "to_period": "latest"})
    assert not goes_on({"to_period": "2026"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mpi_roof_2023b.zip", Period(date(2023, 7, 1), date(2024, 1, 1))),
        ("mpi_roof_2024.zip", Period(date(2024, 1, 1), date(2025, 1, 1))),
        ("mpi_roof.csv", None),
        ("mpi_roof.zip", None),
        ("mpi_saale_2024.zip", None),
    ],
)
def test_the_name_of_a_file_promises_a_period(name: str, expected: Period | None) -> None:
    assert period_of_file(name) == expected


@pytest.mark.parametrize("value", ["2009-13-99", "2009", "2009a", "2009-01", "2009-01-31"])
def test_the_form_takes_what_looks_like_a_period(value: str) -> None:
    assert StationOptions(from_period=value).from_period == value


@pytest.mark.parametrize(
    "values",
    [
        {"from_period": "latest"},
        {"from_period": "2009c"},
        {"to_period": "now"},
        {"addresses": ["https://example.org/jena/"]},
        {"addresses": ["ftp://example.org/{name}"]},
        {"addresses": ["https://example.org/{name}"] * 11},
        {"half_years": ["2009a"]},
    ],
)
def test_the_form_refuses_what_can_be_no_option(values: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StationOptions.model_validate(values)


# --- files


def files(today: date = TODAY, **options: Any) -> tuple[SourceFile, ...]:
    return station_files(options, today)


def names(found: Sequence[SourceFile]) -> dict[str, list[str]]:
    """The files that stand in for each file."""
    return {file.name: [other.name for other in file.instead] for file in found}


def test_half_years_until_2023_then_years_then_the_current_file() -> None:
    assert names(files(from_period="2023a")) == {
        "mpi_roof_2023a.zip": ["mpi_roof_2023.zip"],
        "mpi_roof_2023b.zip": ["mpi_roof_2023.zip"],
        "mpi_roof_2024.zip": ["mpi_roof_2024a.zip", "mpi_roof_2024b.zip"],
        "mpi_roof_2025.zip": ["mpi_roof_2025a.zip", "mpi_roof_2025b.zip"],
        "mpi_roof_2026.zip": ["mpi_roof_2026a.zip"],  # its second half has not begun
        "mpi_roof.csv": ["mpi_roof.zip"],
    }


def test_without_a_period_it_is_2009_to_now() -> None:
    found = list(names(files()))
    assert found[0] == "mpi_roof_2009a.zip"
    assert found[-1] == "mpi_roof.csv"
    assert len(found) == 2 * 15 + 3 + 1


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2009a", "2009a", ["mpi_roof_2009a.zip"]),
        ("2009b", "2010a", ["mpi_roof_2009b.zip", "mpi_roof_2010a.zip"]),
        ("2010-06-30", "2010-07-01", ["mpi_roof_2010a.zip", "mpi_roof_2010b.zip"]),
        ("2010-07-01", "2010-07-01", ["mpi_roof_2010b.zip"]),
        # Of a past year nothing is in the current file; the last 400 days may be.
        ("2024-05", "2024-05", ["mpi_roof_2024.zip"]),
        ("2025-01-25", "2025-01-25", ["mpi_roof_2025.zip"]),
        ("2025-01-26", "2025-01-26", ["mpi_roof_2025.zip", "mpi_roof.csv"]),
    ],
)
def test_only_files_of_the_span_are_asked_for(first: str, last: str, expected: list[str]) -> None:
    assert list(names(files(from_period=first, to_period=last))) == expected


def test_of_a_year_from_its_second_half_on_the_first_half_is_no_substitute() -> None:
    assert names(files(from_period="2024b", to_period="2024b")) == {"mpi_roof_2024.zip": ["mpi_roof_2024b.zip"]}


@pytest.mark.parametrize(
    ("today", "name", "growing", "optional"),
    [
        # A half-year of 2023 ends with June: it grows until 14 July, and may be missing until 29 August.
        (date(2023, 6, 30), "mpi_roof_2023a.zip", True, True),
        (date(2023, 7, 14), "mpi_roof_2023a.zip", True, True),
        (date(2023, 7, 15), "mpi_roof_2023a.zip", False, True),
        (date(2023, 8, 29), "mpi_roof_2023a.zip", False, True),
        (date(2023, 8, 30), "mpi_roof_2023a.zip", False, False),
        # The year 2025 ends with December: 14 days later is 15 January, 60 days later is 2 March.
        (date(2025, 6, 1), "mpi_roof_2025.zip", True, True),
        (date(2026, 1, 14), "mpi_roof_2025.zip", True, True),
        (date(2026, 1, 15), "mpi_roof_2025.zip", False, True),
        (date(2026, 3, 1), "mpi_roof_2025.zip", False, True),
        (date(2026, 3, 2), "mpi_roof_2025.zip", False, False),
        (date(2026, 3, 2), "mpi_roof_2024.zip", False, False),
        (date(2026, 3, 2), "mpi_roof.csv", True, True),
    ],
)
def test_a_file_grows_until_days_after_its_end_and_may_be_late_for_weeks(
    today: date, name: str, growing: bool, optional: bool
) -> None:
    file = next(file for file in files(today, from_period="2023a") if file.name == name)
    assert (file.growing, file.optional, file.rolling) == (growing, optional, name == "mpi_roof.csv")


def test_a_substitute_grows_and_may_be_late_by_its_own_end() -> None:
    year = next(file for file in files(date(2026, 1, 5), from_period="2025") if file.name == "mpi_roof_2025.zip")
    # The first half of 2025 ended in June, the second five days ago.
    assert [(half.name, half.growing, half.optional) for half in year.instead] == [
        ("mpi_roof_2025a.zip", False, False),
        ("mpi_roof_2025b.zip", True, True),
    ]


def test_addresses_of_a_person_come_before_the_known_ones() -> None:
    addresses = ("https://example.org/jena/{name}", "file:///mnt/jena/{name}")
    for file in files(from_period="2023a", addresses=addresses):
        for each in (file, *file.instead):
            expected = [address.replace("{name}", each.name) for address in (*addresses, *ADDRESSES)]
            assert list(each.urls) == expected
    assert files()[0].urls == (
        "https://weather.bgc-jena.mpg.de/mpi_roof_2009a.zip",
        "https://www.bgc-jena.mpg.de/wetter/mpi_roof_2009a.zip",
    )


def test_a_zip_must_look_like_one_and_a_csv_need_not() -> None:
    found = {each.name: each.magic for file in files() for each in (file, *file.instead)}
    assert {magic for name, magic in found.items() if name.endswith(".zip")} == {b"PK"}
    assert found["mpi_roof.csv"] == b""


# --- rows


def station_file(folder: Path, name: str, *, first: str, rows: int, seed: int = 1, pressure: float = 0.0) -> Path:
    """A file of simulated weather; one seed, first stamp and pressure are always the same readings."""
    frame = simulated_weather(rows, seed=seed, start=first)
    frame["p (mbar)"] += pressure
    return write_csv_zip(frame, folder / (name if name.endswith(".zip") else f"{name}.zip"))


def request(**options: Any) -> TableRequest:
    return TableRequest(source="station", options=options, limits=QualityLimits(), split=SplitSettings(rule="shares"))


def parse(paths: Mapping[str, Path], **options: Any) -> Parsed:
    return jena.SPEC.parse(paths, request(**options))


@pytest.mark.parametrize(
    ("name", "first", "rows"),
    [
        ("mpi_roof_2010a.zip", "2010-01-01T00:00:00", 3),  # the midnight before its first row
        ("mpi_roof_2010a.zip", "2010-06-30T23:40:00", 3),  # until the midnight that ends it
        ("mpi_roof_2024.zip", "2024-12-31T23:40:00", 3),
    ],
)
def test_a_file_may_hold_the_midnights_at_both_ends_of_its_period(name: str, first: str, rows: int, tmp_path: Path) -> None:
    parsed = parse({name: station_file(tmp_path, name, first=first, rows=rows)})
    assert parsed.facts["rows"] == rows


@pytest.mark.parametrize(
    ("name", "first", "rows", "message"),
    [
        # Ten minutes too early, and ten minutes too late.
        (
            "mpi_roof_2010a.zip",
            "2009-12-31T23:50:00",
            4,
            "1 of 4 rows are of another period, the first is 2009-12-31T23:50:00, expected 2010-01-01 to 2010-06-30",
        ),
        (
            "mpi_roof_2010a.zip",
            "2010-06-30T23:50:00",
            4,
            "2 of 4 rows are of another period, the first is 2010-07-01T00:10:00, expected 2010-01-01 to 2010-06-30",
        ),
        ("mpi_roof_2025.zip", "2024-05-01T00:10:00", 4, "4 of 4 rows .*expected 2025-01-01 to 2025-12-31: fetch the right file"),
    ],
)
def test_a_file_with_rows_of_another_period_is_refused(name: str, first: str, rows: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name}: {message}"):
        parse({name: station_file(tmp_path, name, first=first, rows=rows)})


def test_the_current_file_and_its_states_may_hold_any_period(tmp_path: Path) -> None:
    paths = {
        "mpi_roof.zip": station_file(tmp_path, "one", first="2026-01-05T00:10:00", rows=144),
        "mpi_roof.zip@0123456789ab": station_file(tmp_path, "two", first="2026-01-04T00:10:00", rows=144),
    }
    parsed = parse(paths)
    assert (parsed.facts["rows"], parsed.facts["first_stamp"]) == (288, "2026-01-04T00:10:00")


def test_only_rows_of_the_span_are_kept(tmp_path: Path) -> None:
    paths = {"mpi_roof_2010a.zip": station_file(tmp_path, "mpi_roof_2010a.zip", first="2010-03-01T00:10:00", rows=31 * 144)}
    facts = parse(paths, from_period="2010-03-05", to_period="2010-03-06").facts
    assert (facts["first_stamp"], facts["last_stamp"], facts["rows"]) == ("2010-03-05T00:10:00", "2010-03-07T00:00:00", 288)
    assert parse(paths, from_period="2010-03-30", to_period="latest").facts["rows"] == 2 * 144
    with pytest.raises(DataError, match="no row of the files is from 2010-05-01 to 2010-05-31: ask for another period"):
        parse(paths, from_period="2010-05", to_period="2010-05")


def test_an_overlap_is_read_from_the_finished_file_then_from_the_newest_state(tmp_path: Path) -> None:
    """Three files of one day each beginning at 00:10, 06:10 and 12:10, of which each has another pressure."""

    def rows_of(name: str, first_row: int, rows: int, pressure: float) -> Path:
        frame = simulated_weather(288, seed=1, start="2025-12-31T00:10:00").iloc[first_row : first_row + rows]
        return write_csv_zip(frame.assign(**{"p (mbar)": float(pressure)}), tmp_path / f"{name}.zip")

    paths = {
        "mpi_roof.zip": rows_of("newest", 72, 216, 1001),  # from noon on
        "mpi_roof.zip@111111111111": rows_of("older", 36, 180, 1002),  # from 06:10 to noon of the next day
        "mpi_roof_2025.zip": rows_of("year", 0, 100, 1003),
    }
    parsed = parse(paths)
    pressure = parsed.table["pressure_mbar"].to_numpy()
    assert pressure.tolist() == [1003] * 100 + [1001] * 188
    # Rows 36 to 215 are in the older state too: 64 of them beside the year's rows, all beside or before those of the newest.
    assert repairs(parsed)["contradicting_rows"] == 180
    assert repairs(parsed)["repeated_rows"] == 0
    assert parsed.facts["rows_read"] == 216 + 180 + 100


def test_equal_overlaps_are_no_repairs_and_are_counted_as_a_fact(tmp_path: Path) -> None:
    frame = simulated_weather(288, seed=1, start="2025-12-31T00:10:00")
    paths = {
        "mpi_roof.zip": write_csv_zip(frame.iloc[72:], tmp_path / "newest.zip"),
        "mpi_roof_2025.zip": write_csv_zip(frame.iloc[:100], tmp_path / "year.zip"),
    }
    parsed = parse(paths)
    assert parsed.facts["rows"] == 288
    assert parsed.facts["overlapping_rows"] == 28
    assert {name: count for name, count in repairs(parsed).items() if count} == {}


def test_of_two_states_with_the_same_newest_stamp_the_first_that_is_given_counts(tmp_path: Path) -> None:
    now, before = (
        station_file(tmp_path, name, first="2026-01-05T00:10:00", rows=3, pressure=pressure)
        for name, pressure in (("now", 1.0), ("before", 0.0))
    )
    for first, second in ((now, before), (before, now)):
        parsed = parse({"mpi_roof.zip": first, "mpi_roof.csv@0123456789ab": _unzipped(second)})
        alone = parse({"mpi_roof.zip": first})
        assert parsed.table.equals(alone.table)
        assert repairs(parsed)["contradicting_rows"] == 3


def _unzipped(path: Path) -> Path:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        body = archive.read(archive.namelist()[0])
    plain = path.with_suffix(".csv")
    plain.write_bytes(body)
    return plain


def test_a_current_file_is_read_packed_and_plain(tmp_path: Path) -> None:
    packed = station_file(tmp_path, "any", first="2026-01-05T00:10:00", rows=30)
    assert parse({"mpi_roof.zip": packed}).table.equals(parse({"mpi_roof.csv": _unzipped(packed)}).table)


# --- the years 2009 to 2016, continued


def keras_files(today: date = TODAY, **options: Any) -> dict[str, list[str]]:
    return names(jena.SPEC.sources["keras-2009-2016"].files(options, today))


def test_the_full_file_alone_or_continued_by_the_station_from_2017_on() -> None:
    assert keras_files() == {SAMPLE_FILE: []}
    assert list(keras_files(continue_to="2018a")) == [
        SAMPLE_FILE,
        *(f"mpi_roof_{half}.zip" for half in ("2017a", "2017b", "2018a")),
    ]
    latest = list(keras_files(continue_to="latest"))
    assert latest[:2] == [SAMPLE_FILE, "mpi_roof_2017a.zip"]
    assert latest[-4:] == ["mpi_roof_2024.zip", "mpi_roof_2025.zip", "mpi_roof_2026.zip", "mpi_roof.csv"]
    assert len(latest) == 1 + 2 * 7 + 3 + 1


@pytest.mark.parametrize("value", ["2016b", "2016", "2009-05"])
def test_a_continuation_begins_after_the_full_file(value: str) -> None:
    with pytest.raises(SettingError, match=f"continue_to is '{value}': the file ends with 2016, give 2017 or later, or latest"):
        keras_files(continue_to=value)


def test_a_continued_series_goes_on_and_a_finished_one_does_not() -> None:
    goes = jena.SPEC.sources["keras-2009-2016"].goes_on
    assert goes({"continue_to": "latest"})
    assert not goes({"continue_to": "2023b"})
    assert not goes({})


def seconds_from(first: str, rows: int) -> Any:
    return int(np.datetime64(first, "s").astype(np.int64)) + 600 * np.arange(rows, dtype=np.int64)


LAST = "2017-01-01T00:00:00"


@pytest.mark.parametrize(
    ("begins", "message"),
    [
        ("2017-01-01T00:10:00", None),
        ("2017-01-01T00:00:00", None),  # both have the midnight between them
        ("2017-01-08T00:00:00", None),  # seven days
        (
            "2017-01-08T00:10:00",
            "ends at 2017-01-01T00:00:00 and the station's files begin at 2017-01-08T00:10:00: expected at most",
        ),
        ("2017-07-01T00:10:00", "expected at most 7 days between them, name the periods between"),
        ("2017-01-01T00:05:00", "no whole number of ten minutes later: one of them is from another clock"),
    ],
)
def test_the_station_goes_on_where_the_full_file_ends(begins: str, message: str | None) -> None:
    parts: Any = {
        SAMPLE_FILE: (seconds_from("2016-12-31T23:50:00", 2), {}),
        "mpi_roof_2017b.zip": (seconds_from("2017-07-01T00:10:00", 5), {}),
        "mpi_roof_2017a.zip": (seconds_from(begins, 5), {}),
    }
    if message is None:
        jena._check_seam(parts)
        return
    with pytest.raises(DataError, match=message):
        jena._check_seam(parts)


def test_the_full_file_must_be_full_before_it_is_continued(tmp_path: Path) -> None:
    paths = {
        SAMPLE_FILE: station_file(tmp_path, "full", first="2016-12-31T00:10:00", rows=144),
        "mpi_roof_2017a.zip": station_file(tmp_path, "next", first="2017-01-01T00:10:00", rows=144),
    }
    with pytest.raises(DataError, match=f"{SAMPLE_FILE} has 144 rows from 2016-12-31T00:10:00 .*expected 420551"):
        jena.SPEC.parse(paths, TableRequest(source="keras-2009-2016", options={"continue_to": "latest"}))


def test_a_continued_series_is_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full file cannot be had in a test, so a short one passes for it."""
    monkeypatch.setattr(jena, "_check_full", lambda seconds: None)
    frame = simulated_weather(4 * 144, seed=3, start="2016-12-30T00:10:00")
    paths = {
        SAMPLE_FILE: write_csv_zip(frame.iloc[: 2 * 144], tmp_path / "full.zip"),
        "mpi_roof_2017a.zip": write_csv_zip(frame.iloc[2 * 144 :], tmp_path / "next.zip"),
    }
    asked = TableRequest(source="keras-2009-2016", options={"continue_to": "2017-01-01"}, split=SplitSettings(rule="shares"))
    parsed = jena.SPEC.parse(paths, asked)
    assert (parsed.facts["first_stamp"], parsed.facts["last_stamp"]) == ("2016-12-30T00:10:00", "2017-01-02T00:00:00")
    assert parsed.facts["rows"] == 3 * 144
    stamps = pd.Series(parsed.table["timestamp"].to_numpy())
    assert (stamps.diff().dropna() == pd.Timedelta(minutes=10)).all()
