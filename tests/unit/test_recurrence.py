"""Keras's recurrent layers against the recurrence written out, and that against steps computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, tanh
from typing import Any

import numpy as np
import pytest

from tasks.models.networks.recurrence import gru, lstm, simple_rnn

BATCH, STEPS, FEATURES, UNITS = 3, 17, 5, 4
LAYERS = {"SimpleRNN": simple_rnn, "GRU": gru, "LSTM": lstm}

every_layer = pytest.mark.parametrize(("name", "written_out"), LAYERS.items())


def with_random_weights(keras: Any, name: str, *, seed: int, **options: Any) -> Any:
    """A layer whose every weight is other than zero, biases too: a bias that is lost must be seen."""
    layer = getattr(keras.layers, name)(UNITS, **options)
    layer.build((None, None, FEATURES))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(0, 0.7, weight.shape) for weight in layer.get_weights()])
    return layer


def named(layer: Any) -> dict[str, Any]:
    return dict(zip(("kernel", "recurrent_kernel", "bias"), layer.get_weights(), strict=True))


@every_layer
@pytest.mark.parametrize("seed", range(3))
def test_a_keras_layer_is_the_recurrence_written_out(keras: Any, name: str, written_out: Callable[..., Any], seed: int) -> None:
    layer = with_random_weights(keras, name, seed=seed, return_sequences=True)
    inputs = np.random.default_rng(seed + 100).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    expected = written_out(inputs.astype(np.float64), **named(layer))
    assert expected.shape == (BATCH, STEPS, UNITS)
    np.testing.assert_allclose(np.asarray(layer(inputs)), expected, atol=1e-5)
    last = with_random_weights(keras, name, seed=seed)
    np.testing.assert_allclose(np.asarray(last(inputs)), expected[:, -1], atol=1e-5)


@every_layer
def test_gates_that_change_places_are_noticed(keras: Any, name: str, written_out: Callable[..., Any]) -> None:
    """What makes the test above worth having: a wrong order of gates is far from a rounding error."""
    layer = with_random_weights(keras, name, seed=0, return_sequences=True)
    inputs = np.random.default_rng(1).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    right = named(layer)
    swapped = {
        key: np.concatenate([w[..., UNITS : 2 * UNITS], w[..., :UNITS], w[..., 2 * UNITS :]], axis=-1) for key, w in right.items()
    }
    if name == "SimpleRNN":  # it has no gates; its two kernels can change places
        swapped = right | {"recurrent_kernel": right["recurrent_kernel"].T}
    assert np.abs(written_out(inputs, **swapped) - np.asarray(layer(inputs))).max() > 0.1


def test_one_unit_by_hand() -> None:
    """One feature, one unit, two steps of 1.0 and 2.0, each number written out."""
    x = np.array([[[1.0], [2.0]]])
    one = np.array([[0.5]])
    first = tanh(0.5 + 0.1)
    assert simple_rnn(x, kernel=one, recurrent_kernel=one, bias=np.array([0.1])).ravel().tolist() == pytest.approx(
        [first, tanh(0.5 * 2 + 0.5 * first + 0.1)]
    )
    s = lambda value: 1 / (1 + exp(-value))  # noqa: E731
    three = np.array([[0.1, 0.2, 0.3]])
    b = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.4]])
    z, r = s(0.1), s(0.2)
    h = (1 - z) * tanh(0.3 + r * 0.4)
    assert gru(x[:, :1], kernel=three, recurrent_kernel=three, bias=b).item() == pytest.approx(h)
    z, r = s(0.2 + 0.1 * h), s(0.4 + 0.2 * h)
    second = z * h + (1 - z) * tanh(0.6 + r * (0.3 * h + 0.4))
    assert gru(x, kernel=three, recurrent_kernel=three, bias=b)[0, 1, 0] == pytest.approx(second)
    four = np.array([[0.1, 0.2, 0.3, 0.4]])
    c = s(0.1) * tanh(0.3)
    assert lstm(x[:, :1], kernel=four, recurrent_kernel=four, bias=np.zeros(4)).item() == pytest.approx(s(0.4) * tanh(c))
