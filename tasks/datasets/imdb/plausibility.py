"""Signs of reviews that are well-formed and wrong: other labels, words in another order, other ranks, other lengths.

Every number is of a whole part of the data, train or test, and stands in all of its rows, so that expectations can judge it
and no report can quote a review.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tasks.datasets.imdb.ranks import Ranks
from tasks.datasets.signs import Sign

# Words of Keras's index whose tone nobody doubts.
_POSITIVE = ("wonderful", "excellent", "amazing", "superb", "perfect", "favorite", "loved", "beautiful", "brilliant", "enjoyed")
_NEGATIVE = ("awful", "terrible", "horrible", "worst", "waste", "boring", "poorly", "stupid", "worse", "dull")
# Pairs of words that English knows in one order only.
_ORDERED_PAIRS = (("of", "the"), ("in", "the"), ("to", "be"), ("it", "is"), ("one", "of"))
_MOST_FREQUENT = 1_000
_FIT_SHARE = 0.5


@dataclass(frozen=True)
class PartFigures:
    """What the reviews of a part are like.

    Attributes:
        label_accuracy: Share of held-back reviews whose label naive Bayes finds from the words of the others.
        tone_agreement: Share of reviews with clearly toned words whose label is that of most of these words.
        word_order: Share of the pairs that English knows in one order which stand in that order.
        most_frequent_rank: The rank that occurs most.
        zipf_slope: Slope of the logarithm of the frequency over that of the rank, over the 1,000 most frequent words.
        rare_share: Share of words beyond the vocabulary of 10,000.
        highest_rank: The highest rank.
        same_length_share: Share of reviews that have the most frequent length.
        sorted_share: Share of neighbouring words of which the later one is not more frequent.
    """

    label_accuracy: float
    tone_agreement: float
    word_order: float
    most_frequent_rank: float
    zipf_slope: float
    rare_share: float
    highest_rank: float
    same_length_share: float
    sorted_share: float


_LABELS = Sign("label_accuracy", "The labels follow from the words; otherwise they were shuffled.", (0.7, 1), (0.8, 0.95))
_TONE = Sign(
    "tone_agreement", "Reviews with clearly positive words are positive; otherwise the labels were exchanged.", (0.6, 1), (0.7, 1)
)
_ORDER = Sign(
    "word_order", "Words stand in the order of English; otherwise they were sorted or turned round.", (0.7, 1), (0.9, 1)
)
_SORTED = Sign("sorted_share", "Words do not stand in the order of their ranks.", (0.2, 0.8), (0.4, 0.6))
_OF_THE_INDEX = (
    Sign("most_frequent_rank", "The most frequent word has rank 1; otherwise the ranks are shifted.", (1, 1), None),
    Sign(
        "zipf_slope",
        "Frequencies fall with the rank as in any language (Zipf); otherwise the ranks were mixed.",
        (-1.6, -0.5),
        (-1.2, -0.8),
    ),
    Sign("rare_share", "Some words are rare; otherwise the vocabulary was cut.", (0.01, 0.2), (0.02, 0.1)),
    Sign("highest_rank", "Ranks reach far into the index; otherwise the vocabulary was cut.", (20_000, None), (60_000, None)),
    Sign("same_length_share", "Reviews have many lengths; otherwise they were cut.", (0, 0.2), (0, 0.05)),
)
# By source: a person's own reviews have other words and lengths than the published ones, and those of the sample are made up.
SIGNS: Mapping[str, tuple[Sign, ...]] = {
    "keras": (_LABELS, _TONE, _ORDER, *_OF_THE_INDEX, _SORTED),
    "files": (_TONE, _ORDER, _SORTED),
    "sample": (_LABELS, _SORTED),
}
FIGURES: tuple[str, ...] = tuple(field.name for field in fields(PartFigures))


def part_figures(ranks: Ranks, *, labels: npt.NDArray[np.int64], words: Mapping[str, int], vocabulary: int) -> PartFigures:
    """Return the figures of a part; NaN where it is too small to tell.

    Args:
        ranks: Its reviews.
        labels: Their labels, 0 or 1.
        words: Rank of every word of the index.
        vocabulary: Ranks from this one on are rare.
    """
    flat, lengths = ranks.flat.astype(np.int64), ranks.lengths
    review = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(flat, minlength=_MOST_FREQUENT + 1)
    same_review = review[1:] == review[:-1]
    first, second = flat[:-1][same_review], flat[1:][same_review]
    return PartFigures(
        label_accuracy=_label_accuracy(flat, review=review, labels=labels, vocabulary=vocabulary),
        tone_agreement=_tone_agreement(flat, review=review, labels=labels, words=words),
        word_order=_word_order(first, second, words=words),
        most_frequent_rank=float(counts.argmax()),
        zipf_slope=_zipf_slope(counts),
        rare_share=float(np.mean(flat >= vocabulary)) if len(flat) else np.nan,
        highest_rank=float(flat.max(initial=0)),
        same_length_share=float(np.bincount(lengths).max() / len(lengths)) if len(lengths) else np.nan,
        sorted_share=float(np.mean(second >= first)) if len(first) else np.nan,
    )


def _label_accuracy(
    flat: npt.NDArray[np.int64], *, review: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], vocabulary: int
) -> float:
    """Return the accuracy of naive Bayes on every second review, fitted on the others; NaN for too few of them.

    Rennie et al., 2003, "Tackling the poor assumptions of naive Bayes text classifiers", describe the model.
    """
    if len(labels) < 400 or not 0 < labels.mean() < 1:
        return float("nan")
    is_fitted = np.arange(len(labels)) % 2 == 0
    clipped = np.minimum(flat, vocabulary)
    fitted = is_fitted[review]
    counts = [np.bincount(clipped[fitted & (labels[review] == label)], minlength=vocabulary + 1) + 1.0 for label in (0, 1)]
    weight = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    score = np.bincount(review, weights=weight[clipped], minlength=len(labels))
    held_back = ~is_fitted
    return float(np.mean((score[held_back] > 0) == (labels[held_back] == 1)))


def _tone_agreement(
    flat: npt.NDArray[np.int64],
    *,
    review: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    words: Mapping[str, int],
) -> float:
    """Return how often the label is that of the clearly toned words; NaN if fewer than 200 reviews have any."""
    tone = np.zeros(max(int(flat.max(initial=0)) + 1, 1))
    for sign, listed in ((1, _POSITIVE), (-1, _NEGATIVE)):
        for word in listed:
            rank = words.get(word)
            if rank is not None and rank < len(tone):
                tone[rank] = sign
    score = np.bincount(review, weights=tone[flat], minlength=len(labels))
    told = score != 0
    return float(np.mean((score[told] > 0) == (labels[told] == 1))) if told.sum() >= 200 else float("nan")


def _word_order(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], *, words: Mapping[str, int]) -> float:
    """Return the share of known pairs in their English order; NaN if fewer than 500 of them occur."""
    right = wrong = 0
    for one, other in _ORDERED_PAIRS:
        ranks = words.get(one), words.get(other)
        if None not in ranks:
            right += int(np.count_nonzero((first == ranks[0]) & (second == ranks[1])))
            wrong += int(np.count_nonzero((first == ranks[1]) & (second == ranks[0])))
    return right / (right + wrong) if right + wrong >= 500 else float("nan")


def _zipf_slope(counts: npt.NDArray[np.int64]) -> float:
    """Return the slope over the most frequent words; NaN if some of them do not occur."""
    ranks = np.arange(1, _MOST_FREQUENT + 1)
    frequent = counts[1 : _MOST_FREQUENT + 1]
    if (frequent == 0).any():
        return float("nan")
    return float(np.polyfit(np.log(ranks), np.log(frequent), 1)[0])
