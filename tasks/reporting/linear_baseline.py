"""One sentence that compares a network with the linear baseline on the test split."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from tasks.config import PromotionSettings
from tasks.scoring import Scoring
from tasks.statistics import p_text

# The significance level of promotion, when a person sets none.
ALPHA = PromotionSettings().alpha


def compare_with_baseline(
    scoring: Scoring,
    *,
    network: str,
    network_scores: Mapping[str, float],
    network_loss: ArrayLike,
    baseline: str,
    baseline_scores: Mapping[str, float],
    baseline_loss: ArrayLike,
) -> str:
    """Return a sentence that says which of the two is better on the test split, and whether by more than chance.

    The losses are those of `Scoring.row_losses` on the same rows. The one-sided test asks whether the better one is better.
    """
    metric = scoring.primary
    network_value, baseline_value = network_scores[metric.key], baseline_scores[metric.key]
    ahead = metric.better(network_value, than=baseline_value)
    better, worse = (network_loss, baseline_loss) if ahead else (baseline_loss, network_loss)
    test = scoring.paired_test(reference_loss=worse, candidate_loss=better, seed=0)
    significant = test.p_value < ALPHA
    values = f"{metric.label} {metric.text(network_value)} against {metric.text(baseline_value)}, {p_text(test.p_value)}"
    if ahead:
        verb = "beats" if significant else "is ahead of, but does not clearly beat,"
        return f"{network} {verb} {baseline} ({values})."
    verb = "is worse than" if significant else "does not beat"
    return f"{network} {verb} {baseline} ({values}): the simple model is the one to use."
