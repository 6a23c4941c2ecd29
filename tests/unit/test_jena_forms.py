"""Files of the station in every form they are known in: equal readings from all of them, and what is refused in which line."""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jena_forms import LOST, STAMP_FORMS, Form, file_of, written
from jena_helpers import DATA, HEADER, HEADERS, MIRROR, TUTORIAL

from storage.errors import DataError
from tasks.datasets.jena.layout import STATION_EXTRAS, STATION_LAYOUT, Layout, header_key
from tasks.datasets.jena.parse import FileContent, read_file
from tasks.datasets.jena.physics import COLUMNS, LAYOUT

# 01.01.2009 00:10:00 and what the tutorial prints of that row and the next four.
FIRST = 1_230_768_600
SECONDS = [FIRST + 600 * row for row in range(5)]
NUMBERS = np.array([row.split(",")[1:] for row in TUTORIAL], dtype=np.float32)
READINGS = {name: NUMBERS[:, position] for position, name in enumerate(COLUMNS)}
PLAIN = ("timestamp", *COLUMNS)
FORMS = {
    "plain": Form(PLAIN),
    "quoted header": Form(PLAIN, quote_header=True),
    "quoted values": Form(PLAIN, quote_values=True),
    "padded values": Form(PLAIN, padding="  "),
    "padded and quoted values, as in 2025": Form(PLAIN, quote_header=True, padding=" ", quote_values=True),
    "zeros cut by a spreadsheet": Form(PLAIN, cut_zeros=True, line_end="\r\n", ending="\r\n"),
    "no end of the last line": Form(PLAIN, ending=""),
    "CRLF and no end of the last line": Form(PLAIN, line_end="\r\n", ending=""),
    "blank lines at the end": Form(PLAIN, ending="\n\n  \n\n"),
    "CRLF and blank lines at the end": Form(PLAIN, line_end="\r\n", ending="\r\n\r\n \r\n"),
    "empty rows of a spreadsheet at the end": Form(PLAIN, separator=";", ending="\r\n;;;;;;;;;;;;;;\r\n;;;;;;;;;;;;;;\r\n"),
    "CR alone": Form(PLAIN, line_end="\r", ending="\r"),
    "byte order mark": Form(PLAIN, encoding="utf-8-sig"),
    "byte order mark and quotes": Form(PLAIN, encoding="utf-8-sig", quote_header=True),
    "all 22 columns in latin-1": Form((*PLAIN, *STATION_EXTRAS), encoding="latin-1", quote_header=True),
    "all 22 columns in UTF-8": Form((*PLAIN, *STATION_EXTRAS)),
    **{f"signs: {name}": Form((*PLAIN, *STATION_EXTRAS), lost=name) for name in LOST},
    "another order": Form((*COLUMNS[::-1], "timestamp")),
    "unused columns between": Form(("", "timestamp", *COLUMNS[:5], "Tlog (degC)", *COLUMNS[5:], "remarks")),
    "semicolons": Form(PLAIN, separator=";"),
    "semicolons and decimal commas": Form(PLAIN, separator=";", decimal_mark=","),
    "decimal commas, zeros cut, blanks": Form(PLAIN, separator=";", decimal_mark=",", cut_zeros=True, padding=" "),
    "tabs": Form(PLAIN, separator="\t"),
    "tabs and decimal commas": Form(PLAIN, separator="\t", decimal_mark=","),
    "gz": Form(PLAIN, container="gz"),
    "zip": Form(PLAIN, container="zip"),
    **{f"stamps: {name}": Form(PLAIN, stamps=name) for name in STAMP_FORMS},
    "the benchmark weather.csv": Form(
        ("timestamp", *COLUMNS, *STATION_EXTRAS[:-1], "OT"), stamps="ISO", stamp_header="date", lost="replaced"
    ),
}


def assert_same(content: FileContent, *, seconds: Any = SECONDS, readings: Any = READINGS) -> None:
    assert content.seconds.dtype == np.int64
    assert content.seconds.tolist() == list(seconds)
    assert list(content.readings) == list(COLUMNS)
    for name in COLUMNS:
        assert content.readings[name].dtype == np.float32
        np.testing.assert_array_equal(content.readings[name], readings[name], err_msg=name)


def read(folder: Path, content: str | bytes, *, name: str = "roof.csv", layout: Layout = STATION_LAYOUT) -> FileContent:
    return read_file(name, path=file_of(folder, content, name=name), layout=layout)


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_changes_no_value(form: Form, tmp_path: Path) -> None:
    content = read(tmp_path, written(READINGS, seconds=SECONDS, form=form))
    assert_same(content)
    further = [name for name in form.order if name not in PLAIN]
    assert list(content.unused) == [name or f"column {form.order.index(name) + 1}" for name in further]
    assert content.overflows == content.empties == {}


def test_columns_of_the_station_are_called_alike_whatever_became_of_their_signs(tmp_path: Path) -> None:
    for lost in LOST:
        form = Form((*PLAIN, *STATION_EXTRAS), lost=lost)
        assert read(tmp_path, written(READINGS, seconds=SECONDS, form=form)).unused == STATION_EXTRAS


@pytest.mark.parametrize(
    ("header", "spellings"),
    [
        ("T (degC)", ["T (°C)", "T (Â°C)", "T (ºC)", "T (deg C)", "T (\ufffdC)", "T (?C)", "T (℃)", ' "T (degC)" ', "T  (degC)"]),
        ("wd (deg)", ["wd (°)", "wd (Â°)", "wd (?)"]),
        ("rho (g/m**3)", ["rho (g/m³)", "rho (g/m^3)", "rho (g/m3)", "rho (g/mÂ³)", "rho (g/m\ufffd)"]),
    ],
)
def test_spellings_of_one_unit(header: str, spellings: list[str], tmp_path: Path) -> None:
    for spelling in spellings:
        field = spelling if '"' in spelling else f'"{spelling}"'
        assert_same(read(tmp_path, rows(*TUTORIAL, header=HEADER.replace(f'"{header}"', field))))


@pytest.mark.parametrize("other", ["T (K)", "T (F)", "T", "t (degC)", "Tpot (degC)", "T (degC) 2"])
def test_what_is_only_like_a_name_is_not_that_column(other: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=re.escape("roof.csv, line 1: no column is named 'T (degC)' (temperature_degc); the file has")
    ):
        read(tmp_path, rows(*TUTORIAL, header=HEADER.replace("T (degC)", other, 1)))


def test_no_two_columns_of_the_station_have_one_key() -> None:
    names = ["Date Time", "date", *HEADERS[1:], *COLUMNS, *STATION_EXTRAS, "OT"]
    assert len({header_key(name) for name in names}) == len(names)


def test_canonical_names_are_names_too(tmp_path: Path) -> None:
    assert_same(read(tmp_path, rows(*TUTORIAL, header=",".join(("timestamp", *COLUMNS)))))


# Missing values.


@pytest.mark.parametrize("word", ["", "NaN", "nan", "NAN", "NA", "null", "  ", '""', " NaN ", '" NA "'])
def test_a_missing_value_is_counted(word: str, tmp_path: Path) -> None:
    content = read(tmp_path, rows(TUTORIAL[0], TUTORIAL[1].replace("-8.41", word), *TUTORIAL[2:]))
    assert np.isnan(content.readings["temperature_degc"]).tolist() == [False, True, False, False, False]
    assert (content.overflows, content.empties) == ({}, {"temperature_degc": 1})


@pytest.mark.parametrize("stars", ["********", "*", "**********************", '"********"', "  ********", '" *** "'])
def test_an_overflow_is_counted(stars: str, tmp_path: Path) -> None:
    lines = [TUTORIAL[0], TUTORIAL[1].replace("-8.41", stars), TUTORIAL[2].replace(",-8.51,", ",,"), *TUTORIAL[3:]]
    lines[4] = lines[4].replace("1309.00", stars)
    content = read(tmp_path, rows(*lines))
    assert np.isnan(content.readings["temperature_degc"]).tolist() == [False, True, True, False, False]
    assert content.overflows == {"temperature_degc": 1, "air_density_g_per_m3": 1}
    assert content.empties == {"temperature_degc": 1}
    assert content.readings["pressure_mbar"].tolist() == READINGS["pressure_mbar"].tolist()


def test_numbers_for_missing_values_stay_numbers(tmp_path: Path) -> None:
    content = read(tmp_path, rows(TUTORIAL[0].replace("-8.02", "-9999"), TUTORIAL[1].replace("-8.41", "-999.0"), *TUTORIAL[2:]))
    assert content.readings["temperature_degc"].tolist()[:2] == [-9999.0, -999.0]
    assert (content.overflows, content.empties) == ({}, {})


# Columns.


def without(header: str) -> str:
    position = HEADERS.index(header)
    lines = (HEADER, *TUTORIAL)
    return "\n".join(",".join(cell for i, cell in enumerate(line.split(",")) if i != position) for line in lines)


def test_a_missing_column_is_named_with_what_the_file_has_and_the_remedy(tmp_path: Path) -> None:
    message = (
        "roof.csv, line 1: no column is named 'T (degC)' (temperature_degc); the file has 'Date Time', 'p (mbar)', 'Tpot (K)', "
        "'Tdew (degC)', 'rh (%)', 'VPmax (mbar)', 'VPact (mbar)', 'VPdef (mbar)', 'sh (g/kg)', 'H2OC (mmol/mol)', "
        "'rho (g/m**3)', 'wv (m/s)', 'max. wv (m/s)', 'wd (deg)': restore the publisher's header, or read it as a file of your "
        "own with --source file --input FILE --columns temperature_degc=NAME"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        read(tmp_path, without("T (degC)"))


def test_a_missing_stamp_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no column is named 'Date Time' \(timestamp\); .* with --source file --input FILE --stamp-column NAME$"
    ):
        read(tmp_path, without("Date Time"))


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"line 1: no column is named 'Date Time' .*; the file has '01.01.2009 00:10:00', '996.52'"
    ):
        read(tmp_path, "\n".join(TUTORIAL))


@pytest.mark.parametrize("again", ["T (degC)", "T (°C)", "remarks"])
def test_a_name_that_occurs_twice_is_refused(again: str, tmp_path: Path) -> None:
    header = f"{HEADER},remarks,{again}"
    first = 3 if again.startswith("T") else 16
    message = f"line 1: '{again}' is the name of columns number {first} and 17, expected each name once: remove or rename"
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, rows(*(f"{row},1,1" for row in TUTORIAL), header=header))


def test_two_columns_that_could_be_one_reading_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"line 1: 'T \(degC\)' and 'temperature_degc' could both be temperature_degc, expected one"
    ):
        read(tmp_path, rows(*(f"{row},1" for row in TUTORIAL), header=f"{HEADER},temperature_degc"))
    with pytest.raises(DataError, match="line 1: 'Date Time' and 'date' could both be timestamp, expected one"):
        read(tmp_path, rows(*(f"{row},1" for row in TUTORIAL), header=f"{HEADER},date"))


# Rows and numbers.


@pytest.mark.parametrize("change", [lambda row: row.rsplit(",", 1)[0], lambda row: f"{row},1"], ids=["fewer", "more"])
def test_a_row_with_another_number_of_fields_is_named(change: Any, tmp_path: Path) -> None:
    text = rows(*TUTORIAL[:2], "", change(TUTORIAL[2]), *TUTORIAL[3:])
    fields = change(TUTORIAL[2]).count(",") + 1
    message = f"roof.csv, line 5: the row has {fields} fields, expected 15 as in the header: correct or remove this row upstream"
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, text)


def test_an_open_quote_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"roof\.csv, line 3: a quote is not closed: correct or remove this row"):
        read(tmp_path, rows(TUTORIAL[0], '"' + TUTORIAL[1], *TUTORIAL[2:]))
    with pytest.raises(DataError, match=r"roof\.csv, line 1: a quote in the header is not closed: correct the header"):
        read(tmp_path, rows(*TUTORIAL, header=HEADER[:-1]))


@pytest.mark.parametrize("value", ["cold", "1.2.3", "0x10", "1_000", "-", "1 000", "9,5", "*1", "Ä", "1e"])
def test_what_is_no_number_is_named_with_line_and_column(value: str, tmp_path: Path) -> None:
    quoted = f'"{value}"' if "," in value else value
    text = rows(*TUTORIAL[:2], TUTORIAL[2].replace("-8.51", quoted), *TUTORIAL[3:])
    with pytest.raises(
        DataError, match=re.escape(f"roof.csv, line 4: {value!r} in temperature_degc (T (degC)) is not a number: ")
    ):
        read(tmp_path, text)


def test_decimal_commas_between_commas_are_refused(tmp_path: Path) -> None:
    form = Form(PLAIN, decimal_mark=",")
    message = (
        "line 2: the row has 29 fields, expected 15 as in the header: if these are decimal commas, write decimal points, or ;"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, written(READINGS, seconds=SECONDS, form=form).replace(b"01.01.2009 00:10:00", b"20090101"))
    quoted = Form(PLAIN, decimal_mark=",", quote_values=True)
    with pytest.raises(
        DataError, match=r"line 2: '996,52' in pressure_mbar .* is not a number: write decimal points, or ; between"
    ):
        read(tmp_path, written(READINGS, seconds=SECONDS, form=quoted))


@pytest.mark.parametrize(
    ("mark", "value", "message"),
    [
        (",", "-8.51", "line 4: '-8.51' in temperature_degc (T (degC)) has a decimal point, and line 2 has a comma: write all"),
        (".", "-8,51", "line 4: '-8,51' in temperature_degc (T (degC)) has a decimal comma, and line 2 has a point: write all"),
        (",", "1.000,5", "line 4: '1.000,5' in temperature_degc (T (degC)) has a decimal point, and line 2 has a comma"),
    ],
)
def test_decimal_marks_are_not_mixed(mark: str, value: str, message: str, tmp_path: Path) -> None:
    form = Form(PLAIN, separator=";", decimal_mark=mark)
    text = written(READINGS, seconds=SECONDS, form=form).decode().replace(f"-8{mark}51", value)
    with pytest.raises(DataError, match=re.escape(message).replace("and\\ line", "and\\ roof\\.csv,\\ line")):
        read(tmp_path, text)


def test_commas_in_a_column_that_is_not_used_decide_nothing(tmp_path: Path) -> None:
    text = rows(*(f"{row},a, b".replace(",", ";", 15) for row in TUTORIAL), header=f"{HEADER},remarks".replace(",", ";"))
    assert_same(read(tmp_path, text))


def test_whole_numbers_before_the_first_decimal_comma(tmp_path: Path) -> None:
    # The first kilobyte has no comma, so the mark is only seen when all is read.
    form = Form(PLAIN, separator=";", decimal_mark=",", cut_zeros=True)
    numbers = {name: np.full(40, 7, dtype=np.float32) for name in COLUMNS}
    numbers["pressure_mbar"][39] = 7.25
    seconds = [FIRST + 600 * row for row in range(40)]
    assert_same(read(tmp_path, written(numbers, seconds=seconds, form=form)), seconds=seconds, readings=numbers)


# What is no file of readings.

PAGE = "<!DOCTYPE html>\n<html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "roof.csv is empty, expected readings"),
        (" \n\n", "roof.csv is empty, expected readings"),
        (PAGE, "roof.csv is an HTML page, expected readings: open the address in a browser, and save the file itself"),
        (f"\n  {PAGE}", "roof.csv is an HTML page"),
        (gzip.compress(PAGE.encode(), mtime=0), "roof.csv is an HTML page"),
        ("[" * 200_000, "roof.csv has a first line of 200000 bytes, expected the names of columns"),
        (HEADER, "roof.csv has a header and no rows"),
        (f"{HEADER}\n\n \n", "roof.csv has a header and no rows"),
        (rows(*TUTORIAL).encode("utf-16"), "roof.csv, line 1: the text is neither UTF-8 nor latin-1: save the file as UTF-8"),
        (rows(*TUTORIAL[:2], "\0" * 40).encode(), "roof.csv, line 4: the text is neither UTF-8 nor latin-1"),
        (rows(*TUTORIAL, header=f"{HEADER},€").encode("cp1252"), "roof.csv, line 1: the header is neither UTF-8 nor latin-1"),
        (gzip.compress(rows(*TUTORIAL).encode(), mtime=0)[:-20], "roof.csv is not a sound gz file"),
        (b"PAR1 and no more", "roof.csv is not a sound Parquet file"),
    ],
)
def test_what_is_no_file_of_readings_is_refused(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, content)


def test_a_gz_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unpacks to more than"):
        read(tmp_path, gzip.compress(b"0" * 20_000_000, mtime=0))


def test_a_spreadsheet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "roof.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    with pytest.raises(DataError, match=r"roof\.xlsx is a spreadsheet or a document, expected one csv: export it as csv"):
        read_file("roof.xlsx", path=path)


def test_a_blank_line_before_the_header_and_between_rows_counts_as_a_line(tmp_path: Path) -> None:
    text = "\n" + rows(TUTORIAL[0], "", TUTORIAL[1].replace("-8.41", "cold"))
    with pytest.raises(DataError, match=r"roof\.csv, line 5: 'cold'"):
        read(tmp_path, text)
    assert_same(read(tmp_path, "\n" + rows(TUTORIAL[0], "", *TUTORIAL[1:])))


def test_a_line_end_within_quotes_is_a_line_too(tmp_path: Path) -> None:
    lines = [f'{row},"wet\nand cold"' for row in TUTORIAL]
    assert_same(read(tmp_path, rows(*lines, header=f"{HEADER},remarks")))
    lines[2] = lines[2].replace("-8.51", "cold", 1)
    with pytest.raises(DataError, match=r"roof\.csv, line 6: 'cold'"):
        read(tmp_path, rows(*lines, header=f"{HEADER},remarks"))


def test_many_missing_columns_are_counted(tmp_path: Path) -> None:
    message = "'Date Time' (timestamp), 'p (mbar)' (pressure_mbar), 'T (degC)' (temperature_degc), 'Tpot (K)' "
    with pytest.raises(DataError, match=re.escape(message) + r".*, and 11 more; the file has 'a', 'b': "):
        read(tmp_path, "a,b\n1,2\n")


# Parquet.


def parquet(folder: Path, changes: Any = None, *, stamps: Any = None) -> Path:
    times = pa.array(np.array(SECONDS, dtype="datetime64[s]")) if stamps is None else stamps
    columns = {"Date Time": times, **{column.header: pa.array(READINGS[column.name]) for column in LAYOUT}, **(changes or {})}
    pq.write_table(pa.table(columns), folder / "roof.parquet")
    return folder / "roof.parquet"


@pytest.mark.parametrize(
    "stamps",
    [
        pa.array(np.array(SECONDS, dtype="datetime64[s]")).cast(pa.timestamp("ns")),
        pa.array([row.split(",")[0] for row in TUTORIAL]),
        pa.array([row.split(",")[0] for row in TUTORIAL]).dictionary_encode(),
    ],
    ids=["ns", "text", "dictionary"],
)
def test_parquet_reads_like_a_csv(stamps: pa.Array, tmp_path: Path) -> None:
    text = pa.array([f"{value:.2f}" for value in READINGS["temperature_degc"]])
    path = parquet(tmp_path, {"T (degC)": text, "remarks": pa.array([[1]] * 5)}, stamps=stamps)
    content = read_file("roof.parquet", path=path)
    assert_same(content)
    assert content.unused == ("remarks",)


def test_missing_values_of_parquet_are_counted(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"T (degC)": pa.array(["1.5", None, "***", "NaN", ""]), "p (mbar)": pa.array([1.0, None, 3, 4, 5])})
    content = read_file("roof.parquet", path=path)
    assert (content.overflows, content.empties) == ({"temperature_degc": 1}, {"pressure_mbar": 1, "temperature_degc": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Date Time": pa.array(np.array(SECONDS, dtype="datetime64[s]")).cast(pa.timestamp("s", tz="UTC"))}, "has the zone UTC"),
        ({"Date Time": pa.array([1500 * row for row in range(5)], type=pa.timestamp("ms"))}, "has parts of a second"),
        ({"Date Time": pa.array(SECONDS)}, "has type int64, expected text or times: convert it"),
        (
            {"Date Time": pa.array([None, *SECONDS[1:]], type=pa.timestamp("s"))},
            "roof.parquet, row 1: timestamp (Date Time) is missing",
        ),
        ({"T (degC)": pa.array([True] * 5)}, "'T (degC)' (temperature_degc) has type bool, expected numbers: convert it"),
        (
            {"T (degC)": pa.array(["1", "2", "cold", "4", "5"])},
            "roof.parquet, row 3: 'cold' in temperature_degc (T (degC)) is not",
        ),
    ],
)
def test_parquet_of_other_types_is_refused(changes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_file("roof.parquet", path=parquet(tmp_path, changes))


# Any combination of forms.

cells = st.integers(-99_899, 200_000).map(lambda hundredths: hundredths / 100)


@st.composite
def forms(draw: st.DrawFn) -> Form:
    extras = draw(st.lists(st.sampled_from(("Tlog (degC)", "rain (mm)", "PAR (µmol/m²/s)", "SWDR (W/m²)", "OT")), unique=True))
    separator = draw(st.sampled_from(",;\t"))
    line_end = draw(st.sampled_from(("\n", "\r\n")))
    lost = draw(st.sampled_from(tuple(LOST)))
    encodings = ["utf-8", "utf-8-sig", *(["latin-1"] if lost not in {"replaced", "another micro"} else [])]
    return Form(
        order=tuple(draw(st.permutations((*PLAIN, *extras)))),
        separator=separator,
        decimal_mark="." if separator == "," else draw(st.sampled_from(".,")),
        stamps=draw(st.sampled_from(tuple(STAMP_FORMS))),
        stamp_header=draw(st.sampled_from(("Date Time", "date", "timestamp"))),
        quote_header=draw(st.booleans()),
        quote_values=draw(st.booleans()),
        padding=draw(st.sampled_from(("", " ", "   "))),
        cut_zeros=draw(st.booleans()),
        encoding=draw(st.sampled_from(encodings)),
        lost=lost,
        line_end=line_end,
        ending=draw(st.sampled_from(("", line_end, line_end * 3))),
        container=draw(st.sampled_from(("csv", "gz", "zip"))),
    )


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=forms(),
    numbers=st.lists(st.lists(cells, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=6),
    first=st.integers(0, 4_000_000),
)
def test_any_combination_of_forms_reads_back_equal(form: Form, numbers: list[list[float]], first: int, tmp_path: Path) -> None:
    # Stamps of 1970 to 2122, in the order of the file, which nobody sorts here.
    seconds = [1200 * first + 600 * (len(numbers) - row) for row in range(len(numbers))]
    table = np.array(numbers)
    readings = {name: table[:, position] for position, name in enumerate(COLUMNS)}
    content = read(tmp_path, written(readings, seconds=seconds, form=form), name="roof")
    assert_same(content, seconds=seconds, readings={name: values.astype(np.float32) for name, values in readings.items()})


# Real files.


def real(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"real data is not here: {path.name} (name its folder in RETRAIN_MIRROR)")
    return path


@pytest.mark.parametrize(("name", "count"), [("mpi_roof_2020a.zip", 26_200), ("mpi_roof_2020b.zip", 26_496)])
def test_half_years_of_the_station(name: str, count: int) -> None:
    content = read_file(name, path=real(MIRROR / name))
    assert len(content.seconds) == count
    assert content.unused == STATION_EXTRAS
    assert content.overflows == content.empties == {}


def test_the_current_file_as_a_person_saved_it() -> None:
    content = read_file("mpi_roof.csv", path=real(DATA / "current/mpi_roof.csv"))
    assert content.seconds[[0, -1]].astype("datetime64[s]").astype(str).tolist() == ["2024-06-09T11:40:00", "2024-10-20T08:10:00"]
    assert len(content.seconds) == 19_132
    assert set(np.diff(content.seconds)) == {600}
    assert [float(content.readings[name][0]) for name in COLUMNS[:2]] == [float(np.float32(982.81)), float(np.float32(18.76))]
    assert content.unused == STATION_EXTRAS
    assert all((values > -999).all() for values in content.readings.values())


def test_a_real_half_year_laid_out_as_the_benchmark_reads_equal(tmp_path: Path) -> None:
    station = read_file("mpi_roof_2020a.zip", path=real(MIRROR / "mpi_roof_2020a.zip"))
    frame = pd.DataFrame(
        {"date": pd.to_datetime(station.seconds, unit="s"), **{c.header: station.readings[c.name] for c in LAYOUT}}
    )
    frame.assign(OT=400.0).to_csv(tmp_path / "weather.csv", index=False, float_format="%.2f", date_format="%Y-%m-%d %H:%M:%S")
    assert_same(
        read_file("weather.csv", path=tmp_path / "weather.csv"),
        seconds=station.seconds.tolist(),
        readings={name: np.round(values.astype(np.float64), 2).astype(np.float32) for name, values in station.readings.items()},
    )
