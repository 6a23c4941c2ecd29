"""The promotion rule: which version is the candidate, and whether it becomes champion. It reads and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.config import PromotionSettings
from tasks.metrics import MetricSpec, ScoreError
from tasks.statistics import PairedTest, p_text

Outcome = Literal["promoted", "kept", "manual", "rejected"]


@dataclass(frozen=True)
class Contender:
    """A version that may become the candidate.

    Attributes:
        validation: Its score on the validation split, by the problem's validation metric.
    """

    variant: str
    version: int
    validation: float


@dataclass(frozen=True)
class Champion:
    """The present champion and its paired test against the candidate, on the same rows.

    Attributes:
        test: None if the champion was trained for another task, because the code has changed since. A candidate that beats
            the naive baseline then replaces it.
    """

    version: int
    test: PairedTest | None


@dataclass(frozen=True)
class Check:
    """One condition that a candidate must meet, and whether it does."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Decision:
    """What happens to the `champion` alias, and why.

    Attributes:
        candidate: Version such as `v5`.
        champion: Version that was champion before, or None.
        checks: The checks that were made, in order. No check follows one that failed.
    """

    outcome: Outcome
    reason: str
    candidate: str
    champion: str | None
    checks: tuple[Check, ...]


def choose_candidate(contenders: Sequence[Contender], *, metric: MetricSpec) -> Contender:
    """Return the contender with the best score on the validation split, the first among equals.

    The test split does not choose, because choosing by it would make its score too good.

    Raises:
        ScoreError: No contender has a finite score.
    """
    finite = [contender for contender in contenders if math.isfinite(contender.validation)]
    if not finite:
        names = ", ".join(contender.variant for contender in contenders)
        raise ScoreError(f"validation {metric.label} of {names} is not finite, expected a number: look at the training loss")
    sign = 1 if metric.lower_is_better else -1
    return min(finite, key=lambda contender: sign * contender.validation)


def decide(
    metric: MetricSpec,
    *,
    model_name: str,
    candidate_version: int,
    candidate_scores: Mapping[str, float],
    load: Check,
    naive_test: PairedTest,
    champion: Champion | None,
    settings: PromotionSettings,
) -> Decision:
    """Check that the candidate loads, beats the naive baseline and beats the champion, in this order.

    The first check that fails ends the decision. The candidate beats the champion when its gain is significant at
    `settings.alpha`, or reaches `settings.margin`.

    Args:
        metric: The problem's primary metric.
        model_name: Registered name, for the command that a manual promotion needs.
        candidate_version: Registered version of the candidate.
        candidate_scores: Scores on the test split, with `skill` and the naive baseline's metric.
        load: Whether the stored model loads in a fresh process and predicts the same.
        naive_test: Paired test against the naive baseline, for the report; `skill` decides.
        champion: The present champion, or None.
        settings: What a person set.
    """
    candidate = f"v{candidate_version}"
    champion_name = None if champion is None else f"v{champion.version}"

    def decision(outcome: Outcome, reason: str, *checks: Check) -> Decision:
        return Decision(outcome=outcome, reason=reason, candidate=candidate, champion=champion_name, checks=checks)

    if not load.passed:
        return decision("rejected", f"Rejected {candidate}: {load.detail}", load)

    value, naive_value = candidate_scores[metric.key], candidate_scores[metric.naive_key]
    against_naive = "{} against {}".format(*_distinct(metric, value, naive_value))
    skill = candidate_scores["skill"]
    naive = Check(
        name="beats the naive baseline",
        passed=skill > 0,
        detail=f"{metric.label} {against_naive}, skill {100 * skill:+.1f} %; {_test_text(metric, naive_test)}",
    )
    if not naive.passed:
        return decision("rejected", f"Rejected {candidate}: does not beat the naive baseline ({against_naive})", load, naive)

    checks: tuple[Check, ...] = (load, naive)
    if champion is None:
        case = f"first model that beats the naive baseline ({against_naive})"
    elif champion.test is None:
        case = f"champion {champion_name} was trained for another task; beats the naive baseline ({against_naive})"
    else:
        gain, grounds = _champion_check(metric, champion.version, test=champion.test, settings=settings)
        checks = (load, naive, gain)
        if not gain.passed:
            return decision("kept", f"Kept champion {champion_name}: no significant gain ({grounds})", *checks)
        difference = _nonzero(metric, champion.test.mean_gain)
        case = f"{metric.label} {metric.text(value)} beats champion {champion_name} by {difference} ({grounds})"

    if settings.promote == "auto":
        return decision("promoted", f"Promoted {candidate}: {case}", *checks)
    if settings.promote == "manual":
        command = f"retrain promote {model_name}@{candidate_version}"
        return decision("manual", f"{candidate} passed every check ({case}); to promote it: {command}", *checks)
    holder = "no champion" if champion is None else f"champion {champion_name}"
    reason = f"Kept {holder}: promotion is set to never, though {candidate} passed every check ({case})"
    return decision("kept", reason, *checks)


def _champion_check(metric: MetricSpec, version: int, *, test: PairedTest, settings: PromotionSettings) -> tuple[Check, str]:
    """Return the check against the champion, and its grounds in brief."""
    margin = settings.margin
    significant = test.mean_gain > 0 and test.p_value < settings.alpha
    reaches_margin = margin is not None and test.relative_gain >= margin
    grounds = p_text(test.p_value)
    needed = f"needs p < {settings.alpha:g}"
    if margin is not None:
        grounds += f", relative gain {100 * test.relative_gain:.1f} %, margin {100 * margin:.1f} %"
        needed += f" or a relative gain of {100 * margin:.1f} %"
    detail = f"relative gain {100 * test.relative_gain:+.1f} %; {_test_text(metric, test)}; {needed}"
    return Check(name=f"beats champion v{version}", passed=significant or reaches_margin, detail=detail), grounds


def _test_text(metric: MetricSpec, test: PairedTest) -> str:
    """Return a paired test in words: gain, interval, p-value, rows and method."""
    digits = metric.decimals + 1
    gain, low = f"{test.mean_gain:+.{digits}f}", f"{test.ci_low:+.{digits}f}"
    high = f"{test.ci_high:+.{digits}f}{' ' if metric.unit else ''}{metric.unit}"
    return f"gain {gain} (95 % interval {low} to {high}), {p_text(test.p_value)}, {test.rows} rows, {test.method}"


def _distinct(metric: MetricSpec, one: float, other: float) -> tuple[str, str]:
    """Return both values with as many digits, up to two more, as it takes to tell them apart."""
    for decimals in range(metric.decimals, metric.decimals + 3):
        texts = metric.text(one, decimals=decimals), metric.text(other, decimals=decimals)
        if texts[0] != texts[1]:
            break
    return texts


def _nonzero(metric: MetricSpec, gain: float) -> str:
    """Return a gain with as many digits, up to two more, as it takes to see it."""
    for decimals in range(metric.decimals, metric.decimals + 3):
        if round(gain, decimals) != 0:
            break
    return metric.text(gain, decimals=decimals)
