"""The paired tests against values worked out by hand, and every way in which a decision can go."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scoring_helpers import CLASSES, FORECAST

from storage.errors import SettingError
from tasks.config import PromotionSettings
from tasks.metrics import ScoreError
from tasks.promotion.rule import Champion, Check, Contender, Decision, choose_candidate, decide
from tasks.statistics import PairedTest, block_rows_for, mcnemar, moving_block_bootstrap, p_text

# --- the bootstrap


@pytest.mark.parametrize(
    ("difference", "p_value"),
    [
        # Block sums -1.6, 2.4, 6.4, expectation 1.2 = the mean; the 9 draws of two blocks give centred means of
        # sqrt(2) * (-2, -1, -1, 0, 0, 0, 1, 1, 2): three reach 1.2. Without the factor sqrt(4 / (4 - 2)) only one would.
        ([-0.8, -0.8, 3.2, 3.2], 3 / 9),
        # Block sums -4, -4, 8: the draws have means -4/2, 2/2 and 8/2 (4, 4 and 1 of 9), expectation 0, while the sample's
        # mean is 1. Centred on 0 they are -2.83, 1.41, 5.66: five reach 1. Centred on 1 only one would.
        ([-2.0, -2.0, -2.0, 10.0], 5 / 9),
        # 5 rows are two blocks and one row. The last row is in one of the 4 blocks, never in the cut one: totals 0, 5, 10 (9, 6
        # and 1 of 16), expectation 2.5, centred means sqrt(5 / 3) * (-0.5, 0.5, 1.5): one reaches 1. Three whole blocks would
        # have made it 10 of 64.
        ([0.0, 0.0, 0.0, 0.0, 5.0], 1 / 16),
    ],
)
def test_bootstrap_in_blocks_of_two_by_counting(difference: list[float], p_value: float) -> None:
    result = moving_block_bootstrap(difference, block_rows=2, resamples=20_000, seed=1)
    assert result.mean_gain == pytest.approx(sum(difference) / len(difference))
    # Four standard errors of a share of 20,000.
    assert result.p_value == pytest.approx(p_value, abs=4 * math.sqrt(p_value * (1 - p_value) / 20_000))


def test_a_constant_gain_has_no_spread() -> None:
    result = moving_block_bootstrap([1.0] * 5, block_rows=2, resamples=50, seed=0)
    assert (result.mean_gain, result.ci_low, result.ci_high) == pytest.approx((1.0, 1.0, 1.0))
    assert result.p_value == 1 / 51


@pytest.mark.parametrize("constant", [0.0, -1.0])
def test_no_gain_has_a_p_value_of_one(constant: float) -> None:
    assert moving_block_bootstrap([constant] * 20, block_rows=3, seed=0).p_value == 1.0


def test_interval_of_independent_rows_is_the_usual_one() -> None:
    gain = np.random.default_rng(3).normal(0.5, 2.0, size=4000)
    result = moving_block_bootstrap(gain, block_rows=1, seed=0)
    half_width = 1.96 * gain.std(ddof=1) / math.sqrt(4000)
    assert result.ci_low == pytest.approx(gain.mean() - half_width, abs=0.1 * half_width)
    assert result.ci_high == pytest.approx(gain.mean() + half_width, abs=0.1 * half_width)


def test_a_seed_repeats_and_portions_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    gain = np.random.default_rng(0).normal(size=100)
    first = moving_block_bootstrap(gain, block_rows=5, resamples=500, seed=7)
    assert moving_block_bootstrap(gain, block_rows=5, resamples=500, seed=7) == first
    monkeypatch.setattr("tasks.statistics.MAX_STARTS", 1)
    assert moving_block_bootstrap(gain, block_rows=5, resamples=500, seed=7).p_value == pytest.approx(first.p_value, abs=0.1)


def _ar1(seeds: int, *, rows: int, rho: float) -> np.ndarray:
    noise = np.random.default_rng(11).normal(size=(rows, seeds))
    series = np.empty_like(noise)
    series[0] = noise[0] / math.sqrt(1 - rho**2)
    for row in range(1, rows):
        series[row] = rho * series[row - 1] + noise[row]
    return series.T


def test_dependent_differences_without_gain_are_seldom_called_a_gain() -> None:
    series = _ar1(200, rows=4000, rho=0.9)

    def rejected(block_rows: int) -> float:
        tests = [moving_block_bootstrap(one, block_rows=block_rows, resamples=400, seed=seed) for seed, one in enumerate(series)]
        return float(np.mean([test.p_value < 0.05 for test in tests]))

    assert 0.0 < rejected(100) <= 0.10
    # What the blocks are for: rows taken as independent find a gain in every third of these series.
    assert rejected(1) > 0.2


def test_a_clear_gain_in_dependent_differences_is_found() -> None:
    # The mean of 4,000 AR(1) rows with rho 0.9 has a standard error of 10 / sqrt(4000) = 0.16.
    (series,) = _ar1(1, rows=4000, rho=0.9)
    result = moving_block_bootstrap(series - series.mean() + 0.8, block_rows=100, seed=0)
    assert result.p_value < 0.01
    assert 0 < result.ci_low < 0.8 < result.ci_high


def test_the_bootstrap_draws_blocks_and_not_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    gain, drawn = np.random.default_rng(0).normal(size=120_000), []

    class Counting(np.random.Generator):
        def integers(self, high: int, *, size: int | tuple[int, ...]) -> Any:
            drawn.append(math.prod(size) if isinstance(size, tuple) else size)
            return super().integers(high, size=size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counting(np.random.PCG64(seed)))
    moving_block_bootstrap(gain, block_rows=1008, resamples=2000, seed=0)
    # 119 whole blocks and the part of one for every resample; of single rows there would be 240 million.
    assert sum(drawn) == 2000 * (119 + 1)


@pytest.mark.parametrize("block_rows", [0, -1, 6])
def test_a_block_is_at_most_half_the_series(block_rows: int) -> None:
    with pytest.raises(SettingError, match=f"block_rows is {block_rows}, expected 1 to 5 for 10 rows"):
        moving_block_bootstrap(np.zeros(10), block_rows=block_rows, seed=0)


def test_differences_must_be_finite_and_some() -> None:
    with pytest.raises(ScoreError, match="not finite"):
        moving_block_bootstrap([1.0, math.nan], block_rows=1, seed=0)
    with pytest.raises(ScoreError, match="at least 2"):
        moving_block_bootstrap([1.0], block_rows=1, seed=0)
    with pytest.raises(SettingError, match="resamples is 0"):
        moving_block_bootstrap([1.0, 2.0], block_rows=1, resamples=0, seed=0)


@pytest.mark.parametrize(("rows", "block_rows"), [(120_000, 1008), (10_080, 1008), (5000, 500), (15, 1), (2, 1)])
def test_blocks_shrink_with_the_series(rows: int, block_rows: int) -> None:
    assert block_rows_for(rows, max_block_rows=1008) == block_rows


# --- McNemar


def _correct(*, both: int = 0, gained: int = 0, lost: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    champion = np.repeat([True, False, True, False], [both, gained, lost, neither])
    candidate = np.repeat([True, True, False, False], [both, gained, lost, neither])
    return champion, candidate


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (3, 1, 1 / 16 + 4 / 16 / 2),
        (1, 3, (6 + 4 + 1) / 16 + 4 / 16 / 2),
        (4, 0, 1 / 16 / 2),
        (0, 4, 15 / 16 + 1 / 16 / 2),
        (0, 0, 1.0),
    ],
)
def test_mid_p_by_counting(gained: int, lost: int, p_value: float) -> None:
    champion, candidate = _correct(both=7, gained=gained, lost=lost, neither=2)
    assert mcnemar(champion, candidate_correct=candidate) == pytest.approx(p_value)


@given(st.integers(1, 3000))
def test_as_many_gained_as_lost_is_one_half(pairs: int) -> None:
    champion, candidate = _correct(gained=pairs, lost=pairs)
    assert mcnemar(champion, candidate_correct=candidate) == pytest.approx(0.5, abs=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_both_directions_sum_to_one(gained: int, lost: int) -> None:
    champion, candidate = _correct(gained=gained, lost=lost)
    total = mcnemar(champion, candidate_correct=candidate) + mcnemar(candidate, candidate_correct=champion)
    assert total == pytest.approx(2.0 if gained == lost == 0 else 1.0)


def test_large_counts_agree_with_the_normal_distribution() -> None:
    # 505,000 of 1,000,000: ten standard deviations of 500 above half; 500,500: one.
    champion, candidate = _correct(gained=505_000, lost=495_000)
    assert mcnemar(champion, candidate_correct=candidate) == pytest.approx(0.5 * math.erfc(10 / math.sqrt(2)), rel=0.01)
    champion, candidate = _correct(gained=500_500, lost=499_500)
    assert mcnemar(champion, candidate_correct=candidate) == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), rel=1e-3)


def test_mcnemar_wants_the_same_rows() -> None:
    with pytest.raises(ScoreError, match=r"\(2,\) and \(3,\)"):
        mcnemar(np.ones(2, dtype=bool), candidate_correct=np.ones(3, dtype=bool))


# --- the paired test of a problem


def test_forecasts_are_compared_by_their_absolute_errors() -> None:
    rng = np.random.default_rng(0)
    test = FORECAST.paired_test(reference_loss=np.full(200, 2.0), candidate_loss=1.5 + 0.01 * rng.normal(size=200), seed=0)
    assert test.mean_gain == pytest.approx(0.5, abs=0.01)
    assert test.relative_gain == pytest.approx(0.25, abs=0.01)
    assert test.p_value < 0.001
    assert "blocks of 20 rows" in test.method


def test_classifiers_are_compared_by_mcnemar() -> None:
    # 10 rows: the reference errs in 4, the candidate in 2 (3 gained, 1 lost): gain 0.2, variance (4 / 10 - 0.04).
    champion, candidate = _correct(both=5, gained=3, lost=1, neither=1)
    test = CLASSES.paired_test(reference_loss=1.0 - champion, candidate_loss=1.0 - candidate, seed=0)
    assert test.p_value == pytest.approx(3 / 16)
    assert (test.rows, test.mean_gain, test.relative_gain) == pytest.approx((10, 0.2, 0.5))
    assert test.ci_low == pytest.approx(0.2 - 1.96 * math.sqrt(0.036), abs=1e-4)
    assert test.ci_high == pytest.approx(0.2 + 1.96 * math.sqrt(0.036), abs=1e-4)


def test_nothing_gains_on_a_reference_without_errors() -> None:
    test = CLASSES.paired_test(reference_loss=[0.0, 0.0], candidate_loss=[0.0, 1.0], seed=0)
    assert test.relative_gain == 0.0
    assert test.p_value > 0.5


# --- the choice of a candidate


def test_lower_error_is_chosen() -> None:
    contenders = [Contender("a", 1, validation=0.27), Contender("b", 2, validation=0.26)]
    assert choose_candidate(contenders, metric=FORECAST.validation).variant == "b"


def test_higher_accuracy_is_chosen_and_the_first_of_equals() -> None:
    contenders = [Contender(name, 1, validation=value) for name, value in [("a", 0.8), ("b", 0.9), ("c", 0.9)]]
    assert choose_candidate(contenders, metric=CLASSES.validation).variant == "b"


def test_a_diverged_training_is_not_chosen() -> None:
    diverged = Contender("diverged", 1, validation=math.nan)
    assert choose_candidate([diverged, Contender("fine", 2, validation=9.0)], metric=FORECAST.validation).variant == "fine"
    with pytest.raises(ScoreError, match="of diverged is not finite"):
        choose_candidate([diverged], metric=FORECAST.validation)


# --- the decision

LOADS = Check(name="loads in a fresh process", passed=True, detail="loads in 3.1 s, same predictions")
GOOD = {"mae_degc": 2.35, "naive_mae_degc": 2.46, "skill": 1 - 2.35 / 2.46}
TEST = PairedTest(method="by hand", rows=100, mean_gain=0.06, relative_gain=0.06 / 2.41, ci_low=0.02, ci_high=0.1, p_value=0.003)

Ask = Callable[..., Decision]


@pytest.fixture
def ask() -> Ask:
    def asked(scoring: Any = FORECAST, **changes: Any) -> Decision:
        settings = {name: changes.pop(name) for name in ("alpha", "margin", "promote") if name in changes}
        arguments: dict[str, Any] = {
            "model_name": "jena",
            "candidate_version": 5,
            "candidate_scores": GOOD,
            "load": LOADS,
            "naive_test": TEST,
            "champion": Champion(4, test=TEST),
            "settings": PromotionSettings(**settings),
        }
        return decide(scoring.primary, **(arguments | changes))

    return asked


def test_a_significant_gain_promotes(ask: Ask) -> None:
    decision = ask()
    assert decision.outcome == "promoted"
    assert decision.reason == "Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)"
    assert (decision.candidate, decision.champion) == ("v5", "v4")
    assert [(check.name, check.passed) for check in decision.checks] == [
        ("loads in a fresh process", True),
        ("beats the naive baseline", True),
        ("beats champion v4", True),
    ]


def test_a_gain_over_the_twin_of_the_champion_says_so(ask: Ask) -> None:
    decision = ask(champion=Champion(4, test=TEST, twin=3))
    assert decision.reason == "Promoted v5: MAE 2.35 °C beats v3, the twin of champion v4, by 0.06 °C (p = 0.003)"


def test_no_significant_gain_keeps(ask: Ask) -> None:
    decision = ask(champion=Champion(4, test=replace(TEST, p_value=0.312)))
    assert decision.outcome == "kept"
    assert decision.reason == "Kept champion v4: no significant gain (p = 0.31)"
    assert [check.passed for check in decision.checks] == [True, True, False]


def test_the_level_of_the_test_is_the_limit(ask: Ask) -> None:
    test = replace(TEST, p_value=0.05)
    assert ask(champion=Champion(4, test=test, level=0.05)).outcome == "kept"
    assert ask(champion=Champion(4, test=test, level=0.06), alpha=0.1).outcome == "promoted"


def test_a_further_test_on_the_same_rows_says_its_number_and_level(ask: Ask) -> None:
    champion = Champion(4, test=replace(TEST, p_value=0.02), level=0.0021, number=3, fresh_share=0.02)
    decision = ask(champion=champion)
    assert decision.outcome == "kept"
    assert decision.reason == ("Kept champion v4: no significant gain (p = 0.020, needs p < 0.0021 in test 3 on these rows)")
    assert (
        "needs p < 0.0021 (test 3 on these rows, 2.0 % of them fresh: level 0.0021 of alpha 0.05)" in decision.checks[-1].detail
    )


def test_a_bootstrap_of_few_blocks_is_held_to_less(ask: Ask) -> None:
    # With 9 degrees of freedom 2.821 is exceeded with 0.01, a normal value with 0.0024.
    promoted = ask(champion=Champion(4, test=replace(TEST, p_value=0.0023, blocks=10), level=0.01))
    kept = ask(champion=Champion(4, test=replace(TEST, p_value=0.0025, blocks=10), level=0.01))
    assert (promoted.outcome, kept.outcome) == ("promoted", "kept")
    assert "needs p < 0.0024 (test 1 on these rows: level 0.01 of alpha 0.05, for 10 blocks)" in kept.checks[-1].detail


def test_small_p_values_are_told_beside_small_levels(ask: Ask) -> None:
    champion = Champion(4, test=replace(TEST, p_value=0.0007), level=0.0005, number=9)
    assert "p = 0.0007, needs p < 0.0005 in test 9" in ask(champion=champion).reason


def test_what_cannot_be_tested_fairly_is_kept(ask: Ask) -> None:
    why = "v4 has seen 90 of the 100 test rows, a fair test needs 50 that neither side has seen"
    decision = ask(champion=Champion(4, test=None, cannot_be_tested=why))
    assert (decision.outcome, decision.reason) == ("kept", f"Kept champion v4: {why}")
    assert [(check.name, check.passed) for check in decision.checks][-1] == ("v5 can be tested against v4", False)


def test_a_candidate_that_has_seen_the_test_rows_is_not_judged(ask: Ask) -> None:
    seen = Check("enough unseen test rows", passed=False, detail="v5 has seen 60 of the 100 test rows")
    decision = ask(unseen=seen)
    assert (decision.outcome, decision.reason) == ("kept", "Kept champion v4: v5 has seen 60 of the 100 test rows")
    assert len(decision.checks) == 2
    # A few rows are left out, and the rest decides.
    assert ask(unseen=replace(seen, passed=True)).outcome == "promoted"


def test_a_loss_is_never_significant(ask: Ask) -> None:
    assert ask(champion=Champion(4, test=replace(TEST, mean_gain=-0.01, p_value=0.01))).outcome == "kept"


def test_the_first_model_that_beats_the_naive_baseline_is_champion(ask: Ask) -> None:
    decision = ask(candidate_version=1, champion=None)
    assert decision.outcome == "promoted"
    assert decision.reason == "Promoted v1: first model that beats the naive baseline (2.35 °C against 2.46 °C)"
    assert decision.champion is None
    assert len(decision.checks) == 2


def test_worse_than_the_naive_baseline_is_rejected_before_the_champion_is_asked(ask: Ask) -> None:
    scores = {"mae_degc": 2.41, "naive_mae_degc": 2.07, "skill": 1 - 2.41 / 2.07}
    decision = ask(
        candidate_version=2, candidate_scores=scores, champion=Champion(1, test=TEST), naive_test=replace(TEST, p_value=0.999)
    )
    assert decision.outcome == "rejected"
    assert decision.reason == "Rejected v2: does not beat the naive baseline (2.41 °C against 2.07 °C)"
    assert [check.passed for check in decision.checks] == [True, False]
    assert "skill -16.4 %" in decision.checks[1].detail
    assert "p = 1.00" in decision.checks[1].detail


def test_as_good_as_the_naive_baseline_is_not_better(ask: Ask) -> None:
    assert ask(candidate_scores=GOOD | {"skill": 0.0}).outcome == "rejected"


def test_close_values_are_written_with_the_digits_that_tell_them_apart(ask: Ask) -> None:
    scores = {"mae_degc": 2.4583, "naive_mae_degc": 2.4561, "skill": -0.001}
    assert ask(candidate_scores=scores).reason.endswith("(2.458 °C against 2.456 °C)")
    assert "by 0.004 °C" in ask(champion=Champion(4, test=replace(TEST, mean_gain=0.0041))).reason


def test_what_does_not_load_is_rejected_first(ask: Ask) -> None:
    decision = ask(load=replace(LOADS, passed=False, detail="does not load in a fresh process (KeyError)"), candidate_scores={})
    assert decision.outcome == "rejected"
    assert decision.reason == "Rejected v5: does not load in a fresh process (KeyError)"
    assert len(decision.checks) == 1


def test_a_margin_promotes_without_significance(ask: Ask) -> None:
    test = replace(TEST, relative_gain=0.025, p_value=0.2)
    promoted = ask(champion=Champion(4, test=test), margin=0.025)
    assert promoted.outcome == "promoted"
    assert promoted.reason.endswith("(p = 0.20, relative gain 2.5 %, margin 2.5 %)")
    assert ask(champion=Champion(4, test=test), margin=0.03).outcome == "kept"
    assert ask(champion=Champion(4, test=replace(test, p_value=0.01)), margin=0.03).outcome == "promoted"


def test_manual_leaves_the_last_step_to_a_person(ask: Ask) -> None:
    decision = ask(promote="manual")
    assert decision.outcome == "manual"
    assert decision.reason == (
        "v5 passed every check (MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)); to promote it: retrain promote jena@5"
    )
    assert ask(promote="manual", champion=Champion(4, test=replace(TEST, p_value=0.5))).outcome == "kept"


def test_never_keeps_and_says_so(ask: Ask) -> None:
    decision = ask(promote="never")
    assert decision.outcome == "kept"
    assert decision.reason.startswith("Kept champion v4: promotion is set to never, though v5 passed every check")
    assert ask(promote="never", champion=None).reason.startswith("Kept no champion: promotion is set to never")


def test_classifiers_are_told_in_shares(ask: Ask) -> None:
    scores = {"accuracy": 0.8763, "majority_accuracy": 0.5, "skill": 0.7526}
    decision = ask(CLASSES, candidate_scores=scores, champion=Champion(4, test=replace(TEST, mean_gain=0.0123, p_value=0.0004)))
    assert decision.reason == "Promoted v5: accuracy 0.876 beats champion v4 by 0.012 (p < 0.001)"


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 1.0}, {"margin": 0.0}, {"margin": -0.1}, {"promote": "always"}])
def test_settings_that_would_promote_everything_or_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        PromotionSettings(**settings)


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0004, "p < 0.001"), (0.003, "p = 0.003"), (0.0496, "p = 0.050"), (0.312, "p = 0.31"), (1.0, "p = 1.00")],
)
def test_p_values_in_words(p_value: float, text: str) -> None:
    assert p_text(p_value) == text
