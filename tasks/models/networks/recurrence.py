"""Recurrent layers written out in numpy: what Keras's fast ones compute, to read, and to hold them to.

Every function takes inputs `(batch, steps, features)`, starts from a state of zeros, and returns the output of every step,
`(batch, steps, units)`; the last step is `[:, -1]`. Weights are those of the Keras layer of the same name, as
`layer.get_weights()` returns them. Nothing trains or predicts with these functions: the fast loops are in
`tasks.models.engine.loops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), in a form that does not overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def simple_rnn(inputs: Array, *, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """Run the simplest recurrence: `output_t = tanh(W·x_t + U·state_t + b)`, and the output is the next state.

    Args:
        inputs: Of `(batch, steps, features)`.
        kernel: W, `(features, units)`.
        recurrent_kernel: U, `(units, units)`.
        bias: b, `(units,)`.
    """

    def step(state: Array, x: Array) -> Array:
        return np.asarray(np.tanh(x @ kernel + state @ recurrent_kernel + bias))

    return _every_step(inputs, state=np.zeros((len(inputs), len(recurrent_kernel))), step=step)


def gru(inputs: Array, *, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """Run a gated recurrent unit (Cho et al. 2014) in the form that cuDNN has, `reset_after`.

    With the update gate z and the reset gate r, both sigmoids of input and state:
    `candidate_t = tanh(W·x_t + b + r · (U·state_t + c))` and `state_{t+1} = z · state_t + (1 - z) · candidate_t`. The reset
    gate comes after the product with U, which is why U has a bias c of its own.

    Args:
        inputs: Of `(batch, steps, features)`.
        kernel: W of update gate, reset gate and candidate, side by side, `(features, 3 · units)`.
        recurrent_kernel: U in the same order, `(units, 3 · units)`.
        bias: b and c, `(2, 3 · units)`.
    """

    def step(state: Array, x: Array) -> Array:
        x_update, x_reset, x_candidate = np.split(x @ kernel + bias[0], 3, axis=1)
        h_update, h_reset, h_candidate = np.split(state @ recurrent_kernel + bias[1], 3, axis=1)
        update, reset = sigmoid(x_update + h_update), sigmoid(x_reset + h_reset)
        candidate = np.tanh(x_candidate + reset * h_candidate)
        return np.asarray(update * state + (1.0 - update) * candidate)

    return _every_step(inputs, state=np.zeros((len(inputs), len(recurrent_kernel))), step=step)


def lstm(inputs: Array, *, kernel: Array, recurrent_kernel: Array, bias: Array) -> Array:
    """Run a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Beside the output it carries c, which nothing squashes on its way from step to step:
    `c_{t+1} = forget · c_t + input · tanh(candidate)` and `output_t = output gate · tanh(c_{t+1})`.

    Args:
        inputs: Of `(batch, steps, features)`.
        kernel: W of input gate, forget gate, candidate and output gate, side by side, `(features, 4 · units)`.
        recurrent_kernel: U in the same order, `(units, 4 · units)`.
        bias: b in the same order, `(4 · units,)`.
    """
    units = len(recurrent_kernel)

    def step(state: Array, x: Array) -> Array:
        output, carry = state[:, :units], state[:, units:]
        gates = np.split(x @ kernel + output @ recurrent_kernel + bias, 4, axis=1)
        input_gate, forget_gate, output_gate = sigmoid(gates[0]), sigmoid(gates[1]), sigmoid(gates[3])
        carry = forget_gate * carry + input_gate * np.tanh(gates[2])
        return np.concatenate([output_gate * np.tanh(carry), carry], axis=1)

    return _every_step(inputs, state=np.zeros((len(inputs), 2 * units)), step=step)[:, :, :units]


def _every_step(inputs: Array, *, state: Array, step: Callable[[Array, Array], Array]) -> Array:
    """Return the state after every step, `(batch, steps, size of the state)`."""
    states = []
    for t in range(inputs.shape[1]):
        state = step(state, inputs[:, t])
        states.append(state)
    return np.stack(states, axis=1)
