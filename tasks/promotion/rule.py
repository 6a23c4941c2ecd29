"""The rule by which a candidate becomes champion: checks in order, and a decision with its reason. It acts on nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from storage.errors import SettingError, unknown
from tasks.metrics import MetricSpec, ScoreError
from tasks.statistics import PairedTest, p_text

Outcome = Literal["promoted", "kept", "manual", "rejected"]


Mode = Literal["auto", "manual", "never"]


ALPHA = 0.05


@dataclass(frozen=True)
class Check:
    """One question that a candidate was asked, and the answer."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Decision:
    """What happens to the `champion` alias, and why.

    Attributes:
        candidate: Version such as `v5`.
        champion: Version that was champion before, or None.
        checks: Those that were asked, in order; the first that fails is the last.
    """

    outcome: Outcome
    reason: str
    candidate: str
    champion: str | None
    checks: tuple[Check, ...]


class Validated(Protocol):
    """What choosing a candidate needs to know of a training."""

    @property
    def variant(self) -> str:
        """Name of the variant."""

    @property
    def version(self) -> int | None:
        """Registered version."""

    @property
    def trained(self) -> bool:
        """Whether this run trained it."""

    @property
    def validation(self) -> Mapping[str, float]:
        """Scores on the validation split."""


Result = TypeVar("Result", bound=Validated)


def choose_candidate(results: Sequence[Result], *, metric: MetricSpec) -> Result | None:
    """Return the newly trained and registered result that is best on the validation split, the first of equals.

    The test split has no say: choosing by it would make its score too good. None when nothing was newly trained.

    Raises:
        ScoreError: A result lacks the validation metric, or none of them has a finite one.
    """
    spec = metric
    fresh = [result for result in results if result.trained and result.version is not None]
    for result in fresh:
        if spec.key not in result.validation:
            raise ScoreError(
                f"{result.variant} has no validation {spec.key!r}: score it on the validation split before promotion"
            )
    finite = [result for result in fresh if math.isfinite(result.validation[spec.key])]
    if fresh and not finite:
        names = ", ".join(result.variant for result in fresh)
        raise ScoreError(f"validation {spec.key!r} of {names} is not finite, expected a number: look at the training loss")
    sign = 1 if spec.lower_is_better else -1
    return min(finite, key=lambda result: sign * result.validation[spec.key], default=None)


def decide(
    spec: MetricSpec,
    *,
    model_name: str,
    candidate_version: int,
    candidate_scores: Mapping[str, float],
    load: Check,
    naive_test: PairedTest | None,
    champion_version: int | None = None,
    champion_test: PairedTest | None = None,
    champion_is_comparable: bool = True,
    alpha: float = ALPHA,
    margin: float | None = None,
    promote: Mode = "auto",
) -> Decision:
    """Ask in order: does it load, does it beat the naive reference, does it beat the champion; the first no ends it.

    A candidate passes the last check when its gain is significant at `alpha`, or reaches `margin`.

    Args:
        spec: The problem's primary metric.
        model_name: Registered name, for the command that a manual promotion needs.
        candidate_version: Registered version of the candidate.
        candidate_scores: Scores on the test split, with `skill` and the naive reference's metric.
        load: Whether the stored model loads in a fresh process and predicts the same.
        naive_test: Against the naive reference, told beside the gate, or None.
        champion_version: Registered version of the present champion, or None.
        champion_test: Against the champion on the same rows; needed when there is a comparable champion.
        champion_is_comparable: Whether the champion predicts the same quantity as far ahead. One that does not, because the
            task was changed in the code, is replaced by a candidate that beats the naive baseline.
        alpha: Significance level of the one-sided test against the champion.
        margin: Relative gain that is enough by itself, such as 0.01, or None.
        promote: `auto` moves the alias, `manual` leaves that to a person, `never` keeps what is.

    Raises:
        SettingError: `alpha`, `margin` or `promote` is not one of the values that can be.
        ScoreError: There is a champion but no test against it.
    """
    _check_settings(alpha=alpha, margin=margin, promote=promote)
    candidate = f"v{candidate_version}"
    champion = None if champion_version is None else f"v{champion_version}"

    def decision(outcome: Outcome, reason: str, *checks: Check) -> Decision:
        return Decision(outcome=outcome, reason=reason, candidate=candidate, champion=champion, checks=checks)

    if not load.passed:
        return decision("rejected", f"Rejected {candidate}: {load.detail}", load)

    value, naive_value = candidate_scores[spec.key], candidate_scores[spec.naive_key]
    against_naive = "{} against {}".format(*_distinct(spec, value, naive_value))
    naive = Check(
        name="beats the naive reference",
        passed=candidate_scores["skill"] > 0,
        detail=f"{spec.label} {against_naive}, skill {100 * candidate_scores['skill']:+.1f} %{_test_text(spec, naive_test)}",
    )
    if not naive.passed:
        return decision("rejected", f"Rejected {candidate}: does not beat the naive reference ({against_naive})", load, naive)

    checks: tuple[Check, ...] = (load, naive)
    if champion is None:
        case = f"first model that beats the naive reference ({against_naive})"
    elif champion == candidate:
        return decision("kept", f"Kept champion {champion}: it is the candidate itself", *checks)
    elif not champion_is_comparable:
        case = f"champion {champion} was trained for another task; this one beats the naive reference ({against_naive})"
    else:
        if champion_test is None:
            raise ScoreError(
                f"no paired test of {candidate} against champion {champion}: score the champion on today's test split first"
            )
        rival, grounds = _champion_check(spec, champion, test=champion_test, alpha=alpha, margin=margin)
        checks = (load, naive, rival)
        if not rival.passed:
            return decision("kept", f"Kept champion {champion}: no significant gain ({grounds})", *checks)
        case = (
            f"{spec.label} {spec.text(value)} beats champion {champion} by {_nonzero(spec, champion_test.mean_gain)} ({grounds})"
        )

    if promote == "auto":
        outcome: Outcome = "promoted"
        reason = f"Promoted {candidate}: {case}"
    elif promote == "manual":
        outcome = "manual"
        reason = f"{candidate} passed every check ({case}); to promote it: retrain promote {model_name}@{candidate_version}"
    else:
        outcome = "kept"
        kept = "no champion" if champion is None else f"champion {champion}"
        reason = f"Kept {kept}: promotion is set to never, though {candidate} passed every check ({case})"
    return decision(outcome, reason, *checks)


def _check_settings(*, alpha: float, margin: float | None, promote: str) -> None:
    """Raise `SettingError` for a value that would promote everything, or nothing, unnoticed."""
    if not 0 < alpha < 1:
        raise SettingError(f"alpha is {alpha}, expected a probability between 0 and 1 for promotion: 0.05 is usual")
    if margin is not None and not 0 < margin < 1:
        raise SettingError(f"margin is {margin}, expected a relative gain between 0 and 1 for promotion: 0.01 asks for 1 %")
    if promote not in ("auto", "manual", "never"):
        raise unknown("mode", promote, where="promote", choices=("auto", "manual", "never"))


def _champion_check(
    spec: MetricSpec, champion: str, *, test: PairedTest, alpha: float, margin: float | None
) -> tuple[Check, str]:
    """Return the check against the champion, and its grounds in brief."""
    significant = test.mean_gain > 0 and test.p_value < alpha
    enough = margin is not None and test.relative_gain >= margin
    grounds = p_text(test.p_value)
    if margin is not None:
        grounds += f", relative gain {100 * test.relative_gain:.1f} %, margin {100 * margin:.1f} %"
    rule = f"needs p < {alpha:g}" + ("" if margin is None else f" or a relative gain of {100 * margin:.1f} %")
    detail = f"relative gain {100 * test.relative_gain:+.1f} %{_test_text(spec, test)}; {rule}"
    return Check(name=f"beats champion {champion}", passed=significant or enough, detail=detail), grounds


def _test_text(spec: MetricSpec, test: PairedTest | None) -> str:
    """Return a paired test as the continuation of a sentence."""
    if test is None:
        return ""
    digits = spec.decimals + 1
    gain, low = f"{test.mean_gain:+.{digits}f}", f"{test.ci_low:+.{digits}f}"
    high = f"{test.ci_high:+.{digits}f}{' ' if spec.unit else ''}{spec.unit}"
    return f"; gain {gain} (95 % interval {low} to {high}), {p_text(test.p_value)}, {test.rows} rows, {test.method}"


def _distinct(spec: MetricSpec, one: float, other: float) -> tuple[str, str]:
    """Return both values with as many digits, up to two more, as it takes to tell them apart."""
    for decimals in range(spec.decimals, spec.decimals + 3):
        texts = spec.text(one, decimals=decimals), spec.text(other, decimals=decimals)
        if texts[0] != texts[1]:
            break
    return texts


def _nonzero(spec: MetricSpec, gain: float) -> str:
    """Return a gain with as many digits, up to two more, as it takes to see it."""
    for decimals in range(spec.decimals, spec.decimals + 3):
        if round(gain, decimals) != 0:
            break
    return spec.text(gain, decimals=decimals)
