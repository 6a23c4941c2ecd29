"""What came of issued forecasts: joined with the readings, scored by hand, and judged beside the season and persistence."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitoring_helpers import DAY, issued_table

from tasks.config import MonitorSettings
from tasks.monitoring.performance import (
    UsualErrors,
    by_hour,
    by_season,
    error_excess,
    join_outcomes,
    low_coverage,
    rolling,
    scores,
)
from tasks.monitoring.series import late_errors

SETTINGS = MonitorSettings(min_predictions=2, error_days=7)
NOON = np.datetime64("2020-03-01T12:00:00") + np.arange(4) * DAY


def test_a_forecast_is_joined_with_the_reading_of_its_target() -> None:
    stamp, measured = NOON[[0, 1, 3]], np.array([10.0, 20.0, 40.0])
    issued = issued_table(NOON, prediction=[11, 17, 30, 45], persistence=[8, 10, 20, 30])
    outcomes = join_outcomes(issued, stamp=stamp, measured=measured)
    assert outcomes.target.tolist() == stamp.tolist()
    assert outcomes.error.tolist() == [1, -3, 5]
    assert outcomes.naive_error.tolist() == [-2, -10, -10]
    # The 80 % interval reaches 2 to both sides, that of 95 % reaches 4.
    assert {level: values.tolist() for level, values in outcomes.covered.items()} == {80: [1, 0, 0], 95: [1, 1, 0]}


def test_the_newest_version_counts_and_rows_may_come_in_any_order() -> None:
    twice = NOON[[1, 0, 1]]
    issued = issued_table(twice, prediction=[1, 2, 3], persistence=0, version=[5, 4, 4])
    outcomes = join_outcomes(issued, stamp=NOON, measured=np.zeros(4))
    assert (outcomes.error.tolist(), outcomes.version.tolist()) == ([2, 1], [4, 5])


def test_forecasts_of_two_windows_for_one_target_both_count() -> None:
    both = [issued_table(NOON[:1], prediction=value, persistence=0, horizon=value * DAY) for value in (1, 2)]
    outcomes = join_outcomes(pa.concat_tables(both), stamp=NOON, measured=np.zeros(4))
    assert sorted(outcomes.error.tolist()) == [1, 2]


def test_a_forecast_without_intervals_has_no_coverage() -> None:
    issued = issued_table(NOON, prediction=1, persistence=0, half_width=np.nan)
    outcomes = join_outcomes(issued, stamp=NOON, measured=np.zeros(4))
    assert "coverage_80" not in scores(outcomes, rows=np.ones(4, dtype=bool))


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_is_joined_with_nothing(rows: int) -> None:
    issued = issued_table(NOON[:rows], prediction=1, persistence=0)
    assert len(join_outcomes(issued, stamp=NOON[:0], measured=np.zeros(0)).target) == 0


def test_rolling_scores_by_hand() -> None:
    issued = issued_table(NOON, prediction=[1, -3, 5, 7], persistence=[2, 2, 2, -6])
    outcomes = join_outcomes(issued, stamp=NOON, measured=np.zeros(4))
    ends = [np.datetime64(f"2020-03-{day:02d}T00:00:00") for day in (2, 3, 5, 10)]
    first, second, *_ = found = rolling(outcomes, ends=ends, settings=SETTINGS)
    # The day that ends on the 2nd has one forecast, too few; the window that ends on the 10th begins after March 2nd.
    assert [np.datetime64(int(entry["day"]), "D").astype(str) for entry in found] == ["2020-03-02", "2020-03-04", "2020-03-09"]
    assert first == {
        "day": first["day"],
        "forecasts": 2,
        "mae": 2.0,
        "naive_mae": 2.0,
        "bias": -1.0,
        "coverage_80": 0.5,
        "coverage_95": 1.0,
    }
    assert (second["mae"], second["naive_mae"], second["bias"]) == (4.0, 3.0, 2.5)
    assert found[2]["forecasts"] == 2


def test_scores_by_season_and_hour() -> None:
    target = np.array(["2020-01-05T06:00:00", "2020-07-05T06:00:00", "2020-12-05T18:00:00"], dtype="datetime64[s]")
    issued = issued_table(target, prediction=[1, 2, 4], persistence=0)
    outcomes = join_outcomes(issued, stamp=target, measured=np.zeros(3))
    assert {name: values["mae"] for name, values in by_season(outcomes).items()} == {
        "December to February": 2.5,
        "June to August": 2.0,
    }
    assert {name: values["mae"] for name, values in by_hour(outcomes).items()} == {"06": 1.5, "18": 4.0}


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=30))
def test_what_is_averaged_lies_between_the_smallest_and_the_largest_error(errors: list[float]) -> None:
    target = NOON[0] + np.arange(len(errors)) * np.timedelta64(600, "s")
    outcomes = join_outcomes(issued_table(target, prediction=errors, persistence=0), stamp=target, measured=np.zeros(len(errors)))
    found = scores(outcomes, rows=np.ones(len(errors), dtype=bool))
    assert min(errors) - 1e-6 <= found["bias"] <= max(errors) + 1e-6
    assert abs(found["bias"]) - 1e-6 <= found["mae"] <= max(map(abs, errors)) + 1e-6
    assert found["coverage_80"] <= found["coverage_95"]


def test_an_error_is_too_large_beside_both_the_season_and_persistence() -> None:
    def excess(mae: float, naive_mae: float) -> float:
        return error_excess({"mae": mae, "naive_mae": naive_mae}, usual_mae=2.0, usual_naive_mae=2.5, settings=SETTINGS)[0]

    # The season leads to expect 2, a persistence of 5 leads to expect 5 x 2 / 2.5 = 4; the limit is 1.5 times the larger one.
    assert excess(3.0, 2.5) == pytest.approx(1.0)
    assert excess(3.3, 2.5) > 1
    assert excess(5.9, 5.0) < 1
    assert excess(6.1, 5.0) > 1


def test_what_is_usual_is_that_of_the_season_if_enough_of_the_test_split_is() -> None:
    target = np.datetime64("2019-01-01T00:00:00") + np.arange(365 * 24) * np.timedelta64(3600, "s")
    is_summer = np.isin(target.astype("datetime64[M]").astype(int) % 12 + 1, (5, 6, 7, 8, 9))
    usual = UsualErrors(target=target, error=np.where(is_summer, 1.0, 3.0), naive_error=np.full(len(target), 4.0))
    assert usual.usual(np.datetime64("2021-07-30T00:00:00"), days=28) == (1.0, 4.0)
    assert usual.usual(np.datetime64("2021-01-30T00:00:00"), days=28) == (3.0, 4.0)
    few = UsualErrors(target=target[:100], error=np.full(100, 7.0), naive_error=np.full(100, 8.0))
    assert few.usual(np.datetime64("2021-07-30T00:00:00"), days=28) == (7.0, 8.0)


def test_an_interval_holds_too_seldom_beyond_chance() -> None:
    def low(forecasts: int, **covered: float) -> dict[str, float]:
        return low_coverage({"forecasts": forecasts, **covered}, settings=SETTINGS)

    # Of 10,000 the gap of 0.15 counts: below 0.65 and 0.80. Of 25 four standard errors of 80 % do: 4 x 0.08 = 0.32, below 0.48.
    assert low(10_000, coverage_80=0.66, coverage_95=0.81) == {}
    assert low(10_000, coverage_80=0.64, coverage_95=0.79) == {"coverage_80": 0.64, "coverage_95": 0.79}
    assert low(25, coverage_80=0.49) == {}
    assert low(25, coverage_80=0.47) == {"coverage_80": 0.47}
    assert low(10_000) == {}


def test_late_errors_are_put_down_to_what_else_was_found() -> None:
    entry = {"day": 18_000.0, "forecasts": 500.0, "mae": 9.0, "naive_mae": 2.0, "bias": 9.0, "coverage_95": 0.1}
    usual = UsualErrors(target=NOON, error=np.full(4, 2.0), naive_error=np.full(4, 2.5))
    findings = late_errors([entry], usual=usual, others=(), settings=SETTINGS)
    assert [(finding.subject, finding.cause) for finding in findings] == [("mean absolute error", "drift"), ("coverage", "drift")]
    assert "mae 9" in findings[0].reason
    assert [finding.subject for finding in late_errors([entry], usual=None, others=(), settings=SETTINGS)] == ["coverage"]
    assert late_errors([], usual=usual, others=(), settings=SETTINGS) == []
