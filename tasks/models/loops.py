"""Recurrent layers as loops with gradients written by hand, which XLA turns into a lean program.

TensorFlow derives a loop's gradient by keeping every intermediate of every step, some ten arrays `(steps, batch, units)`. Here
the states alone are kept, and a step back computes the rest of its step again, which takes less time than to move so much
memory. Results and gradients are those of Keras's layers to rounding, which a test holds them to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tensors = list[Any]


@dataclass(frozen=True)
class Recurrence:
    """One kind of recurrent layer.

    A step has two products, `inputs @ kernel` and `output @ recurrent_kernel`, with their biases, each `(batch, gates * units)`.

    Attributes:
        states: How many states it carries, the first of which is its output.
        summed: Whether it reads nothing but the sum of the products.
        reads_products: Whether `backward` reads the products; they are computed again for it.
        forward: Products, or their sum alone, and states to the next states.
        backward: Products, states, next states and the gradients of those, to the gradients of the products, and to what reaches
            the states past the products.
    """

    states: int
    summed: bool
    reads_products: bool
    forward: Callable[[Tensors, Tensors], Tensors]
    backward: Callable[[Tensors, Tensors, Tensors, Tensors], tuple[Tensors, Tensors]]


def _simple_forward(products: Tensors, states: Tensors) -> Tensors:
    import tensorflow as tf

    del states
    return [tf.tanh(products[0])]


def _simple_backward(products: Tensors, states: Tensors, following: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    del products, states
    before = gradients[0] * (1 - following[0] * following[0])  # the derivative of tanh, from its value
    return [before], [tf.zeros_like(before)]


def _gru_gates(products: Tensors) -> tuple[Any, Any, Any, Any]:
    """Return update gate, reset gate, what the candidate gets of the state, and the candidate, each `(batch, units)`."""
    import tensorflow as tf

    x_update, x_reset, x_candidate = tf.split(products[0], 3, axis=1)
    h_update, h_reset, h_candidate = tf.split(products[1], 3, axis=1)
    update, reset = tf.sigmoid(x_update + h_update), tf.sigmoid(x_reset + h_reset)
    return update, reset, h_candidate, tf.tanh(x_candidate + reset * h_candidate)


def _gru_forward(products: Tensors, states: Tensors) -> Tensors:
    update, _, _, candidate = _gru_gates(products)
    return [candidate + update * (states[0] - candidate)]


def _gru_backward(products: Tensors, states: Tensors, following: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    del following
    update, reset, h_candidate, candidate = _gru_gates(products)
    d_candidate = gradients[0] * (1 - update) * (1 - candidate * candidate)
    d_update = gradients[0] * (states[0] - candidate) * update * (1 - update)
    d_reset = d_candidate * h_candidate * reset * (1 - reset)
    d_input = tf.concat([d_update, d_reset, d_candidate], axis=1)
    d_state = tf.concat([d_update, d_reset, d_candidate * reset], axis=1)
    return [d_input, d_state], [gradients[0] * update]


def _lstm_gates(products: Tensors) -> list[Any]:
    """Return input gate, forget gate, candidate and output gate, each `(batch, units)`."""
    import tensorflow as tf

    let_in, keep, candidate, let_out = tf.split(products[0], 4, axis=1)
    return [tf.sigmoid(let_in), tf.sigmoid(keep), tf.tanh(candidate), tf.sigmoid(let_out)]


def _lstm_forward(products: Tensors, states: Tensors) -> Tensors:
    import tensorflow as tf

    let_in, keep, candidate, let_out = _lstm_gates(products)
    carry = keep * states[1] + let_in * candidate
    return [let_out * tf.tanh(carry), carry]


def _lstm_backward(products: Tensors, states: Tensors, following: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    let_in, keep, candidate, let_out = _lstm_gates(products)
    carry = tf.tanh(following[1])
    d_carry = gradients[1] + gradients[0] * let_out * (1 - carry * carry)
    before = [
        d_carry * candidate * let_in * (1 - let_in),
        d_carry * states[1] * keep * (1 - keep),
        d_carry * let_in * (1 - candidate * candidate),
        gradients[0] * carry * let_out * (1 - let_out),
    ]
    return [tf.concat(before, axis=1)], [tf.zeros_like(carry), d_carry * keep]


SIMPLE_RNN = Recurrence(states=1, summed=True, reads_products=False, forward=_simple_forward, backward=_simple_backward)
GRU = Recurrence(states=1, summed=False, reads_products=True, forward=_gru_forward, backward=_gru_backward)
LSTM = Recurrence(states=2, summed=True, reads_products=True, forward=_lstm_forward, backward=_lstm_backward)


class _Product:
    """`inputs @ weight`; with masks of dropout, each gate's columns are multiplied by inputs under the gate's own mask."""

    def __init__(self, weight: Any, *, masks: Tensors | None) -> None:
        import tensorflow as tf

        self._weight, self._masks = weight, masks
        self._columns = tf.split(weight, len(masks), axis=1) if masks else []

    def of(self, inputs: Any) -> Any:
        """Return the product, `(batch, gates * units)`."""
        import tensorflow as tf

        if self._masks is None:
            return tf.matmul(inputs, self._weight)
        masked = zip(self._masks, self._columns, strict=True)
        return tf.concat([tf.matmul(inputs * mask, columns) for mask, columns in masked], axis=1)

    def gradients(self, inputs: Any, d_product: Any) -> tuple[Any, Any]:
        """Return the gradients of the weight and of the inputs."""
        import tensorflow as tf

        if self._masks is None:
            return tf.matmul(inputs, d_product, transpose_a=True), tf.matmul(d_product, self._weight, transpose_b=True)
        parts = tf.split(d_product, len(self._masks), axis=1)
        weight = [tf.matmul(inputs * mask, part, transpose_a=True) for mask, part in zip(self._masks, parts, strict=True)]
        masked = zip(self._masks, parts, self._columns, strict=True)
        given = [mask * tf.matmul(part, columns, transpose_b=True) for mask, part, columns in masked]
        return tf.concat(weight, axis=1), tf.add_n(given)


def last_states(
    kind: Recurrence,
    inputs: Any,
    *,
    initial: Tensors,
    kernel: Any,
    recurrent_kernel: Any,
    biases: Tensors,
    input_masks: Tensors | None = None,
    state_masks: Tensors | None = None,
    repeats: int | None = None,
) -> Tensors:
    """Return the states after the last step, each `(batch, units)`.

    Args:
        kind: The layer.
        inputs: float32 `(steps, batch, features)`; the number of steps is known.
        initial: The states before the first step.
        kernel: `(features, gates * units)`.
        recurrent_kernel: `(units, gates * units)`.
        biases: Of the product with the inputs, and of that with the state where it has one, each `(gates * units,)`.
        input_masks: Factors of the inputs, the same for every step: one `(batch, features)` for all gates or one for each.
        state_masks: The same of the output that the state carries, `(batch, units)`.
        repeats: Take the one step that `inputs` hold so many times; its product with the kernel is then made once.
    """
    import tensorflow as tf

    steps, units = repeats or inputs.shape[0], recurrent_kernel.shape[0]

    def run(inputs: Any, kernel: Any, recurrent_kernel: Any, *others: Any) -> Any:
        biases, initial = others[: len(others) - kind.states], others[len(others) - kind.states :]
        of_inputs = _Product(kernel, masks=input_masks)
        of_states = _Product(recurrent_kernel, masks=state_masks)

        of_every_input = of_inputs.of(inputs[0]) + biases[0] if repeats else None

        def products(t: Any, states: Any) -> Tensors:
            of_input = of_every_input if repeats else of_inputs.of(inputs[t]) + biases[0]
            of_state = of_states.of(states[0])
            if kind.summed:
                return [of_input + of_state]
            return [of_input, of_state + biases[1]]

        def forward(t: Any, states: Any, kept: Any) -> Any:
            following = tuple(kind.forward(products(t, states), list(states)))
            return t + 1, following, tuple(array.write(t, state) for array, state in zip(kept, states, strict=True))

        kept = tuple(tf.TensorArray(tf.float32, size=steps, element_shape=(None, units)) for _ in initial)
        _, last, kept = tf.while_loop(lambda t, *_: t < steps, forward, (0, initial, kept), maximum_iterations=steps)
        seen = [array.stack() for array in kept]

        def gradient(*d_last: Any) -> Any:
            def backward(n: Any, following: Any, d_states: Any, sums: Any, d_inputs: Any) -> Any:
                t = steps - 1 - n
                states = [array[t] for array in seen]
                given = products(t, states) if kind.reads_products else []
                d_products, past = kind.backward(given, states, list(following), list(d_states))
                d_recurrent_kernel, d_output = of_states.gradients(states[0], d_products[-1])
                past[0] += d_output
                # Biases are summed over the batch after the loop: within it, XLA adds number by number.
                parts = [d_recurrent_kernel, *d_products]
                if not repeats:
                    d_kernel, d_input = of_inputs.gradients(inputs[t], d_products[0])
                    parts.append(d_kernel)
                    d_inputs = d_inputs.write(t, d_input)
                sums = tuple(total + part for total, part in zip(sums, parts, strict=True))
                return n + 1, tuple(states), tuple(past), sums, d_inputs

            d_inputs = tf.TensorArray(tf.float32, size=inputs.shape[0], element_shape=(None, inputs.shape[2]))
            by_example = tf.zeros((tf.shape(initial[0])[0], kernel.shape[1]))
            sums = (tf.zeros_like(recurrent_kernel), *(by_example for _ in biases), *([] if repeats else [tf.zeros_like(kernel)]))
            _, _, d_initial, sums, d_inputs = tf.while_loop(
                lambda n, *_: n < steps, backward, (0, tuple(last), d_last, sums, d_inputs), maximum_iterations=steps
            )
            d_recurrent_kernel, d_products = sums[0], sums[1 : 1 + len(biases)]
            if repeats:
                d_kernel, d_input = of_inputs.gradients(inputs[0], d_products[0])
                d_inputs = d_inputs.write(0, d_input)
            else:
                d_kernel = sums[-1]
            d_biases = [tf.reduce_sum(one, axis=0) for one in d_products]
            return d_inputs.stack(), d_kernel, d_recurrent_kernel, *d_biases, *d_initial

        return tuple(last), gradient

    return list(tf.custom_gradient(run)(inputs, kernel, recurrent_kernel, *biases, *initial))
