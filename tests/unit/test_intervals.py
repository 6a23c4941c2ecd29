"""Conformal intervals: their quantiles by hand, that they hold under a drift, and that they know no outcome too early."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.intervals import (
    LEVELS,
    RATE_PER_HOUR,
    ConformalIntervals,
    calibrate_intervals,
    coverage_of,
    expected_error,
    kept_ranks,
    month_and_hour,
    rows_by_season,
    walk_through,
)
from tasks.metrics import ScoreError

START = np.datetime64("2010-01-01T00:00:00", "s")
HOUR = np.timedelta64(3600, "s")
DAY_S = 86_400


def hours(count: int, *, start: np.datetime64 = START, step_s: int = 3600) -> Any:
    return start + np.arange(count) * np.timedelta64(step_s, "s")


def calibrated(errors: Any, *, delay_s: int = 3600, **options: Any) -> ConformalIntervals:
    """Intervals from errors of forecasts of 0, one an hour, that all cells share."""
    truth = np.asarray(errors, dtype=float)
    options = {"levels": (80,), "is_scaled": False, "rate_per_hour": 0.0} | options
    return calibrate_intervals(np.zeros(len(truth)), target_time=hours(len(truth)), truth=truth, delay_s=delay_s, **options)


# --- calibration


@pytest.mark.parametrize(
    ("rows", "level", "rank"),
    [(9, 80, 8), (4, 80, 4), (19, 95, 19), (9, 50, 5), (10, 80, 9), (1, 50, 1), (3, 80, 3), (3, 95, 3)],
)
def test_the_half_width_is_the_error_of_the_conformal_rank(rows: int, level: int, rank: int) -> None:
    # ceil((rows + 1) level / 100); with 3 rows that would be the 4th, and the largest is taken.
    errors = np.arange(1, rows + 1) * np.where(np.arange(rows) % 2, 1.0, -1.0)
    intervals = calibrated(errors[::-1], levels=(level,))
    lower, upper = intervals.bounds([10.0], hours(1))[level]
    assert (lower.dtype, upper.dtype) == (np.float32, np.float32)
    assert upper[0] == pytest.approx(10 + rank)
    assert lower[0] == pytest.approx(10 - rank)


def test_many_scores_are_kept_as_some_hundred_whose_largest_is_the_largest() -> None:
    ranks = kept_ranks(100_000)
    assert (ranks[0], ranks[-1]) == (1, 100_000)
    assert 400 < len(ranks) <= 500
    assert (np.diff(ranks) > 0).all()
    assert kept_ranks(7).tolist() == [1, 2, 3, 4, 5, 6, 7]
    errors = np.random.default_rng(0).normal(size=100_000)
    intervals = calibrated(errors, levels=(80, 95))
    assert len(json.dumps(intervals.as_json())) < 30_000
    for level, (_, upper) in intervals.bounds([0.0], hours(1)).items():
        # Normal errors: 1.2816 and 1.9600 standard deviations.
        assert upper[0] == pytest.approx(np.sort(np.abs(errors))[int(np.ceil(100_001 * level / 100)) - 1], abs=0.005)


def test_a_cell_expects_the_mean_error_of_its_own_and_of_neighbouring_rows() -> None:
    stamps = hours(24 * 365)
    month, hour = month_and_hour(stamps)
    assert (month[0], hour[0], month[-1], hour[-1]) == (0, 0, 11, 23)
    assert expected_error(np.full(len(stamps), 2.0), target_time=stamps) == pytest.approx(np.full((12, 24), 2.0))
    by_hour = expected_error(np.where(hour < 12, 1.0, 3.0), target_time=stamps)
    # At 5 and at 17 o'clock every hour within 6 errs the same, that is 4 spreads, which hold all of the weight. The mean, 2,
    # weighs 0.05 beside each cell's 1.
    assert by_hour[:, 5] == pytest.approx(np.full(12, 1.1 / 1.05), abs=0.005)
    assert by_hour[:, 17] == pytest.approx(np.full(12, 3.1 / 1.05), abs=0.005)
    # Midnight lies between 23 and 1 as noon between 11 and 13: the circle of the day is closed.
    assert by_hour[0, 0] == pytest.approx(by_hour[0, 11], abs=0.01)


def test_a_month_without_rows_takes_what_its_neighbours_and_the_mean_say() -> None:
    stamps = hours(24 * 59)  # January and February
    scale = expected_error(np.where(month_and_hour(stamps)[0] == 0, 1.0, 3.0), target_time=stamps)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    # The hours are alike, and the errors of all cells lie between those of the two months.
    assert scale == pytest.approx(np.repeat(scale[:, :1], 24, axis=1))
    assert ((scale > 1) & (scale < 3)).all()
    # December lies beside January, whose errors are small, and March beside February.
    assert scale[11, 0] < scale[0, 0] < scale[1, 0] < scale[2, 0]


def test_forecasts_without_error_have_intervals_without_width() -> None:
    intervals = calibrated(np.zeros(20), is_scaled=True)
    lower, upper = intervals.bounds([1.5], hours(1))[80]
    assert lower[0] == upper[0] == 1.5


# --- adaptation


def test_a_miss_widens_and_a_hit_narrows_by_the_rate_and_the_hours() -> None:
    intervals = calibrated(np.arange(1, 10), rate_per_hour=0.05)
    after = intervals.last_outcome_s
    stamps = np.array([after + 3600, after + 7200]).astype("datetime64[s]")
    # 0.2 nominal, of which 0.4 is the standard deviation of a miss: a miss takes 0.05 * 0.4 * 0.8, a hit gives 0.05 * 0.4 * 0.2,
    # for each hour since the outcome before.
    assert intervals.adapted([0.0], stamps[:1], [99.0]).miscoverage[80] == pytest.approx(0.2 - 0.016)
    assert intervals.adapted([0.0], stamps[:1], [0.0]).miscoverage[80] == pytest.approx(0.2 + 0.004)
    assert intervals.adapted([0.0, 0.0], stamps, [99.0, 0.0]).miscoverage[80] == pytest.approx(0.2 - 0.016 + 0.004)
    # Six outcomes an hour count a sixth each; one that comes after a week counts 3 hours.
    ten_minutes = (after + 600 * np.arange(1, 7)).astype("datetime64[s]")
    assert intervals.adapted(np.zeros(6), ten_minutes, np.zeros(6)).miscoverage[80] == pytest.approx(0.2 + 0.004)
    week = np.array([after + 7 * DAY_S]).astype("datetime64[s]")
    assert intervals.adapted([0.0], week, [0.0]).miscoverage[80] == pytest.approx(0.2 + 3 * 0.004)


def test_misses_without_end_leave_the_largest_error_that_was_seen() -> None:
    intervals = calibrated(np.arange(1, 10), rate_per_hour=0.25)
    stamps = hours(500, start=hours(10)[-1])
    adapted = intervals.adapted(np.zeros(500), stamps, np.full(500, 99.0))
    assert adapted.miscoverage[80] == 0.0
    assert adapted.bounds([0.0], stamps[:1])[80][1][0] == pytest.approx(9.0)
    # Hits bring it back at once: nothing has piled up.
    again = adapted.adapted(np.zeros(30), hours(30, start=stamps[-1] + HOUR), np.zeros(30))
    assert again.miscoverage[80] == pytest.approx(30 * 0.25 * 0.4 * 0.2)


def test_outcomes_that_were_used_and_those_that_are_missing_change_nothing() -> None:
    intervals = calibrated(np.arange(1, 10), rate_per_hour=0.05)
    stamps = hours(5, start=hours(10)[-1])
    truth = np.array([99.0, np.nan, 0.0, 99.0, 0.0])
    once = intervals.adapted(np.zeros(5), stamps, truth)
    assert once.adapted(np.zeros(5), stamps, truth) == once
    known = np.array([0, 2, 3, 4])
    assert intervals.adapted(np.zeros(4), stamps[known], truth[known]) == once
    assert intervals.adapted(np.zeros(1), stamps[:1], [np.nan]) == intervals
    shuffled = np.array([3, 0, 4, 2])
    assert intervals.adapted(np.zeros(4), stamps[shuffled], truth[shuffled]) == once


def test_issued_bounds_are_judged_as_they_were_issued() -> None:
    intervals = calibrated(np.arange(1, 10), rate_per_hour=0.05)
    stamps = hours(3, start=hours(10)[-1])
    # Its own half width is 8. The issued ones were narrower, and the last forecast had none.
    issued = {80: ([-1.0, -1.0, np.nan], [1.0, 1.0, np.nan])}
    adapted = intervals.adapted(np.zeros(3), stamps, [2.0, 0.5, 0.0], bounds=issued)
    assert adapted.miscoverage[80] == pytest.approx(0.2 - 0.016 + 0.004)


def test_the_walk_ends_where_the_adaptation_ends_and_issues_what_bounds_say() -> None:
    rng = np.random.default_rng(1)
    intervals = calibrated(rng.normal(size=200), levels=LEVELS, rate_per_hour=0.04, is_scaled=True, delay_s=DAY_S)
    stamps = hours(300, start=hours(201)[-1])
    prediction, truth = rng.normal(size=300), 2 * rng.normal(size=300)
    bounds, end = walk_through(intervals, prediction, target_time=stamps, truth=truth)
    assert end == intervals.adapted(prediction, stamps, truth)
    assert end.last_outcome_s == int(stamps[-1].astype(int))
    # The last row was issued when the outcomes up to a day before were known.
    known = stamps <= stamps[-1] - np.timedelta64(DAY_S, "s")
    state = intervals.adapted(prediction[known], stamps[known], truth[known])
    for level in LEVELS:
        expected = state.bounds(prediction[-1:], stamps[-1:])[level]
        assert (bounds[level][0][-1], bounds[level][1][-1]) == (expected[0][0], expected[1][0])


def test_plain_intervals_fail_under_a_drift_and_adapted_ones_hold() -> None:
    rng = np.random.default_rng(2)
    validation = rng.normal(size=24 * 200)
    # Errors grow to twice what validation saw, then shrink to a half.
    spread = np.concatenate([np.linspace(1, 2, 24 * 200), np.linspace(2, 0.5, 24 * 200)])
    truth = spread * rng.normal(size=len(spread))
    stamps = hours(len(truth), start=hours(len(validation) + 1)[-1])
    plain = calibrated(validation, levels=LEVELS)
    adaptive = calibrated(validation, levels=LEVELS, rate_per_hour=RATE_PER_HOUR, delay_s=DAY_S)
    bounds, _ = walk_through(adaptive, np.zeros(len(truth)), target_time=stamps, truth=truth)
    for level in LEVELS:
        fixed = coverage_of(*plain.bounds(np.zeros(len(truth)), stamps)[level], truth=truth)
        held = coverage_of(*bounds[level], truth=truth)
        assert fixed.share < level / 100 - 0.05
        assert abs(held.share - level / 100) < 0.02


@hypothesis_settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 60),
    delay_rows=st.integers(1, 30),
    as_of=st.integers(0, 60),
    rate=st.sampled_from([0.0, 0.04, 0.5]),
)
def test_no_truth_after_an_as_of_changes_a_bound_issued_by_then(
    seed: int, rows: int, delay_rows: int, as_of: int, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    delay_s = 3600 * delay_rows
    intervals = calibrated(rng.normal(size=30), levels=LEVELS, rate_per_hour=rate, delay_s=delay_s, is_scaled=True)
    stamps = hours(rows, start=hours(31)[-1])
    prediction, truth = rng.normal(size=rows), 3 * rng.normal(size=rows)
    now = stamps[0] + (as_of - delay_rows) * HOUR
    other = np.where(stamps > now, 50.0, truth)
    bounds, _ = walk_through(intervals, prediction, target_time=stamps, truth=truth)
    changed, _ = walk_through(intervals, prediction, target_time=stamps, truth=other)
    issued_by_then = stamps - np.timedelta64(delay_s, "s") <= now
    for level in LEVELS:
        for side in (0, 1):
            np.testing.assert_array_equal(bounds[level][side][issued_by_then], changed[level][side][issued_by_then])


@hypothesis_settings(max_examples=50)
@given(
    errors=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    prediction=st.floats(-50, 50, width=32),
)
def test_higher_levels_contain_lower_ones_and_json_keeps_all(
    errors: list[float], shares: tuple[float, float], prediction: float
) -> None:
    intervals = replace(calibrated(errors, levels=LEVELS, is_scaled=True), miscoverage=dict(zip(LEVELS, shares, strict=True)))
    bounds = intervals.bounds([prediction], hours(1))
    assert bounds[95][0] <= bounds[80][0] <= np.float32(prediction) <= bounds[80][1] <= bounds[95][1]
    assert ConformalIntervals.from_json(json.loads(json.dumps(intervals.as_json()))) == intervals
    # A smaller miscoverage never makes an interval narrower.
    wider = replace(intervals, miscoverage={level: share / 2 for level, share in intervals.miscoverage.items()})
    for level, (lower, upper) in wider.bounds([prediction], hours(1)).items():
        assert lower <= bounds[level][0]
        assert bounds[level][1] <= upper


# --- what is counted


def test_coverage_counts_the_bounds_as_within() -> None:
    coverage = coverage_of([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0], truth=[1.0, 2.5, 0.0, -0.1])
    assert (coverage.rows, coverage.share, coverage.width) == (4, 0.5, 2.5)
    with pytest.raises(ScoreError, match="upper has 1 rows, expected 2"):
        coverage_of([0.0, 0.0], [1.0], truth=[0.5, 0.5])


def test_december_belongs_to_the_winter() -> None:
    stamps = np.array(["2010-12-31T23:50", "2011-02-28T00:00", "2011-03-01T00:00", "2011-11-30T12:00"], dtype="datetime64[s]")
    assert {name: rows.tolist() for name, rows in rows_by_season(stamps).items()} == {
        "DJF": [True, True, False, False],
        "MAM": [False, False, True, False],
        "SON": [False, False, False, True],
    }
