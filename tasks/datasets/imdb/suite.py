"""The suite over the reviews, and the frame that it runs on: numbers of every review, and not a word of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.datasets.imdb.keras_files import OFFICIAL_REVIEWS
from tasks.datasets.imdb.plausibility import FIGURES, SIGNS, part_figures
from tasks.datasets.imdb.ranks import Ranks
from tasks.datasets.request import TableRequest
from tasks.datasets.signs import expectations_of
from tasks.datasets.spec import SPLITS, Expectation, Parsed, Severity
from tasks.datasets.tokens import RANK_OFFSET, VOCABULARY_SIZE

EMPTY_REVIEWS_LIMIT = 0.001
_LONGEST_REVIEW_TOKENS = 5_000
# A person's own texts may be longer than any review that is published; a review of a file has 131,072 bytes at most.
_LONGEST_OWN_TOKENS = 65_536
_INDEX_WORDS = 88_584


@dataclass(frozen=True)
class _Twins:
    """What stands elsewhere too, where train is the part that trains and validates.

    Attributes:
        is_test: Whether a review is of the test part.
        is_repeated: Whether the same ranks stood in its part before.
        train_label: The label of the same ranks in train, or -1.
    """

    is_test: np.ndarray
    is_repeated: np.ndarray
    train_label: np.ndarray


def _find_twins(table: pa.Table) -> _Twins:
    is_test = np.asarray(table["split"]) == "test"
    keys, labels = Ranks.of_column(table["tokens"]).hashable(), table["label"].to_pylist()
    seen: dict[bool, dict[bytes, int]] = {False: {}, True: {}}
    is_repeated = np.zeros(len(keys), dtype=np.int64)
    for row, (part, key, label) in enumerate(zip(is_test.tolist(), keys, labels, strict=True)):
        is_repeated[row] = key in seen[part]
        seen[part].setdefault(key, label)
    return _Twins(is_test, is_repeated, np.array([seen[False].get(key, -1) for key in keys], dtype=np.int64))


def repetitions(table: pa.Table) -> dict[str, int]:
    """Return how many reviews stand there twice; they are kept, as the data set's published scores are with them."""
    twins, labels = _find_twins(table), np.asarray(table["label"])
    in_train = twins.is_test & (twins.train_label >= 0)
    return {
        "repeated_in_train": int(twins.is_repeated[~twins.is_test].sum()),
        "repeated_in_test": int(twins.is_repeated[twins.is_test].sum()),
        "test_in_train_same_label": int((in_train & (twins.train_label == labels)).sum()),
        "test_in_train_other_label": int((in_train & (twins.train_label != labels)).sum()),
    }


def validation_frame(parsed: Parsed) -> pd.DataFrame:
    """Return one row a review, without a word of it, so that no report can quote one.

    Returns:
        Train is the part that trains and validates. `is_in_train` says for test rows whether the same ranks are in train, and
        is missing for the others; `is_repeated` says whether the same ranks came before in the same part. Whole numbers are
        int64.
    """
    ranks = Ranks.of_column(parsed.table["tokens"])
    split = np.asarray(parsed.table["split"])
    twins = _find_twins(parsed.table)
    is_train = ~twins.is_test
    starts = ranks.starts
    label = np.asarray(parsed.table["label"]).astype(np.int64)
    frame = pd.DataFrame(
        {
            "split": pd.Series(split, dtype="str"),
            "review": np.asarray(parsed.table["review"]).astype(np.int64),
            "label": label,
            "train_label": np.where(is_train, label, np.nan),
            "test_label": np.where(is_train, np.nan, label),
            "n_tokens": ranks.lengths,
            "min_rank": np.minimum.reduceat(ranks.flat, starts).astype(np.int64) if len(starts) else ranks.lengths,
            "max_rank": np.maximum.reduceat(ranks.flat, starts).astype(np.int64) if len(starts) else ranks.lengths,
            "is_in_train": np.where(is_train, np.nan, twins.train_label >= 0),
            "is_repeated": twins.is_repeated,
        }
    )
    for name, values in _figures_of_parts(ranks, labels=label, is_test=twins.is_test, words=_words_of(parsed)).items():
        frame[name] = values
    return frame


def _words_of(parsed: Parsed) -> dict[str, int]:
    words = parsed.extras.get("words")
    if words is None:
        return {}
    return dict(zip(words["word"].to_pylist(), words["rank"].to_pylist(), strict=True))


def _figures_of_parts(
    ranks: Ranks, *, labels: np.ndarray, is_test: np.ndarray, words: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return the figures of train and of test, each in the rows of its part."""
    columns = {name: np.full(len(labels), np.nan) for name in FIGURES}
    for part in (~is_test, is_test):
        rows = np.flatnonzero(part)
        if len(rows):
            figures = part_figures(ranks.take(rows), labels=labels[rows], words=words, vocabulary=VOCABULARY_SIZE - RANK_OFFSET)
            for name in FIGURES:
                columns[name][rows] = getattr(figures, name)
    return columns


def expectations(request: TableRequest) -> tuple[Expectation, ...]:
    """Return the suite over `validation_frame`; the sample is held to the same, but for its size and lengths.

    A person's own reviews may be longer, and of one sentiment more than of the other.
    """
    source = request.source
    is_own = source == "files"
    fewest, most, mean_tokens = 2, None, (20, 500)
    longest, balance = (_LONGEST_OWN_TOKENS, 0.05) if is_own else (_LONGEST_REVIEW_TOKENS, 0.45)
    if source == "keras":
        most = 2 * OFFICIAL_REVIEWS
        fewest, mean_tokens = int(2 * OFFICIAL_REVIEWS * (1 - EMPTY_REVIEWS_LIMIT)), (200, 270)

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
        expect("critical", "A split other than train, val and test.", **within("split", list(SPLITS))),
        expect("critical", "A sentiment other than 0 and 1.", **within("label", [0, 1])),
        expect("critical", "The sentiments in train are not balanced.", **mean("train_label", balance, 1 - balance)),
        expect("critical", "The sentiments in test are not balanced.", **mean("test_label", balance, 1 - balance)),
        expect("critical", "A review is empty, or longer than any review is.", **between("n_tokens", 1, longest)),
        expect("warning", "Reviews are much shorter or longer than they were.", **mean("n_tokens", *mean_tokens)),
        expect("critical", "A rank below 1.", **between("min_rank", 1, None)),
        expect("critical", "A rank past the word index of Keras.", **between("max_rank", None, _INDEX_WORDS)),
        expect("warning", "The most frequent words are in no review: ranks may be shifted.", **first_words),
        expect("critical", "A place in the file comes twice.", **places),
        *expectations_of(SIGNS[source]),
        expect("critical", "Many test reviews are in train too.", **within("is_in_train", [0], mostly=0.9)),
        expect("critical", "Many reviews stand twice in their part.", **within("is_repeated", [0], mostly=0.9)),
        # The real data has 123 in 25,000 (0.5 %), and 297 in 50,000 (0.6 %): both are far from a leak.
        expect("warning", "More test reviews than usual are in train too.", **within("is_in_train", [0], mostly=0.99)),
        expect("warning", "More reviews than usual stand twice in their part.", **within("is_repeated", [0], mostly=0.99)),
    )
