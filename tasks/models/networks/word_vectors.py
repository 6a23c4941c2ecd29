"""Vectors of words from the training reviews alone: which words stand together, and in which reviews."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.datasets.tokens import UNKNOWN, VOCABULARY_SIZE

EMBEDDING = "words"
VECTOR_SIZE = 96
WINDOW_WORDS = 5
# Of Levy, Goldberg and Dagan (2015): frequent neighbours count for less, and the spectrum is flattened by its root.
CONTEXT_POWER, SPECTRUM_POWER = 0.75, 0.5
# Spread of the vectors, and weight and bound of the log ratio beside them: by validation.
VECTOR_STD, RATIO_WEIGHT, MAX_RATIO = 0.2, 0.5, 2.0


def set_word_vectors(learner: Any) -> None:
    """Give a learner's embedding vectors computed from its training split, without a look at any other text."""
    vectors = word_vectors(learner.reviews["train"], label=learner.labels["train"])
    learner.network.get_layer(EMBEDDING).set_weights([vectors])


def word_vectors(reviews: npt.NDArray[np.uint16], *, label: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors of every token, float32 `(10000, 96)`.

    The first number is the log ratio of the shares of positive and of negative reviews that hold the word, smoothed by one
    (naive Bayes; Wang and Manning 2012). The others come from the singular value decomposition of the positive pointwise
    mutual information of words at most 5 apart, a pair counted by the inverse of its distance.
    """
    ratio = np.clip(log_ratio(reviews, label=label), -MAX_RATIO, MAX_RATIO)
    return np.concatenate([RATIO_WEIGHT * ratio[:, None], _neighbourhood(reviews)], axis=1).astype(np.float32)


def log_ratio(reviews: npt.NDArray[np.uint16], *, label: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the naive-Bayes log ratio of every token; 0 for what is no word."""
    row, column = np.nonzero(reviews > UNKNOWN)
    pair = np.unique(row * VOCABULARY_SIZE + reviews[row, column])
    positive = label[pair // VOCABULARY_SIZE] == 1
    words_of_pairs = pair % VOCABULARY_SIZE
    counts = [np.bincount(words_of_pairs[is_label], minlength=VOCABULARY_SIZE) + 1.0 for is_label in (positive, ~positive)]
    ratio = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
    ratio[: UNKNOWN + 1] = 0.0
    return np.asarray(ratio)


def _neighbourhood(reviews: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Return the leading 95 directions of the words' neighbourhoods."""
    from scipy.sparse import coo_matrix, csr_matrix
    from sklearn.utils.extmath import randomized_svd

    shape = (VOCABULARY_SIZE, VOCABULARY_SIZE)
    tokens = reviews.astype(np.int64)
    together = csr_matrix(shape)
    for distance in range(1, WINDOW_WORDS + 1):
        left, right = tokens[:, :-distance].ravel(), tokens[:, distance:].ravel()
        words = (left > UNKNOWN) & (right > UNKNOWN)
        weight = np.full(int(words.sum()), 1 / distance)
        together = together + coo_matrix((weight, (left[words], right[words])), shape=shape).tocsr()
    both = (together + together.T).tocoo()
    total = np.asarray(both.sum(axis=1)).ravel()
    context = total**CONTEXT_POWER / np.sum(total**CONTEXT_POWER)
    information = np.log(both.data / (total[both.row] * context[both.col]))
    is_informative = information > 0
    positive = csr_matrix((information[is_informative], (both.row[is_informative], both.col[is_informative])), shape=shape)
    left_vectors, values, _ = randomized_svd(positive, VECTOR_SIZE, n_iter=3, random_state=0)
    vectors = left_vectors * values**SPECTRUM_POWER
    return np.asarray((vectors * (VECTOR_STD / vectors.std()))[:, : VECTOR_SIZE - 1])
