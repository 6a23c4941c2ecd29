"""What a request must hold, and that a refusal repeats nothing of what was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.config import ServeSettings
from tasks.models.forecast import WindowTask
from tasks.serving.checks import RequestError, checked_stamps, checked_texts, checked_windows
from tasks.serving.schemas import WindowsRequest

SETTINGS = ServeSettings(max_rows=3, max_text_characters=10)
TASK = WindowTask(columns=("t_degc", "p_mbar"), target="t_degc", lookback_rows=3, step_rows=1, horizon_rows=1)
WINDOW = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]


def refusal(function: Any, *arguments: Any, **options: Any) -> tuple[int, str, str]:
    with pytest.raises(RequestError) as caught:
        function(*arguments, **options)
    return caught.value.status_code, caught.value.code, caught.value.detail


def test_texts_are_taken_as_they_are() -> None:
    assert checked_texts(["good", "für 日本"], settings=SETTINGS) == ["good", "für 日本"]


@pytest.mark.parametrize(
    ("texts", "status", "code", "message"),
    [
        (["good", " \n\u00a0"], 422, "empty_text", "texts[1] is empty: send a text with at least one word"),
        (["secretword" + "x"], 422, "text_too_long", "texts[0] has 11 characters, 10 are taken: send a part of it"),
        (["a\x00b"], 422, "no_text", "texts[0] holds binary data, and no text: send text in UTF-8"),
        (["a"] * 4, 413, "too_many_rows", "there are 4 texts, 3 are taken at once: send several requests"),
    ],
)
def test_texts_that_are_refused(texts: list[str], status: int, code: str, message: str) -> None:
    assert refusal(checked_texts, texts, settings=SETTINGS) == (status, code, message)


def test_windows_come_in_the_order_of_the_task() -> None:
    own = checked_windows(np.array([WINDOW]), columns=None, task=TASK, settings=SETTINGS)
    assert [window.tolist() for window in own] == [WINDOW]
    assert own[0].dtype == np.float32
    swapped = np.array([WINDOW])[:, :, ::-1]
    named = checked_windows(swapped, columns=["p_mbar", "t_degc"], task=TASK, settings=SETTINGS)
    assert [window.tolist() for window in named] == [WINDOW]


@pytest.mark.parametrize(
    ("windows", "columns", "code", "message"),
    [
        (
            [WINDOW[:2]],
            None,
            "wrong_shape",
            "have the shape [1, 2, 2], expected [windows, 3, 2]: consecutive rows of the columns",
        ),
        (WINDOW, None, "wrong_shape", "have the shape [3, 2]"),
        ([WINDOW] * 4, None, "too_many_rows", "there are 4 windows, 3 are taken"),
        ([WINDOW], ["t_degc", "secret"], "wrong_columns", "columns has 2 names, of which 1 are known; missing: p_mbar."),
        ([WINDOW], ["t_degc", "t_degc"], "wrong_columns", "missing: p_mbar"),
        ([WINDOW, [[1, 2], [1, np.nan], [1, 2]]], None, "not_finite", "windows[1], row 1, column p_mbar is no finite number"),
        ([[[1, 2], [1, 2], [1e300, 2]]], None, "not_finite", "windows[0], row 2, column t_degc is no finite number"),
    ],
)
def test_windows_that_are_refused(windows: list[Any], columns: list[str] | None, code: str, message: str) -> None:
    _, found, told = refusal(checked_windows, np.array(windows), columns=columns, task=TASK, settings=SETTINGS)
    assert found == code
    assert message in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([WINDOW, WINDOW[:2]], "windows differ in their number of rows or columns"),
        ([[[1.0, "warm"]]], "windows hold something that is no number"),
        ([[[1.0, None]]], "windows hold something that is no number"),
        ([[[True, False]]], "windows hold something that is no number"),
        ("windows", "windows hold something that is no number"),
        ([[[10**400, 1.0]]], "windows hold something that is no number"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(windows: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WindowsRequest(windows=windows)


def test_stamps_belong_to_windows_and_have_no_zone() -> None:
    stamps = [datetime(2026, 1, 1, 10, 0), datetime(2026, 1, 1, 10, 10)]  # noqa: DTZ001  (the clock is that of the series)
    found = checked_stamps(stamps, windows=2)
    assert found is not None
    assert found.tolist() == stamps
    assert checked_stamps(None, windows=2) is None
    assert refusal(checked_stamps, stamps, windows=3)[1:] == (
        "wrong_stamps",
        "there are 2 last_timestamps and 3 windows: send one a window",
    )
    zoned = [stamps[0], datetime(2026, 1, 1, tzinfo=UTC)]
    assert "last_timestamps[1] has a time zone" in refusal(checked_stamps, zoned, windows=2)[2]
