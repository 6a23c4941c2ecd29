"""The promotion rule: which version is the candidate, and whether it becomes champion. It reads and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.config import PromotionSettings
from tasks.metrics import MetricSpec, ScoreError
from tasks.statistics import PairedTest, level_for_blocks, p_text

Outcome = Literal["promoted", "kept", "manual", "rejected", "rolled back"]
ROLLED_BACK: Outcome = "rolled back"


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
        level: Level of significance that the test needs.
        number: Number of the test among those that share rows with it.
        fresh_share: Part of its rows that no earlier test used.
        twin: The evaluated version that the test was made against, in place of a champion that is its refit.
        remark: On which rows, and of which versions, the test was made; empty where there is nothing to say.
        cannot_be_tested: Why there is no test that would judge neither side on what it has seen; empty if there is one.
    """

    version: int
    test: PairedTest | None
    level: float = 0.05
    number: int = 1
    fresh_share: float = 1.0
    twin: int | None = None
    remark: str = ""
    cannot_be_tested: str = ""


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
        candidate: Version such as `v5`; of a rollback the one that is champion again.
        champion: Version that was champion before, or None.
        checks: The checks that were made, in order. No check follows one that failed.
        refit: Version that is the candidate trained again on all rows, and is used in its place; None if there is none.
    """

    outcome: Outcome
    reason: str
    candidate: str
    champion: str | None
    checks: tuple[Check, ...]
    refit: str | None = None


def with_refit(decision: Decision, *, version: int, load: Check) -> Decision:
    """Return a decision for a candidate once it was trained again on all rows.

    Args:
        decision: The decision for the candidate, `promoted` or `manual`.
        version: Registered version of the refit.
        load: Whether the stored refit loads in a fresh process and predicts what it predicted in training. If not, the champion
            stays.
    """
    refit, candidate = f"v{version}", decision.candidate
    checks = (*decision.checks, replace(load, name=f"refit {refit} {load.name}"))
    if not load.passed:
        reason = f"Rejected {refit}, which is {candidate} trained again on all rows: {load.detail}"
        return replace(decision, outcome="rejected", reason=reason, checks=checks)
    if decision.outcome == "manual":
        reason = decision.reason.removesuffix(f"@{candidate[1:]}") + f"@{version}, which is {candidate} trained again on all rows"
    else:
        reason = decision.reason.replace(candidate, f"{candidate}, trained again on all rows as {refit}", 1)
    return replace(decision, reason=reason, checks=checks, refit=refit)


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
    unseen: Check | None = None,
) -> Decision:
    """Check that the candidate loads, beats the naive baseline and beats the champion, in this order.

    The first check that fails ends the decision. The candidate beats the champion when its gain is significant at the level
    of this test, or reaches `settings.margin`.

    Args:
        metric: The problem's primary metric.
        model_name: Registered name, for the command that a manual promotion needs.
        candidate_version: Registered version of the candidate.
        candidate_scores: Scores on the test split, with `skill` and the naive baseline's metric.
        load: Whether the stored model loads in a fresh process and predicts the same.
        naive_test: Paired test against the naive baseline, for the report; `skill` decides.
        champion: The present champion, or None.
        settings: What a person set.
        unseen: Whether the candidate is scored on enough rows that it has not seen; None if it has seen no row of the split.
    """
    candidate = f"v{candidate_version}"
    champion_name = None if champion is None else f"v{champion.version}"
    holder = "no champion" if champion is None else f"champion {champion_name}"
    checks: list[Check] = []

    def decision(outcome: Outcome, reason: str) -> Decision:
        return Decision(outcome=outcome, reason=reason, candidate=candidate, champion=champion_name, checks=tuple(checks))

    for gate in _gates(
        metric,
        candidate,
        scores=candidate_scores,
        load=load,
        unseen=unseen,
        naive_test=naive_test,
        champion=champion,
        settings=settings,
    ):
        checks.append(gate.check)
        if not gate.check.passed:
            subject = f"Rejected {candidate}" if gate.outcome == "rejected" else f"Kept {holder}"
            return decision(gate.outcome, f"{subject}: {gate.reason}")

    case = _case(metric, champion, scores=candidate_scores, settings=settings)
    if settings.promote == "auto":
        return decision("promoted", f"Promoted {candidate}: {case}")
    if settings.promote == "manual":
        command = f"retrain promote {model_name}@{candidate_version}"
        return decision("manual", f"{candidate} passed every check ({case}); to promote it: {command}")
    return decision("kept", f"Kept {holder}: promotion is set to never, though {candidate} passed every check ({case})")


@dataclass(frozen=True)
class _Gate:
    """A check, and what happens if it fails: the outcome, and its reason."""

    check: Check
    outcome: Outcome
    reason: str


def _gates(
    metric: MetricSpec,
    candidate: str,
    *,
    scores: Mapping[str, float],
    load: Check,
    unseen: Check | None,
    naive_test: PairedTest,
    champion: Champion | None,
    settings: PromotionSettings,
) -> Iterator[_Gate]:
    """Yield the checks in their order; one that follows a failed check is not asked for."""
    yield _Gate(load, "rejected", load.detail)
    if unseen:
        yield _Gate(unseen, "kept", unseen.detail)
    skill = scores["skill"]
    against_naive = _against_naive(metric, scores)
    naive = Check(
        name="beats the naive baseline",
        passed=skill > 0,
        detail=f"{metric.label} {against_naive}, skill {100 * skill:+.1f} %; {_test_text(metric, naive_test)}",
    )
    yield _Gate(naive, "rejected", f"does not beat the naive baseline ({against_naive})")
    if champion and champion.cannot_be_tested:
        fair = Check(
            name=f"{candidate} can be tested against v{champion.version}", passed=False, detail=champion.cannot_be_tested
        )
        yield _Gate(fair, "kept", champion.cannot_be_tested)
    if champion and champion.test:
        gain, grounds = _champion_check(metric, champion, test=champion.test, settings=settings)
        yield _Gate(gain, "kept", f"no significant gain ({grounds})")


def _case(metric: MetricSpec, champion: Champion | None, *, scores: Mapping[str, float], settings: PromotionSettings) -> str:
    """Return what speaks for a candidate that passed every check."""
    if champion is None:
        return f"first model that beats the naive baseline ({_against_naive(metric, scores)})"
    name = f"champion v{champion.version}"
    if champion.test is None:
        return f"{name} was trained for another task; beats the naive baseline ({_against_naive(metric, scores)})"
    _, grounds = _champion_check(metric, champion, test=champion.test, settings=settings)
    if champion.twin is not None:
        name = f"v{champion.twin}, the twin of {name},"
    difference = _nonzero(metric, champion.test.mean_gain)
    return f"{metric.label} {metric.text(scores[metric.key])} beats {name} by {difference} ({grounds})"


def _against_naive(metric: MetricSpec, scores: Mapping[str, float]) -> str:
    """Return the score beside that of the naive baseline."""
    return "{} against {}".format(*_distinct(metric, scores[metric.key], scores[metric.naive_key]))


def _champion_check(
    metric: MetricSpec, champion: Champion, *, test: PairedTest, settings: PromotionSettings
) -> tuple[Check, str]:
    """Return the check against the champion, and its grounds in brief."""
    margin, limit = settings.margin, level_for_blocks(champion.level, blocks=test.blocks)
    significant = test.mean_gain > 0 and test.p_value < limit
    reaches_margin = margin is not None and test.relative_gain >= margin
    grounds = p_text(test.p_value, level=limit)
    needed = f"needs p < {limit:.2g}"
    if test.mean_gain > 0 and limit <= test.p_value < settings.alpha:
        grounds += f", {needed} in test {champion.number} on these rows"
    if margin is not None:
        grounds += f", relative gain {100 * test.relative_gain:.1f} %, margin {100 * margin:.1f} %"
        needed += f" or a relative gain of {100 * margin:.1f} %"
    spent = f"test {champion.number} on these rows"
    if champion.number > 1:
        spent += f", {100 * champion.fresh_share:.1f} % of them fresh"
    spent += f": level {champion.level:.2g} of alpha {settings.alpha:g}"
    if test.blocks:
        spent += f", for {test.blocks} blocks"
    parts = [f"relative gain {100 * test.relative_gain:+.1f} %", _test_text(metric, test, level=limit)]
    parts += [f"{needed} ({spent})", *([champion.remark] if champion.remark else [])]
    name = f"beats champion v{champion.version}"
    return Check(name=name, passed=significant or reaches_margin, detail="; ".join(parts)), grounds


def _test_text(metric: MetricSpec, test: PairedTest, *, level: float = 0.05) -> str:
    """Return a paired test in words: gain, interval, p-value, rows and method."""
    digits = metric.decimals + 1
    gain, low = f"{test.mean_gain:+.{digits}f}", f"{test.ci_low:+.{digits}f}"
    high = f"{test.ci_high:+.{digits}f}{' ' if metric.unit else ''}{metric.unit}"
    return f"gain {gain} (95 % interval {low} to {high}), {p_text(test.p_value, level=level)}, {test.rows} rows, {test.method}"


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
