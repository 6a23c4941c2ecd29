"""Numbers of columns that are text: missing ones, overflows, decimal commas, and what is no number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import DataError

Values = npt.NDArray[np.float32]
Place = Callable[[int], str]

_BLANKS_AND_QUOTES = ' \t"'
_STARS = r"^\*+$"


def trimmed_text(cells: pa.ChunkedArray) -> pa.Array:
    """Return binary or text cells as one array of text without blanks and quotes around them."""
    text = pc.cast(cells, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
    trimmed = pc.ascii_trim(text, characters=_BLANKS_AND_QUOTES)
    return trimmed.combine_chunks() if isinstance(trimmed, pa.ChunkedArray) else trimmed


def count_overflows(cells: pa.ChunkedArray) -> int:
    """Return how many cells are a run of `*`, which a logger writes for a number that does not fit."""
    return _count(pc.match_substring_regex(trimmed_text(cells), _STARS))


def numbers_of_text(
    cells: Mapping[str, pa.ChunkedArray],
    *,
    headers: Mapping[str, str],
    missing: Collection[str],
    may_have_commas: bool,
    place: Place,
) -> tuple[dict[str, Values], dict[str, int]]:
    """Return float32 numbers by canonical name, NaN where there is none, and the overflows of each column that has any.

    Args:
        cells: Binary or text columns by canonical name.
        headers: Names in the file, for messages.
        missing: Words for a missing value, beside an empty cell.
        may_have_commas: Whether a comma can be a decimal mark: not where it stands between the fields.
        place: File and line of a row, for messages.

    Raises:
        DataError: A cell is no number, or decimal commas and points are mixed.
    """
    texts = {}
    overflows = {}
    absent = pa.array(["", *missing])
    for name, column in cells.items():
        text = trimmed_text(column)
        is_overflow = pc.match_substring_regex(text, _STARS)
        if count := _count(is_overflow):
            overflows[name] = count
        is_absent = pc.or_(is_overflow, pc.is_in(text, value_set=absent))
        texts[name] = pc.if_else(is_absent, pa.scalar(None, pa.string()), text)
    commas = may_have_commas and _has_decimal_commas(texts, headers=headers, place=place)
    numbers = {}
    for name, text in texts.items():
        pointed = pc.replace_substring(text, ",", ".") if commas else text
        try:
            column = pc.cast(pointed, pa.float32())
        except pa.ArrowInvalid:
            row = _first_no_number(pointed)
            _raise_no_number(_readable(text[row]), where=place(row), name=name, header=headers[name])
        numbers[name] = np.asarray(column, dtype=np.float32)
    return numbers, overflows


def _readable(value: pa.Scalar) -> str:
    """Return a text for a message, also where its bytes are no UTF-8."""
    try:
        return str(value.as_py())
    except UnicodeDecodeError:
        return str(value.cast(pa.binary()).as_py().decode("latin-1"))


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _has_decimal_commas(texts: Mapping[str, pa.Array], *, headers: Mapping[str, str], place: Place) -> bool:
    """Tell whether numbers are written with decimal commas, after making sure that no point is among them."""
    first: dict[str, tuple[int, str]] = {}
    for name, text in texts.items():
        for mark in ",.":
            has_mark = np.asarray(pc.fill_null(pc.match_substring(text, mark), fill_value=False))
            if has_mark.any():
                first[mark] = min((int(np.argmax(has_mark)), name), first.get(mark, (len(text), name)))
    if len(first) == 2:
        other, mark = sorted(first, key=lambda mark: first[mark])
        row, name = first[mark]
        words = {",": "comma", ".": "point"}
        raise DataError(
            f"{place(row)}: {texts[name][row].as_py()!r} in {name} ({headers[name]}) has a decimal {words[mark]}, and "
            f"{place(first[other][0])} has a {words[other]}: write all numbers with one decimal mark"
        )
    return "," in first


def _first_no_number(text: pa.Array) -> int:
    """Return the row of the first text that is no number, by halves: one by one would take seconds."""
    first, stop = 0, len(text)
    while stop - first > 1:
        middle = (first + stop) // 2
        try:
            pc.cast(text[first:middle], pa.float32())
        except pa.ArrowInvalid:
            stop = middle
        else:
            first = middle
    return first


def _raise_no_number(value: str, *, where: str, name: str, header: str) -> NoReturn:
    remedy = "write decimal points, or ; between the fields" if "," in value else "correct or remove this row upstream"
    raise DataError(f"{where}: {value[:60]!r} in {name} ({header}) is not a number: {remedy}")
