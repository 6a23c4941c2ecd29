"""A file of a person's own: what can be set of it, and under which names it is read."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jena_forms import file_of
from jena_helpers import HEADER, TUTORIAL
from pydantic import ValidationError

from storage.errors import DataError, SettingError
from tasks.datasets.jena.layout import STATION_LAYOUT
from tasks.datasets.jena.own_file import OwnFileOptions, layout_of, own_files
from tasks.datasets.jena.parse import read_file
from tasks.datasets.jena.physics import COLUMNS, LAYOUT


def test_the_form_has_an_option_of_the_command_for_each_field() -> None:
    assert OwnFileOptions.flags() == {
        "--input": "path",
        "--columns": "columns",
        "--stamp-column": "stamp_column",
        "--stamp-format": "stamp_format",
    }
    schema = OwnFileOptions.model_json_schema()
    assert schema["title"] == "Options of file"
    assert all(field["description"].endswith(".") for field in schema["properties"].values())
    assert OwnFileOptions() == OwnFileOptions(path=None, columns=None, stamp_column=None, stamp_format=None)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("roof.csv", "roof.csv"),
        ("data/my roof (2).csv", "my_roof_2_.csv"),
        ("../../.hidden", "hidden"),
        ("C:\\data\\roof.csv", "roof.csv"),
        ("..", "file"),
        ("https://user:secret@example.org/data/roof%202020.parquet?key=secret", "roof_2020.parquet"),
        ("https://example.org", "file"),
        ("https://example.org/a%2F..%2Fb.csv", "b.csv"),
        ("file:///data/mpi_roof.csv", "mpi_roof.csv"),
        ("x" * 300 + ".csv", "x" * 96 + ".csv"),
    ],
)
def test_the_name_of_a_file_is_safe(address: str, name: str) -> None:
    (file,) = own_files({"path": address}, date(2026, 3, 10))
    assert file.name == name
    assert file.urls == (address,)
    assert file.own
    assert file.growing
    assert file.sha256 is None
    assert file.magic == b""
    assert file.max_bytes >= 100_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "path is None: name a csv, a zip with one csv, or a Parquet file"),
        ({"path": "s3://bucket/roof.csv"}, "path begins with 's3://': name a file of this host, or an http, https or file URL"),
        ({"path": ""}, "path is '': String should have at least 1 character"),
        ({"path": "roof.csv", "first_half_year": "2009a"}, "first_half_year is '2009a': Extra inputs are not permitted"),
    ],
)
def test_what_names_no_file_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        own_files(options, date(2026, 3, 10))


def test_nothing_set_is_the_station_s_layout() -> None:
    assert layout_of({"path": "roof.csv"}) == STATION_LAYOUT
    assert layout_of({"path": "roof.csv", "stamp_format": "auto"}) == STATION_LAYOUT


@pytest.mark.parametrize(
    "columns",
    [
        {"temperature_degc": "Temp, outside", "pressure_mbar": "P"},
        {"T (degC)": "Temp, outside", "p (mbar)": "P"},
        {"T (°C)": " Temp, outside", "pressure_mbar": "P "},
        "temperature_degc=Temp, outside,pressure_mbar=P",
        " T (degC) = Temp, outside , p (mbar) = P ",
    ],
)
def test_a_mapping_names_columns_of_the_file(columns: Any, tmp_path: Path) -> None:
    header = HEADER.replace('"T (degC)"', '"Temp, outside"').replace("p (mbar)", "P").replace("Date Time", "Zeit")
    rows = [row.replace("01.01.2009", "2009/01/01") for row in TUTORIAL]
    path = file_of(tmp_path, "\n".join((header, *rows)))
    layout = layout_of({"path": str(path), "columns": columns, "stamp_column": "Zeit", "stamp_format": "%Y/%m/%d %H:%M:%S"})
    content = read_file("roof.csv", path=path, layout=layout)
    assert content.readings["temperature_degc"].tolist() == [float(np.float32(t)) for t in (-8.02, -8.41, -8.51, -8.31, -8.27)]
    assert content.readings["pressure_mbar"].tolist()[0] == float(np.float32(996.52))
    assert content.seconds[0] == 1_230_768_600
    assert list(content.readings) == list(COLUMNS)


def test_the_station_s_name_is_free_for_another_use_once_a_reading_has_a_column(tmp_path: Path) -> None:
    path = file_of(tmp_path, "\n".join((f"{HEADER},inside", *(f"{row},21.5" for row in TUTORIAL))))
    content = read_file("roof.csv", path=path, layout=layout_of({"columns": {"temperature_degc": "inside"}}))
    assert set(content.readings["temperature_degc"].tolist()) == {21.5}
    assert content.unused == ("T (degC)",)


def test_every_reading_can_be_mapped(tmp_path: Path) -> None:
    columns = {column.name: f"c{position}" for position, column in enumerate(LAYOUT)}
    path = file_of(tmp_path, "\n".join((",".join(("t", *columns.values())), *TUTORIAL)))
    layout = layout_of({"columns": columns, "stamp_column": "t"})
    assert len(read_file("roof.csv", path=path, layout=layout).seconds) == 5


def test_one_column_is_not_two_readings(tmp_path: Path) -> None:
    path = file_of(tmp_path, "\n".join((HEADER, *TUTORIAL)))
    message = "line 1: 'Tdew (degC)' is named for temperature_degc and dew_point_degc, expected a column for each: correct"
    with pytest.raises(DataError, match=re.escape(message)):
        read_file("roof.csv", path=path, layout=layout_of({"columns": {"temperature_degc": "Tdew (degC)"}}))
    with pytest.raises(DataError, match=r"'p \(mbar\)' is named for timestamp and pressure_mbar"):
        read_file("roof.csv", path=path, layout=layout_of({"stamp_column": "p (mbar)"}))


def test_a_column_that_the_file_lacks_is_named_as_it_was_set(tmp_path: Path) -> None:
    path = file_of(tmp_path, "\n".join((HEADER, *TUTORIAL)))
    with pytest.raises(DataError, match=r"line 1: no column is named 'Temp' \(temperature_degc\); the file has 'Date Time', 'p"):
        read_file("roof.csv", path=path, layout=layout_of({"columns": {"temperature_degc": "Temp"}}))
    # A reading that the mapping leaves out is sought under the station's name.
    path = file_of(tmp_path, "\n".join((HEADER.replace("wv (m/s)", "wind", 1), *TUTORIAL)))
    with pytest.raises(DataError, match=r"line 1: no column is named 'wv \(m/s\)' \(wind_speed_m_per_s\); the file has"):
        read_file("roof.csv", path=path, layout=layout_of({"columns": {"temperature_degc": "T (degC)"}}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"temperature": "T"}, "unknown reading 'temperature': choose pressure_mbar, temperature_degc,"),
        ({"timestamp": "T"}, "unknown reading 'timestamp': choose pressure_mbar, .*; the stamps have a setting of their own"),
        ({"temperature_degc": "T", "dew_point_degc": "T"}, "'T' is the column of temperature_degc and of dew_point_degc: name a"),
        ({"temperature_degc": "T", "T (degC)": "U"}, "temperature_degc is named twice: name each reading once"),
        ({"temperature_degc": " "}, "temperature_degc has no column: name one"),
        ("temperature_degc=T,temperature_degc=U", "'temperature_degc' is named twice: name each reading once"),
        ("temperature_degc", "'temperature_degc': expected reading=column,reading=column"),
        ("", "'': expected reading=column,reading=column"),
        ([1], "Input should be a valid dictionary"),
        ({f"c{i}": "x" for i in range(15)}, "Dictionary should have at most 14 items"),
    ],
)
def test_mappings_that_cannot_be_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OwnFileOptions(columns=columns)
    with pytest.raises(SettingError, match=rf"columns is .*: .*{message}"):
        layout_of({"columns": columns})


def test_a_stamp_format_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'%d\.%m\.%y': expected %Y %m %d %H %M once each"):
        OwnFileOptions(stamp_format="%d.%m.%y")
