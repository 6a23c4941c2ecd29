"""Paired tests of two models on the same rows: moving-block bootstrap and McNemar's test. They decide nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.errors import SettingError
from tasks.metrics import ScoreError, finite_vectors

# Fewer blocks are too few to estimate the variance of their mean.
MIN_BLOCKS = 10
RESAMPLES = 2000
# So many resamples are expected beyond a level of significance, at most: then its p-value has a standard error of a fifth.
RESAMPLES_BEYOND_LEVEL = 25
MAX_RESAMPLES = 1_000_000
# Block starts that are drawn at once at most: 8 MB.
MAX_STARTS = 1_000_000


@dataclass(frozen=True)
class GainEstimate:
    """Mean gain, its two-sided 95 % interval, and the one-sided p-value of the hypothesis that the gain is not above 0."""

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
        p_value: Of the one-sided hypothesis that the gain is not above 0.
        blocks: Blocks of a bootstrap; None for an exact test.
    """

    method: str
    rows: int
    mean_gain: float
    relative_gain: float
    ci_low: float
    ci_high: float
    p_value: float
    blocks: int | None = None


def block_rows_for(rows: int, *, max_block_rows: int) -> int:
    """Return the block length for a series: `max_block_rows`, or less if that would leave fewer than 10 blocks.

    The errors of a forecast are similar for days, while a weather front passes, and a block should cover most of that time.
    """
    return max(1, min(max_block_rows, rows // MIN_BLOCKS))


def resamples_for(level: float) -> int:
    """Return the resamples that tell p-values around a level of significance apart: 2000, or more for a small level."""
    return min(MAX_RESAMPLES, max(RESAMPLES, math.ceil(RESAMPLES_BEYOND_LEVEL / level)))


def level_for_blocks(level: float, *, blocks: int | None) -> float:
    """Return the level that the p-value of a bootstrap must fall below so that the test keeps `level`.

    A bootstrap takes the spread of its blocks for known, though it is estimated from them. As in Student's t-test, with
    `blocks - 1` degrees of freedom, that makes small p-values too small: with 52 blocks a p-value of 0.00024 is worth 0.0005.
    An exact test (`blocks` is None) keeps its level as it is.
    """
    if blocks is None:
        return level
    from scipy.stats import norm, t

    return float(norm.sf(t.isf(level, blocks - 1)))


def moving_block_bootstrap(difference: ArrayLike, *, block_rows: int, resamples: int = RESAMPLES, seed: int) -> GainEstimate:
    """Test whether the mean of a dependent series is above 0.

    Overlapping blocks are drawn with replacement, and the last one is cut to the length of the series (Künsch 1989). The
    resampled means are centred on their exact expectation (Lahiri 1992), which differs from the sample mean because rows at
    the ends are in fewer blocks. p = (1 + #{centred mean >= observed mean}) / (resamples + 1) (Davison and Hinkley 1997,
    section 4.2). The interval is the basic bootstrap interval of the same centred means.

    Args:
        difference: Loss of the reference minus loss of the candidate, shape (rows,), in order of time.
        block_rows: Rows of a block.
        resamples: Number of resamples.
        seed: Seed of the drawing.

    Raises:
        ScoreError: The series is not a finite vector of at least two rows.
        SettingError: `block_rows` is not between 1 and half the rows, or `resamples` is not positive.
    """
    (gain,) = finite_vectors(difference=difference)
    if gain.size < 2:
        raise ScoreError(f"difference has {gain.size} row, expected at least 2: the test split is too short for a paired test")
    if not 1 <= block_rows <= gain.size // 2:
        raise SettingError(
            f"block_rows is {block_rows}, expected 1 to {gain.size // 2} for {gain.size} rows: take block_rows_for"
        )
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}, expected at least 1: 2000 is usual")
    whole_blocks, rest = divmod(gain.size, block_rows)
    cumulative = np.concatenate([[0.0], np.cumsum(gain)])
    starts = gain.size - block_rows + 1
    block_sum = cumulative[block_rows:] - cumulative[:starts]
    rest_sum = cumulative[rest : rest + starts] - cumulative[:starts]

    rng = np.random.default_rng(seed)
    portion = max(1, MAX_STARTS // (whole_blocks + 1))
    totals = np.concatenate(
        [
            block_sum[rng.integers(starts, size=(count, whole_blocks))].sum(axis=1) + rest_sum[rng.integers(starts, size=count)]
            for count in (min(portion, resamples - done) for done in range(0, resamples, portion))
        ]
    )
    expected = whole_blocks * block_sum.mean() + rest_sum.mean()
    # Blocks vary around the sample mean, not the true one, so their variance is too small by the share block_rows / rows.
    # For blocks of one row this is Bessel's correction.
    centred = (totals - expected) / gain.size * math.sqrt(gain.size / (gain.size - block_rows))
    mean_gain = float(gain.mean())
    low, high = np.quantile(centred, [0.025, 0.975])
    return GainEstimate(
        mean_gain=mean_gain,
        ci_low=mean_gain - float(high),
        ci_high=mean_gain - float(low),
        p_value=(1 + int(np.count_nonzero(centred >= mean_gain))) / (resamples + 1),
    )


def mcnemar(champion_correct: NDArray[np.bool_], *, candidate_correct: NDArray[np.bool_]) -> float:
    """Return the one-sided mid-p value of McNemar's test that the candidate is right more often.

    On n rows exactly one of the two is right, and on c of these it is the candidate. With X ~ Binomial(n, 1/2) the value is
    P(X > c) + P(X = c) / 2 (Fagerland, Lydersen and Laake 2013, who find the exact p-value too conservative). It is 1 if
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
    from scipy.stats import binom

    return min(1.0, float(binom.sf(gained, discordant, 0.5) + binom.pmf(gained, discordant, 0.5) / 2))


def bootstrap_test(
    *, reference_loss: ArrayLike, candidate_loss: ArrayLike, max_block_rows: int, level: float, seed: int
) -> PairedTest:
    """Compare two models of a time series by the moving-block bootstrap of their losses, rows in order of time.

    Args:
        reference_loss: Loss of the reference in every row.
        candidate_loss: Loss of the candidate in the same rows.
        max_block_rows: Rows of a block, where there are enough of them.
        level: Level of significance that the p-value will be compared with; a smaller one takes more resamples.
        seed: Seed of the drawing.

    Raises:
        ScoreError: The losses are not finite vectors of one length, or have fewer than two rows.
    """
    reference, candidate = finite_vectors(reference_loss=reference_loss, candidate_loss=candidate_loss)
    block_rows = block_rows_for(reference.size, max_block_rows=max_block_rows)
    blocks = reference.size // block_rows
    resamples = resamples_for(level_for_blocks(level, blocks=blocks))
    result = moving_block_bootstrap(reference - candidate, block_rows=block_rows, resamples=resamples, seed=seed)
    method = f"moving-block bootstrap, blocks of {block_rows} rows, {resamples} resamples"
    return _paired_test(method, reference=reference, result=result, blocks=blocks)


def mcnemar_test(*, reference_loss: ArrayLike, candidate_loss: ArrayLike) -> PairedTest:
    """Compare two classifiers by McNemar's test. A loss is 1 for a wrong label and 0 for a right one.

    The 95 % interval is the Wald interval for paired shares (Agresti 2013, section 11.1).

    Raises:
        ScoreError: The losses are not finite vectors of one length.
    """
    reference, candidate = finite_vectors(reference_loss=reference_loss, candidate_loss=candidate_loss)
    gain = reference - candidate
    mean = float(gain.mean())
    half_width = 1.959964 * math.sqrt(max(0.0, float(np.mean(gain**2)) - mean**2) / gain.size)
    p_value = mcnemar(reference == 0, candidate_correct=candidate == 0)
    result = GainEstimate(mean_gain=mean, ci_low=mean - half_width, ci_high=mean + half_width, p_value=p_value)
    return _paired_test("McNemar, mid-p", reference=reference, result=result)


def _paired_test(method: str, *, reference: NDArray[np.float64], result: GainEstimate, blocks: int | None = None) -> PairedTest:
    reference_mean = float(reference.mean())
    return PairedTest(
        method=method,
        rows=reference.size,
        mean_gain=result.mean_gain,
        # No model can be better than a reference without errors.
        relative_gain=result.mean_gain / reference_mean if reference_mean > 0 else 0.0,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        p_value=result.p_value,
        blocks=blocks,
    )


def p_text(p_value: float, *, level: float = 0.001) -> str:
    """Return a p-value as text, such as `p = 0.031` or `p < 0.001`; smaller ones in full beside a level as small."""
    if p_value < 0.001:
        return "p < 0.001" if level >= 0.001 else f"p = {p_value:.1g}"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"
