"""Many reviews at once as word ranks, end to end in one array, and their encoding as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.datasets.tokens import RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE


@dataclass(frozen=True)
class Ranks:
    """Lists of ranks, end to end: list `i` is `flat[starts[i]:starts[i] + lengths[i]]`."""

    flat: np.ndarray
    lengths: np.ndarray

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> Self:
        """Return the lists end to end.

        Raises:
            OverflowError: A rank does not fit into 32 bits.
        """
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return cls(np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(lengths.sum())), lengths)

    @classmethod
    def of_column(cls, column: pa.ChunkedArray) -> Self:
        """Return the lists of a column."""
        lists = column.combine_chunks()
        # `flatten` and not `values`: only the former minds the offset of a slice.
        return cls(lists.flatten().to_numpy(), np.asarray(lists.value_lengths()).astype(np.int64))

    @property
    def starts(self) -> np.ndarray:
        """The position of each list's first rank."""
        starts: np.ndarray = np.cumsum(self.lengths) - self.lengths
        return starts

    def take(self, rows: np.ndarray) -> Self:
        """Return some of the lists, in the order of `rows`."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        positions = np.arange(int(lengths.sum())) + np.repeat(self.starts[rows] - (ends - lengths), lengths)
        return type(self)(self.flat[positions], lengths)

    def hashable(self) -> list[bytes]:
        """Return one hashable value a list, equal where the lists are."""
        return [self.flat[start : start + length].tobytes() for start, length in zip(self.starts, self.lengths, strict=True)]

    def arrow(self, value_type: pa.DataType) -> pa.ListArray:
        """Return the lists as an Arrow array."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.flat, type=value_type))


def encode(reviews: Ranks) -> Ranks:
    """Return the tokens of all reviews, as uint16: `encode_text` after the look-up of ranks."""
    lengths = np.minimum(reviews.lengths + 1, REVIEW_TOKENS)
    starts = np.cumsum(lengths) - lengths
    # Token j of the result is rank j of the review counted from its end; the one before the first rank is the start.
    source = np.arange(int(lengths.sum())) + np.repeat(reviews.starts + reviews.lengths - starts - lengths, lengths)
    # Where no review has a word, there is nothing to take the place of the start from.
    flat = reviews.flat if len(reviews.flat) else np.zeros(1, dtype=np.int32)
    tokens = flat[np.maximum(source, 0)] + RANK_OFFSET
    tokens[tokens >= VOCABULARY_SIZE] = UNKNOWN
    tokens[starts[lengths > reviews.lengths]] = START
    return Ranks(tokens.astype(np.uint16), lengths)
