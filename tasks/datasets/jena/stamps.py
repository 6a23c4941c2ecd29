"""Time stamps of text files: from text in one form to seconds on the station's clock, and refused where they are not certain."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import DataError
from tasks.datasets.jena.layout import AUTO
from tasks.datasets.jena.physics import TIMESTAMP

Seconds = npt.NDArray[np.int64]
Parts = dict[str, npt.NDArray[np.int32]]
Place = Callable[[int], str]

_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_WORDS = {"%Y": "yyyy", "%m": "mm", "%d": "dd", "%H": "HH", "%M": "MM", "%S": "SS"}
_EXAMPLE = datetime(2009, 1, 1, 0, 10)  # noqa: DTZ001 (the station's clock has no zone)
_TIMES = tuple(f"{mark}{time}" for mark in (" ", "T") for time in ("%H:%M:%S", "%H:%M"))


@dataclass(frozen=True)
class StampFormat:
    """The form of a stamp, in directives of strptime."""

    text: str

    @property
    def in_words(self) -> str:
        """The form as people write it, such as `dd.mm.yyyy HH:MM:SS`."""
        return re.sub(r"%[A-Za-z]", lambda directive: _WORDS[directive[0]], self.text)

    @property
    def example(self) -> str:
        """A stamp in this form."""
        return _EXAMPLE.strftime(self.text)

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Directives and single letters between them, in order."""
        return tuple(re.findall(r"%[A-Za-z]|.", self.text))

    @cached_property
    def pattern(self) -> str:
        """A regular expression with a group for each directive; leading zeros may be left out where marks stand between."""
        is_packed = any(left[0] == right[0] == "%" for left, right in pairwise(self.pieces))
        parts = []
        for piece in self.pieces:
            if piece[0] == "%":
                digits = _DIGITS[piece[1]]
                parts.append(f"(?P<{piece[1]}>[0-9]{{{digits if is_packed or digits == 4 else '1,2'}}})")
            else:
                parts.append(re.escape(piece))
        return f"^{''.join(parts)}$"

    def matches(self, stamp: str) -> bool:
        """Tell whether a stamp has this form; whether it exists is another question."""
        return re.fullmatch(self.pattern[1:-1], stamp) is not None


def checked_format(text: str) -> str:
    """Return a format that says a moment: each of `%Y %m %d %H %M` once, `%S` at most once, and nothing else with a `%`.

    Raises:
        ValueError: It does not.
    """
    directives = re.findall(r"%.?", text)
    unknown = [directive for directive in directives if directive not in _WORDS]
    needed = [directive for directive in _WORDS if directive != "%S"]
    if unknown or len(set(directives)) < len(directives) or not set(needed) <= set(directives):
        raise ValueError(f"{text!r}: expected {' '.join(needed)} once each, and %S if there are seconds, such as %d.%m.%Y %H:%M")
    return text


# Dots are the German form, in which the day comes first; a year in front is ISO's. Slashes and dashes are written both ways.
_CERTAIN = tuple(StampFormat(day + time) for day in ("%d.%m.%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d") for time in _TIMES)
_EITHER = tuple(
    (StampFormat(f"%d{mark}%m{mark}%Y{time}"), StampFormat(f"%m{mark}%d{mark}%Y{time}")) for mark in "/-" for time in _TIMES
)
STATION_FORMAT = _CERTAIN[0]


def seconds_of(stamps: pa.Array, *, stamp_format: str, header: str, place: Place) -> Seconds:
    """Return seconds since 1970 of stamps that all have one form; strict, where Arrow's own parser takes 31.02. for 03.03.

    Args:
        stamps: Binary, at least one.
        stamp_format: Directives of strptime, or `auto`.
        header: Name of the column in the file.
        place: File and line of a row, for messages.

    Raises:
        DataError: A stamp has another form, does not exist, or could be read in two ways.
    """
    column = _Stamps(stamps, header=header, place=place)
    if stamp_format != AUTO:
        return column.seconds(StampFormat(stamp_format))
    first = column.text(0)
    for certain in _CERTAIN:
        if certain.matches(first):
            return column.seconds(certain)
    for day_first, month_first in _EITHER:
        if day_first.matches(first):
            return column.seconds_of_either(day_first, month_first)
    raise column.error(
        0,
        expected=f"expected {STATION_FORMAT.in_words} such as {STATION_FORMAT.example}, or ISO 8601 without a zone such as "
        f"{_EXAMPLE.isoformat(' ')}: correct the file, or set --stamp-format",
    )


@dataclass(frozen=True)
class _Stamps:
    """A column of stamps, with what messages need."""

    cells: pa.Array
    header: str
    place: Place

    def text(self, row: int) -> str:
        return (self.cells[row].as_py() or b"").decode("utf-8", "replace").strip(' \t"')

    def error(self, row: int, *, expected: str) -> DataError:
        return DataError(f"{self.place(row)}: {self.text(row)[:60]!r} in {TIMESTAMP} ({self.header}), {expected}")

    def seconds(self, form: StampFormat) -> Seconds:
        seconds, exists = _epoch_seconds(self._parts(form))
        if not exists.all():
            raise self.error(
                int(np.argmin(exists)), expected=f"which does not exist as {form.in_words}: correct this row upstream"
            )
        return seconds

    def seconds_of_either(self, day_first: StampFormat, month_first: StampFormat) -> Seconds:
        """Return the seconds of the one order in which every stamp exists."""
        seconds, exists = _epoch_seconds(self._parts(day_first))
        seconds_month_first, exists_month_first = _epoch_seconds(self._parts(month_first))
        if exists.all() and exists_month_first.all():
            is_either = seconds != seconds_month_first
            if is_either.any():
                raise self.error(
                    int(np.argmax(is_either)),
                    expected=f"which could be {day_first.in_words} or {month_first.in_words}: set --stamp-format to "
                    f"{day_first.text} or {month_first.text}",
                )
        if exists.all():
            return seconds
        if exists_month_first.all():
            return seconds_month_first
        row = max(int(np.argmin(exists)), int(np.argmin(exists_month_first)))
        raise self.error(
            row,
            expected=f"which with the rows before is neither {day_first.in_words} nor {month_first.in_words}: write all "
            "stamps in one form",
        )

    def _parts(self, form: StampFormat) -> Parts:
        parts = _fixed_width_parts(self.cells, form=form)
        return self._variable_width_parts(form) if parts is None else parts

    def _variable_width_parts(self, form: StampFormat) -> Parts:
        """Return the numbers of stamps whose leading zeros are left out, or around which there are blanks."""
        text = pc.cast(self.cells, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
        text = pc.ascii_trim(text, characters=' \t"')
        fields = pc.extract_regex(text, form.pattern)
        if fields.null_count:
            row = int(np.argmax(np.asarray(fields.is_null())))
            raise self._form_error(row, form=form)
        parts: Parts = {}
        for name in re.findall("%([A-Za-z])", form.text):
            digits = pc.struct_field(fields, name)
            # Whoever leaves out leading zeros leaves them out everywhere.
            is_short = np.asarray(pc.equal(pc.binary_length(digits), 1))
            is_padded = np.asarray(pc.starts_with(digits, "0")) & ~is_short
            if name != "Y" and is_short.any() and is_padded.any():
                raise self._form_error(max(int(np.argmax(is_short)), int(np.argmax(is_padded))), form=form)
            parts[name] = np.asarray(pc.cast(digits, pa.int32()))
        return parts

    def _form_error(self, row: int, *, form: StampFormat) -> DataError:
        like_first = " as in the first row" if row else ""
        return self.error(
            row, expected=f"expected {form.in_words} such as {form.example}{like_first}: correct the file, or set --stamp-format"
        )


def _fixed_width_parts(cells: pa.Array, *, form: StampFormat) -> Parts | None:
    """Return the numbers of stamps that all have their leading zeros, or None if one has not."""
    widths = [_DIGITS[piece[1]] if piece[0] == "%" else len(piece.encode()) for piece in form.pieces]
    width = sum(widths)
    if cells.null_count:
        return None
    _, offset_buffer, value_buffer = cells.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[cells.offset : cells.offset + len(cells) + 1]
    if offsets[-1] - offsets[0] != width * len(cells) or (np.diff(offsets) != width).any():
        return None
    # All have the same length, so they lie side by side in one buffer; a letter's column is read much faster in one piece.
    raw = np.frombuffer(value_buffer, dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width)
    letters = np.ascontiguousarray(raw.T)
    parts: Parts = {}
    start = 0
    for piece, piece_width in zip(form.pieces, widths, strict=True):
        block = letters[start : start + piece_width]
        start += piece_width
        if piece[0] != "%":
            if (block != np.frombuffer(piece.encode(), dtype=np.uint8)[:, None]).any():
                return None
            continue
        digits = block - np.uint8(ord("0"))
        if digits.max() > 9:
            return None
        number = digits[0].astype(np.int32)
        for digit in digits[1:]:
            number *= 10
            number += digit
        parts[piece[1]] = number
    return parts


def _epoch_seconds(parts: Mapping[str, npt.NDArray[np.int32]]) -> tuple[Seconds, npt.NDArray[np.bool_]]:
    """Return seconds since 1970, and which stamps exist (the seconds of the others mean nothing)."""
    month, day, hour, minute = (parts[name] for name in "mdHM")
    second = parts.get("S", np.zeros_like(minute))
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    months = parts["Y"] * 12 + month
    first = int(months.min())
    starts = (np.arange(first, int(months.max()) + 2) - 1 - 1970 * 12).astype("datetime64[M]").astype("datetime64[D]")
    start_days = starts.astype(np.int64)
    exists &= day <= np.diff(start_days)[months - first]
    seconds = start_days[months - first] + (day - 1)
    seconds *= 86_400
    seconds += hour * 3600 + minute * 60 + second
    return seconds, exists
