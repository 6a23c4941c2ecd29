"""The linear baseline for reviews: logistic regression on the words and pairs of words that a review holds."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.imdb.text import RANK_OFFSET, VOCABULARY_SIZE

if TYPE_CHECKING:
    import keras

FIRST_WORD = RANK_OFFSET + 1
# Greater than every n-gram, so that it sorts behind them: a pair (a, b) has the number 10000·a + b, a word its own.
NOTHING = np.int32(np.iinfo(np.int32).max)
# A word or pair of one review alone says nothing about others.
MIN_REVIEWS = 2
# Inverse strength of the L2 penalty, the best of 3, 10, 30 and 100 on validation (0.9062, 0.9086, 0.9108, 0.9102).
INVERSE_REGULARIZATION = 30.0


@cache
def bag_class() -> Any:
    """Register the layer with Keras, which a saved model needs before it can be loaded."""
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable(package="retrain")
    class BagOfNgrams(keras.layers.Layer):  # type: ignore[misc]
        """Tokens int32 `(batch, steps)` to the probability `(batch, 1)`, whatever padding stands before them.

        A review is the set of its known words and pairs of neighbours, each with its inverse document frequency, scaled to
        length 1: scikit-learn's `TfidfTransformer` with binary counts (on which sublinear counts change nothing).
        """

        def __init__(self, ngrams: int, **options: Any) -> None:
            super().__init__(**options)
            self.ngrams = ngrams

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            del input_shape
            shape = (self.ngrams,)
            self.numbers = self.add_weight(shape=shape, dtype="int32", initializer="zeros", trainable=False, name="numbers")
            self.idf = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="idf")
            self.weight = self.add_weight(shape=shape, initializer="zeros", name="weight")
            self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias")

        def call(self, tokens: Any) -> Any:
            numbers, first = distinct_ngrams(ops, tokens)
            place = self._place(numbers)
            known = ops.logical_and(first, ops.equal(ops.take(self.numbers, place), numbers))
            idf = ops.where(known, ops.take(self.idf, place), 0.0)
            length = ops.sqrt(ops.maximum(ops.sum(idf * idf, axis=1), 1e-12))
            score = ops.sum(idf * ops.take(self.weight, place), axis=1) / length
            return ops.sigmoid(score[:, None] + self.bias)

        def _place(self, numbers: Any) -> Any:
            """Return where each number stands among the known ones, or some other place: by halving.

            `searchsorted` compares every number with every other one when XLA compiles it.
            """
            place = ops.zeros_like(numbers)
            for step in reversed([2**bit for bit in range(max(1, self.ngrams).bit_length())]):
                further = ops.minimum(place + step, self.ngrams - 1)
                place = ops.where(ops.take(self.numbers, further) <= numbers, further, place)
            return place

        def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (input_shape[0], 1)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "ngrams": self.ngrams}

    return BagOfNgrams


def distinct_ngrams(ops: Any, tokens: Any) -> tuple[Any, Any]:
    """Return the numbers of a review's words and pairs in order, and which of them stand there for the first time.

    Args:
        ops: `keras.ops`, or `numpy`, which has the same functions.
        tokens: int32 `(reviews, steps)`.
    """
    left, right = tokens[:, :-1], tokens[:, 1:]
    words = ops.where(tokens >= FIRST_WORD, tokens, NOTHING)
    pairs = ops.where(ops.logical_and(left >= FIRST_WORD, right >= FIRST_WORD), VOCABULARY_SIZE * left + right, NOTHING)
    numbers = ops.sort(ops.concatenate([words, pairs], axis=1), axis=1)
    changes = ops.concatenate([ops.ones_like(numbers[:, :1]), ops.where(numbers[:, 1:] != numbers[:, :-1], 1, 0)], axis=1)
    return numbers, ops.logical_and(changes == 1, numbers != NOTHING)


def empty_bag(*, ngrams: int = 1) -> keras.Model:
    """Return the network on reviews int32 `(batch, steps)` before anything is known."""
    import keras

    return keras.Sequential([keras.Input((None,), dtype="int32"), bag_class()(ngrams, name="bag")], name="network")


def fit_bag(learner: Any) -> None:
    """Leave the regression on the training split in a learner, as a network."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    reviews = learner.reviews["train"].astype(np.int32)
    numbers, first = distinct_ngrams(np, reviews)
    known, found_in = np.unique(numbers[first], return_counts=True)
    known, found_in = known[found_in >= MIN_REVIEWS], found_in[found_in >= MIN_REVIEWS]
    idf = np.log((1 + len(reviews)) / (1 + found_in)) + 1
    row, column = _found(numbers, first=first, known=known)
    length = np.sqrt(np.bincount(row, idf[column] ** 2, minlength=len(reviews)))
    table = csr_matrix((idf[column] / length[row], (row, column)), shape=(len(reviews), len(known)))
    solver = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=0).fit(table, learner.labels["train"])
    network = empty_bag(ngrams=len(known))
    bag = network.get_layer("bag")
    bag.numbers.assign(known)
    bag.idf.assign(idf)
    bag.weight.assign(solver.coef_[0])
    bag.bias.assign(solver.intercept_)
    learner.network = learner.plain_network = network


def _found(
    numbers: npt.NDArray[np.int32], *, first: npt.NDArray[np.bool_], known: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return review and place among the known numbers of everything that is known."""
    wanted = numbers[first]
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    hit = known[place] == wanted
    return np.nonzero(first)[0][hit], place[hit]
