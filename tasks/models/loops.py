"""Recurrent layers as loops with gradients written by hand, which XLA turns into a lean program.

TensorFlow derives a loop's gradient by keeping every intermediate of every step, some ten arrays `(steps, batch, units)`. Here
the states alone are kept, and a step back computes the rest of its step again: less memory is moved than is computed. Results
and gradients are those of Keras's layers to rounding, which a test holds them to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# What a step gets of input and state, before its activations: `inputs @ kernel`, `state @ recurrent_kernel`, and the biases.
Tensors = list[Any]


@dataclass(frozen=True)
class Recurrence:
    """One kind of recurrent layer.

    Attributes:
        states: How many states it carries, the first of which is its output.
        forward: Products of input and of state `(batch, gates * units)`, and the states, to the next states.
        backward: The same, then the next states and the gradients of those, to the gradients of the two products, and what
            reaches the states past the products.
        needs_products: Whether `backward` reads the products; they are computed again then.
    """

    states: int
    forward: Callable[[Any, Any, Tensors], Tensors]
    backward: Callable[[Any, Any, Tensors, Tensors, Tensors], tuple[Any, Any, Tensors]]
    needs_products: bool = True


def _simple_forward(of_input: Any, of_state: Any, states: Tensors) -> Tensors:
    import tensorflow as tf

    del states
    return [tf.tanh(of_input + of_state)]


def _simple_backward(of_input: Any, of_state: Any, states: Tensors, following: Tensors, gradients: Tensors) -> Any:
    import tensorflow as tf

    del of_input, of_state, states
    before = gradients[0] * (1 - following[0] * following[0])
    return before, before, [tf.zeros_like(before)]


def _gru_gates(of_input: Any, of_state: Any) -> tuple[Any, Any, Any, Any]:
    """Return update gate, reset gate, what the candidate gets of the state, and the candidate, each `(batch, units)`."""
    import tensorflow as tf

    x_update, x_reset, x_candidate = tf.split(of_input, 3, axis=1)
    h_update, h_reset, h_candidate = tf.split(of_state, 3, axis=1)
    update, reset = tf.sigmoid(x_update + h_update), tf.sigmoid(x_reset + h_reset)
    return update, reset, h_candidate, tf.tanh(x_candidate + reset * h_candidate)


def _gru_forward(of_input: Any, of_state: Any, states: Tensors) -> Tensors:
    update, _, _, candidate = _gru_gates(of_input, of_state)
    return [candidate + update * (states[0] - candidate)]


def _gru_backward(of_input: Any, of_state: Any, states: Tensors, following: Tensors, gradients: Tensors) -> Any:
    import tensorflow as tf

    del following
    update, reset, h_candidate, candidate = _gru_gates(of_input, of_state)
    d_candidate = gradients[0] * (1 - update) * (1 - candidate * candidate)
    d_update = gradients[0] * (states[0] - candidate) * update * (1 - update)
    d_reset = d_candidate * h_candidate * reset * (1 - reset)
    d_input = tf.concat([d_update, d_reset, d_candidate], axis=1)
    d_state = tf.concat([d_update, d_reset, d_candidate * reset], axis=1)
    return d_input, d_state, [gradients[0] * update]


def _lstm_gates(of_input: Any, of_state: Any) -> list[Any]:
    """Return input gate, forget gate, candidate and output gate, each `(batch, units)`."""
    import tensorflow as tf

    let_in, keep, candidate, let_out = tf.split(of_input + of_state, 4, axis=1)
    return [tf.sigmoid(let_in), tf.sigmoid(keep), tf.tanh(candidate), tf.sigmoid(let_out)]


def _lstm_forward(of_input: Any, of_state: Any, states: Tensors) -> Tensors:
    import tensorflow as tf

    let_in, keep, candidate, let_out = _lstm_gates(of_input, of_state)
    carry = keep * states[1] + let_in * candidate
    return [let_out * tf.tanh(carry), carry]


def _lstm_backward(of_input: Any, of_state: Any, states: Tensors, following: Tensors, gradients: Tensors) -> Any:
    import tensorflow as tf

    let_in, keep, candidate, let_out = _lstm_gates(of_input, of_state)
    carry = tf.tanh(following[1])
    d_carry = gradients[1] + gradients[0] * let_out * (1 - carry * carry)
    before = tf.concat(
        [
            d_carry * candidate * let_in * (1 - let_in),
            d_carry * states[1] * keep * (1 - keep),
            d_carry * let_in * (1 - candidate * candidate),
            gradients[0] * carry * let_out * (1 - let_out),
        ],
        axis=1,
    )
    return before, before, [tf.zeros_like(carry), d_carry * keep]


SIMPLE_RNN = Recurrence(1, _simple_forward, _simple_backward, needs_products=False)
GRU = Recurrence(1, _gru_forward, _gru_backward)
LSTM = Recurrence(2, _lstm_forward, _lstm_backward)


def last_states(
    kind: Recurrence, inputs: Any, *, initial: Tensors, kernel: Any, recurrent_kernel: Any, biases: Tensors
) -> Tensors:
    """Return the states after the last step, each `(batch, units)`.

    Args:
        kind: The layer.
        inputs: float32 `(steps, batch, features)`; the number of steps is known.
        initial: The states before the first step.
        kernel: `(features, gates * units)`.
        recurrent_kernel: `(units, gates * units)`.
        biases: Of the product with the inputs, and of that with the state where it has one, each `(gates * units,)`.
    """
    import tensorflow as tf

    steps, units = inputs.shape[0], recurrent_kernel.shape[0]

    def run(inputs: Any, kernel: Any, recurrent_kernel: Any, *others: Any) -> Any:
        biases, initial = others[: len(others) - kind.states], others[len(others) - kind.states :]

        def products(t: Any, states: Any) -> tuple[Any, Any]:
            of_input, of_state = tf.matmul(inputs[t], kernel) + biases[0], tf.matmul(states[0], recurrent_kernel)
            return of_input, of_state + biases[1] if len(biases) > 1 else of_state

        def forward(t: Any, states: Any, kept: Any) -> Any:
            following = kind.forward(*products(t, states), list(states))
            return t + 1, tuple(following), tuple(array.write(t, state) for array, state in zip(kept, states, strict=True))

        kept = tuple(tf.TensorArray(tf.float32, size=steps, element_shape=(None, units)) for _ in initial)
        _, last, kept = tf.while_loop(lambda t, *_: t < steps, forward, (0, initial, kept), maximum_iterations=steps)
        seen = [array.stack() for array in kept]

        def gradient(*d_last: Any) -> Any:
            def backward(n: Any, following: Any, d_states: Any, sums: Any, d_inputs: Any) -> Any:
                t = steps - 1 - n
                states = [array[t] for array in seen]
                of_input, of_state = products(t, states) if kind.needs_products else (None, None)
                d_input, d_state, past = kind.backward(of_input, of_state, states, list(following), list(d_states))
                past[0] += tf.matmul(d_state, recurrent_kernel, transpose_b=True)
                sums = (
                    sums[0] + tf.matmul(inputs[t], d_input, transpose_a=True),
                    sums[1] + tf.matmul(states[0], d_state, transpose_a=True),
                    # Summed over the batch after the loop: within it, XLA adds number by number.
                    *(sum_ + one for sum_, one in zip(sums[2:], (d_input, d_state), strict=False)),
                )
                return n + 1, tuple(states), tuple(past), sums, d_inputs.write(t, tf.matmul(d_input, kernel, transpose_b=True))

            d_inputs = tf.TensorArray(tf.float32, size=steps, element_shape=(None, inputs.shape[2]))
            by_example = tf.zeros((tf.shape(initial[0])[0], kernel.shape[1]))
            sums = (tf.zeros_like(kernel), tf.zeros_like(recurrent_kernel), *(by_example for _ in biases))
            _, _, d_initial, sums, d_inputs = tf.while_loop(
                lambda n, *_: n < steps, backward, (0, tuple(last), d_last, sums, d_inputs), maximum_iterations=steps
            )
            d_biases = [tf.reduce_sum(one, axis=0) for one in sums[2:]]
            return d_inputs.stack(), *sums[:2], *d_biases, *d_initial

        return tuple(last), gradient

    return list(tf.custom_gradient(run)(inputs, kernel, recurrent_kernel, *biases, *initial))
