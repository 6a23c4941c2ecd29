"""Checksums in a JSON object, beside a file and of a folder: any flipped bit is seen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.checksums import checksums_of, fault_of, parse_sums, read_sums, sum_beside, sums_text, write_sum_beside
from storage.errors import DataError
from storage.io import is_as_written, json_line, read_json, with_checksum, write_json, write_record

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""`printf hello | sha256sum`."""

values = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "sha256"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def test_the_checksum_of_an_object_is_that_of_its_sorted_text() -> None:
    value = {"b": 1, "a": ["x", 2.5]}
    expected = hashlib.sha256(b'{"a":["x",2.5],"b":1}').hexdigest()
    assert with_checksum(value) == {"b": 1, "a": ["x", 2.5], "sha256": expected}


@given(values)
def test_what_was_written_is_read_without_its_checksum(value: dict[str, object]) -> None:
    written = with_checksum(value)
    assert is_as_written(json_line(written))
    assert {name: each for name, each in written.items() if name != "sha256"} == value


@given(values, st.data())
def test_any_flipped_bit_is_seen(value: dict[str, object], data: st.DataObject) -> None:
    line = bytearray(json_line(with_checksum(value)))
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    assert is_as_written(bytes(line)) is not True


def test_a_changed_record_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"rows": 10})
    assert read_json(path) == {"rows": 10}
    path.write_text(path.read_text().replace("10", "11"))
    with pytest.raises(DataError, match=r"record\.json is not as it was written, its sha256 says so: restore it from a backup"):
        read_json(path)
    corrected = {name: each for name, each in json.loads(path.read_text()).items() if name != "sha256"}
    write_json(path, corrected)  # what the message tells a person who changed it on purpose
    assert read_json(path) == {"rows": 11}


@pytest.mark.parametrize("text", ['{"rate": 1e-05}', "[1, 2]", "3"])
def test_a_file_of_before_there_were_checksums_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    assert read_json(path) == json.loads(text)
    assert is_as_written(text.encode()) is None


def test_another_way_to_write_the_same_value_is_damage() -> None:
    """One bit makes an E of the e of 1e-05, which is the same number."""
    line = json_line(with_checksum({"rate": 1e-05}))
    assert is_as_written(line)
    assert is_as_written(line.replace(b"1e-05", b"1E-05")) is False


def test_a_list_has_the_form_of_coreutils(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.txt").write_text("hello")
    (tmp_path / "SHA256SUMS").write_text("an older list, which is left out")
    checksums = checksums_of(tmp_path)
    assert checksums == {"below/a.txt": HELLO}
    assert sums_text(checksums) == f"{HELLO}  below/a.txt\n".encode()
    assert parse_sums(sums_text(checksums), path="x") == checksums
    assert read_sums(tmp_path / "absent") is None


@pytest.mark.parametrize("data", [b"", b"abc  name\n", f"{HELLO} name\n".encode(), f"{HELLO}  name".encode(), b"\xff\n"])
def test_what_is_no_list_is_one_line(data: bytes) -> None:
    with pytest.raises(DataError, match="restore it from a backup"):
        parse_sums(data, path="SHA256SUMS")


def test_a_file_is_compared_with_the_checksum_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    path.write_text("hello")
    write_sum_beside(path)
    assert sum_beside(path).read_text() == f"{HELLO}  part.parquet\n"
    assert not fault_of(path, sha256=HELLO)
    path.write_text("hallo")
    assert fault_of(path, sha256=HELLO) == "its SHA-256 is d3751d33f9cd..., written was 2cf24dba5fb0..."
    path.unlink()
    assert fault_of(path, sha256=HELLO) == "it is not there"
