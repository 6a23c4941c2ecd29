"""How the candidate of a run does against the simple reference, in one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from tasks.promotion.rule import ALPHA
from tasks.scoring import Scoring
from tasks.statistics import p_text


def beside_reference(
    scoring: Scoring,
    *,
    network: str,
    network_scores: Mapping[str, float],
    network_loss: ArrayLike,
    reference: str,
    reference_scores: Mapping[str, float],
    reference_loss: ArrayLike,
) -> str:
    """Say which of the two is better on the test split, and whether the difference is more than chance.

    The losses are those of `row_losses`, on the same rows; the test is that of promotion, in the direction of the better one.
    """
    spec = scoring.primary
    network_value, reference_value = network_scores[spec.key], reference_scores[spec.key]
    ahead = spec.better(network_value, than=reference_value)
    better, worse = (network_loss, reference_loss) if ahead else (reference_loss, network_loss)
    test = scoring.paired_test(reference_loss=worse, candidate_loss=better, seed=0)
    certain = test.p_value <= ALPHA
    values = f"{spec.label} {spec.text(network_value)} against {spec.text(reference_value)}, {p_text(test.p_value)}"
    if ahead:
        return f"{network} {'beats' if certain else 'is ahead of, but does not clearly beat,'} {reference} ({values})."
    return (
        f"{network} {'is worse than' if certain else 'does not beat'} {reference} ({values}): the simple model is the one to use."
    )
