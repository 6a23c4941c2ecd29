"""A person's own reviews: what is read, what is refused, and where they go."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import DataError, RetrainError, SettingError
from storage.layout import Store
from tasks.config import DataSettings
from tasks.datasets.imdb import review_files, review_tree
from tasks.datasets.imdb.review_files import OwnReviews, ReviewFilesOptions, gather_reviews, read_gathered
from tasks.datasets.imdb.spec import SPEC
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed
from tasks.ingestion.fetching import fetch_raw
from tasks.ingestion.pipeline import parse_raw, publish_parsed, validate_parsed

WORDS = {"the": 1, "film": 2, "is": 3, "good": 4, "bad": 5, **{f"w{rank}": rank for rank in range(6, 400)}}
ROWS = [("the film is good", 1, None), ("is bad", 0, None), ("bad film", 0, None)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def write_csv(path: Path, *rows: str, header: str = "review,sentiment", encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return path


def write_tree(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def write_archive(path: Path, files: dict[str, str | bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            body = text if isinstance(text, bytes) else text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return path


def gathered(path: Path, out: Path, **options: Any) -> OwnReviews:
    (written,) = gather_reviews({"path": str(path), **options}, out)
    assert written == out / "reviews.parquet"
    return read_gathered(written)


def rows_of(reviews: OwnReviews) -> list[tuple[str, int, str | None]]:
    return list(zip(reviews.texts, reviews.labels, reviews.parts, strict=True))


# --- reading


def test_the_same_reviews_give_the_same_bytes_whatever_they_come_in(tmp_path: Path, out: Path) -> None:
    files: dict[str, str | bytes] = {"pos/1_9.txt": "the film is good", "neg/0_1.txt": "is bad", "neg/1_2.txt": "bad film"}
    pq.write_table(
        pa.table({"sentiment": [0, 1, 0], "id": [1, 2, 3], "review": ["bad film", "the film is good", "is bad"]}),
        tmp_path / "own.parquet",
    )
    sources = [
        write_csv(tmp_path / "own.csv", "the film is good,positive", "is bad,negative", '"bad film",NEG'),
        write_csv(tmp_path / "turned.csv", "0,is bad", "1,the film is good", "0,bad film", header="Sentiment, review"),
        tmp_path / "own.parquet",
        write_tree(tmp_path / "tree", {**files, "README": "x", "pos/._1_9.txt": b"\0", "unsup/0_0.txt": "none"}),
        write_archive(tmp_path / "own.tar.gz", {f"mine/{name}": text for name, text in files.items()}),
    ]
    written = set()
    for source in sources:
        assert rows_of(gathered(source, out)) == sorted(ROWS, key=lambda row: (row[1], row[0]))
        written.add((out / "reviews.parquet").read_bytes())
    assert len(written) == 1
    gathered(sources[0], out, use="replace")
    assert (out / "reviews.parquet").read_bytes() not in written  # what they are for makes another table


@pytest.mark.parametrize("top", ["", "aclImdb/"])
def test_the_publishers_folders_say_the_part(top: str, tmp_path: Path, out: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{top}train/pos/0_9.txt": "good",
        f"{top}train/neg/0_1.txt": "bad",
        f"{top}train/unsup/0_0.txt": "of no sentiment",
        f"{top}test/neg/0_2.txt": "bad film",
        f"{top}train/labeledBow.feat": "9 0:9",
        f"{top}imdb.vocab": "the",
        "far/too/deep/pos/0_9.txt": "not read",
    }
    expected = [("bad film", 0, "test"), ("bad", 0, "train"), ("good", 1, "train")]
    assert rows_of(gathered(write_tree(tmp_path / "tree", files), out)) == expected
    assert rows_of(gathered(write_archive(tmp_path / "tree.tar.gz", files), out)) == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("it’s – “good”…".encode(), "it’s – “good”…"),
        ("it’s – “good”…".encode("cp1252"), "it’s – “good”…"),
        ("café".encode("latin-1"), "café"),
        ("\ufeffgood".encode(), "good"),
        (b"good \xc2\x96 bad", "good \x96 bad"),
    ],
)
def test_text_is_utf_8_or_windows_1252(data: bytes, text: str, tmp_path: Path, out: Path) -> None:
    tree = write_tree(tmp_path / "tree", {"pos/1.txt": data, "neg/1.txt": "bad"})
    assert gathered(tree, out).texts == ["bad", text]


def test_a_review_may_have_lines_commas_and_quotes(tmp_path: Path, out: Path) -> None:
    path = write_csv(tmp_path / "own.csv", '"good, ""the"" film\r\nis", positive ', "", "bad,neg")
    assert rows_of(gathered(path, out)) == [("bad", 0, None), ('good, "the" film\r\nis', 1, None)]


REFUSED_CSV = {
    "a label": (
        ["good,positive", '"of two\nlines",neg', "bad,neutral"],
        r"sentiment 'neutral' in line 5 of own\.csv: expected pos",
    ),
    "a score": (["good,8"], "sentiment '8' in line 2"),
    "no label": (["good,"], "sentiment '' in line 2"),
    "a value too many": (["good,positive", "bad,film,negative"], "line 3 of own.csv has 3 values: expected 2"),
    "an open quote": (["good,positive", '"bad,negative'], "line 3 of own.csv is no csv"),
    "no rows": ([], "own.csv holds no review"),
    "a NUL": (["go\0od,positive"], "own.csv holds a NUL byte at position 19: expected text"),
}


@pytest.mark.parametrize("name", REFUSED_CSV)
def test_a_csv_that_is_none_is_refused_with_its_line(name: str, tmp_path: Path, out: Path) -> None:
    rows, message = REFUSED_CSV[name]
    with pytest.raises(DataError, match=message) as caught:
        gathered(write_csv(tmp_path / "own.csv", *rows), out)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", ["text,label", "review;sentiment", "review,review,sentiment", "review"])
def test_a_csv_without_the_columns_says_what_it_has(header: str, tmp_path: Path, out: Path) -> None:
    names = ", ".join(repr(name) for name in header.split(","))
    with pytest.raises(DataError, match=rf"own\.csv has the columns {names}: expected .* once"):
        gathered(write_csv(tmp_path / "own.csv", "good,1", header=header), out)


def test_a_table_without_the_columns_or_without_text_is_refused(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "own.parquet"
    for columns, message in (
        ({"text": ["good"], "label": [1]}, "has the columns 'text', 'label': expected review and sentiment"),
        ({"review": [1], "sentiment": [1]}, "the column review of own.parquet is of int64: expected text"),
        ({"review": ["good", None], "sentiment": [1, 0]}, "row 2 of own.parquet has no review"),
        ({"review": ["good", "bad"], "sentiment": [1, 2]}, "sentiment '2' in row 2 of own.parquet"),
        ({"review": ["good", "b\0d"], "sentiment": [1, 0]}, "the review in row 2 of own.parquet holds a NUL"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=message):
            gathered(path, out)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"own\.parquet is not readable as Parquet"):
        gathered(path, out)


def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path, out: Path) -> None:
    for number, (data, message) in enumerate(
        (
            ("good".encode("utf-16"), r"pos/1\.txt in .* holds a NUL byte at position 3: expected text; save it as UTF-8"),
            (b"good \x81 film", r"pos/1\.txt in .* holds the byte 0x81 at position 5, which is neither UTF-8 nor Windows-1252"),
            (b"a" * (2**17 + 1), r"pos/1\.txt in .* has 131,073 bytes, 131,072 are allowed"),
        )
    ):
        files: dict[str, str | bytes] = {"pos/1.txt": data}
        for source in (write_tree(tmp_path / str(number), files), write_archive(tmp_path / f"{number}.tar.gz", files)):
            with pytest.raises(DataError, match=message):
                gathered(source, out)


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(SettingError, match=r"there is nothing at .*none\.csv: name a csv"):
        gathered(tmp_path / "none.csv", out)
    with pytest.raises(DataError, match="holds no review: expected a header and rows, or text files in pos/ and neg/"):
        gathered(write_tree(tmp_path / "tree", {"a.txt": "good"}), out)
    zipped = tmp_path / "own.zip"
    zipped.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"own\.zip is a zip: unpack it"):
        gathered(zipped, out)


# --- archives


def test_an_archive_is_bounded(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "own.tar.gz", {f"pos/{number}.txt": "good" for number in range(4)})
    monkeypatch.setattr(review_tree, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match=r"own\.tar\.gz has more than 3 members"):
        gathered(path, out)
    monkeypatch.setattr(review_tree, "MAX_MEMBERS", 4)
    monkeypatch.setattr(review_files, "MAX_REVIEWS", 3)
    with pytest.raises(DataError, match=r"own\.tar\.gz has more than 3 reviews"):
        gathered(path, out)


def test_an_archive_that_unpacks_to_more_than_a_bound_is_not_read_on(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_archive(tmp_path / "own.tar.gz", {"zeros.bin": bytes(2**22), "pos/1.txt": "good"})
    assert path.stat().st_size < 2**13
    monkeypatch.setattr(review_files, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match=r"own\.tar\.gz unpacks to more than 1,048,576 bytes"):
        gathered(path, out)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_links_or_devices_among_its_reviews_is_refused(kind: bytes, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "own.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("pos/1.txt")
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"pos/1\.txt in own\.tar\.gz is no plain file"):
        gathered(path, out)


def test_a_damaged_archive_is_refused_and_nothing_is_unpacked_to_disk(tmp_path: Path, out: Path) -> None:
    whole = write_archive(tmp_path / "own.tar.gz", {"../pos/1.txt": "good", "/neg/2.txt": "bad"})
    assert gathered(whole, out).texts == ["bad", "good"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "own.tar.gz", "reviews.parquet"]
    data = whole.read_bytes()
    for damaged in (data[:-30], gzip.compress(b"no archive at all" * 100), data[:40] + bytes(20) + data[60:]):
        whole.write_bytes(damaged)
        with pytest.raises(DataError, match=r"own\.tar\.gz is not readable as \.tar\.gz"):
            gathered(whole, out)


# --- settings


def test_the_options_are_those_of_the_source() -> None:
    settings = DataSettings.model_validate({"source": "files", "options": {"path": "own.csv"}})
    assert settings.options == ReviewFilesOptions(path="own.csv", use="add")
    assert ReviewFilesOptions.flags() == {"--input": "path", "--use": "use"}
    with pytest.raises(ValidationError, match="Input should be 'add' or 'replace'"):
        DataSettings.model_validate({"source": "files", "options": {"path": "own.csv", "use": "both"}})


def test_the_files_that_are_fetched_are_those_that_are_needed() -> None:
    files = partial(SPEC.sources["files"].files, today=date(2026, 11, 25))
    assert [file.name for file in files({"path": "own.csv", "use": "add"})] == ["imdb.npz", "imdb_word_index.json"]
    assert [file.name for file in files({"path": "own.csv", "use": "replace"})] == ["imdb_word_index.json"]
    with pytest.raises(SettingError, match="path is None: name a csv"):
        files({"use": "add"})
    with pytest.raises(SettingError, match="unknown option 'years'"):
        files({"path": "own.csv", "years": 1})


# --- added to the published reviews


def sample_files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in SPEC.simulate(folder)}


def sample_texts(files: dict[str, Path], split: str, count: int) -> list[str]:
    parsed = SPEC.parse(files, TableRequest(source="sample"))
    word = dict(zip(*(parsed.extras["words"][name].to_pylist() for name in ("rank", "word")), strict=True))
    tokens = parsed.table.filter(pa.array(np.asarray(parsed.table["split"]) == split))["tokens"]
    return [" ".join(word[rank] for rank in tokens[row].as_py()) for row in range(count)]


def test_added_reviews_train_and_change_nothing_else(tmp_path: Path, out: Path) -> None:
    files = sample_files(tmp_path)
    plain = SPEC.parse(files, TableRequest(source="sample"))
    rows = [
        "The FILM was wonderful; it’s excellent,positive",
        "unlistedword,negative",  # not a single word of the index
        *(f"{text},negative" for text in sample_texts(files, "val", 2)),
        *(f"{text} unlistedword,negative" for text in sample_texts(files, "test", 1)),
        *(f"{text},negative" for text in sample_texts(files, "train", 1)),
    ]
    (own,) = gather_reviews({"path": str(write_csv(tmp_path / "own.csv", *rows))}, out)
    parsed = SPEC.parse({**files, own.name: own}, TableRequest(source="sample"))
    before, after = SPEC.split(plain).tables, SPEC.split(parsed).tables
    assert after["val"].equals(before["val"])
    assert after["test"].equals(before["test"])
    assert after["train"].slice(0, 1_600).equals(before["train"])
    added = after["train"].slice(1_600).to_pydict()
    assert sorted(added["label"]) == [0, 1]
    words = dict(zip(*(parsed.extras["words"][name].to_pylist() for name in ("word", "rank")), strict=True))
    said = [word for word in ("the", "film", "was", "wonderful", "it's", "excellent") if word in words]
    assert [1, *(words[word] + 3 for word in said)] in added["tokens"]
    assert all(2_000 <= review < 2_006 for review in added["review"])  # behind the 2,000 of the file
    assert {repair.name: repair.count for repair in parsed.repairs} == {"empty_reviews": 1, "reviews_of_other_splits": 3}
    assert {name: parsed.facts[name] for name in ("rows_read", "train_reviews", "own_reviews", "added_reviews")} == {
        "rows_read": 4_006,
        "train_reviews": 2_000,
        "own_reviews": 6,
        "added_reviews": 2,
    }


def test_own_reviews_that_test_already_are_too_many(tmp_path: Path, out: Path) -> None:
    files = sample_files(tmp_path)
    rows = [f"{text},negative" for text in sample_texts(files, "test", 220)]
    (own,) = gather_reviews({"path": str(write_csv(tmp_path / "own.csv", *rows))}, out)
    parsed = SPEC.parse({**files, own.name: own}, TableRequest(source="sample"))
    (others,) = (repair for repair in parsed.repairs if repair.name == "reviews_of_other_splits")
    assert (others.count, others.share, others.limit) == (220, 220 / 4_220, 0.05)
    assert not others.is_within_limit  # which rejects the table


# --- in the place of the published reviews


def own_table(folder: Path, rows: list[tuple[str, int, str | None]], **options: Any) -> dict[str, Path]:
    """Gather reviews, in a folder that says their part, and write a word index beside them."""
    files: dict[str, str | bytes] = {
        f"{part or '.'}/{('neg', 'pos')[label]}/{number}.txt": text for number, (text, label, part) in enumerate(rows)
    }
    tree = write_tree(folder / "tree", files)
    (path,) = gather_reviews({"path": str(tree), "use": "replace", **options}, folder)
    index = folder / "imdb_word_index.json"
    index.write_text(json.dumps(WORDS), encoding="utf-8")
    return {path.name: path, index.name: index}


def split_of_text(parsed: Parsed) -> dict[tuple[int, ...], set[str]]:
    result: dict[tuple[int, ...], set[str]] = {}
    for split, tokens in zip(parsed.table["split"].to_pylist(), parsed.table["tokens"].to_pylist(), strict=True):
        result.setdefault(tuple(tokens), set()).add(split)
    return result


def many(count: int, *, part: str | None = None, first: int = 6) -> list[tuple[str, int, str | None]]:
    return [(f"w{number} the film", number % 2, part) for number in range(first, first + count)]


def test_a_review_keeps_its_split_when_others_are_added(tmp_path: Path) -> None:
    few, more = (
        SPEC.parse(own_table(tmp_path / name, rows), TableRequest(source="files"))
        for name, rows in (("few", many(200)), ("more", [*many(300), *[("W7, the film!", 1, None)] * 3]))
    )
    before, after = split_of_text(few), split_of_text(more)
    assert len(before) == 200
    assert all(after[tokens] == splits for tokens, splits in before.items())
    assert all(len(splits) == 1 for splits in after.values())  # equal reviews are on one side
    counts = {name: sum(splits == {name} for splits in after.values()) for name in ("train", "val", "test")}
    # A fifth of 300 tests, a fifth of the others validates: three standard deviations of a share of 0.2 are 21, of 0.16 are 19.
    assert abs(counts["test"] - 60) < 21
    assert abs(counts["val"] - 48) < 19


def test_folders_of_both_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    tested = many(100, part="test", first=200)
    rows = [*many(150, part="train"), *tested, ("W200 the Film", 0, "train")]
    parsed = SPEC.parse(own_table(tmp_path, rows), TableRequest(source="files"))
    splits = split_of_text(parsed)
    test = {tuple(WORDS[word] for word in text.split()) for text, _, _ in tested}
    assert {tokens for tokens, names in splits.items() if names == {"test"}} == test
    assert 15 <= sum(names == {"val"} for names in splits.values()) <= 45  # a fifth of 150, within three deviations
    assert {repair.name: repair.count for repair in parsed.repairs} == {"empty_reviews": 0, "reviews_of_other_splits": 1}
    assert parsed.table.num_rows == 250


def test_a_part_alone_is_no_split(tmp_path: Path) -> None:
    train, none = (
        SPEC.parse(own_table(tmp_path / str(part), many(100, part=part)), TableRequest(source="files")).table
        for part in ("train", None)
    )
    assert train.equals(none)


def test_a_split_of_one_sentiment_is_refused(tmp_path: Path) -> None:
    rows: list[tuple[str, int, str | None]] = [(text, 1, None) for text, _, _ in many(50)]
    with pytest.raises(DataError, match=r"of the split train are positive: expected both sentiments in each split"):
        SPEC.parse(own_table(tmp_path, rows), TableRequest(source="files"))


def test_own_reviews_never_stand_in_the_place_of_the_sample(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot stand in the place of the sample, whose words are made up"):
        SPEC.parse(own_table(tmp_path, many(100)), TableRequest(source="sample"))


def test_a_file_that_was_not_gathered_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews.parquet"
    pq.write_table(pa.table({"text": ["good"]}), path)
    with pytest.raises(DataError, match=r"reviews\.parquet is no table of gathered reviews"):
        read_gathered(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"reviews\.parquet is not readable"):
        read_gathered(path)


@given(st.lists(st.tuples(st.text(max_size=20).filter(lambda text: "\0" not in text), st.integers(0, 1)), min_size=1, max_size=8))
def test_every_text_comes_back_from_the_file(rows: list[tuple[str, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(
            pa.table({"review": [row[0] for row in rows], "sentiment": [row[1] for row in rows]}), folder / "own.parquet"
        )
        reviews = gathered(folder / "own.parquet", folder)
    assert sorted(zip(reviews.texts, reviews.labels, strict=True)) == sorted(rows)


# --- into the store


def test_own_reviews_are_published_with_the_sample_as_a_simulation(tmp_path: Path) -> None:
    store = Store.at(tmp_path / "home")
    own = write_csv(tmp_path / "own.csv", "the film was wonderful,positive", "the film was awful,negative")
    settings = DataSettings(data="sample", source="files", options=ReviewFilesOptions(path=str(own)))
    raw = fetch_raw("imdb", settings=settings, store=store, mirror=None)
    assert (raw.simulated, raw.source) == (True, "sample")
    assert {file.name for file in raw.files} == {"imdb.npz", "imdb_word_index.json", "reviews.parquet"}
    parsed = parse_raw(raw, store=store)
    table = publish_parsed(parsed, validation=validate_parsed(parsed, settings=DataSettings(), store=store), store=store)
    assert (table.simulated, table.rows) == (True, {"train": 1_602, "val": 400, "test": 2_000})
    # The person adds a review: another table, without a word about a changed digest.
    write_csv(own, "the film was wonderful,positive", "the film was awful,negative", "a boring film,negative")
    again = fetch_raw("imdb", settings=settings, store=store, mirror=None)
    assert parse_raw(again, store=store).version != table.version


def test_a_wrong_file_stops_before_anything_is_fetched(tmp_path: Path) -> None:
    store = Store.at(tmp_path / "home")
    settings = DataSettings(data="upstream", source="files", options=ReviewFilesOptions(path=str(tmp_path / "none.csv")))
    with pytest.raises(RetrainError, match="there is nothing at"):
        fetch_raw("imdb", settings=settings, store=store, mirror=None)
