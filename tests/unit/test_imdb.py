"""The IMDB reviews: parsing, refusals, encoding and splits."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DataError, SettingError
from tasks.datasets.imdb import spec as imdb
from tasks.datasets.imdb.ranks import Ranks, encode
from tasks.datasets.imdb.spec import SPEC
from tasks.datasets.imdb.text import APOSTROPHES, SPACES, encode_text, rank_texts
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed
from tasks.ingestion.outcomes import rejected_message
from tasks.ingestion.validation import run_suite

TODAY = date(2026, 3, 10)
WORDS = {"the": 1, "film": 2, "is": 3, "good": 4, "bad": 5}
TUTORIAL_BEGINNING = [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65, 458, 4468, 66, 3941, 4, 173, 36, 256]
MIRRORS = [Path(os.environ.get("RETRAIN_MIRROR", "")), Path(__file__).parents[3] / "shared" / "data" / "mirror"]


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        array[position] = item
    return array


def write(
    folder: Path,
    *,
    train: list[Any],
    test: list[Any] | None = None,
    train_labels: Any = None,
    words: Any = WORDS,
    left_out: str = "",
) -> dict[str, Path]:
    """Write the two files; labels alternate 0, 1 where none are given."""
    test = [[1], [2]] if test is None else test
    arrays = {
        "x_train": objects(train),
        "y_train": np.arange(len(train)) % 2 if train_labels is None else np.array(train_labels),
        "x_test": objects(test),
        "y_test": np.arange(len(test)) % 2,
    }
    with zipfile.ZipFile(folder / "imdb.npz", "w") as archive:
        for name, array in arrays.items():
            if name != left_out:
                body = io.BytesIO()
                np.lib.format.write_array(body, array, allow_pickle=True)
                archive.writestr(f"{name}.npy", body.getvalue())
    index = folder / "imdb_word_index.json"
    index.write_text(words if isinstance(words, str) else json.dumps(words), encoding="utf-8")
    return {"imdb.npz": folder / "imdb.npz", "imdb_word_index.json": index}


def parse(folder: Path, **contents: Any) -> Parsed:
    return SPEC.parse(write(folder, **contents), TableRequest(source="sample"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    return SPEC.parse(
        {path.name: path for path in SPEC.simulate(tmp_path_factory.mktemp("sample"))}, TableRequest(source="sample")
    )


def test_reviews_come_in_the_order_of_load_data(tmp_path: Path) -> None:
    train = [[1], [2], [3], [4], [5]]
    table = parse(tmp_path, train=train, train_labels=[0, 1, 1, 0, 1]).table
    expected = np.arange(5)
    mixer = np.random.RandomState(113)  # the generator and the seed of keras.datasets.imdb.load_data
    mixer.shuffle(expected)
    expected_test = np.arange(2)
    mixer.shuffle(expected_test)  # load_data goes on with the same generator
    rows = table.slice(0, 5).to_pylist()
    assert [row["review"] for row in rows] == expected.tolist()
    assert [row["tokens"] for row in rows] == [train[place] for place in expected]
    assert [row["label"] for row in rows] == [[0, 1, 1, 0, 1][place] for place in expected]
    assert [row["review"] for row in table.slice(5).to_pylist()] == expected_test.tolist()
    assert table["split"].to_pylist() == ["train"] * 4 + ["val"] + ["test"] * 2  # the last fifth of train validates
    assert table.schema.equals(SPEC.schema)


def test_the_words_of_the_index_are_published_by_rank(tmp_path: Path) -> None:
    words = {f"word{rank}": rank for rank in (9_998, 9_997, 9_996, 3, 1, 2)}
    extra = parse(tmp_path, train=[[1], [2]], words=words).extras["words"]
    ranks = [1, 2, 3, 9_996, 9_997, 9_998]  # those past the vocabulary too: a word that is in no index is another thing
    assert extra.to_pydict() == {"rank": ranks, "word": [f"word{rank}" for rank in ranks]}


def test_repetitions_are_counted_and_kept(tmp_path: Path) -> None:
    # 25 reviews; the last three are [1, 2] again. In test: a twin with label 0 (position 0), one with label 1.
    train = [[1, 2], *([rank, rank, other] for rank in range(1, 6) for other in range(1, 5)), [5, 5, 5], *[[1, 2]] * 3]
    labels = [0] * len(train)
    parsed = parse(tmp_path, train=train, train_labels=labels, test=[[1, 2], [1, 2], [3]])
    assert parsed.table.num_rows == len(train) + 3
    assert {name: parsed.facts[name] for name in parsed.facts if "repeated" in name or "test_in" in name} == {
        "repeated_in_train": 3,
        "repeated_in_test": 1,
        "test_in_train_same_label": 1,
        "test_in_train_other_label": 1,
    }


def test_an_empty_review_is_dropped_and_counted(tmp_path: Path) -> None:
    train = [[1, 2]] * 999 + [[]]
    parsed = parse(tmp_path, train=train)
    assert [(repair.name, repair.count, repair.share) for repair in parsed.repairs] == [
        ("empty_reviews", 1, 1 / 1_002),
        ("reviews_of_other_splits", 0, 0),
    ]
    assert parsed.table.num_rows == 1_001
    assert 999 not in parsed.table["review"].slice(0, 999).to_pylist()


def test_too_many_empty_reviews_are_told(tmp_path: Path) -> None:
    repair, _ = parse(tmp_path, train=[[1], []]).repairs
    assert (repair.count, repair.share, repair.is_within_limit) == (1, 1 / 4, False)


REFUSED = {
    "label of 2": ({"train": [[1], [2], [3]], "train_labels": [0, 2, 1]}, r"label 2 at position 1 of y_train .*: expected 0"),
    "negative label": ({"train": [[1]], "train_labels": [-1]}, "label -1 at position 0"),
    "label in text": ({"train": [[1]], "train_labels": ["1"]}, "y_train .*has dtype <U1"),
    "fewer labels": ({"train": [[1], [2]], "train_labels": [1]}, "2 reviews and y_train 1 labels"),
    "missing array": ({"train": [[1]], "left_out": "y_test"}, "has no array y_test"),
    "rank past the index": ({"train": [[1], [5, 6]]}, "rank 6 in review 1 of x_train .*: expected 1 to 5"),
    "rank of 0": ({"train": [[1], [2, 0]]}, "rank 0 in review 1"),
    "huge rank": ({"train": [[1], [2**40]]}, "rank 1099511627776 in review 1"),
    "token in text": ({"train": [[1], ["7"]]}, "token '7' in review 1 of x_train"),
    "fraction": ({"train": [[1.5]]}, "token '1.5' in review 0"),
    "truth value": ({"train": [[True]]}, "token 'True' in review 0"),
    "review in text": ({"train": ["the film"]}, "review 0 of x_train .* is a str"),
    "no words": ({"train": [[1]], "words": {}}, "holds no words"),
    "words in a list": ({"train": [[1]], "words": ["the"]}, "holds no words"),
    "rank in text": ({"train": [[1]], "words": {"the": "1"}}, "gives 'the' the rank '1'"),
    "rank below 1": ({"train": [[1]], "words": {"the": 0}}, "gives 'the' the rank '0'"),
    "shared rank": ({"train": [[1]], "words": {"the": 1, "a": 1}}, "one rank to two words"),
    "page instead": ({"train": [[1]], "words": "<html>"}, "imdb_word_index.json is no JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_is_refused_with_one_line(tmp_path: Path, name: str) -> None:
    contents, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        parse(tmp_path, **contents)
    assert "\n" not in str(caught.value)


def test_a_table_of_numbers_is_no_list_of_reviews(tmp_path: Path) -> None:
    files = write(tmp_path, train=[[1]])
    np.savez(files["imdb.npz"], x_train=np.ones((2, 3), int), y_train=[0, 1], x_test=np.ones((2, 3), int), y_test=[0, 1])
    with pytest.raises(DataError, match=r"x_train of .* has dtype int64 and 2 dimensions: expected lists"):
        SPEC.parse(files, TableRequest(source="sample"))


def test_the_real_source_has_25_000_reviews_a_part(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 train reviews: expected 25,000"):
        SPEC.parse(write(tmp_path, train=[[1], [2]]), TableRequest(source="keras"))


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown source 'kears' for imdb: choose files, keras, sample"):
        SPEC.parse(write(tmp_path, train=[[1]]), TableRequest(source="kears"))


def test_the_source_takes_no_options() -> None:
    assert [file.name for file in SPEC.sources["keras"].files({}, TODAY)] == ["imdb.npz", "imdb_word_index.json"]
    with pytest.raises(SettingError, match="unknown option 'years'"):
        SPEC.sources["keras"].files({"years": 2}, TODAY)


def table_of(train: list[list[int]], test: list[list[int]]) -> Parsed:
    n_train = len(train) - len(train) // 5
    rows = [("train" if place < n_train else "val", place, tokens) for place, tokens in enumerate(train)]
    rows += [("test", place, tokens) for place, tokens in enumerate(test)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Parsed(pa.table([*columns, [row[1] % 2 for row in rows]], schema=SPEC.schema), (), {})


def test_ranks_become_tokens() -> None:
    # The last of five reviews is the fifth that validates. Rank 9,996 is the last one in the vocabulary.
    splits = SPEC.split(table_of([[1], [9_996], [9_997], [7, 88_584, 2], [3]], [[4, 5]]))
    assert splits.tables["train"]["tokens"].to_pylist() == [[1, 4], [1, 9_999], [1, 2], [1, 10, 2, 5]]
    assert splits.tables["val"]["tokens"].to_pylist() == [[1, 6]]
    assert splits.tables["test"]["tokens"].to_pylist() == [[1, 7, 8]]
    assert splits.bounds["train"] == {"rows": 4, "positives": 2, "first_review": 0, "last_review": 3}
    assert splits.bounds["val"] == {"rows": 1, "positives": 0, "first_review": 4, "last_review": 4}
    types = {field.name: field.type for field in splits.tables["val"].schema}
    assert types == {"tokens": pa.list_(pa.uint16()), "label": pa.int8(), "review": pa.int32()}


def test_the_start_falls_off_a_long_review() -> None:
    ranks = list(range(1, 502))
    tokens = SPEC.split(table_of([ranks[:499], ranks[:500], ranks], [[1]])).tables["train"]["tokens"].to_pylist()
    assert tokens[0] == [1, *range(4, 503)]  # 499 ranks and the start
    assert tokens[1] == list(range(4, 504))  # 500 ranks: no room for the start
    assert tokens[2] == list(range(5, 505))  # 501 ranks: the first is lost


def test_normalisation_is_what_the_model_needs() -> None:
    assert SPEC.split(table_of([[1]], [[1]])).normalisation == {
        "vocabulary_size": 10_000,
        "review_tokens": 500,
        "padding": 0,
        "start": 1,
        "unknown": 2,
        "rank_offset": 3,
    }


reviews = st.lists(st.lists(st.integers(1, 20_000), min_size=1, max_size=12), min_size=1, max_size=12)


@given(train=reviews, test=reviews, long=st.integers(490, 510))
def test_every_review_is_in_one_split_and_none_changes_another(train: list[list[int]], test: list[list[int]], long: int) -> None:
    train = [*train, [3] * long]
    splits = SPEC.split(table_of(train, test))
    got = [tokens for name in ("train", "val", "test") for tokens in splits.tables[name]["tokens"].to_pylist()]
    plain = [[1] + [rank + 3 if rank + 3 < 10_000 else 2 for rank in review] for review in train + test]
    assert got == [tokens[-500:] for tokens in plain]
    assert splits.tables["val"].num_rows == len(train) // 5
    assert splits.tables["test"].num_rows == len(test)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The film is GOOD", [1, 4, 5, 6, 7]),
        ("good,bad.\tgood\nbad", [1, 7, 8, 7, 8]),
        ("  the   film ", [1, 4, 5]),
        ("the-film_is/good?", [1, 4, 5, 6, 7]),
        ("rare it's good", [1, 2, 9, 7]),  # the apostrophe stays in its word
        ("its good", [1, 7]),  # a word that is not in the index is left out
        ("it\u2019s \u2018good\u2019", [1, 9]),  # a curly apostrophe is one
        ("", [1]),
        ("!?", [1]),
        ("FİLM film", [1, 5]),  # letters past Z are left as they are
        ("good\u00a0bad", [1, 7, 8]),
        ("good\rbad\r\nthe\vfilm", [1, 7, 8, 4, 5]),
        ("\u201cgood\u201d\u2014bad\u2026the\u2013film", [1, 7, 8, 4, 5]),
        ("good<br /><br>bad", [1, 7, 10, 10, 8]),  # the published words have the name of the tag
        ("good \x96 bad\x85", [1, 7, 11, 12]),  # the published words have these control characters
    ],
)
def test_text_is_encoded(text: str, tokens: list[int]) -> None:
    words = {**WORDS, "it's": 6, "br": 7, "\x96": 8, "bad\x85": 9, "rare": 9_997}
    assert encode_text(text, words=words) == tokens


def test_text_keeps_its_end() -> None:
    assert encode_text("the " * 499, words=WORDS) == [1] + [4] * 499
    assert encode_text("good " + "the " * 500, words=WORDS) == [4] * 500
    assert encode_text("rare", words={"rare": 9_996}) == [1, 9_999]
    assert encode_text("rare", words={"rare": 9_997}) == [1, 2]


def test_text_and_ranks_agree(sample: Parsed) -> None:
    words = dict(zip(sample.extras["words"]["word"].to_pylist(), sample.extras["words"]["rank"].to_pylist(), strict=True))
    by_rank = {rank: word for word, rank in words.items()}
    tokens = SPEC.split(sample).tables["train"]["tokens"]
    for row in range(20):
        text = " ".join(by_rank[rank] for rank in sample.table["tokens"][row].as_py())
        assert encode_text(text, words=words) == tokens[row].as_py()


def test_the_frame_tells_of_reviews_without_quoting_them() -> None:
    frame = SPEC.validation_frame(table_of([[4, 2], [4, 2], [7]], [[4, 2], [5, 9, 5]]))
    assert not any(isinstance(value, list) for value in frame.to_numpy().ravel())
    assert frame["n_tokens"].tolist() == [2, 2, 1, 2, 3]
    assert frame["min_rank"].tolist() == [2, 2, 7, 2, 5]
    assert frame["max_rank"].tolist() == [4, 4, 7, 4, 9]
    assert frame["is_repeated"].tolist() == [0, 1, 0, 0, 0]
    assert frame["is_in_train"].isna().tolist() == [True, True, True, False, False]
    assert frame["is_in_train"].tolist()[3:] == [1, 0]


def test_the_sample_passes_its_suite(sample: Parsed) -> None:
    report = run_suite(SPEC.validation_frame(sample), name="imdb", expectations=SPEC.expectations(TableRequest(source="sample")))
    assert report.failed == ()


FAULTS: dict[str, Mapping[str, Any]] = {
    "label": {"label": 2},
    "n_tokens": {"n_tokens": 0},
    "min_rank": {"min_rank": 0},
    "max_rank": {"max_rank": 88_585},
    "split": {"split": "train2"},
    "split, review": {"review": 7},
    "train_label": {"train_label": 1.0},
}


@pytest.mark.parametrize("column", FAULTS)
def test_a_fault_fails_the_suite(sample: Parsed, column: str) -> None:
    frame = SPEC.validation_frame(sample).assign(**FAULTS[column])
    report = run_suite(frame, name="imdb", expectations=SPEC.expectations(TableRequest(source="sample")))
    assert column in {outcome.column for outcome in report.failed if outcome.severity == "critical"}
    assert f"{column}: expected" in rejected_message(report)


@pytest.mark.parametrize(("share", "severities"), [(0.005, []), (0.05, ["warning"]), (0.2, ["critical", "warning"])])
def test_some_test_reviews_in_train_are_a_warning_and_many_are_refused(
    sample: Parsed, share: float, severities: list[str]
) -> None:
    frame = SPEC.validation_frame(sample)
    test = np.flatnonzero(frame["split"] == "test")
    leak = frame["is_in_train"].to_numpy().copy()
    leak[test[: int(share * len(test))]] = 1.0
    frame = frame.assign(is_in_train=leak)
    report = run_suite(frame, name="imdb", expectations=SPEC.expectations(TableRequest(source="sample")))
    assert [(outcome.column, outcome.severity) for outcome in report.failed] == [("is_in_train", each) for each in severities]


def test_the_real_suite_wants_the_real_number_of_reviews(sample: Parsed) -> None:
    report = run_suite(SPEC.validation_frame(sample), name="imdb", expectations=SPEC.expectations(TableRequest(source="keras")))
    assert report.failed[0].kind == "table_row_count_to_be_between"
    assert report.failed[0].severity == "critical"


@pytest.fixture(scope="module")
def real() -> Parsed:
    names = [file.name for file in SPEC.sources["keras"].files({}, TODAY)]
    for mirror in MIRRORS:
        if mirror != Path() and all((mirror / name).is_file() for name in names):
            return SPEC.parse({name: mirror / name for name in names}, TableRequest(source="keras"))
    pytest.skip("no real reviews: neither ../shared/data/mirror nor the folder RETRAIN_MIRROR holds imdb.npz")


def test_the_review_of_the_tutorial_comes_out(real: Parsed) -> None:
    train = imdb.SPEC.split(real).tables["train"]
    found = [tokens for tokens in train["tokens"].to_pylist() if tokens[:18] == TUTORIAL_BEGINNING]
    assert [len(tokens) for tokens in found] == [218]


def test_the_real_reviews_are_whole_and_balanced(real: Parsed) -> None:
    bounds = SPEC.split(real).bounds
    assert {name: bounds[name]["rows"] for name in bounds} == {"train": 20_000, "val": 5_000, "test": 25_000}
    assert bounds["train"]["positives"] + bounds["val"]["positives"] == 12_500
    assert bounds["test"]["positives"] == 12_500
    assert real.extras["words"].num_rows == 88_584
    report = run_suite(SPEC.validation_frame(real), name="imdb", expectations=SPEC.expectations(TableRequest(source="keras")))
    assert report.failed == ()


@pytest.fixture(scope="module")
def raw_texts() -> list[str]:
    for mirror in MIRRORS:
        path = mirror.parent / "reviews" / "aclImdb_test.parquet"
        if mirror != Path() and path.is_file():
            texts: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()
            return texts
    pytest.skip("no raw reviews: ../reviews/aclImdb_test.parquet is not beside a mirror")


def test_the_raw_test_reviews_give_the_published_tokens(real: Parsed, raw_texts: list[str]) -> None:
    """Of those without a curly quote, a long dash or an odd blank, which are read as plain ones here, every single one."""
    words = dict(zip(*(real.extras["words"][name].to_pylist() for name in ("word", "rank")), strict=True))
    published = Counter(tuple(tokens) for tokens in SPEC.split(real).tables["test"]["tokens"].to_pylist())
    replaced = {character for character in SPACES + APOSTROPHES if not character.isascii()} | {"\r", "\v", "\f"}
    tokens = encode(rank_texts(raw_texts, words=words))
    encoded = [tuple(review.tolist()) for review in np.split(tokens.flat, tokens.starts[1:])]
    plain = Counter(review for review, text in zip(encoded, raw_texts, strict=True) if not replaced & set(text))
    assert plain.total() > 24_900
    assert plain - published == Counter()
    assert (Counter(encoded) & published).total() == 24_975
    assert encoded[:50] == [tuple(encode_text(text, words=words)) for text in raw_texts[:50]]


def test_reviews_without_a_word_are_their_start_alone() -> None:
    assert encode(Ranks.from_lists([[], []])).arrow(pa.uint16()).to_pylist() == [[1], [1]]
