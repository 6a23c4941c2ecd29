"""What sound readings never do, on series small enough to say the numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets.series_plausibility import (
    frozen_hours,
    is_of_repeated_span,
    months_of,
    of_month,
    range_of_day,
    repeated_hours_of_day,
    season_excess,
    share_of_month_present,
    spike,
    step_from_row_before,
    straight_hours,
)

TEN_MINUTES, HOUR = 600, 3_600


def seconds(start: str, rows: int, *, row_seconds: int = TEN_MINUTES) -> np.ndarray:
    return np.datetime64(start, "s").astype(np.int64) + np.arange(rows) * row_seconds


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_columns_are_frozen_while_all_of_them_stay() -> None:
    one = floats(1, *[2] * 8, 3)
    other = floats(1, 1, *[5] * 7, 5)
    # Both stay from the third to the ninth row: seven rows, 70 minutes.
    assert frozen_hours([one, other], row_seconds=TEN_MINUTES) == pytest.approx([0, 0, *[7 / 6] * 7, 0])
    assert frozen_hours([one[:0], other[:0]], row_seconds=TEN_MINUTES).tolist() == []


def test_rows_that_repeat_the_row_before_count_for_their_day() -> None:
    stamps = seconds("2020-05-01T23:00:00", 12)
    values = floats(1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 8)
    hours = repeated_hours_of_day([values], seconds=stamps, row_seconds=TEN_MINUTES)
    assert hours == pytest.approx([0.5] * 6 + [1 / 6] * 6)


def test_steps_and_spikes_end_at_gaps() -> None:
    stamps = np.array([0, 600, 1200, 3000, 3600, 4200])
    values = floats(1, 4, 2, 9, 3, 3.5)
    assert step_from_row_before(values, seconds=stamps, row_seconds=TEN_MINUTES).tolist() == [0, 3, 2, 0, 6, 0.5]
    # The second stands out by two of its neighbours' three and two; the fifth below nine and 3.5 by half a degree.
    assert spike(values, seconds=stamps, row_seconds=TEN_MINUTES).tolist() == [0, 2, 0, 0, 0.5, 0]
    for function in (step_from_row_before, spike):
        for rows in (0, 1, 2):
            assert len(function(values[:rows], seconds=stamps[:rows], row_seconds=TEN_MINUTES)) == rows


def test_a_span_that_comes_again_is_found_wherever_it_begins() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 200)).astype(np.float32)
    flags = is_of_repeated_span([one, other], span_rows=10)
    assert not flags.any()
    one[150:165], other[150:165] = one[23:38], other[23:38]
    flags = is_of_repeated_span([one, other], span_rows=10)
    assert np.flatnonzero(flags).tolist() == [*range(23, 38), *range(150, 165)]
    other[150:165:9] += 1  # of the copy no ten rows in a row are left as they were
    assert not is_of_repeated_span([one, other], span_rows=10).any()
    assert is_of_repeated_span([one[:5]], span_rows=10).tolist() == [0] * 5


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(2, 5))
def test_repeated_spans_are_those_of_comparing_all(numbers: list[int], span_rows: int) -> None:
    spans = [tuple(numbers[row : row + span_rows]) for row in range(len(numbers) - span_rows + 1)]
    expected = [0] * len(numbers)
    for row, span in enumerate(spans):
        if spans.count(span) > 1:
            expected[row : row + span_rows] = [1] * span_rows
    if len(numbers) > span_rows:
        assert is_of_repeated_span([np.array(numbers, dtype=np.float32)], span_rows=span_rows).tolist() == expected


def test_columns_that_follow_lines_together() -> None:
    stamps = seconds("2020-05-01T00:10:00", 20)
    line, other = np.arange(20, dtype=np.float32) / 10, np.arange(20, dtype=np.float32) / 7
    bent = line.copy()
    bent[10:] += 1  # kinks at the rows 9 and 10
    hours = straight_hours([line, bent], seconds=stamps, row_seconds=TEN_MINUTES, rounding=0.01)
    # Rows 0 to 9 lie on a line, and rows 10 to 19; the first row of each is not counted.
    assert hours == pytest.approx([0, *[9 / 6] * 9, 0, *[9 / 6] * 9])
    whole = straight_hours([line, np.round(other, 2)], seconds=stamps, row_seconds=TEN_MINUTES, rounding=0.01)
    assert whole.max() == pytest.approx(19 / 6)
    gap = stamps.copy()
    gap[10:] += TEN_MINUTES
    assert straight_hours([line], seconds=gap, row_seconds=TEN_MINUTES, rounding=0.01).max() < 10 / 6
    assert straight_hours([line[:1]], seconds=stamps[:1], row_seconds=TEN_MINUTES, rounding=0.01).tolist() == [0]


def test_midnight_ends_the_last_row_of_a_month() -> None:
    stamps = seconds("2020-01-31T23:50:00", 3)
    assert (months_of(stamps) - 12 * 50).tolist() == [0, 0, 1]


def test_a_number_of_a_month_stands_in_its_rows() -> None:
    stamps = seconds("2020-01-31T22:00:00", 5, row_seconds=HOUR)
    values = floats(1, 2, 3, 10, 20)
    assert of_month(values, seconds=stamps, min_rows=2, reduce=np.mean).tolist() == [2, 2, 2, 15, 15]
    few = of_month(values, seconds=stamps, min_rows=3, reduce=np.mean)
    assert few.tolist()[:3] == [2, 2, 2]
    assert np.isnan(few[3:]).all()
    assert of_month(values[:0], seconds=stamps[:0], min_rows=1, reduce=np.mean).tolist() == []


def test_the_range_of_a_whole_day() -> None:
    stamps = seconds("2020-01-01T00:00:00", 30, row_seconds=HOUR)
    values = np.arange(30, dtype=np.float32)
    ranges = range_of_day(values, seconds=stamps, row_seconds=HOUR)
    assert ranges.tolist()[:24] == [23] * 24
    assert np.isnan(ranges[24:]).all()


def test_what_is_there_of_a_month() -> None:
    stamps = seconds("2020-01-15T01:00:00", 24 * 80, row_seconds=HOUR)
    kept = stamps[(months_of(stamps) != 12 * 50 + 1) | (stamps // 86_400 % 2 == 0)]
    shares = share_of_month_present(kept, row_seconds=HOUR)
    months = months_of(kept) - 12 * 50
    # February 2020 has 29 days, of which about every second is there; January and April are in part.
    assert set(shares[months == 0]) == set(shares[months == 3]) == {1.0}
    assert shares[months == 1].max() == pytest.approx(0.5, abs=0.05)
    assert shares[months == 2] == pytest.approx(1)


def test_how_far_a_month_is_from_its_season() -> None:
    stamps = seconds("2021-01-01T01:00:00", 24 * 365, row_seconds=HOUR)
    days = (stamps - stamps[0] + HOUR) / 86_400
    season = (10 + 8 * np.cos(2 * np.pi * (days - 200) / 365.25)).astype(np.float32)
    settings = {"mean": 10, "amplitude": 8, "warmest_day": 200.0, "min_rows": 24 * 20}
    assert season_excess(season, seconds=stamps, **settings) == pytest.approx(0, abs=0.01)
    assert season_excess(season + 3, seconds=stamps, **settings) == pytest.approx(3, abs=0.01)
    assert np.isnan(season_excess(season[: 24 * 10], seconds=stamps[: 24 * 10], **settings)).all()
