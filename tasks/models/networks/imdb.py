"""The networks of the IMDB data set, and the linear baseline: on reviews of int32 `(batch, 500)`, padded in front.

A network whose input has no fixed width declares that padding changes nothing in its result: its reviews are then cut to
their own width. A test holds it to that.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tasks.datasets.tokens import PADDING, REVIEW_TOKENS, VOCABULARY_SIZE
from tasks.models.networks.tfidf import empty_bag, fit_bag
from tasks.models.networks.word_vectors import EMBEDDING, VECTOR_SIZE, set_word_vectors
from tasks.models.optimizers import averaged_adam, cosine
from tasks.models.spec import Variant

if TYPE_CHECKING:
    import keras


def gru_network(*, dropout: float = 0.0) -> keras.Model:
    """Return Embedding(10000, 32), GRU(32) and one sigmoid on padded reviews of int32 `(batch, 500)`."""
    import keras

    return _sequential(keras.layers.GRU(32, dropout=dropout, recurrent_dropout=dropout))


def _gru_bidirectional() -> keras.Model:
    import keras

    return _sequential(keras.layers.Bidirectional(keras.layers.GRU(32)))


def _simple_rnn() -> keras.Model:
    import keras

    return _sequential(keras.layers.SimpleRNN(32))


def _lstm() -> keras.Model:
    import keras

    return _sequential(keras.layers.LSTM(32))


def _sequential(recurrent: keras.layers.Layer) -> keras.Model:
    import keras

    return keras.Sequential(
        [
            keras.Input((REVIEW_TOKENS,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY_SIZE, 32),
            recurrent,
            keras.layers.Dense(1, activation="sigmoid"),
        ],
        name="network",
    )


def _gru_pooled() -> keras.Model:
    """Return a bidirectional GRU over pairs of words whose outputs are pooled over time (Johnson and Zhang 2016).

    Padding is zero all the way: whole words are multiplied by the mask, and no layer before the pooling has a bias; the mask
    as a channel of its own stands in for one. Dropping whole words and a part of every vector keeps it from learning
    reviews by heart.
    """
    import keras
    from keras import layers, ops

    tokens = keras.Input((None,), dtype="int32")
    mask = ops.expand_dims(ops.cast(ops.not_equal(tokens, PADDING), "float32"), -1)
    vectors = layers.Embedding(VOCABULARY_SIZE, VECTOR_SIZE, name=EMBEDDING)(tokens)
    vectors = layers.Dropout(0.4, noise_shape=(None, None, 1))(layers.SpatialDropout1D(0.3)(vectors))
    words = layers.ZeroPadding1D(1)(ops.concatenate([vectors * mask, mask], -1))
    mask = ops.max(layers.Reshape((-1, 2))(mask), -1, keepdims=True)  # a step is two words
    steps = layers.Conv1D(64, 4, strides=2, activation="relu", use_bias=False)(words) * mask
    forward, backward = (
        layers.GRU(32, return_sequences=True, use_bias=False, go_backwards=back)(steps) for back in (False, True)
    )
    states = ops.concatenate([forward, ops.flip(backward, 1)], -1)
    mean = ops.sum(states * mask, 1) / ops.maximum(ops.sum(mask, 1), 1.0)
    largest = ops.max(states * mask - 2 * (1 - mask), 1)  # a state is within (-1, 1), so padding never wins
    pooled = layers.Dropout(0.5)(ops.concatenate([mean, largest], -1))
    return keras.Model(tokens, layers.Dense(1, activation="sigmoid")(pooled), name="network")


def warm_cosine(done: float) -> float:
    """Return the factor of `cosine`, after a start from 0 over the first hundredth and a half of the budget."""
    return min(1.0, done / 0.035) * cosine(done)


VARIANTS = (
    Variant(
        name="gru_baseline",
        summary="Embedding(10000, 32), GRU(32), Dense(1)",
        network=gru_network,
        epochs=10,
    ),
    Variant(
        name="gru_dropout",
        summary="Embedding(10000, 32), GRU(32, dropout 0.2, recurrent dropout 0.2), Dense(1)",
        network=partial(gru_network, dropout=0.2),
        epochs=10,
    ),
    Variant(
        name="simple_rnn",
        summary="Embedding(10000, 32), SimpleRNN(32), Dense(1)",
        network=_simple_rnn,
        epochs=10,
        tutorial_best=0.8592,
    ),
    Variant(
        name="lstm",
        summary="Embedding(10000, 32), LSTM(32), Dense(1)",
        network=_lstm,
        epochs=10,
        tutorial_best=0.8888,
    ),
    Variant(
        name="gru_bidirectional",
        summary="Embedding(10000, 32), Bidirectional(GRU(32)), Dense(1)",
        network=_gru_bidirectional,
        epochs=10,
    ),
    Variant(
        name="gru_pooled",
        summary="Embedding(10000, 96) from co-occurrence, Conv1D(64), Bidirectional(GRU(32)), mean and maximum; Adam, averaged",
        network=_gru_pooled,
        epochs=5,
        batch_size=64,
        learning_rate=2e-3,
        optimizer=averaged_adam,
        schedule=warm_cosine,
        init_weights=set_word_vectors,
        crop_tokens=256,
    ),
    Variant(
        name="tfidf_logistic",
        summary="binary tf-idf of words and pairs of words, logistic regression",
        network=empty_bag,
        epochs=1,
        fit_closed_form=fit_bag,
    ),
)
