"""The linear baseline for reviews: logistic regression on the words and pairs of words that a review holds."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.tokens import RANK_OFFSET, VOCABULARY_SIZE

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
            index = self._index_of(numbers)
            is_known = ops.logical_and(first, ops.equal(ops.take(self.numbers, index), numbers))
            idf = ops.where(is_known, ops.take(self.idf, index), 0.0)
            length = ops.sqrt(ops.maximum(ops.sum(idf * idf, axis=1), 1e-12))
            score = ops.sum(idf * ops.take(self.weight, index), axis=1) / length
            return ops.sigmoid(score[:, None] + self.bias)

        def _index_of(self, numbers: Any) -> Any:
            """Return where each number stands among the is_known ones, or some other index: by halving.

            `searchsorted` compares every number with every other one when XLA compiles it.
            """
            index = ops.zeros_like(numbers)
            for step in reversed([2**bit for bit in range(max(1, self.ngrams).bit_length())]):
                further = ops.minimum(index + step, self.ngrams - 1)
                index = ops.where(ops.take(self.numbers, further) <= numbers, further, index)
            return index

        def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (input_shape[0], 1)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "ngrams": self.ngrams}

    return BagOfNgrams


LAYERS = (bag_class,)


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
    vocabulary, num_reviews = np.unique(numbers[first], return_counts=True)
    vocabulary, num_reviews = vocabulary[num_reviews >= MIN_REVIEWS], num_reviews[num_reviews >= MIN_REVIEWS]
    idf = np.log((1 + len(reviews)) / (1 + num_reviews)) + 1
    row, column = _vocabulary_entries(numbers, first=first, vocabulary=vocabulary)
    length = np.sqrt(np.bincount(row, idf[column] ** 2, minlength=len(reviews)))
    table = csr_matrix((idf[column] / length[row], (row, column)), shape=(len(reviews), len(vocabulary)))
    solver = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=0).fit(table, learner.labels["train"])
    network = empty_bag(ngrams=len(vocabulary))
    bag = network.get_layer("bag")
    bag.numbers.assign(vocabulary)
    bag.idf.assign(idf)
    bag.weight.assign(solver.coef_[0])
    bag.bias.assign(solver.intercept_)
    learner.network = learner.plain_network = network


def _vocabulary_entries(
    numbers: npt.NDArray[np.int32], *, first: npt.NDArray[np.bool_], vocabulary: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return review and index among the vocabulary numbers of everything that is vocabulary."""
    candidates = numbers[first]
    index = np.searchsorted(vocabulary, candidates).clip(max=len(vocabulary) - 1)
    hit = vocabulary[index] == candidates
    return np.nonzero(first)[0][hit], index[hit]
