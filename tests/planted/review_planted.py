"""Faults that leave the reviews well-formed: what a script that shuffles, cuts or joins them wrongly can do.

Each function takes reviews as lists of ranks with their labels, by part, and returns them with one fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tasks.datasets.imdb.ranks import Ranks

Rng = np.random.Generator
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Part:
    """The reviews of train or of test."""

    ranks: Ranks
    labels: Labels


Parts = dict[str, Part]
Fault = Callable[[Parts, Rng], Parts]

PARTS = ("train", "test")


def in_parts(change: Callable[[Part, Rng], Part], *names: str) -> Fault:
    def plant(parts: Parts, rng: Rng) -> Parts:
        return {name: change(part, rng) if name in (names or PARTS) else part for name, part in parts.items()}

    return plant


def each_word(change: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.int32]]) -> Callable[[Part, Rng], Part]:
    return lambda part, rng: replace(part, ranks=Ranks(change(part.ranks.flat).astype(np.int32), part.ranks.lengths))


def each_review(
    change: Callable[[npt.NDArray[np.int32], Rng], npt.NDArray[np.int32]], *, share: float = 1.0
) -> Callable[[Part, Rng], Part]:
    """Change some of the reviews one by one; one that would lose every word keeps its first."""

    def plant(part: Part, rng: Rng) -> Part:
        reviews = []
        for start, length in zip(part.ranks.starts, part.ranks.lengths, strict=True):
            review = part.ranks.flat[start : start + length]
            new = change(review, rng) if rng.random() < share else review
            reviews.append(new if len(new) else review[:1])
        lengths = np.array([len(review) for review in reviews], dtype=np.int64)
        return replace(part, ranks=Ranks(np.concatenate(reviews).astype(np.int32), lengths))

    return plant


def labels_shuffled(part: Part, rng: Rng) -> Part:
    return replace(part, labels=rng.permutation(part.labels))


def labels_flipped(share: float) -> Callable[[Part, Rng], Part]:
    def plant(part: Part, rng: Rng) -> Part:
        return replace(part, labels=np.where(rng.random(len(part.labels)) < share, 1 - part.labels, part.labels).astype(np.int8))

    return plant


def labels_shifted(part: Part, rng: Rng) -> Part:
    """Every review has the label of the one before."""
    del rng
    return replace(part, labels=np.roll(part.labels, 1))


def test_is_train(parts: Parts, rng: Rng) -> Parts:
    del rng
    return {**parts, "test": parts["train"]}


def test_from_train(share: float) -> Fault:
    def plant(parts: Parts, rng: Rng) -> Parts:
        train, test = parts["train"], parts["test"]
        count = int(share * len(test.labels))
        rows = rng.choice(len(train.labels), count, replace=False)
        kept = np.arange(count, len(test.labels))
        taken, rest = train.ranks.take(rows), test.ranks.take(kept)
        ranks = Ranks(np.concatenate([taken.flat, rest.flat]), np.concatenate([taken.lengths, rest.lengths]))
        labels = np.concatenate([train.labels[rows], test.labels[kept]])
        order = rng.permutation(len(labels))
        return {**parts, "test": Part(ranks.take(order), labels[order])}

    return plant


def repeated(share: float) -> Callable[[Part, Rng], Part]:
    """Some reviews stand again in the place of others."""

    def plant(part: Part, rng: Rng) -> Part:
        rows = np.arange(len(part.labels))
        chosen = rng.random(len(rows)) < share
        rows[chosen] = rng.choice(len(rows), int(chosen.sum()))
        return Part(part.ranks.take(rows), part.labels[rows])

    return plant


def one_sentiment(part: Part, rng: Rng) -> Part:
    """Reviews of one sentiment only, half of them called by the other."""
    rows = rng.choice(np.flatnonzero(part.labels == 1), len(part.labels))
    return Part(part.ranks.take(rows), (np.arange(len(rows)) % 2).astype(np.int8))


def words_of_all_mixed(part: Part, rng: Rng) -> Part:
    return replace(part, ranks=Ranks(rng.permutation(part.ranks.flat), part.ranks.lengths))


FAULTS: Mapping[str, Fault] = {
    "labels shuffled": in_parts(labels_shuffled),
    "labels of test shuffled": in_parts(labels_shuffled, "test"),
    "labels flipped": in_parts(labels_flipped(1.0)),
    "labels of test flipped": in_parts(labels_flipped(1.0), "test"),
    "a fifth of the labels flipped": in_parts(labels_flipped(0.2)),
    "a tenth of the labels flipped": in_parts(labels_flipped(0.1)),
    "labels one review late": in_parts(labels_shifted),
    "one sentiment under both labels": in_parts(one_sentiment),
    "test equal to train": test_is_train,
    "half of test from train": test_from_train(0.5),
    "a twentieth of test from train": test_from_train(0.05),
    "a fifth of the reviews repeated": in_parts(repeated(0.2)),
    "a twentieth of the reviews repeated": in_parts(repeated(0.05)),
    "words sorted": in_parts(each_review(lambda review, rng: np.sort(review))),
    "words turned round": in_parts(each_review(lambda review, rng: review[::-1])),
    "words of every third review turned round": in_parts(each_review(lambda review, rng: review[::-1], share=1 / 3)),
    "words shuffled within reviews": in_parts(each_review(lambda review, rng: rng.permutation(review))),
    "words of all reviews mixed": in_parts(words_of_all_mixed),
    "ranks one higher": in_parts(each_word(lambda flat: np.minimum(flat + 1, 88_584))),
    "ranks three higher": in_parts(each_word(lambda flat: np.minimum(flat + 3, 88_584))),
    "ranks one lower": in_parts(each_word(lambda flat: np.maximum(flat - 1, 1))),
    "ranks turned round": in_parts(each_word(lambda flat: 88_585 - flat)),
    "ranks above 10,000 made 2": in_parts(each_word(lambda flat: np.where(flat > 10_000, 2, flat))),
    "ranks above 1,000 made 2": in_parts(each_word(lambda flat: np.where(flat > 1_000, 2, flat))),
    "the most frequent word left out": in_parts(each_review(lambda review, rng: review[review != 1])),
    "the 50 most frequent words left out": in_parts(each_review(lambda review, rng: review[review > 50])),
    "reviews cut after 80 words": in_parts(each_review(lambda review, rng: review[:80])),
    "reviews cut to their last 200 words": in_parts(each_review(lambda review, rng: review[-200:])),
    "every second word lost": in_parts(each_review(lambda review, rng: review[::2])),
    "every word written twice": in_parts(each_review(lambda review, rng: np.repeat(review, 2))),
}
"""By what was done."""

NOT_TO_BE_SEEN: Mapping[str, tuple[Fault, str]] = {
    "one label in a hundred flipped": (
        in_parts(labels_flipped(0.01)),
        "people disagree about more reviews than that",
    ),
    "reviews cut after 1,000 words": (
        in_parts(each_review(lambda review, rng: review[:1_000])),
        "few reviews are as long, and the networks read 500 words",
    ),
}
"""By what was done: the fault, and why it cannot be found."""
