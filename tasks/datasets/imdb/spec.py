"""The IMDB reviews: lists of word ranks with a sentiment, encoded as `keras.datasets.imdb` does.

Ranks are those of Keras's word index: 1 is the most frequent word. A token is a rank plus `RANK_OFFSET`; below that stand
the padding, the start of a review, and the word that is not in the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from storage.errors import DataError, SettingError, unknown
from storage.pickles import load_npz_arrays
from tasks.datasets.imdb.sample import simulate
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import DatasetSpec, Expectation, Parsed, Repair, Severity, Source, SourceFile, Split, SplitTables
from tasks.datasets.tokens import PADDING, RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE

SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("review", pa.int32(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
    ]
)
SPLIT_SCHEMA = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.uint16()), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("review", pa.int32(), nullable=False),
    ]
)
WORDS_SCHEMA = pa.schema([pa.field("rank", pa.int32(), nullable=False), pa.field("word", pa.string(), nullable=False)])

_ARCHIVE = "imdb.npz"
_WORD_INDEX = "imdb_word_index.json"
_UPSTREAM = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_OFFICIAL_REVIEWS = 25_000
_VALIDATION_SHARE = 0.2
_EMPTY_REVIEWS_LIMIT = 0.001
_LONGEST_REVIEW_TOKENS = 5_000
_INDEX_WORDS = 88_584
_PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")

# `keras.datasets.imdb.load_data` shuffles each part with this seed. Its order is taken, because the file's own need not be
# mixed: in the order of the original folders the last fifth of train has one sentiment only and could validate nothing.
_ORDER_SEED = 113


@dataclass(frozen=True)
class _Ragged:
    """Lists of ranks, end to end: list `i` is `flat[starts[i]:starts[i] + lengths[i]]`."""

    flat: np.ndarray
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        starts: np.ndarray = np.cumsum(self.lengths) - self.lengths
        return starts

    def keys(self) -> list[bytes]:
        """Return one hashable value a list, equal where the lists are."""
        return [self.flat[start : start + length].tobytes() for start, length in zip(self.starts, self.lengths, strict=True)]

    def arrow(self, value_type: pa.DataType) -> pa.ListArray:
        offsets = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.flat, type=value_type))


def _keras_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    del today  # the reviews are finished
    if options:
        raise SettingError(f"unknown option {sorted(options)[0]!r} for the imdb source keras: it takes none")
    return (
        SourceFile(
            name=_ARCHIVE,
            urls=(_UPSTREAM + _ARCHIVE,),
            sha256="69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
            size_bytes=17_464_789,
            max_bytes=64 * 2**20,
            magic=b"PK\x03\x04",
        ),
        SourceFile(
            name=_WORD_INDEX,
            urls=(_UPSTREAM + _WORD_INDEX,),
            sha256="027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
            size_bytes=1_641_221,
            max_bytes=16 * 2**20,
            magic=b"{",
        ),
    )


def parse(files: Mapping[str, Path], request: TableRequest) -> Parsed:
    """Return the reviews, train before test, each part in the order of `keras.datasets.imdb.load_data`.

    Args:
        files: `imdb.npz` and `imdb_word_index.json` by name.
        request: Of the source `keras` each part has 25,000 reviews; the sample has any number.

    Returns:
        The column `review` holds the position in the part's array in the file.

    Raises:
        DataError: An array is missing, a label or rank is not one, a part has another number of reviews.
        SettingError: No such source.
    """
    source = request.source
    if source not in ("keras", "sample"):
        raise unknown("source", source, where="imdb", choices=("keras", "sample"))
    words = _read_words(files[_WORD_INDEX])
    names = [f"{letter}_{part}" for part in _PARTS for letter in "xy"]
    arrays = load_npz_arrays(files[_ARCHIVE], names=names)
    tables, rows_read, empty = [], {}, 0
    mixer = np.random.RandomState(_ORDER_SEED)  # one for both parts, as in Keras: the test part takes what it left
    for part in _PARTS:
        try:
            reviews, labels = _check_part(arrays[f"x_{part}"], arrays[f"y_{part}"], part=part, highest_rank=max(words.values()))
        except DataError as error:
            raise DataError(f"{error}; fetch it again, or check the mirror") from None
        if source == "keras" and len(labels) != _OFFICIAL_REVIEWS:
            raise DataError(
                f"{_ARCHIVE} has {len(labels):,} {part} reviews: expected {_OFFICIAL_REVIEWS:,} from the source keras; "
                "fetch it again, or check the mirror"
            )
        rows_read[part] = len(labels)
        empty += int((reviews.lengths == 0).sum())
        tables.append(_part_table(reviews, labels, part=part, mixer=mixer))
    rows = sum(rows_read.values())
    repair = Repair(
        name="empty_reviews",
        rule="A review without a single word is dropped.",
        count=empty,
        share=empty / rows if rows else 0.0,
        limit=_EMPTY_REVIEWS_LIMIT,
    )
    table = pa.concat_tables(tables).combine_chunks()
    facts = {
        "rows_read": rows,
        "train_reviews": rows_read["train"],
        "test_reviews": rows_read["test"],
        "tokens": len(_ragged(table).flat),
        "words": len(words),
        **_repetitions(table),
    }
    ranked = sorted((rank, word) for word, rank in words.items() if rank + RANK_OFFSET < VOCABULARY_SIZE)
    extras = {
        "words": pa.table([[rank for rank, _ in ranked], [word for _, word in ranked]], schema=WORDS_SCHEMA),
    }
    return Parsed(table=table, repairs=(repair,), facts=facts, extras=extras)


def _read_words(path: Path) -> dict[str, int]:
    try:
        words = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON ({error}): expected an object of word to rank; fetch it again") from error
    if not isinstance(words, dict) or not words:
        raise DataError(f"{path.name} holds no words: expected a JSON object of word to rank; fetch it again")
    for word, rank in words.items():
        if type(rank) is not int or rank < 1:
            raise DataError(f"{path.name} gives {word[:40]!r} the rank {str(rank)[:40]!r}: expected a whole number from 1 on")
    if len(set(words.values())) != len(words):
        raise DataError(f"{path.name} gives one rank to two words: expected {len(words):,} different ranks")
    return words


def _check_part(reviews: np.ndarray, labels: np.ndarray, *, part: str, highest_rank: int) -> tuple[_Ragged, np.ndarray]:
    where = f"of {_ARCHIVE}"
    if reviews.dtype != np.dtype(object) or reviews.ndim != 1:
        raise DataError(f"x_{part} {where} has dtype {reviews.dtype} and {reviews.ndim} dimensions: expected lists of word ranks")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"y_{part} {where} has dtype {labels.dtype} and {labels.ndim} dimensions: expected one whole number a review"
        )
    if len(reviews) != len(labels):
        raise DataError(f"x_{part} {where} has {len(reviews):,} reviews and y_{part} {len(labels):,} labels: expected as many")
    strange = np.flatnonzero((labels != 0) & (labels != 1))
    if len(strange):
        first = int(strange[0])
        raise DataError(f"label {labels[first]} at position {first} of y_{part} {where}: expected 0 (negative) or 1 (positive)")
    for position, review in enumerate(reviews):
        if type(review) is not list:
            raise DataError(f"review {position} of x_{part} {where} is a {type(review).__name__}: expected a list of word ranks")
    if not set(map(type, chain.from_iterable(reviews))) <= {int}:
        position, token = next((at, token) for at, review in enumerate(reviews) for token in review if type(token) is not int)
        raise DataError(f"token {str(token)[:40]!r} in review {position} of x_{part} {where}: expected a whole number")
    lengths = np.fromiter(map(len, reviews), dtype=np.int64, count=len(reviews))
    try:
        flat = np.fromiter(chain.from_iterable(reviews), dtype=np.int32, count=int(lengths.sum()))
        misplaced = np.flatnonzero((flat < 1) | (flat > highest_rank))
        fault = int(flat[misplaced[0]]) if len(misplaced) else None
    except OverflowError:
        fault = next(rank for rank in chain.from_iterable(reviews) if not 1 <= rank <= highest_rank)
        flat = np.empty(0, dtype=np.int32)
    if fault is not None:
        position = next(at for at, review in enumerate(reviews) if fault in review)
        raise DataError(
            f"rank {fault} in review {position} of x_{part} {where}: expected 1 to {highest_rank:,}, the ranks of {_WORD_INDEX}"
        )
    return _Ragged(flat, lengths), labels.astype(np.int8)


def _part_table(reviews: _Ragged, labels: np.ndarray, *, part: str, mixer: np.random.RandomState) -> pa.Table:
    order = np.arange(len(labels), dtype=np.int32)
    mixer.shuffle(order)
    order = order[reviews.lengths[order] > 0]
    columns = [pa.array([part] * len(labels), type=pa.string()), np.arange(len(labels)), reviews.arrow(pa.int32()), labels]
    return pa.table(columns, schema=SCHEMA).take(pa.array(order))


def _ragged(table: pa.Table) -> _Ragged:
    column = table["tokens"].combine_chunks()
    # `flatten` and not `values`: only the former minds the offset of a slice.
    return _Ragged(column.flatten().to_numpy(), np.asarray(column.value_lengths()).astype(np.int64))


@dataclass(frozen=True)
class _Twins:
    """For each review: whether the same tokens stood in its part before, and the label of the same tokens in train or -1."""

    is_repeated: np.ndarray
    train_label: np.ndarray


def _find_twins(table: pa.Table) -> _Twins:
    parts = table["split"].to_pylist()
    keys, labels = _ragged(table).keys(), table["label"].to_pylist()
    seen: dict[str, dict[bytes, int]] = {part: {} for part in _PARTS}
    is_repeated = np.zeros(len(keys), dtype=np.int64)
    for row, (part, key, label) in enumerate(zip(parts, keys, labels, strict=True)):
        is_repeated[row] = key in seen[part]
        seen[part].setdefault(key, label)
    return _Twins(is_repeated, np.array([seen["train"].get(key, -1) for key in keys], dtype=np.int64))


def _repetitions(table: pa.Table) -> dict[str, int]:
    """Return how many reviews stand there twice; they are kept, as the data set's published scores are with them."""
    twins, labels = _find_twins(table), np.asarray(table["label"])
    is_train = np.asarray(table["split"]) == "train"
    in_train = ~is_train & (twins.train_label >= 0)
    return {
        "repeated_in_train": int(twins.is_repeated[is_train].sum()),
        "repeated_in_test": int(twins.is_repeated[~is_train].sum()),
        "test_in_train_same_label": int((in_train & (twins.train_label == labels)).sum()),
        "test_in_train_other_label": int((in_train & (twins.train_label != labels)).sum()),
    }


def validation_frame(parsed: Parsed) -> pd.DataFrame:
    """Return one row a review, without a word of it, so that no report can quote one.

    Returns:
        `is_in_train` says for test rows whether the same tokens are in train, and is missing for train rows; `is_repeated`
        says whether the same tokens came before in the same part. Whole numbers are int64.
    """
    ragged = _ragged(parsed.table)
    split = np.asarray(parsed.table["split"])
    is_train = split == "train"
    twins = _find_twins(parsed.table)
    starts = ragged.starts
    label = np.asarray(parsed.table["label"]).astype(np.int64)
    return pd.DataFrame(
        {
            "split": pd.Series(split, dtype="str"),
            "review": np.asarray(parsed.table["review"]).astype(np.int64),
            "label": label,
            "train_label": np.where(is_train, label, np.nan),
            "test_label": np.where(is_train, np.nan, label),
            "n_tokens": ragged.lengths,
            "min_rank": np.minimum.reduceat(ragged.flat, starts).astype(np.int64) if len(starts) else ragged.lengths,
            "max_rank": np.maximum.reduceat(ragged.flat, starts).astype(np.int64) if len(starts) else ragged.lengths,
            "is_in_train": np.where(is_train, np.nan, twins.train_label >= 0),
            "is_repeated": twins.is_repeated,
        }
    )


def expectations(request: TableRequest) -> tuple[Expectation, ...]:
    """Return the suite over `validation_frame`; the sample is held to the same, but for its size and lengths."""
    source = request.source
    fewest, most, mean_tokens = 2, None, (20, 500)
    if source == "keras":
        most = 2 * _OFFICIAL_REVIEWS
        fewest, mean_tokens = int(2 * _OFFICIAL_REVIEWS * (1 - _EMPTY_REVIEWS_LIMIT)), (200, 270)

    def expect(severity: Severity, meaning: str, kind: str, **arguments: Any) -> Expectation:
        return Expectation(kind=kind, arguments=arguments, severity=severity, meaning=meaning)

    def between(column: str, low: int | None, high: int | None) -> dict[str, Any]:
        return {"kind": "column_values_to_be_between", "column": column, "min_value": low, "max_value": high}

    def mean(column: str, low: float, high: float) -> dict[str, Any]:
        return {"kind": "column_mean_to_be_between", "column": column, "min_value": low, "max_value": high}

    def within(column: str, values: list[Any], **more: Any) -> dict[str, Any]:
        return {"kind": "column_values_to_be_in_set", "column": column, "value_set": values, **more}

    rows: dict[str, Any] = {"kind": "table_row_count_to_be_between", "min_value": fewest, "max_value": most}
    first_words: dict[str, Any] = {"kind": "column_min_to_be_between", "column": "min_rank", "min_value": 1, "max_value": 3}
    places: dict[str, Any] = {"kind": "compound_columns_to_be_unique", "column_list": ["split", "review"]}
    whole = ("review", "label", "n_tokens", "min_rank", "max_rank", "is_repeated")
    return (
        expect("critical", "Reviews are missing, or there are too many.", **rows),
        *(expect("critical", "A value is missing.", "column_values_to_not_be_null", column=name) for name in ("split", *whole)),
        *(
            expect("critical", "A column is not of whole numbers.", "column_values_to_be_of_type", column=name, type_="int64")
            for name in whole
        ),
        expect("critical", "A part other than train and test.", **within("split", list(_PARTS))),
        expect("critical", "A sentiment other than 0 and 1.", **within("label", [0, 1])),
        expect("critical", "The sentiments in train are not balanced.", **mean("train_label", 0.45, 0.55)),
        expect("critical", "The sentiments in test are not balanced.", **mean("test_label", 0.45, 0.55)),
        expect("critical", "A review is empty, or longer than any review is.", **between("n_tokens", 1, _LONGEST_REVIEW_TOKENS)),
        expect("warning", "Reviews are much shorter or longer than they were.", **mean("n_tokens", *mean_tokens)),
        expect("critical", "A rank below 1.", **between("min_rank", 1, None)),
        expect("critical", "A rank past the word index of Keras.", **between("max_rank", None, _INDEX_WORDS)),
        expect("warning", "The most frequent words are in no review: ranks may be shifted.", **first_words),
        expect("critical", "A place in the file comes twice.", **places),
        # The real data has 123 in 25,000 (0.5 %), and 297 in 50,000 (0.6 %): both are far from a leak.
        expect("warning", "More test reviews than usual are in train too.", **within("is_in_train", [0], mostly=0.99)),
        expect("warning", "More reviews than usual stand twice in their part.", **within("is_repeated", [0], mostly=0.99)),
    )


def _encode(reviews: _Ragged) -> _Ragged:
    """Return the tokens of all reviews at once: `encode_text` after the look-up of ranks."""
    lengths = np.minimum(reviews.lengths + 1, REVIEW_TOKENS)
    starts = np.cumsum(lengths) - lengths
    # Token j of the result is rank j of the review counted from its end; the one before the first rank is the start.
    source = np.arange(int(lengths.sum())) + np.repeat(reviews.starts + reviews.lengths - starts - lengths, lengths)
    tokens = reviews.flat[np.maximum(source, 0)] + RANK_OFFSET
    tokens[tokens >= VOCABULARY_SIZE] = UNKNOWN
    tokens[starts[lengths > reviews.lengths]] = START
    return _Ragged(tokens.astype(np.uint16), lengths)


def split(parsed: Parsed) -> SplitTables:
    """Return encoded reviews: the last fifth of the training part validates, the official test part tests."""
    is_train = np.asarray(parsed.table["split"]) == "train"
    n_train = int(is_train.sum())
    n_fit = n_train - int(n_train * _VALIDATION_SHARE)
    rows: dict[Split, tuple[int, int]] = {
        "train": (0, n_fit),
        "val": (n_fit, n_train),
        "test": (n_train, parsed.table.num_rows),
    }
    encoded = _encode(_ragged(parsed.table)).arrow(pa.uint16())
    whole = pa.table([encoded, parsed.table["label"], parsed.table["review"]], schema=SPLIT_SCHEMA)
    tables = {name: whole.slice(first, last - first) for name, (first, last) in rows.items()}
    return SplitTables(tables=tables, normalisation=_normalisation(), bounds={name: _bounds(tables[name]) for name in tables})


def _normalisation() -> dict[str, int]:
    return {
        "vocabulary_size": VOCABULARY_SIZE,
        "review_tokens": REVIEW_TOKENS,
        "padding": PADDING,
        "start": START,
        "unknown": UNKNOWN,
        "rank_offset": RANK_OFFSET,
    }


def _bounds(table: pa.Table) -> dict[str, int | None]:
    reviews: Sequence[int] = table["review"].to_pylist()
    return {
        "rows": table.num_rows,
        "positives": int(np.asarray(table["label"]).sum()),
        "first_review": reviews[0] if reviews else None,
        "last_review": reviews[-1] if reviews else None,
    }


SPEC = DatasetSpec(
    name="imdb",
    title="IMDB reviews",
    licence="Large Movie Review Dataset (Maas et al., 2011), for research; encoded by Keras (Apache-2.0)",
    default_source="keras",
    sources={"keras": Source(_keras_files)},
    transform_version=1,
    schema=SCHEMA,
    parse=parse,
    expectations=expectations,
    validation_frame=validation_frame,
    split=split,
    simulate=simulate,
    sample_source="keras",
)
