"""The optimizer of embeddings against values by hand and against Keras's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.models.engine.rmsprop import accelerate_optimizer
from tasks.models.optimizers import adamw, rmsprop

WORDS, SIZE = 7, 3


def test_a_word_that_is_read_twice(keras: Any) -> None:
    """Its rows are squared one by one: 0.1 * (2² + 1²) = 0.5, and the step is 0.1 * (2 + 1) / sqrt(0.5) = 0.424264."""
    import tensorflow as tf

    table = keras.Variable(np.ones((WORDS, 1), np.float32))
    optimizer = accelerate_optimizer(rmsprop(0.1))
    optimizer.build([table])
    rows = tf.IndexedSlices(tf.constant([[2.0], [5.0], [1.0]]), tf.constant([4, 0, 4]), dense_shape=(WORDS, 1))
    optimizer.apply([rows], [table])
    velocity = np.asarray(optimizer._velocities[0])[:, 0]
    np.testing.assert_allclose(velocity, [2.5, 0, 0, 0, 0.5, 0, 0], rtol=1e-6)
    expected = [1 - 0.5 / np.sqrt(2.5), 1, 1, 1, 1 - 0.424264, 1, 1]
    np.testing.assert_allclose(np.asarray(table)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_steps_are_those_of_keras(keras: Any, compiled: bool) -> None:
    rng = np.random.default_rng(0)
    # Few words and many tokens, so that most words come again within a batch.
    tokens, labels = rng.integers(WORDS, size=(5, 16, 9)), rng.integers(2, size=(5, 16, 1)).astype(np.float32)
    found = []
    for optimizer in (rmsprop(1e-2), accelerate_optimizer(rmsprop(1e-2))):
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Embedding(WORDS, SIZE), keras.layers.Flatten(), keras.layers.Dense(1)]
        network = keras.Sequential([keras.Input((9,), dtype="int32"), *layers])
        network.compile(optimizer, "mse", jit_compile=compiled)
        before = network.get_weights()
        losses = [network.train_on_batch(*batch) for batch in zip(tokens, labels, strict=True)]
        assert all(np.abs(a - b).max() > 1e-2 for a, b in zip(before, network.get_weights(), strict=True))
        found.append([*network.get_weights(), *(np.asarray(one) for one in optimizer.variables), np.array(losses)])
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_fast_form_has_the_settings_of_the_plain_one(keras: Any) -> None:
    plain = keras.optimizers.RMSprop(3e-3, rho=0.8, momentum=0.2, clipnorm=0.5)
    fast = accelerate_optimizer(plain)
    assert type(fast) is not type(plain)
    assert fast.get_config() == plain.get_config()
    other = adamw(1e-3)
    assert accelerate_optimizer(other) is other  # which has no fast form
