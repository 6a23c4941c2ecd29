"""What is run in place of Keras's recurrent layers gives their results and gradients, and is run where it is meant to be."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from tasks.models import variant_named
from tasks.models.device import Device
from tasks.models.engine.execution import Execution, choose_execution
from tasks.models.engine.recurrent import accelerate, loop_of

BATCH, STEPS, FEATURES, UNITS = 5, 13, 3, 4
XLA, CUDNN = Execution(use_cudnn=False, jit_compile=True), Execution(use_cudnn=True, jit_compile=False)
CASES = {
    "SimpleRNN": {},
    "GRU": {},
    "LSTM": {},
    "GRU that hands out every step": {"return_sequences": True},
    "GRU without biases": {"use_bias": False},
    "GRU with dropout": {"dropout": 0.3},
    "GRU with recurrent dropout": {"recurrent_dropout": 0.3},
    "GRU with both": {"dropout": 0.3, "recurrent_dropout": 0.3},
    "GRU with both that hands out every step": {"dropout": 0.3, "recurrent_dropout": 0.3, "return_sequences": True},
    "GRU that reads backwards": {"go_backwards": True},
    "SimpleRNN with both": {"dropout": 0.3, "recurrent_dropout": 0.3},
    "LSTM with dropout": {"dropout": 0.3},
    "LSTM with both": {"dropout": 0.3, "recurrent_dropout": 0.3},
}


def network_of(keras: Any, name: str, *, seed: int) -> Any:
    """The same network for the same seed, masks of dropout included, with every weight other than zero."""
    layer = getattr(keras.layers, name.split(maxsplit=1)[0])(UNITS, seed=7, **CASES[name])
    # With a layer in front of it, what it reads has a gradient.
    network = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.Identity(), layer])
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0, 0.6, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


class Step:
    """What one step of training sees, in a graph that is traced once: seeds change nothing but the weights."""

    def __init__(self, keras: Any, name: str, *, execution: Execution | None = None, compiled: bool = True) -> None:
        import tensorflow as tf

        self._keras, self._name = keras, name
        plain = network_of(keras, name, seed=0)
        self.network = network = accelerate(plain, execution) if execution else plain
        # The states that masks of dropout are drawn from, which a step moves on.
        self._states = [(variable, variable.numpy()) for variable in network.non_trainable_variables]
        weights = [variable.value for variable in network.trainable_variables]

        @tf.function(jit_compile=compiled)
        def run(given: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(given)
                output = network(given, training=True)
                # A different factor for every number: a gradient that goes to the wrong place is seen.
                factors = tf.reshape(tf.range(1.0, tf.cast(tf.size(output), tf.float32) + 1), tf.shape(output))
                loss = tf.reduce_sum(output * factors)
            return output, tape.gradient(loss, [*weights, given])

        self._run = run

    def __call__(self, inputs: Any, *, seed: int) -> tuple[Any, list[Any]]:
        """Return the output, the gradients of weights, and that of the inputs."""
        import tensorflow as tf

        self.network.set_weights(network_of(self._keras, self._name, seed=seed).get_weights())
        for variable, state in self._states:
            variable.assign(state)
        output, gradients = self._run(tf.constant(inputs))
        return output.numpy(), [gradient.numpy() for gradient in gradients]


@pytest.fixture(scope="module")
def keras_step(keras: Any) -> Callable[..., Step]:
    """Keras's own step of a case, traced once."""
    return lru_cache(maxsize=None)(lambda name, compiled: Step(keras, name, compiled=compiled))


@pytest.fixture(scope="module")
def xla_step(keras: Any) -> Callable[..., Step]:
    """Our step of a case, compiled once."""
    return lru_cache(maxsize=None)(lambda name: Step(keras, name, execution=XLA))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_those_of_keras(
    xla_step: Callable[..., Step], keras_step: Callable[..., Step], name: str, seed: int
) -> None:
    inputs = np.random.default_rng(seed + 10).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    # A loop draws masks as Keras does where nothing is compiled; the other layers are left to Keras's own draw.
    ours = xla_step(name)
    expected = keras_step(name, compiled=way_of(ours.network.layers[-1]) != "loop")(inputs, seed=seed)
    found = ours(inputs, seed=seed)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
    assert len(found[1]) == len(expected[1])
    for mine, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-4)
        assert np.abs(theirs).max() > 0.1  # what is compared is not zero


@pytest.mark.parametrize("batch", [BATCH, 6])
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM", "GRU with both", "LSTM with both", "SimpleRNN with both"])
def test_parts_of_a_batch_give_what_the_whole_does(
    keras: Any, keras_step: Callable[..., Step], name: str, parts: int, batch: int
) -> None:
    """Five examples do not divide, six do."""
    inputs = np.random.default_rng(4).normal(size=(batch, STEPS, FEATURES)).astype(np.float32)
    expected = keras_step(name, compiled=False)(inputs, seed=0)
    execution = Execution(use_cudnn=False, jit_compile=False, num_shards=parts)
    found = Step(keras, name, execution=execution, compiled=False)(inputs, seed=0)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM", "GRU with both"])
def test_a_layer_that_reads_the_input_of_the_network_computes_no_gradient_of_it(keras: Any, name: str, parts: int) -> None:
    import tensorflow as tf

    inputs = tf.constant(np.random.default_rng(5).normal(size=(6, STEPS, FEATURES)).astype(np.float32))
    kernel = Execution(use_cudnn=False, jit_compile=False, num_shards=parts) if parts > 1 else XLA
    plain = network_of(keras, name, seed=0)
    layer = type(plain.layers[-1]).from_config(plain.layers[-1].get_config())
    alone = accelerate(keras.Sequential([keras.Input((STEPS, FEATURES)), layer]), kernel)
    alone.set_weights(plain.get_weights())
    found = []
    for network in (plain, alone):

        @tf.function
        def run(network: Any = network) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(network(inputs, training=True) ** 2)
            return tape.gradient(loss, [inputs, *(variable.value for variable in network.trainable_variables)])

        found.append(run())
    assert found[0][0] is not None
    assert found[1][0] is None
    for theirs, mine in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM"])
def test_states_that_are_given_are_gone_on_from(keras: Any, name: str) -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    states = [rng.normal(size=(BATCH, UNITS)).astype(np.float32) for _ in range(2 if name == "LSTM" else 1)]
    plain, ours = network_of(keras, name, seed=0), accelerate(network_of(keras, name, seed=0), XLA)
    expected, found = (network.layers[-1](inputs, initial_state=states) for network in (plain, ours))
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-6)
    without = np.asarray(ours(inputs))
    assert np.abs(without - np.asarray(found)).max() > 1e-4


def way_of(layer: Any) -> str:
    """How a recurrent layer is run."""
    if loop_of(layer):
        return "loop"
    return {"GRUCell": "Keras", "LSTMCell": "Keras", "SimpleRNNCell": "Keras", "SplittingGRUCell": "split"}[
        type(layer.cell).__name__
    ]


@pytest.mark.parametrize(
    ("dataset", "variant", "expected"),
    [
        ("jena", "gru_baseline", ["loop"]),
        ("jena", "gru_dropout", ["loop"]),
        ("jena", "gru_stacked", ["split", "loop"]),
        ("jena", "gru_bidirectional", ["loop", "split"]),
        ("jena", "gru_daily", ["loop"]),
        ("imdb", "gru_baseline", ["loop"]),
        ("imdb", "gru_dropout", ["loop"]),
        ("imdb", "simple_rnn", ["loop"]),
        ("imdb", "lstm", ["loop"]),
        ("imdb", "gru_pooled", ["split", "split"]),
    ],
)
def test_the_way_of_every_layer_on_a_processor(keras: Any, dataset: str, variant: str, expected: list[str]) -> None:
    chosen = variant_named(variant, dataset=dataset)
    plain, cpu = chosen.network(), Device(kind="cpu", count=1, backend="tensorflow")
    network = accelerate(plain, choose_execution(plain, device=cpu, batch_size=128, has_schedule=False))
    assert [way_of(layer) for layer in recurrent_layers(keras, network)] == expected
    # The plain network, which is saved, keeps Keras's own layers.
    assert {way_of(layer) for layer in recurrent_layers(keras, plain)} == {"Keras"}


def recurrent_layers(keras: Any, network: Any) -> list[Any]:
    found = []
    for layer in network.layers:
        both_ways = isinstance(layer, keras.layers.Bidirectional)
        found += [layer.forward_layer, layer.backward_layer] if both_ways else [layer]
    return [layer for layer in found if isinstance(layer, keras.layers.RNN)]


def test_cudnn_is_left_alone(keras: Any) -> None:
    network = accelerate(network_of(keras, "GRU", seed=0), CUDNN)
    assert way_of(network.layers[-1]) == "Keras"


def test_a_mask_is_refused(keras: Any) -> None:
    network = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.GRU(UNITS)])
    layer = accelerate(network, XLA).layers[-1]
    with pytest.raises(NotImplementedError, match="got a mask"):
        layer(np.zeros((1, STEPS, FEATURES), np.float32), mask=np.ones((1, STEPS), bool))
