"""Recurrent layers as loops with gradients written by hand, which XLA turns into a lean program.

TensorFlow derives a loop's gradient by keeping every intermediate of every step, some ten arrays `(steps, batch, units)`. Here
the states alone are kept, and a step back computes the rest of its step again, which takes less time than to move so much
memory. Results and gradients are those of Keras's layers to rounding, which a test holds them to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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


def _simple_backward(products: Tensors, states: Tensors, next_states: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    del products, states
    before = gradients[0] * (1 - next_states[0] * next_states[0])  # the derivative of tanh, from its value
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


def _gru_backward(products: Tensors, states: Tensors, next_states: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    del next_states
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

    input_gate, forget_gate, candidate, output_gate = tf.split(products[0], 4, axis=1)
    return [tf.sigmoid(input_gate), tf.sigmoid(forget_gate), tf.tanh(candidate), tf.sigmoid(output_gate)]


def _lstm_forward(products: Tensors, states: Tensors) -> Tensors:
    import tensorflow as tf

    input_gate, forget_gate, candidate, output_gate = _lstm_gates(products)
    carry = forget_gate * states[1] + input_gate * candidate
    return [output_gate * tf.tanh(carry), carry]


def _lstm_backward(products: Tensors, states: Tensors, next_states: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    input_gate, forget_gate, candidate, output_gate = _lstm_gates(products)
    carry = tf.tanh(next_states[1])
    d_carry = gradients[1] + gradients[0] * output_gate * (1 - carry * carry)
    before = [
        d_carry * candidate * input_gate * (1 - input_gate),
        d_carry * states[1] * forget_gate * (1 - forget_gate),
        d_carry * input_gate * (1 - candidate * candidate),
        gradients[0] * carry * output_gate * (1 - output_gate),
    ]
    return [tf.concat(before, axis=1)], [tf.zeros_like(carry), d_carry * forget_gate]


SIMPLE_RNN = Recurrence(states=1, summed=True, reads_products=False, forward=_simple_forward, backward=_simple_backward)
GRU = Recurrence(states=1, summed=False, reads_products=True, forward=_gru_forward, backward=_gru_backward)
LSTM = Recurrence(states=2, summed=True, reads_products=True, forward=_lstm_forward, backward=_lstm_backward)


class _Product:
    """`inputs @ weight`; with masks of dropout, each gate's columns are multiplied by inputs under the gate's own mask.

    Masks are `(masks, batch, features)` and the weight then `(masks, features, columns)`: all are one call of a product.
    """

    def __init__(self, weight: Any, *, masks: Any) -> None:
        self._weight, self._masks = weight, masks

    def of(self, inputs: Any) -> Any:
        """Return the product, `(batch, gates * units)`."""
        import tensorflow as tf

        if self._masks is None:
            return tf.matmul(inputs, self._weight)
        return tf.concat(tf.unstack(tf.matmul(inputs * self._masks, self._weight)), axis=1)

    def gradients(self, inputs: Any, d_product: Any) -> tuple[Any, Any]:
        """Return the gradients of the weight and of the inputs."""
        import tensorflow as tf

        if self._masks is None:
            return tf.matmul(inputs, d_product, transpose_a=True), tf.matmul(d_product, self._weight, transpose_b=True)
        parts = tf.stack(tf.split(d_product, self._masks.shape[0], axis=1))
        masked = self._masks * tf.matmul(parts, self._weight, transpose_b=True)
        return tf.matmul(inputs * self._masks, parts, transpose_a=True), tf.reduce_sum(masked, axis=0)


@dataclass(frozen=True)
class _Loop:
    """Static configuration of a loop; equal ones share one compiled program.

    Weights are the kernel `(features, gates * units)`, the recurrent kernel `(units, gates * units)` and the biases; masks are
    those of the inputs and of the state or None, and where there are any the kernel has the form of `_Product`. `num_steps` is
    how many steps are run, the last ones.

    Attributes:
        max_repeats: The most steps for which the one step of the inputs is repeated; None where the inputs hold every step.
        learns_inputs: Whether the inputs get a gradient.
    """

    kind: Recurrence
    max_repeats: int | None
    learns_inputs: bool

    def forward(self, inputs: Any, *, weights: Any, masks: Any, initial: Any, num_steps: Any) -> Any:
        """Return the states after the last step, and those before each one, `(steps, states, batch, units)`."""
        import tensorflow as tf

        steps, units = self.max_repeats or inputs.shape[0], initial[0].shape[1]
        products = self._products(inputs, weights, masks)

        def step(t: Any, states: Any, history: Any) -> Any:
            return t + 1, tuple(self.kind.forward(products(t, states), list(states))), history.write(t, tf.stack(states))

        # One array for all states: what a program does besides its loop must be little, or XLA hands the loop to the only thread
        # of its pool, where parts wait for each other.
        history = tf.TensorArray(tf.float32, size=steps, element_shape=(self.kind.states, None, units))
        start = (steps - num_steps, tuple(initial), history)
        _, last, history = tf.while_loop(lambda t, *_: t < steps, step, start, maximum_iterations=steps)
        return last, history.stack()

    def backward(self, inputs: Any, *, weights: Any, masks: Any, states: Any, d_last: Any, num_steps: Any) -> Any:
        """Return the gradients of inputs, weights and first states, from what `forward` returned and the last states' own."""
        import tensorflow as tf

        last, history = states
        kernel, recurrent_kernel, *biases = weights
        steps, kind, max_repeats = self.max_repeats or inputs.shape[0], self.kind, self.max_repeats
        of_inputs, of_states = _Product(kernel, masks=masks[0]), _Product(recurrent_kernel, masks=masks[1])
        products = self._products(inputs, weights, masks)
        by_step = self.learns_inputs and not max_repeats

        def step(n: Any, next_states: Any, d_states: Any, sums: Any, d_inputs: Any) -> Any:
            t = steps - 1 - n
            before = tf.unstack(history[t])
            pre_activations = products(t, before) if kind.reads_products else []
            d_products, state_gradients = kind.backward(pre_activations, before, list(next_states), list(d_states))
            d_recurrent_kernel, d_output = of_states.gradients(before[0], d_products[-1])
            state_gradients[0] += d_output
            # Biases are summed over the batch after the loop: within it, XLA would compile this sum as a slow loop over single
            # numbers.
            parts = [d_recurrent_kernel, *d_products]
            if not max_repeats:
                d_kernel, d_input = of_inputs.gradients(inputs[t], d_products[0])
                parts.append(d_kernel)
            if by_step:
                d_inputs = d_inputs.write(t, d_input)
            sums = tuple(total + part for total, part in zip(sums, parts, strict=True))
            return n + 1, tuple(before), tuple(state_gradients), sums, d_inputs

        d_inputs = tf.TensorArray(tf.float32, size=inputs.shape[0], element_shape=(None, inputs.shape[2])) if by_step else ()
        by_example = tf.zeros((tf.shape(last[0])[0], biases[0].shape[0]))
        sums = (tf.zeros_like(recurrent_kernel), *(by_example for _ in biases), *([] if max_repeats else [tf.zeros_like(kernel)]))
        start = (0, tuple(last), tuple(d_last), sums, d_inputs)
        _, _, d_initial, sums, d_inputs = tf.while_loop(lambda n, *_: n < num_steps, step, start, maximum_iterations=steps)
        d_products = sums[1 : 1 + len(biases)]
        d_kernel = sums[-1]
        if max_repeats:
            d_kernel, d_input = of_inputs.gradients(inputs[0], d_products[0])
            d_inputs = d_input[None]
        d_biases = (tf.reduce_sum(one, axis=0) for one in d_products)
        input_gradients = d_inputs.stack() if by_step else d_inputs if self.learns_inputs else None
        return input_gradients, (d_kernel, sums[0], *d_biases), d_initial

    def _products(self, inputs: Any, weights: Any, masks: Any) -> Callable[[Any, Any], Tensors]:
        """Return a function of step and states to the products, or their sum."""
        kernel, recurrent_kernel, *biases = weights
        of_inputs, of_states = _Product(kernel, masks=masks[0]), _Product(recurrent_kernel, masks=masks[1])
        of_every_input = of_inputs.of(inputs[0]) + biases[0] if self.max_repeats else None

        def products(t: Any, states: Any) -> Tensors:
            of_input = of_every_input if self.max_repeats else of_inputs.of(inputs[t]) + biases[0]
            of_state = of_states.of(states[0])
            if self.kind.summed:
                return [of_input + of_state]
            return [of_input, of_state + biases[1]]

        return products


@cache
def _compiled(loop: _Loop) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `forward` and `backward` as programs of their own, which TensorFlow runs beside each other on other parts."""
    import tensorflow as tf

    return tf.function(loop.forward, jit_compile=True), tf.function(loop.backward, jit_compile=True)


def last_states(
    kind: Recurrence,
    shards: Sequence[Any],
    *,
    initial: Tensors,
    kernel: Any,
    recurrent_kernel: Any,
    biases: Tensors,
    input_masks: Tensors | None = None,
    state_masks: Tensors | None = None,
    num_steps: Any = None,
    max_repeats: int | None = None,
    learns_inputs: bool = True,
    compiled: bool = False,
) -> Tensors:
    """Return the states after the last step, each `(batch, units)`.

    Args:
        kind: The layer.
        shards: The inputs by shards of the batch, float32 `(steps, shard, features)`; the number of steps is known.
        initial: The states before the first step, of the whole batch.
        kernel: `(features, gates * units)`.
        recurrent_kernel: `(units, gates * units)`.
        biases: Of the product with the inputs, and of that with the state where it has one, each `(gates * units,)`.
        input_masks: Factors of the inputs, the same for every step: one `(batch, features)` for all gates or one for each.
        state_masks: The same of the output that the state carries, `(batch, units)`.
        num_steps: Run so many steps, the last ones: a number, or a tensor that is known when they are run. None runs all.
        max_repeats: Take the one step that the inputs hold `num_steps` times, at most so many times; its product with the kernel
            is made once.
        learns_inputs: Whether the inputs need a gradient; without one there is none.
        compiled: Run each part as a program of its own, beside the others; the step around them must not be compiled then.
            Otherwise the loops stay in the program that they stand in.
    """
    import tensorflow as tf

    loop = _Loop(kind=kind, max_repeats=max_repeats, learns_inputs=learns_inputs)
    forward, backward = _compiled(loop) if compiled else (loop.forward, loop.backward)
    num_steps = (max_repeats or shards[0].shape[0]) if num_steps is None else num_steps
    # All that can be done before the loop is: what a compiled part does besides must be little (see `_Loop.forward`).
    kernel, of_inputs = _by_mask(kernel, masks=input_masks)
    recurrent_kernel, of_states = _by_mask(recurrent_kernel, masks=state_masks)
    weights = (kernel, recurrent_kernel, *biases)

    def part(inputs: Any, initial: Any, masks: Any) -> Tensors:
        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def run(inputs: Any, *tensors: Any) -> Any:
            weights, initial = tensors[: -kind.states], tensors[-kind.states :]
            states = forward(inputs, weights=weights, masks=masks, initial=initial, num_steps=num_steps)

            def gradient(*d_last: Any) -> Any:
                saved = {"weights": weights, "masks": masks, "states": states, "d_last": d_last, "num_steps": num_steps}
                d_inputs, d_weights, d_initial = backward(inputs, **saved)
                return d_inputs, *d_weights, *d_initial

            return tuple(states[0]), gradient

        return list(run(inputs, *weights, *initial))

    if len(shards) == 1:
        return part(shards[0], initial, (of_inputs, of_states))
    initial_states = zip(*(tf.split(state, len(shards)) for state in initial), strict=True)
    masks = ([None] * len(shards) if mask is None else tf.split(mask, len(shards), axis=1) for mask in (of_inputs, of_states))
    parts = zip(shards, initial_states, zip(*masks, strict=True), strict=True)
    results = [part(shard, list(states), of) for shard, states, of in parts]
    return [tf.concat(states, axis=0) for states in zip(*results, strict=True)]


def _by_mask(weight: Any, *, masks: Tensors | None) -> tuple[Any, Any]:
    """Return weight and masks as `_Product` takes them."""
    import tensorflow as tf

    if masks is None:
        return weight, None
    return tf.stack(tf.split(weight, len(masks), axis=1)), tf.stack(masks)
