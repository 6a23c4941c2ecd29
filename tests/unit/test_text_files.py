"""Texts to classify: from csv, Parquet, lines and standard input, in parts; and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import DataError, SettingError
from tasks.datasets.imdb import text_files
from tasks.datasets.imdb.text_files import checked_texts, read_texts

REVIEWS = ["A fine film.", 'He said "no",\nand left.', "Très beau"]


def written(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def test_a_csv_is_read_by_its_column_quotes_and_line_ends_within_them(tmp_path: Path) -> None:
    body = 'id,Review\n1,A fine film.\n2,"He said ""no"",\nand left."\n3,Très beau\n'
    assert list(read_texts(written(tmp_path, "a.csv", body.encode()), {})) == [tuple(REVIEWS)]


def test_a_parquet_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "PART_TEXTS", 2)
    pq.write_table(pa.table({"text": REVIEWS}), tmp_path / "a.parquet")
    assert list(read_texts(str(tmp_path / "a.parquet"), {})) == [tuple(REVIEWS[:2]), tuple(REVIEWS[2:])]


def test_another_name_of_the_column_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", b"body\ngood\n")
    assert list(read_texts(path, {"columns": {"review": "body"}})) == [("good",)]
    with pytest.raises(DataError, match=r"a\.csv has the columns body, expected review or text: name its column"):
        list(read_texts(path, {}))


def test_a_text_file_has_a_review_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "\ufeffgood\r\n\n  \nTrès bad\n".encode())
    assert list(read_texts(path, {})) == [("good", "Très bad")]


def test_standard_input_has_a_review_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"good\nbad\n")))
    assert list(read_texts("-", {})) == [("good", "bad")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"review\n\n", r"a\.csv holds no text"),
        ("a.csv", b"review,id\n,1\n", r"text 1 of a\.csv is empty"),
        ("a.csv", b"review\n\xff\xfe\n", r"a\.csv is not readable as csv"),
        ("a.txt", b"good\n\xff\xfe\x00\n", r"line 2 of a\.txt is no UTF-8 text"),
        ("a.txt", b"\x00\x01\x02\n", r"text 1 of a\.txt is binary"),
        ("a.txt", b"x" * 131_073, r"text 1 of a\.txt has 131,073 bytes, 131,072 are allowed: split it"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet is not readable as Parquet"),
        ("a.txt", b"", r"a\.txt holds no text"),
    ],
    ids=["no rows", "empty cell", "no UTF-8", "line of bytes", "binary", "huge", "no Parquet", "nothing"],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_texts(written(tmp_path, name, content), {}))


def test_a_missing_file_and_a_strange_option_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is not there"):
        list(read_texts(str(tmp_path / "none.csv"), {}))
    with pytest.raises(SettingError, match="unknown column 'stars'"):
        list(read_texts("-", {"columns": {"stars": "s"}}))
    with pytest.raises(SettingError, match="stamp_column is 't', but texts have no such option"):
        list(read_texts("-", {"stamp_column": "t"}))


def test_a_missing_value_is_no_text() -> None:
    with pytest.raises(DataError, match="text 2 of the input is empty"):
        checked_texts(["good", None])
