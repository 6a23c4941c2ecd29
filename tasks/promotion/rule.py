"""Whether a candidate becomes champion: paired tests on the rows of one test split, and the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.errors import SettingError, unknown
from tasks.metrics import PRIMARY_METRIC, VALIDATION_METRIC, Kind, MetricSpec, ScoreError, finite_vectors

Outcome = Literal["promoted", "kept", "manual", "rejected"]
Mode = Literal["auto", "manual", "never"]

# Errors of a 24-hour forecast stay alike while a front passes, so for days; a week of 10-minute rows holds most of that.
WEEK_ROWS = 1008
# Fewer blocks than this say too little about the spread of their own mean.
LEAST_BLOCKS = 10
RESAMPLES = 2000
ALPHA = 0.05
# Resamples are drawn in portions of at most this many block starts (8 MB).
STARTS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class BootstrapResult:
    """Mean gain with its two-sided 95 % interval, and the one-sided p-value of the hypothesis that it is not above 0."""

    mean_gain: float
    ci_low: float
    ci_high: float
    p_value: float


@dataclass(frozen=True)
class PairedTest:
    """A comparison of two models on the same rows.

    Attributes:
        method: Name of the test and its settings, for reports.
        mean_gain: Mean loss of the reference minus that of the candidate: °C, or share of rows.
        relative_gain: `mean_gain` over the reference's mean loss.
    """

    method: str
    rows: int
    mean_gain: float
    relative_gain: float
    ci_low: float
    ci_high: float
    p_value: float


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


def choose_candidate(results: Sequence[Result], *, kind: Kind) -> Result | None:
    """Return the newly trained and registered result that is best on the validation split, the first of equals.

    The test split has no say: choosing by it would make its score too good. None when nothing was newly trained.

    Raises:
        ScoreError: A result lacks the validation metric, or none of them has a finite one.
    """
    spec = VALIDATION_METRIC[kind]
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


def block_rows_for(rows: int, *, longest: int = WEEK_ROWS) -> int:
    """Return the block length for a series: a week, or less where that would leave fewer than 10 blocks."""
    return max(1, min(longest, rows // LEAST_BLOCKS))


def moving_block_bootstrap(difference: ArrayLike, *, block_rows: int, resamples: int = RESAMPLES, seed: int) -> BootstrapResult:
    """Test whether the mean of a dependent series is above 0.

    Moving blocks after Künsch (1989): overlapping blocks drawn with replacement, the last one cut to the series' length.
    The resampled means are centred on their exact expectation (Lahiri 1992), which blocks at the ends shift away from the
    mean; p = (1 + #{centred mean >= observed mean}) / (resamples + 1) (Davison and Hinkley 1997, section 4.2); the
    interval is the basic one of the same centred means. `difference` is the loss of the reference minus that of the
    candidate, shape (rows,), in order of time.

    Raises:
        ScoreError: The series is not a finite vector of at least two rows.
        SettingError: `block_rows` is not within 1 to half the rows, or `resamples` is not positive.
    """
    (gain,) = finite_vectors(difference=difference)
    if gain.size < 2:
        raise ScoreError(f"difference has {gain.size} row, expected at least 2: the test split is too short for a paired test")
    if not 1 <= block_rows <= gain.size // 2:
        raise SettingError(
            f"block_rows is {block_rows}, expected 1 to {gain.size // 2} for {gain.size} rows: take block_rows_for(rows)"
        )
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}, expected at least 1: 2000 is usual")
    whole_blocks, rest = divmod(gain.size, block_rows)
    cumulative = np.concatenate([[0.0], np.cumsum(gain)])
    starts = gain.size - block_rows + 1
    block_sum = cumulative[block_rows:] - cumulative[:starts]
    rest_sum = cumulative[rest : rest + starts] - cumulative[:starts]

    rng = np.random.default_rng(seed)
    portion = max(1, STARTS_AT_ONCE // (whole_blocks + 1))
    totals = np.concatenate(
        [
            block_sum[rng.integers(starts, size=(count, whole_blocks))].sum(axis=1) + rest_sum[rng.integers(starts, size=count)]
            for count in (min(portion, resamples - done) for done in range(0, resamples, portion))
        ]
    )
    expected = whole_blocks * block_sum.mean() + rest_sum.mean()
    # Blocks vary around the sample's own mean, so their variance is short by the share block_rows / rows; with blocks of
    # one row this is Bessel's correction.
    centred = (totals - expected) / gain.size * math.sqrt(gain.size / (gain.size - block_rows))
    mean_gain = float(gain.mean())
    low, high = np.quantile(centred, [0.025, 0.975])
    return BootstrapResult(
        mean_gain=mean_gain,
        ci_low=mean_gain - float(high),
        ci_high=mean_gain - float(low),
        p_value=(1 + int(np.count_nonzero(centred >= mean_gain))) / (resamples + 1),
    )


def mcnemar(champion_correct: NDArray[np.bool_], *, candidate_correct: NDArray[np.bool_]) -> float:
    """Return the one-sided mid-p value of McNemar's test that the candidate is right more often.

    With n rows on which exactly one is right and c of them the candidate's, X ~ Binomial(n, 1/2):
    P(X > c) + P(X = c) / 2 (Fagerland, Lydersen and Laake 2013, who find the exact p-value too cautious). It is 1 when
    the two never differ.

    Raises:
        ScoreError: The shapes differ.
    """
    if champion_correct.ndim != 1 or champion_correct.shape != candidate_correct.shape:
        shapes = f"{champion_correct.shape} and {candidate_correct.shape}"
        raise ScoreError(f"correct rows have shapes {shapes}, expected one vector each of the same rows: score both on one split")
    gained = int(np.count_nonzero(candidate_correct & ~champion_correct))
    lost = int(np.count_nonzero(champion_correct & ~candidate_correct))
    discordant = gained + lost
    if discordant == 0:
        return 1.0
    # log P(X = k) for k = c ... n, each from the one before by the ratio (n - k) / (k + 1).
    first = math.lgamma(discordant + 1) - math.lgamma(gained + 1) - math.lgamma(lost + 1) - discordant * math.log(2)
    k = np.arange(gained, discordant, dtype=np.float64)
    log_pmf = first + np.concatenate([[0.0], np.cumsum(np.log((discordant - k) / (k + 1)))])
    pmf = np.exp(log_pmf)
    return min(1.0, float(pmf[1:].sum() + pmf[0] / 2))


def paired_test(kind: Kind, *, reference_loss: ArrayLike, candidate_loss: ArrayLike, seed: int) -> PairedTest:
    """Compare two models by their losses on the same rows, as `row_losses` returns them.

    A forecast is tested by `moving_block_bootstrap` (rows in order of time), a classifier by `mcnemar`; the classifier's
    95 % interval is Wald's for paired shares (Agresti 2013, section 11.1).

    Raises:
        ScoreError: The losses are not finite vectors of one length, or too short.
    """
    reference, candidate = finite_vectors(reference_loss=reference_loss, candidate_loss=candidate_loss)
    gain = reference - candidate
    rows = gain.size
    if kind == "forecast":
        block_rows = block_rows_for(rows)
        result = moving_block_bootstrap(gain, block_rows=block_rows, seed=seed)
        method = f"moving-block bootstrap, blocks of {block_rows} rows, {RESAMPLES} resamples"
    else:
        mean = float(gain.mean())
        half_width = 1.959964 * math.sqrt(max(0.0, float(np.mean(gain**2)) - mean**2) / rows)
        p_value = mcnemar(reference == 0, candidate_correct=candidate == 0)
        result = BootstrapResult(mean_gain=mean, ci_low=mean - half_width, ci_high=mean + half_width, p_value=p_value)
        method = "McNemar, mid-p"
    reference_mean = float(reference.mean())
    return PairedTest(
        method=method,
        rows=rows,
        mean_gain=result.mean_gain,
        # Nothing can gain on a reference without errors.
        relative_gain=result.mean_gain / reference_mean if reference_mean > 0 else 0.0,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        p_value=result.p_value,
    )


def p_text(p_value: float) -> str:
    """Return a p-value as it is written in a sentence."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def decide(
    kind: Kind,
    *,
    model_name: str,
    candidate_version: int,
    candidate_scores: Mapping[str, float],
    load: Check,
    naive_test: PairedTest | None,
    champion_version: int | None = None,
    champion_test: PairedTest | None = None,
    alpha: float = ALPHA,
    margin: float | None = None,
    promote: Mode = "auto",
) -> Decision:
    """Ask in order: does it load, does it beat the naive reference, does it beat the champion; the first no ends it.

    A candidate passes the last check when its gain is significant at `alpha`, or reaches `margin`.

    Args:
        kind: Kind of the data set.
        model_name: Registered name, for the command that a manual promotion needs.
        candidate_version: Registered version of the candidate.
        candidate_scores: Scores on the test split, with `skill` and the naive reference's metric.
        load: Whether the stored model loads in a fresh process and predicts the same.
        naive_test: Against the naive reference, told beside the gate, or None.
        champion_version: Registered version of the present champion, or None.
        champion_test: Against the champion on the same rows; needed when there is a champion.
        alpha: Significance level of the one-sided test against the champion.
        margin: Relative gain that is enough by itself, such as 0.01, or None.
        promote: `auto` moves the alias, `manual` leaves that to a person, `never` keeps what is.

    Raises:
        SettingError: `alpha`, `margin` or `promote` is not one of the values that can be.
        ScoreError: There is a champion but no test against it.
    """
    _check_settings(alpha=alpha, margin=margin, promote=promote)
    spec = PRIMARY_METRIC[kind]
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
