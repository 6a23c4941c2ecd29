"""Row ids: numbers by which a row of a data set is known again in another table, whatever split it lies in there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

RowIds = npt.NDArray[np.int64]


def stamp_ids(table: pa.Table, *, timestamp: str = "timestamp") -> RowIds:
    """Return the stamps of a series as seconds since 1970, int64 `(rows,)`, rising."""
    return np.asarray(table[timestamp]).astype("datetime64[s]").astype(np.int64)


def content_ids(table: pa.Table) -> RowIds:
    """Return the first 8 bytes of the SHA-256 of every row's content, int64 `(rows,)`.

    Rows of equal content have equal ids. Among a million different rows two share an id with a probability of 3 in 100
    million.
    """
    digests = [hashlib.sha256() for _ in range(table.num_rows)]
    for name in table.column_names:
        for digest, content in zip(digests, _contents(table[name].combine_chunks()), strict=True):
            digest.update(len(content).to_bytes(8, "little") + content)
    return np.frombuffer(b"".join(digest.digest()[:8] for digest in digests), dtype="<i8").astype(np.int64)


def _contents(column: pa.Array) -> Iterator[bytes]:
    """Yield the bytes of every value of a column of numbers, of texts, or of lists of numbers."""
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        values, lengths = column.flatten().to_numpy(zero_copy_only=False), np.asarray(column.value_lengths())
        ends = np.cumsum(lengths)
        yield from (values[end - length : end].tobytes() for end, length in zip(ends, lengths, strict=True))
    elif pa.types.is_string(column.type):
        yield from (str(value).encode() for value in column.to_pylist())
    else:
        yield from (value.tobytes() for value in column.to_numpy(zero_copy_only=False))
