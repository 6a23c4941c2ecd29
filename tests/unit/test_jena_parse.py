"""From a zip to the parsed table: what is exact, and which zips, rows and spans are refused with which message."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from jena_helpers import HEADER, HEADERS, TUTORIAL, failures, parse_frame, parse_text, repairs, weather, zipped

from storage.errors import DataError, SettingError
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.layout import STATION_EXTRAS
from tasks.datasets.jena.physics import COLUMNS, LAYOUT, validation_frame
from tasks.datasets.jena.sample import SAMPLE_FILE, write_csv_zip
from tasks.datasets.request import TableRequest


def test_tutorial_rows_come_out_exactly(tmp_path: Path) -> None:
    table = parse_text(tmp_path, *TUTORIAL).table
    assert table.schema.equals(jena.SPEC.schema)
    for position, row in enumerate(TUTORIAL):
        stamp, *numbers = row.split(",")
        values = table.slice(position, 1).to_pylist()[0]
        assert values["timestamp"].strftime("%d.%m.%Y %H:%M:%S") == stamp
        assert [values[name] for name in COLUMNS] == [float(np.float32(number)) for number in numbers]


def test_tutorial_rows_obey_every_tie(tmp_path: Path) -> None:
    frame = validation_frame(parse_text(tmp_path, *TUTORIAL))
    assert failures(frame) == set()


def test_simulated_frame_round_trips(tmp_path: Path) -> None:
    frame = weather(500)
    table = parse_frame(tmp_path, frame).table
    assert (table["timestamp"].to_numpy() == frame["Date Time"].to_numpy()).all()
    for column in LAYOUT:
        assert (table[column.name].to_numpy() == frame[column.header].to_numpy().astype(np.float32)).all(), column.name


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_unquoted_header_line_ends_and_a_last_line_without_end(tmp_path: Path, line_end: str) -> None:
    text = line_end.join((",".join(HEADERS), *TUTORIAL[:2]))
    parsed = jena.SPEC.parse({SAMPLE_FILE: zipped(tmp_path, text)}, TableRequest(source="sample"))
    assert parsed.table["wind_direction_deg"].to_pylist() == [float(np.float32(152.3)), float(np.float32(136.1))]


def test_columns_behind_the_fourteen_are_named_and_not_used(tmp_path: Path) -> None:
    header = ",".join(f'"{name}"' for name in (*HEADERS, *STATION_EXTRAS))
    rows = [row + ",0,0,1.5,-9999,-9999,11.4,not measured" for row in TUTORIAL]
    parsed = parse_text(tmp_path, *rows, header=header, source="station")
    assert parsed.facts["unused_columns"] == list(STATION_EXTRAS)
    assert parsed.table.column_names == ["timestamp", *COLUMNS]
    # A sentinel in a column that is not used is no repair.
    assert repairs(parsed)["missing_values"] == 0


def test_half_years_are_joined_in_order_whatever_the_order_of_the_mapping(tmp_path: Path) -> None:
    files = {}
    later = [row.replace("01.01.2009", "02.07.2009") for row in TUTORIAL[3:]]
    for name, rows in (("mpi_roof_2009b.zip", later), ("mpi_roof_2009a.zip", TUTORIAL[:3])):
        files[name] = zipped(tmp_path, "\n".join((HEADER, *rows)), name=name)
    parsed = jena.SPEC.parse(files, TableRequest(source="station"))
    assert parsed.table["timestamp"].to_pylist() == sorted(parsed.table["timestamp"].to_pylist())
    assert repairs(parsed)["out_of_order_rows"] == 0
    assert parsed.facts["rows"] == 5


def test_text_in_a_number_is_named_with_column_line_and_value(tmp_path: Path) -> None:
    rows = (*TUTORIAL[:2], TUTORIAL[2].replace("-8.51", "cold"), *TUTORIAL[3:])
    message = f"{SAMPLE_FILE}, line 4: 'cold' in temperature_degc (T (degC)) is not a number"
    with pytest.raises(DataError, match=re.escape(message)):
        parse_text(tmp_path, *rows)


@pytest.mark.parametrize("value", ["", "NaN", "nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_missing(tmp_path: Path, value: str) -> None:
    # Of five rows two train, so that the third has no neighbour in its own split before it, and is dropped.
    rows = (*TUTORIAL[:2], TUTORIAL[2].replace("-8.51", value), *TUTORIAL[3:])
    parsed = parse_text(tmp_path, *rows)
    assert parsed.facts["missing_values"] == {"temperature_degc": 1}
    assert (repairs(parsed)["missing_values"], repairs(parsed)["incomplete_rows"], parsed.facts["rows"]) == (1, 1, 4)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / SAMPLE_FILE
    for content in (b"PK\x03\x04 and then nothing of use", b"Date Time,p (mbar)"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{SAMPLE_FILE} is not a sound zip file .*: correct it .* fetch it again$"):
            jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample"))


def test_a_truncated_or_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = write_csv_zip(weather(300), tmp_path / SAMPLE_FILE)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not a sound zip file"):
            jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{SAMPLE_FILE} cannot be read \(No such file or directory\)"):
        jena.SPEC.parse({SAMPLE_FILE: tmp_path / "none.zip"}, TableRequest(source="sample"))
    with pytest.raises(DataError, match="no file was given for jena"):
        jena.SPEC.parse({}, TableRequest(source="sample"))


@pytest.mark.parametrize("member", ["../jena.csv", "/jena.csv", "a/../../jena.csv", "C:\\jena.csv", "..\\jena.csv"])
def test_unsafe_member_names_are_refused(tmp_path: Path, member: str) -> None:
    with pytest.raises(DataError, match="unsafe member name"):
        jena.SPEC.parse({SAMPLE_FILE: zipped(tmp_path, HEADER, member=member)}, TableRequest(source="sample"))


@pytest.mark.parametrize("members", [(), ("a.csv", "b.csv"), ("a.txt",), tuple(f"{i}.csv" for i in range(9))])
def test_anything_but_one_csv_is_refused(tmp_path: Path, members: tuple[str, ...]) -> None:
    path = tmp_path / SAMPLE_FILE
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, HEADER)
    with pytest.raises(DataError, match=r"expected (exactly )?one csv"):
        jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample"))


def test_the_resource_fork_of_the_upstream_zip_is_passed_over(tmp_path: Path) -> None:
    path = zipped(tmp_path, "\n".join((HEADER, *TUTORIAL)), member="jena_climate_2009_2016.csv")
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("__MACOSX")
        archive.writestr("__MACOSX/._jena_climate_2009_2016.csv", b"\x00\x05\x16\x07")
    assert jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample")).facts["rows"] == 5


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    # 20 MB of one byte shrink to about 20 kB, a ratio near 1000.
    path = zipped(tmp_path, b"0" * 20_000_000)
    with pytest.raises(DataError, match="unpacks to more than"):
        jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample"))


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a header and no rows"):
        parse_text(tmp_path)


def test_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown source 'roof' for jena: choose file, keras-2009-2016, sample, station"):
        parse_text(tmp_path, *TUTORIAL, source="roof")


def test_full_file_must_be_full(tmp_path: Path) -> None:
    span = "from 2009-01-01T00:10:00 to"
    message = f"{SAMPLE_FILE} has 5 rows {span} 2009-01-01T00:50:00, expected 420551 {span} 2017-01-01T00:00:00"
    with pytest.raises(DataError, match=re.escape(message)):
        parse_text(tmp_path, *TUTORIAL, source="keras-2009-2016")


def test_full_count_and_span_pass_the_check() -> None:
    seconds = np.full(420_551, 1_230_768_600, dtype=np.int64)  # 2009-01-01 00:10:00
    seconds[-1] = 1_483_228_800  # 2017-01-01 00:00:00
    jena._check_full(seconds)
    with pytest.raises(DataError, match="has 420550 rows"):
        jena._check_full(seconds[1:])
    with pytest.raises(DataError, match="to 2016-12-31T23:50:00"):
        jena._check_full(np.append(seconds[:-1], seconds[-1] - 600))
