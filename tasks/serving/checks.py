"""What a request must hold before it is predicted. A refusal says where the fault is and repeats no text and no reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException

from tasks.config import ServeSettings
from tasks.models.forecast import WindowTask

INVALID, TOO_LARGE, WRONG_MEDIA, BUSY = 422, 413, 415, 503


class RequestError(HTTPException):
    """A request that is refused.

    Attributes:
        status_code: Status of the answer.
        code: What programs read.
        detail: What is wrong, what was expected, and the remedy.
        details: Each fault with its place.
    """

    def __init__(self, code: str, message: str, *, status: int = INVALID, details: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(status_code=status, detail=message)
        self.code, self.details = code, details


def checked_texts(texts: Sequence[str], *, settings: ServeSettings) -> Sequence[str]:
    """Return texts that can be classified.

    Raises:
        RequestError: There are too many, or one is empty, too long, or no text.
    """
    _refuse_many(len(texts), settings=settings, what="texts")
    for place, text in enumerate(texts):
        if not text.strip():
            raise RequestError("empty_text", f"texts[{place}] is empty: send a text with at least one word")
        if len(text) > settings.max_text_characters:
            raise RequestError(
                "text_too_long",
                f"texts[{place}] has {len(text):,} characters, {settings.max_text_characters:,} are taken: send a part of it",
            )
        if "\x00" in text:
            raise RequestError("no_text", f"texts[{place}] holds binary data, and no text: send text in UTF-8")
    return texts


def checked_windows(
    windows: npt.NDArray[Any], *, columns: Sequence[str] | None, task: WindowTask, settings: ServeSettings
) -> list[npt.NDArray[np.float32]]:
    """Return windows float32 `(lookback_rows, columns)` in the order of the task's columns.

    Args:
        windows: Numbers as they were sent.
        columns: Order of the columns that were sent; None: that of the task.
        task: What a window is.
        settings: Limits.

    Raises:
        RequestError: There are too many, their shape is another, a column is missing, or a reading is not finite.
    """
    expected = (task.lookback_rows, len(task.columns))
    if windows.ndim != 3 or windows.shape[1:] != expected:
        raise RequestError(
            "wrong_shape",
            f"windows have the shape {list(windows.shape)}, expected [windows, {expected[0]}, {expected[1]}]: "
            "consecutive rows of the columns that /version names",
        )
    _refuse_many(len(windows), settings=settings, what="windows")
    ordered = windows if columns is None else windows[:, :, _column_order(columns, task=task)]
    with np.errstate(over="ignore"):  # a number that 32 bits cannot hold becomes infinite, and is refused
        readings = ordered.astype(np.float32)
    if not np.isfinite(readings).all():
        window, row, column = (int(place) for place in np.argwhere(~np.isfinite(readings))[0])
        raise RequestError(
            "not_finite",
            f"windows[{window}], row {row}, column {task.columns[column]} is no finite number: fill what is missing before",
        )
    return list(readings)


def checked_stamps(stamps: Sequence[datetime] | None, *, windows: int) -> npt.NDArray[np.datetime64] | None:
    """Return the stamps of the last readings, datetime64[s].

    Raises:
        RequestError: There are more or fewer than windows, or one has a time zone.
    """
    if stamps is None:
        return None
    if len(stamps) != windows:
        raise RequestError("wrong_stamps", f"there are {len(stamps)} last_timestamps and {windows} windows: send one a window")
    for place, stamp in enumerate(stamps):
        if stamp.tzinfo is not None:
            raise RequestError(
                "wrong_stamps", f"last_timestamps[{place}] has a time zone: leave it out, the clock is that of the series"
            )
    return np.array(stamps, dtype="datetime64[s]")


def _column_order(columns: Sequence[str], *, task: WindowTask) -> list[int]:
    if sorted(columns) != sorted(task.columns):
        missing = ", ".join(sorted(set(task.columns) - set(columns))) or "none"
        raise RequestError(
            "wrong_columns",
            f"columns has {len(columns)} names, of which {len(set(columns) & set(task.columns))} are known; missing: {missing}. "
            f"Name each once: {', '.join(task.columns)}",
        )
    return [columns.index(name) for name in task.columns]


def _refuse_many(rows: int, *, settings: ServeSettings, what: str) -> None:
    if rows > settings.max_rows:
        raise RequestError(
            "too_many_rows",
            f"there are {rows:,} {what}, {settings.max_rows:,} are taken at once: send several requests",
            status=TOO_LARGE,
        )
