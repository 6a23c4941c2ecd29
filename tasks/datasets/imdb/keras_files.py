"""The files that Keras publishes: reviews as lists of word ranks, and the index of the words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import DataError, SettingError
from storage.pickles import load_npz_arrays
from tasks.datasets.imdb.ranks import Ranks
from tasks.datasets.spec import SourceFile

ARCHIVE = "imdb.npz"
WORD_INDEX = "imdb_word_index.json"
PARTS = ("train", "test")
OFFICIAL_REVIEWS = 25_000
"""Reviews a part."""

_UPSTREAM = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_MAX_RANK = 1_000_000


def keras_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    """Return the archive of reviews and the word index.

    Raises:
        SettingError: There are options.
    """
    del today  # the published reviews are finished
    if options:
        raise SettingError(f"unknown option {sorted(options)[0]!r} for the imdb source keras: it takes none")
    return (
        SourceFile(
            name=ARCHIVE,
            urls=(_UPSTREAM + ARCHIVE,),
            sha256="69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
            size_bytes=17_464_789,
            max_bytes=64 * 2**20,
            magic=b"PK\x03\x04",
        ),
        SourceFile(
            name=WORD_INDEX,
            urls=(_UPSTREAM + WORD_INDEX,),
            sha256="027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
            size_bytes=1_641_221,
            max_bytes=16 * 2**20,
            magic=b"{",
        ),
    )


def read_parts(path: Path, *, highest_rank: int) -> dict[str, tuple[Ranks, np.ndarray]]:
    """Return ranks and labels of every review of `imdb.npz`, by part, in the order of the file.

    Raises:
        DataError: An array is missing, or a label or rank is not one.
    """
    names = [f"{letter}_{part}" for part in PARTS for letter in "xy"]
    arrays = load_npz_arrays(path, names=names)
    try:
        return {
            part: _check_part(arrays[f"x_{part}"], arrays[f"y_{part}"], part=part, highest_rank=highest_rank) for part in PARTS
        }
    except DataError as error:
        raise DataError(f"{error}; fetch it again, or check the mirror") from None


def read_words(path: Path) -> dict[str, int]:
    """Return the rank of every word of the index.

    Raises:
        DataError: The file is no JSON object of word to rank, or two words share a rank.
    """
    try:
        words = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON ({error}): expected an object of word to rank; fetch it again") from error
    if not isinstance(words, dict) or not words:
        raise DataError(f"{path.name} holds no words: expected a JSON object of word to rank; fetch it again")
    for word, rank in words.items():
        if type(rank) is not int or not 1 <= rank <= _MAX_RANK:
            raise DataError(
                f"{path.name} gives {word[:40]!r} the rank {str(rank)[:40]!r}: expected a whole number from 1 to {_MAX_RANK:,}"
            )
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise DataError(
                f"{path.name} has the word {word[:40]!a} with half of a character (a lone surrogate): expected whole ones; "
                "fetch it again"
            )
    if len(set(words.values())) != len(words):
        raise DataError(f"{path.name} gives one rank to two words: expected {len(words):,} different ranks")
    return words


def _check_part(reviews: np.ndarray, labels: np.ndarray, *, part: str, highest_rank: int) -> tuple[Ranks, np.ndarray]:
    where = f"of {ARCHIVE}"
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
            f"rank {fault} in review {position} of x_{part} {where}: expected 1 to {highest_rank:,}, the ranks of {WORD_INDEX}"
        )
    return Ranks(flat, lengths), labels.astype(np.int8)
