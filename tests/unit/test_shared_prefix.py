"""The shared prefix is the plain run over all steps, in loss and in every gradient, and not what a cut review would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tasks.models.engine.execution import Execution
from tasks.models.engine.recurrent import accelerate, loop_of
from tasks.models.engine.shared_prefix import padded_model, shared_prefix_model, skips_padding_steps
from tasks.models.networks.imdb import gru_network

STEPS, SHORT, WORDS = 40, 7, 30
LAYERS = ("GRU", "LSTM", "SimpleRNN")


def small_network(keras: Any, layer: str, *, seed: int = 0) -> Any:
    """Strong weights: the state that padding leaves behind is then far from zero."""
    options = {} if layer == "SimpleRNN" else {"use_cudnn": False}
    recurrent = getattr(keras.layers, layer)(5, **options)
    head = keras.layers.Dense(1, activation="sigmoid")
    network = keras.Sequential(
        [keras.Input((STEPS,), dtype="int32"), keras.layers.Embedding(WORDS, 4), recurrent, head], name="network"
    )
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0, 0.5, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


def reviews(*, width: int, steps: int = STEPS, words: int = WORDS) -> tuple[np.ndarray, np.ndarray]:
    """Seven padded reviews of at most `width` tokens, the shortest of one and the longest of all, and their labels."""
    rng = np.random.default_rng(width)
    padded = np.zeros((7, steps), dtype=np.int32)
    for row, length in enumerate(np.linspace(1, width, 7).astype(int)):
        padded[row, steps - length :] = rng.integers(1, words, length)
    return padded, rng.integers(0, 2, (7, 1)).astype(np.float32)


def loss_and_gradients(keras: Any, call: Callable[[Any], Any], *, variables: list[Any], tokens: np.ndarray, labels: Any) -> Any:
    import tensorflow as tf

    @tf.function
    def run(given: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, call(given)))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    loss, gradients = run(tf.constant(tokens))
    return float(loss), [gradient.numpy() for gradient in gradients]


@dataclass(frozen=True)
class Case:
    """A network, reviews of at most `SHORT` tokens with labels, and the plain run over all steps."""

    layer: str
    network: Any
    tokens: np.ndarray
    labels: np.ndarray
    loss: float
    gradients: list[np.ndarray]


@pytest.fixture(scope="module", params=LAYERS)
def case(keras: Any, request: pytest.FixtureRequest) -> Case:
    network = small_network(keras, request.param)
    tokens, labels = reviews(width=SHORT)
    loss, gradients = loss_and_gradients(keras, network, variables=network.trainable_variables, tokens=tokens, labels=labels)
    return Case(request.param, network, tokens, labels, loss, gradients)


def run(keras: Any, case: Case, *, call: Any, width: int) -> Any:
    variables, tokens = case.network.trainable_variables, case.tokens[:, STEPS - width :]
    return loss_and_gradients(keras, call, variables=variables, tokens=tokens, labels=case.labels)


@pytest.mark.parametrize("width", [SHORT, 25])
def test_loss_and_every_gradient_are_those_of_the_plain_run(keras: Any, case: Case, width: int) -> None:
    loss, gradients = run(keras, case, call=shared_prefix_model(case.network, width), width=width)
    assert loss == pytest.approx(case.loss, rel=1e-6)
    assert len(gradients) == len(case.gradients) == len(case.network.get_weights())
    for gradient, expected in zip(gradients, case.gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    # Row 0 embeds the padding; it learns from the prefix, so it has a gradient to compare.
    assert np.abs(case.gradients[0][0]).max() > 1e-4


@pytest.mark.parametrize("width", [SHORT, 25, STEPS])
@pytest.mark.parametrize("parts", [1, 7])
def test_the_loops_of_the_project_share_the_prefix_too(keras: Any, case: Case, parts: int, width: int) -> None:
    """Whatever the width: they leave out the columns that are padding for all seven reviews."""
    needed_steps = width != SHORT
    execution = Execution(use_cudnn=False, jit_compile=parts == 1, num_shards=parts, skip_padding_steps=needed_steps)
    ours = accelerate(small_network(keras, case.layer), execution)
    assert loop_of(ours.layers[1])
    assert skips_padding_steps(ours) is needed_steps
    shared = shared_prefix_model(ours, width)
    cut = case.tokens[:, STEPS - width :]
    loss, gradients = loss_and_gradients(keras, shared, variables=ours.trainable_variables, tokens=cut, labels=case.labels)
    assert loss == pytest.approx(case.loss, rel=1e-6)
    for gradient, theirs in zip(gradients, case.gradients, strict=True):
        np.testing.assert_allclose(gradient, theirs, rtol=1e-4, atol=1e-6)


def test_a_run_without_the_prefix_is_another_function(keras: Any, case: Case) -> None:
    """What the test above must notice: a recurrent layer that starts at zero and not behind the padding."""
    embedding, recurrent, head = case.network.layers

    def cut(short: Any) -> Any:
        return head(recurrent(embedding(short)))

    loss, gradients = run(keras, case, call=cut, width=SHORT)
    assert abs(loss - case.loss) > 1e-3
    assert max(float(np.abs(a - b).max()) for a, b in zip(gradients, case.gradients, strict=True)) > 1e-3
    assert np.abs(gradients[0][0] - case.gradients[0][0]).max() > 1e-3


def test_the_real_network_over_500_steps(keras: Any) -> None:
    keras.utils.set_random_seed(0)
    network = gru_network()
    tokens, labels = reviews(width=80, steps=500, words=10_000)
    variables = network.trainable_variables
    plain_loss, plain = loss_and_gradients(keras, network, variables=variables, tokens=tokens, labels=labels)
    shared = shared_prefix_model(network, 80)
    loss, gradients = loss_and_gradients(keras, shared, variables=variables, tokens=tokens[:, 420:], labels=labels)
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    for gradient, expected in zip(gradients, plain, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-7)


def test_a_full_width_is_the_network_itself(keras: Any) -> None:
    network = small_network(keras, "GRU")
    tokens, _ = reviews(width=STEPS)
    expected = np.asarray(network.predict_on_batch(tokens))
    assert np.array_equal(np.asarray(padded_model(network, STEPS).predict_on_batch(tokens)), expected)
    assert [layer.name for layer in shared_prefix_model(network, STEPS).layers][1:] == ["network"]


def test_models_of_all_widths_share_the_weights(keras: Any) -> None:
    network = small_network(keras, "LSTM")
    models = [shared_prefix_model(network, width) for width in (5, 12, STEPS)]
    names = {variable.path for model in models for variable in model.trainable_variables}
    assert names == {variable.path for variable in network.trainable_variables}
    tokens, _ = reviews(width=5)
    before = [
        np.asarray(model.predict_on_batch(tokens[:, STEPS - width :]))
        for model, width in zip(models, (5, 12, STEPS), strict=True)
    ]
    np.testing.assert_allclose(before[1], before[0], rtol=1e-5)
    np.testing.assert_allclose(before[2], before[0], rtol=1e-5)
    network.set_weights([0.5 * weight for weight in network.get_weights()])
    after = np.asarray(models[0].predict_on_batch(tokens[:, STEPS - 5 :]))
    assert np.abs(after - before[0]).max() > 1e-3
