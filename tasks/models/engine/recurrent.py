"""Keras's recurrent layers, made to compute the same in ways of which XLA makes faster programs."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tasks.models.engine import loops

if TYPE_CHECKING:
    import keras

    from tasks.models.spec import Kernel


@cache
def _cell_class() -> type[Any]:
    import keras

    ops = keras.ops

    class SplittingGRUCell(keras.layers.GRUCell):  # type: ignore[misc]
        """Inputs float32 `(batch, features)` and one state `(batch, units)` to the next state, twice."""

        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  (Keras's own signature)
            state = states[0] if isinstance(states, list | tuple) else states
            of_input, of_state = self._projected(inputs, state, training=training)
            update = ops.sigmoid(of_input[0] + of_state[0])
            reset = ops.sigmoid(of_input[1] + of_state[1])
            candidate = ops.tanh(of_input[2] + reset * of_state[2])
            following = update * state + (1 - update) * candidate
            return following, [following]

        def _projected(self, inputs: Any, state: Any, *, training: bool) -> tuple[list[Any], list[Any]]:
            """Return what update gate, reset gate and candidate get of the input and of the state, each `(batch, units)`."""
            if not (training and (self.dropout or self.recurrent_dropout)):
                of_input, of_state = ops.matmul(inputs, self.kernel), ops.matmul(state, self.recurrent_kernel)
                if self.use_bias:
                    of_input, of_state = of_input + self.bias[0], of_state + self.bias[1]
                return ops.split(of_input, 3, axis=-1), ops.split(of_state, 3, axis=-1)
            input_masks, state_masks = self._masks(inputs, state)
            kernels, recurrent_kernels = (ops.split(weight, 3, axis=1) for weight in (self.kernel, self.recurrent_kernel))
            biases = [ops.split(self.bias[row], 3) for row in (0, 1)] if self.use_bias else [[0.0] * 3] * 2
            of_input = [ops.matmul(inputs * input_masks[i], kernels[i]) + biases[0][i] for i in range(3)]
            of_state = [ops.matmul(state * state_masks[i], recurrent_kernels[i]) + biases[1][i] for i in range(3)]
            return of_input, of_state

        def _masks(self, inputs: Any, state: Any) -> tuple[list[Any], list[Any]]:
            """Return the masks of this batch, the same for all its steps: one a gate where the state has any, as Keras does."""
            ones = [1.0, 1.0, 1.0]
            of_input = self.get_dropout_mask(inputs) if self.dropout else ones
            of_state = self.get_recurrent_dropout_mask(state) if self.recurrent_dropout else ones
            return of_input if isinstance(of_input, list) else [of_input] * 3, of_state

    return SplittingGRUCell


def compiled_well(network: keras.Model, *, kernel: Kernel) -> keras.Model:
    """Return the network, its recurrent layers ready to be compiled by XLA where the kernel is that.

    Layers that hand out their last output run as the loops of `tasks.models.engine.loops`; other GRUs get the cell
    above. Keras slices the gates out of one product, and the gradient of a slice is a sum of padded arrays, which XLA computes
    number by number; that of a split is one concatenation. Weights, results and what is saved are the same. Decision
    0012 has the times before and after.
    """
    import keras

    if kernel.use_cudnn is False and (kernel.jit_compile or kernel.parts > 1):
        for layer in network.layers:
            both_ways = isinstance(layer, keras.layers.Bidirectional)
            for one in (layer.forward_layer, layer.backward_layer) if both_ways else (layer,):
                if _is_plain(one):
                    learns_inputs = not any(layer.input is given for given in network.inputs)
                    one.inner_loop = LoopedLayer(one, kernel=kernel, learns_inputs=learns_inputs)
                    one.cell._create_dropout_mask = partial(_masks, one.cell)
                elif isinstance(one, keras.layers.GRU) and one.cell.reset_after:
                    # It stays the cell that Keras made, with its weights and seeds; only its way to compute is another.
                    one.cell.__class__ = _cell_class()
    return network


def _kinds() -> dict[type[Any], loops.Recurrence]:
    import keras

    return {keras.layers.SimpleRNN: loops.SIMPLE_RNN, keras.layers.GRU: loops.GRU, keras.layers.LSTM: loops.LSTM}


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Tell whether `loops` can run a layer: forward, to its last output, otherwise as Keras makes it by default."""
    import keras

    if type(layer) not in _kinds():
        return False
    cell = layer.cell
    usual = cell.activation is keras.activations.tanh and cell.use_bias
    gates = getattr(cell, "recurrent_activation", keras.activations.sigmoid) is keras.activations.sigmoid
    forward = not (layer.return_sequences or layer.go_backwards or layer.stateful or layer.unroll)
    return usual and gates and forward and getattr(cell, "reset_after", True)


def states_after(layer: Any, step: Any, *, repeats: Any, most: int, training: bool) -> list[Any]:
    """Return the states of a recurrent layer after it read one and the same step many times, from its usual first states.

    Args:
        layer: It may have been built without `return_state`.
        step: float32 `(1, 1, features)`.
        repeats: How many times: a number, or for a layer that is run as a loop a tensor.
        most: No more than so many times.
        training: Whether gradients and dropout are wanted.
    """
    import keras

    first = layer.get_initial_state(1)
    loop = loop_of(layer)
    if loop:
        return loop.states([step], initial=first, training=training, taken=repeats, repeats=most)
    # `inner_loop` is what the layer itself calls; unlike `call` it hands out the states.
    steps = keras.ops.repeat(step, repeats, axis=1)
    return list(layer.inner_loop(sequences=steps, initial_state=first, mask=None, training=training)[2])


def loop_of(layer: Any) -> LoopedLayer | None:
    """Return how a layer of `compiled_well` is run as a loop of `tasks.models.engine.loops`, or None where it is not."""
    found = vars(layer).get("inner_loop")
    return found if isinstance(found, LoopedLayer) else None


class LoopedLayer:
    """A recurrent layer of Keras that is run by `tasks.models.engine.loops`, in place of the layer's own `inner_loop`.

    Args:
        layer: The layer, whose weights, masks and settings it has.
        kernel: How it runs.
        learns_inputs: Whether what the layer reads has a gradient that anything wants.
    """

    def __init__(self, layer: Any, *, kernel: Kernel, learns_inputs: bool) -> None:
        self._layer, self._parts, self._learns_inputs = layer, kernel.parts, learns_inputs
        self.needed_steps = kernel.needed_steps

    def __call__(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Do what Keras asks of `inner_loop`: `(batch, steps, features)` to last output, outputs, last states."""
        import tensorflow as tf

        if mask is not None:
            raise NotImplementedError(f"{self._layer.name} got a mask: its loop reads padding like any other token")
        initial = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        pieces = [tf.transpose(piece, (1, 0, 2)) for piece in self.pieces(sequences, axis=0)]
        last = self.states(pieces, initial=initial, training=training)
        return last[0], last[0], last

    def pieces(self, tensor: Any, *, axis: int) -> list[Any]:
        """Return the parts of a tensor along its batch; equal ones keep shapes known, so one that does not divide stays whole."""
        import tensorflow as tf

        size = tensor.shape[axis]
        return [tensor] if self._parts == 1 or size is None or size % self._parts else tf.split(tensor, self._parts, axis=axis)

    def states(
        self, pieces: list[Any], *, initial: list[Any], training: bool, taken: Any = None, repeats: int | None = None
    ) -> list[Any]:
        """Return the last states, each `(batch, units)`.

        Args:
            pieces: What is read, by parts of the batch, float32 `(steps, part, features)`.
            initial: The states before it, of the whole batch.
            training: Whether gradients and dropout are wanted.
            taken: See `loops.last_states`, as for repeats.
            repeats: How often one step is read at most, where the pieces hold only one.
        """
        import tensorflow as tf

        kind, cell = _kinds()[type(self._layer)], self._layer.cell
        kernel, recurrent_kernel, bias = (tf.convert_to_tensor(one) for one in (cell.kernel, cell.recurrent_kernel, cell.bias))
        input_masks = state_masks = None
        if training and cell.dropout:
            input_masks = _listed(cell.get_dropout_mask(tf.concat([piece[0] for piece in pieces], axis=0)))
        if training and cell.recurrent_dropout:
            state_masks = _listed(cell.get_recurrent_dropout_mask(initial[0]))
        return loops.last_states(
            kind,
            pieces,
            initial=initial,
            kernel=kernel,
            recurrent_kernel=recurrent_kernel,
            biases=tf.unstack(bias) if kind is loops.GRU else [bias],
            input_masks=input_masks,
            state_masks=state_masks,
            taken=taken,
            repeats=repeats,
            learns_inputs=self._learns_inputs,
            compiled=self._parts > 1,
        )


def _listed(masks: Any) -> list[Any]:
    """Return one mask for all gates, or one for each, as a list: Keras's cells make either."""
    return masks if isinstance(masks, list) else [masks]


def _masks(cell: Any, like: Any, rate: float) -> Any:
    """Stand in for a cell's own way to draw masks of dropout, and draw what it does where nothing is compiled.

    Within a program of XLA TensorFlow makes other fractions of the same random bits, so that masks would depend on how a
    training is run. Here they are made of the lowest 23 bits of each, everywhere.
    """
    import tensorflow as tf

    bits, scale = 23, 1 / (1 - rate)
    count = getattr(cell, "dropout_mask_count", None)
    masks = []
    for _ in range(count or 1):
        seed = tf.cast(tf.math.floormod(cell.seed_generator.next(), tf.int32.max - 1), tf.int32)
        drawn = tf.random.stateless_uniform(tf.shape(like), seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
        kept = tf.bitwise.bitwise_and(drawn, tf.constant(2**bits - 1, tf.uint32)) >= math.ceil(rate * 2**bits)
        masks.append(tf.ensure_shape(tf.where(kept, scale, 0.0), like.shape))
    return masks if count else masks[0]
