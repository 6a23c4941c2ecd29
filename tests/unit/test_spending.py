"""Weekly repeats on nearly the same test rows: what each may spend, and that fifty of them promote no one by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from tasks.promotion.spending import Spending, level_of_test, spend
from tasks.statistics import level_for_blocks, moving_block_bootstrap, resamples_for

# --- what a test spends


def flags(*rows: int, of: int = 10) -> np.ndarray:
    return np.isin(np.arange(of), rows)


def test_a_first_test_spends_three_over_pi_squared_of_alpha() -> None:
    assert spend(0.05, used=[]) == Spending(number=1, fresh_share=1.0, level=pytest.approx(0.05 * 3 / math.pi**2))


def test_a_second_test_on_the_same_rows_has_a_quarter_of_it() -> None:
    spent = spend(0.05, used=[flags(*range(10))])
    assert (spent.number, spent.fresh_share) == (2, 0.0)
    assert spent.level == pytest.approx(0.05 * 3 / math.pi**2 / 4)


def test_fresh_rows_pay_for_a_further_test() -> None:
    # Of ten rows the two earlier tests used seven together, so three are fresh: 0.05 / 2 * (6 / (pi² 3²) + 0.3).
    spent = spend(0.05, used=[flags(0, 1, 2, 3, 4), flags(3, 4, 5, 6)])
    assert (spent.number, spent.fresh_share) == (3, pytest.approx(0.3))
    assert spent.level == pytest.approx(0.025 * (6 / (9 * math.pi**2) + 0.3))


def test_a_test_without_a_row_in_common_does_not_count() -> None:
    assert spend(0.05, used=[flags(), flags()]).number == 1
    assert spend(0.05, used=[flags(), flags(9)]).number == 2


@given(alpha=st.floats(0.001, 0.5), tests=st.integers(1, 400), rows=st.integers(10, 400))
def test_a_window_that_moves_by_its_own_length_spends_no_more_than_alpha(alpha: float, tests: int, rows: int) -> None:
    moved = np.linspace(0, rows, tests).astype(int)  # where the test rows of each test begin
    covered, total = 0, 0.0
    for number, first in enumerate(moved.tolist(), start=1):
        fresh = first - covered if number > 1 else rows
        total += level_of_test(alpha, number=number, fresh_share=fresh / rows)
        covered = first
    assert total <= alpha


def test_a_small_level_takes_more_resamples() -> None:
    assert (resamples_for(0.05), resamples_for(0.001), resamples_for(1e-9)) == (2000, 25_000, 1_000_000)


# --- a simulation: a run every Monday for a year, on a test split of twelve months, and no newcomer is better

ROWS_A_WEEK = 28  # a row every six hours
WEEKS, RUNS, REPEATS = 52, 50, 200
ROWS = WEEKS * ROWS_A_WEEK
ALPHA = 0.05
RHO = 0.7


def autocorrelated(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return AR(1) series: the loss differences of a forecast six hours apart depend on each other for two days."""
    noise = rng.normal(size=shape)
    noise[..., 0] /= math.sqrt(1 - RHO**2)
    return lfilter([1.0], [1.0, -RHO], noise, axis=-1)


def levels() -> list[float]:
    """Return the level of each of the weekly tests, of which every one moves on by a week."""
    rows = [np.arange(run * ROWS_A_WEEK, run * ROWS_A_WEEK + ROWS) for run in range(RUNS)]
    return [spend(ALPHA, used=[np.isin(rows[run], rows[earlier]) for earlier in range(run)]).level for run in range(RUNS)]


def limits() -> list[float]:
    """Return what the p-value of each of the tests must fall below, as in the rule of promotion."""
    return [level_for_blocks(level, blocks=WEEKS) for level in levels()]


def z_of(difference: np.ndarray) -> np.ndarray:
    weeks = difference.reshape(*difference.shape[:-1], WEEKS, ROWS_A_WEEK).mean(axis=-1)
    return weeks.mean(axis=-1) / (weeks.std(axis=-1, ddof=1) / math.sqrt(WEEKS))


def rate_of_false_promotions(limits: list[float], *, worth: float, resamples: int) -> float:
    """Return the share of years in which a newcomer is promoted that is as good as the champion.

    Half of a difference is the champion's part, the same every week, and half is that of the newcomer of the week. A mean of
    less than `worth` standard errors has no p-value near a limit, and is not bootstrapped.
    """
    rng = np.random.default_rng(5)
    promoted = 0
    for _ in range(REPEATS):
        champion = autocorrelated(rng, ROWS + RUNS * ROWS_A_WEEK)
        windows = np.stack([champion[run * ROWS_A_WEEK :][:ROWS] for run in range(RUNS)])
        difference = windows + autocorrelated(rng, RUNS, ROWS)
        promising = np.flatnonzero(z_of(difference) > worth)
        promoted += any(
            moving_block_bootstrap(difference[run], block_rows=ROWS_A_WEEK, resamples=resamples, seed=0).p_value < limits[run]
            for run in promising
        )
    return promoted / REPEATS


def test_fifty_mondays_promote_no_one_by_chance() -> None:
    assert sum(levels()) <= ALPHA
    assert levels()[-1] == pytest.approx(ALPHA / 2 * (6 / (math.pi * 50) ** 2 + 1 / WEEKS))
    assert rate_of_false_promotions(limits(), worth=1.9, resamples=6000) <= ALPHA


def test_without_the_correction_most_years_promote_someone_by_chance() -> None:
    assert rate_of_false_promotions([ALPHA] * RUNS, worth=1.4, resamples=300) > 0.5


def test_a_real_gain_is_found_on_the_last_monday_too() -> None:
    """The standard error of a year's mean is sqrt(2 / 1456) / (1 - 0.7) = 0.12: a gain of 0.6 is five of them."""
    rng = np.random.default_rng(6)
    limit = limits()[-1]
    years = autocorrelated(rng, 20, ROWS) + autocorrelated(rng, 20, ROWS) + 0.6
    found = [
        moving_block_bootstrap(year, block_rows=ROWS_A_WEEK, resamples=resamples_for(limit), seed=0).p_value < limit
        for year in years
    ]
    assert np.mean(found) > 0.8


def test_few_blocks_make_a_small_p_value_worth_less() -> None:
    # Student's t: with 51 degrees of freedom 3.492 is exceeded with 0.0005, a normal value with 0.00024.
    assert level_for_blocks(0.0005, blocks=52) == pytest.approx(0.00024, rel=0.01)
    assert level_for_blocks(0.05, blocks=10) == pytest.approx(0.0334, rel=0.01)
    assert level_for_blocks(0.0005, blocks=None) == 0.0005
    assert level_for_blocks(0.01, blocks=100_000) == pytest.approx(0.01, rel=1e-3)
