"""The IMDB reviews: lists of word ranks with a sentiment, encoded as `keras.datasets.imdb` does.

Ranks are those of Keras's word index: 1 is the most frequent word. A token is a rank plus `RANK_OFFSET`; below that stand
the padding, the start of a review, and the word that is not in the vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import DataError, SettingError, unknown
from tasks.datasets.imdb.keras_files import ARCHIVE, OFFICIAL_REVIEWS, WORD_INDEX, keras_files, read_parts, read_words
from tasks.datasets.imdb.ranks import Ranks, encode
from tasks.datasets.imdb.review_files import REVIEWS, OwnReviews, ReviewFilesOptions, gather_reviews, read_gathered, review_files
from tasks.datasets.imdb.sample import simulate
from tasks.datasets.imdb.suite import EMPTY_REVIEWS_LIMIT, expectations, repetitions, validation_frame
from tasks.datasets.imdb.text import rank_texts
from tasks.datasets.imdb.text_files import checked_texts, read_texts
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, Repair, Source, Split, SplitTables, TextProfile
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

_VALIDATION_SHARE = 0.2
_TEST_SHARE = 0.2
# One review without a word is the fault of a person's table and no sign that the table is another.
_EMPTY_OWN_LIMIT = 0.01
_OTHER_SPLITS_LIMIT = 0.05

# `keras.datasets.imdb.load_data` shuffles each part with this seed. Its order is taken, because the file's own need not be
# mixed: in the order of the original folders the last fifth of train has one sentiment only and could validate nothing.
_ORDER_SEED = 113


@dataclass(frozen=True)
class _Reviews:
    """Reviews with at least one word, each in its split.

    Attributes:
        table: In the order of the splits; schema: `SCHEMA`.
        rows_read: Number of reviews that were read, by part, the dropped ones too.
        n_empty: Number of reviews that were dropped because they have no word.
        n_other_splits: Number of own reviews that were dropped because another split has their tokens.
        empty_limit: Largest share of reviews that may have no word.
        n_added: Number of own reviews that were added to published ones, or None.
    """

    table: pa.Table
    rows_read: Mapping[str, int]
    n_empty: int
    n_other_splits: int
    empty_limit: float
    n_added: int | None = None


def parse(files: Mapping[str, Path], request: TableRequest) -> Parsed:
    """Return the reviews in the order of their splits; the published ones in the order of `keras.datasets.imdb.load_data`.

    Args:
        files: `imdb_word_index.json` by name, with `imdb.npz`, `reviews.parquet`, or both.
        request: Its source is `keras`, which has 25,000 reviews a part, `files`, or `sample`, which has any number.

    Returns:
        The column `review` holds the position in the part's array in the file. Reviews that are added to the training part
        count on from there.

    Raises:
        DataError: An array is missing, a label or rank is not one, a part has another number of reviews, a split would have
            one sentiment only.
        SettingError: No such source, or own reviews that would take the place of the sample.
    """
    source = request.source
    if source not in ("keras", "files", "sample"):
        raise unknown("source", source, where="imdb", choices=("keras", "files", "sample"))
    words = read_words(files[WORD_INDEX])
    own = read_gathered(files[REVIEWS]) if REVIEWS in files else None
    if own and own.use == "replace":
        if source == "sample":
            raise SettingError("own reviews cannot stand in the place of the sample, whose words are made up: take real data")
        reviews = _split_own(own, words=words)
    else:
        reviews = _published(files[ARCHIVE], highest_rank=max(words.values()), source=source)
        if own:
            reviews = _with_own(reviews, own=own, words=words)
    table = reviews.table
    facts = {
        "rows_read": sum(reviews.rows_read.values()),
        **{f"{part}_reviews": count for part, count in reviews.rows_read.items()},
        **({} if reviews.n_added is None else {"added_reviews": reviews.n_added}),
        "tokens": len(Ranks.of_column(table["tokens"]).flat),
        "words": len(words),
        **repetitions(table),
    }
    ranked = sorted((rank, word) for word, rank in words.items())
    extras = {"words": pa.table([[rank for rank, _ in ranked], [word for _, word in ranked]], schema=WORDS_SCHEMA)}
    return Parsed(table=table, repairs=_repairs(reviews), facts=facts, extras=extras)


def _published(path: Path, *, highest_rank: int, source: str) -> _Reviews:
    """Return Keras's reviews: the last fifth of the training part validates, the official test part tests."""
    tables, rows_read, n_empty = [], {}, 0
    mixer = np.random.RandomState(_ORDER_SEED)  # one for both parts, as in Keras: the test part takes what it left
    for part, (ranks, labels) in read_parts(path, highest_rank=highest_rank).items():
        if source != "sample" and len(labels) != OFFICIAL_REVIEWS:
            raise DataError(
                f"{ARCHIVE} has {len(labels):,} {part} reviews: expected {OFFICIAL_REVIEWS:,} from the source {source}; "
                "fetch it again, or check the mirror"
            )
        rows_read[part] = len(labels)
        n_empty += int((ranks.lengths == 0).sum())
        order = np.arange(len(labels), dtype=np.int32)
        mixer.shuffle(order)
        order = order[ranks.lengths[order] > 0]
        n_val = int(len(order) * _VALIDATION_SHARE) if part == "train" else 0
        first, last = ("train", "val") if part == "train" else ("test", "test")
        splits = np.array([first] * (len(order) - n_val) + [last] * n_val, dtype=object)
        tables.append(_table(splits, rows=order, ranks=ranks, labels=labels))
    return _Reviews(
        table=pa.concat_tables(tables).combine_chunks(),
        rows_read=rows_read,
        n_empty=n_empty,
        n_other_splits=0,
        empty_limit=EMPTY_REVIEWS_LIMIT,
    )


def _table(splits: np.ndarray, *, rows: np.ndarray, ranks: Ranks, labels: Sequence[int] | np.ndarray, first: int = 0) -> pa.Table:
    """Return some of the reviews, in the order of `rows`, with the split of each; the first of all reviews has number `first`."""
    lists = ranks.arrow(pa.int32()).take(pa.array(rows))
    return pa.table([pa.array(splits, type=pa.string()), rows + first, lists, np.asarray(labels)[rows]], schema=SCHEMA)


def _with_own(reviews: _Reviews, *, own: OwnReviews, words: Mapping[str, int]) -> _Reviews:
    """Add a person's own reviews behind those that train; what the model would meet again in another split is left out."""
    ranks = rank_texts(own.texts, words=words)
    by_split = {name: reviews.table.filter(pc.equal(reviews.table["split"], name)) for name in SPLITS}
    others = {key for name in ("val", "test") for key in encode(Ranks.of_column(by_split[name]["tokens"])).hashable()}
    is_other = np.array([key in others for key in encode(ranks).hashable()], dtype=np.bool_)
    rows = np.flatnonzero((ranks.lengths > 0) & ~is_other)
    first = reviews.rows_read["train"]
    added = _table(np.full(len(rows), "train", dtype=object), rows=rows, ranks=ranks, labels=own.labels, first=first)
    return replace(
        reviews,
        table=pa.concat_tables([by_split["train"], added, by_split["val"], by_split["test"]]).combine_chunks(),
        rows_read={**reviews.rows_read, "own": len(own.texts)},
        n_empty=reviews.n_empty + int((ranks.lengths == 0).sum()),
        n_other_splits=int((is_other & (ranks.lengths > 0)).sum()),
        n_added=len(rows),
    )


def _split_own(own: OwnReviews, *, words: Mapping[str, int]) -> _Reviews:
    """Split a person's own reviews: by the folders `train` and `test` where both are there, else by a digest.

    The digest is of a review's tokens, so that a review keeps its split when others are added, and equal ones share theirs.

    Raises:
        DataError: A split would have one sentiment only.
    """
    ranks = rank_texts(own.texts, words=words)
    keys = [hashlib.sha256(key).digest() for key in encode(ranks).hashable()]
    drawn = np.array([int.from_bytes(key[:8]) / 2**64 for key in keys])
    has_parts = {"train", "test"} <= set(own.parts)
    is_test = np.array([part == "test" for part in own.parts]) if has_parts else drawn < _TEST_SHARE
    share = _VALIDATION_SHARE if has_parts else (1 - _TEST_SHARE) * _VALIDATION_SHARE
    splits = np.where(is_test, "test", np.where(drawn >= 1 - share, "val", "train")).astype(object)
    tested = {key for key, tests, length in zip(keys, is_test, ranks.lengths, strict=True) if tests and length}
    is_other = ~is_test & np.array([key in tested for key in keys], dtype=np.bool_) & (ranks.lengths > 0)
    rows = np.flatnonzero((ranks.lengths > 0) & ~is_other)
    rows = np.array(sorted(rows.tolist(), key=lambda row: (SPLITS.index(splits[row]), keys[row], row)), dtype=np.int64)
    labels = np.asarray(own.labels, dtype=np.int8)
    for name in SPLITS:
        n_positive, n_all = int(labels[rows][splits[rows] == name].sum()), int((splits[rows] == name).sum())
        if not 0 < n_positive < n_all:
            raise DataError(
                f"{n_positive:,} of the {n_all:,} own reviews of the split {name} are positive: expected both sentiments in each "
                "split; name more reviews, or add them to the published ones"
            )
    return _Reviews(
        table=_table(splits[rows], rows=rows, ranks=ranks, labels=labels),
        rows_read={"own": len(own.texts)},
        n_empty=int((ranks.lengths == 0).sum()),
        n_other_splits=int(is_other.sum()),
        empty_limit=_EMPTY_OWN_LIMIT,
    )


def _repairs(reviews: _Reviews) -> tuple[Repair, Repair]:
    rows = sum(reviews.rows_read.values())
    empty = Repair(
        name="empty_reviews",
        rule="A review without a single word is dropped.",
        count=reviews.n_empty,
        share=reviews.n_empty / rows if rows else 0.0,
        limit=reviews.empty_limit,
    )
    others = Repair(
        name="reviews_of_other_splits",
        rule="Of a person's own reviews, one that would train with the tokens of a review of another split is dropped.",
        count=reviews.n_other_splits,
        share=reviews.n_other_splits / rows if rows else 0.0,
        limit=_OTHER_SPLITS_LIMIT,
    )
    return empty, others


def split(parsed: Parsed) -> SplitTables:
    """Return encoded reviews, by the split that `parse` gave them."""
    encoded = encode(Ranks.of_column(parsed.table["tokens"])).arrow(pa.uint16())
    whole = pa.table([encoded, parsed.table["label"], parsed.table["review"]], schema=SPLIT_SCHEMA)
    tables: dict[Split, pa.Table] = {name: whole.filter(pc.equal(parsed.table["split"], name)) for name in SPLITS}
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


def train_profile(splits: Mapping[str, pa.Table]) -> TextProfile:
    """Return of every training review the words that are read, the share outside the vocabulary, and its label."""
    reviews = Ranks.of_column(splits["train"]["tokens"])
    ends = np.cumsum(reviews.lengths)

    def counted(token: int) -> np.ndarray:
        totals = np.concatenate([[0], np.cumsum(reviews.flat == token)])
        counts: np.ndarray = totals[ends] - totals[reviews.starts]
        return counts

    words = np.maximum(reviews.lengths - counted(START), 1)
    label = splits["train"]["label"].to_numpy()
    values = {"tokens": words, "unknown_share": counted(UNKNOWN) / words, "probability": label.astype(np.float64)}
    return TextProfile(values, largest={"tokens": REVIEW_TOKENS})


SPEC = DatasetSpec(
    name="imdb",
    title="IMDB reviews",
    licence="Large Movie Review Dataset (Maas et al., 2011), for research; encoded by Keras (Apache-2.0)",
    default_source="keras",
    sources={
        "keras": Source(keras_files),
        "files": Source(review_files, options=ReviewFilesOptions, gather=gather_reviews),
    },
    transform_version=2,
    schema=SCHEMA,
    parse=parse,
    expectations=expectations,
    validation_frame=validation_frame,
    split=split,
    simulate=simulate,
    sample_source="keras",
    read_texts=read_texts,
    check_texts=checked_texts,
    intended_use="Telling positive from negative reviews of films in English; teaching and comparisons.",
    limits_of_use=(
        "It was trained on clear opinions: half of the reviews are positive and none is neutral, so mixed ones get a label too.",
        "Other languages, other goods and texts of another time than before 2011 are not what it knows.",
        "It must not judge people: it tells the tone of a text, and nothing about who wrote it.",
    ),
    train_profile=train_profile,
)
