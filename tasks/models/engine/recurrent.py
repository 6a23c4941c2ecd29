"""Fast recurrent layers: the same results as Keras's own, in forms of which XLA compiles faster programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.models.engine import loops
from tasks.models.engine.execution import Execution, fits_loop, recurrent_layers

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class _FastLayers:
    """The classes that `accelerate` builds, made once: Keras is imported only where a network is."""

    looped: type[Any]
    looped_cells: dict[str, type[Any]]
    splitting_cell: type[Any]


def accelerate(network: keras.Model, execution: Execution) -> keras.Model:
    """Return a copy of a plain network whose recurrent layers run fast, with the same weights, results and random states.

    Layers that return their last output alone become loops of `engine.loops`; other GRUs get a cell that splits its gates.
    Keras slices the gates out of one product. The gradient of a slice is a sum of padded arrays, which XLA computes number by
    number; that of a split is one concatenation. Decision 0012 has the times before and after. The copy has its weights in
    the plain network's order, so `get_weights` of one fits `set_weights` of the other; the plain network is what is saved.

    Args:
        network: Plain Keras, built. It is not changed; without recurrent layers it is returned itself.
        execution: How it is run.
    """
    import keras

    if execution.use_cudnn == "auto" or not any(True for _ in recurrent_layers(network)):
        return network
    # What the first layer reads has no gradient that anything wants.
    reads_input = {layer.name for layer in network.layers if any(layer.input is given for given in network.inputs)}

    def replace(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Bidirectional):
            return _accelerate_both_ways(layer, execution=execution, learns_inputs=layer.name not in reads_input)
        if isinstance(layer, keras.layers.RNN):
            return _accelerate_layer(layer, execution=execution, learns_inputs=layer.name not in reads_input)
        return layer.__class__.from_config(layer.get_config())

    fast = keras.models.clone_model(network, clone_function=replace)
    for copy, original in zip(fast.variables, network.variables, strict=True):
        copy.assign(original)
    return fast


def _accelerate_both_ways(layer: Any, *, execution: Execution, learns_inputs: bool) -> Any:
    import keras

    forward, backward = (
        _accelerate_layer(each, execution=execution, learns_inputs=learns_inputs)
        for each in (layer.forward_layer, layer.backward_layer)
    )
    return keras.layers.Bidirectional(forward, backward_layer=backward, merge_mode=layer.merge_mode, name=layer.name)


def _accelerate_layer(layer: Any, *, execution: Execution, learns_inputs: bool) -> Any:
    import keras

    fast = _fast_layers()
    options = {
        "name": layer.name,
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "go_backwards": layer.go_backwards,
        "stateful": layer.stateful,
        "unroll": layer.unroll,
    }
    if execution.uses_loops and fits_loop(layer):
        cell = fast.looped_cells[type(layer).__name__].from_config(layer.cell.get_config())
        return fast.looped(cell, execution=asdict(execution), learns_inputs=learns_inputs, **options)
    if execution.uses_loops and type(layer) is keras.layers.GRU and layer.cell.reset_after:
        return keras.layers.RNN(fast.splitting_cell.from_config(layer.cell.get_config()), **options)
    config = layer.get_config()
    return type(layer).from_config(config | {"use_cudnn": execution.use_cudnn} if "use_cudnn" in config else config)


@cache
def _fast_layers() -> _FastLayers:
    import keras

    ops = keras.ops
    # `Bidirectional` makes its layers anew from their configuration, so every class is registered.
    register = keras.saving.register_keras_serializable(package="retrain.engine")

    @register
    class SplittingGRUCell(keras.layers.GRUCell):  # type: ignore[misc]
        """Inputs float32 `(batch, features)` and one state `(batch, units)` to the next state, twice."""

        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  (Keras's own signature)
            state = states[0] if isinstance(states, list | tuple) else states
            from_input, from_state = self._projected(inputs, state, training=training)
            update = ops.sigmoid(from_input[0] + from_state[0])
            reset = ops.sigmoid(from_input[1] + from_state[1])
            candidate = ops.tanh(from_input[2] + reset * from_state[2])
            next_state = update * state + (1 - update) * candidate
            return next_state, [next_state]

        def _projected(self, inputs: Any, state: Any, *, training: bool) -> tuple[list[Any], list[Any]]:
            """Return what update gate, reset gate and candidate get of the input and of the state, each `(batch, units)`."""
            if not (training and (self.dropout or self.recurrent_dropout)):
                from_input, from_state = ops.matmul(inputs, self.kernel), ops.matmul(state, self.recurrent_kernel)
                if self.use_bias:
                    from_input, from_state = from_input + self.bias[0], from_state + self.bias[1]
                return ops.split(from_input, 3, axis=-1), ops.split(from_state, 3, axis=-1)
            input_masks, state_masks = self._masks(inputs, state)
            kernels, recurrent_kernels = (ops.split(weight, 3, axis=1) for weight in (self.kernel, self.recurrent_kernel))
            biases = [ops.split(self.bias[row], 3) for row in (0, 1)] if self.use_bias else [[0.0] * 3] * 2
            from_input = [ops.matmul(inputs * input_masks[i], kernels[i]) + biases[0][i] for i in range(3)]
            from_state = [ops.matmul(state * state_masks[i], recurrent_kernels[i]) + biases[1][i] for i in range(3)]
            return from_input, from_state

        def _masks(self, inputs: Any, state: Any) -> tuple[list[Any], list[Any]]:
            """Return the masks of this batch, the same for all its steps: one a gate where the state has any, as Keras does."""
            ones = [1.0, 1.0, 1.0]
            from_input = self.get_dropout_mask(inputs) if self.dropout else ones
            from_state = self.get_recurrent_dropout_mask(state) if self.recurrent_dropout else ones
            return from_input if isinstance(from_input, list) else [from_input] * 3, from_state

    class MaskedCell:
        """Draws the masks of dropout alike in a compiled program and out of one."""

        def _create_dropout_mask(self, step_input: Any, dropout_rate: float) -> Any:
            return _draw_masks(self, step_input, dropout_rate)

    bases = {"SimpleRNN": keras.layers.SimpleRNNCell, "GRU": keras.layers.GRUCell, "LSTM": keras.layers.LSTMCell}
    cells = {name: register(type(f"Looped{name}Cell", (MaskedCell, base), {})) for name, base in bases.items()}
    recurrences = {cells["SimpleRNN"]: loops.SIMPLE_RNN, cells["GRU"]: loops.GRU, cells["LSTM"]: loops.LSTM}

    @register
    class LoopedRNN(keras.layers.RNN):  # type: ignore[misc]
        """A recurrent layer that `engine.loops` runs to its last output.

        Inputs float32 `(batch, steps, features)`, output `(batch, units)`.

        Args:
            cell: One of the looped cells, which holds the weights and draws the masks of dropout.
            execution: Fields of the `Execution`.
            learns_inputs: Whether what the layer reads has a gradient that anything wants.
        """

        def __init__(self, cell: Any, *, execution: dict[str, Any], learns_inputs: bool, **options: Any) -> None:
            super().__init__(cell, **options)
            self.loop = Loop(
                cell,
                recurrence=recurrences[type(cell)],
                execution=Execution(**execution),
                learns_inputs=learns_inputs,
            )

        def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002
            """Return last output, outputs and last states, as Keras asks of this method."""
            if mask is not None:
                raise NotImplementedError(f"{self.name} got a mask: its loop reads padding like any other token")
            last = self.loop.run(sequences, initial=list(initial_state), training=training)
            return last[0], last[0], last

        def get_config(self) -> dict[str, Any]:
            options = {"execution": asdict(self.loop.execution), "learns_inputs": self.loop.learns_inputs}
            return {**super().get_config(), **options}

    return _FastLayers(looped=LoopedRNN, looped_cells=cells, splitting_cell=SplittingGRUCell)


def states_after_repeats(layer: Any, step: Any, *, repeats: Any, max_repeats: int, training: bool) -> list[Any]:
    """Return the states of a recurrent layer after it read one and the same step many times, from its usual first states.

    Args:
        layer: A layer of `accelerate`, which may have been built without `return_state`.
        step: float32 `(1, 1, features)`.
        repeats: How many times: a number, or for a layer that is run as a loop a tensor.
        max_repeats: No more than so many times.
        training: Whether gradients and dropout are wanted.
    """
    import keras

    first = layer.get_initial_state(1)
    loop = loop_of(layer)
    if loop:
        return loop.states([step], initial=first, training=training, num_steps=repeats, max_repeats=max_repeats)
    # `inner_loop` is what the layer itself calls; unlike `call` it hands out the states.
    steps = keras.ops.repeat(step, repeats, axis=1)
    return list(layer.inner_loop(sequences=steps, initial_state=first, mask=None, training=training)[2])


def loop_of(layer: Any) -> Loop | None:
    """Return the loop that runs a layer of `accelerate`, or None where Keras runs it."""
    loop = getattr(layer, "loop", None)
    return loop if isinstance(loop, Loop) else None


class Loop:
    """Runs the recurrence of a cell through `engine.loops`.

    Args:
        cell: Holds the weights, and draws the masks of dropout.
        recurrence: The kind of layer.
        execution: How it runs.
        learns_inputs: Whether what the layer reads has a gradient that anything wants.
    """

    def __init__(self, cell: Any, *, recurrence: loops.Recurrence, execution: Execution, learns_inputs: bool) -> None:
        self._cell, self._recurrence = cell, recurrence
        self.execution, self.learns_inputs = execution, learns_inputs

    def run(self, sequences: Any, *, initial: list[Any], training: bool) -> list[Any]:
        """Return the last states after every step of float32 `(batch, steps, features)`."""
        import tensorflow as tf

        shards = [tf.transpose(shard, (1, 0, 2)) for shard in self.shards(sequences, axis=0)]
        return self.states(shards, initial=initial, training=training)

    def shards(self, tensor: Any, *, axis: int) -> list[Any]:
        """Return the shards of a tensor along its batch; a batch that does not divide stays whole, so that shapes are known."""
        import tensorflow as tf

        size, count = tensor.shape[axis], self.execution.num_shards
        return [tensor] if count == 1 or size is None or size % count else tf.split(tensor, count, axis=axis)

    def states(
        self, shards: list[Any], *, initial: list[Any], training: bool, num_steps: Any = None, max_repeats: int | None = None
    ) -> list[Any]:
        """Return the last states, each `(batch, units)`.

        Args:
            shards: What is read, by shards of the batch, float32 `(steps, shard, features)`.
            initial: The states before it, of the whole batch.
            training: Whether gradients and dropout are wanted.
            num_steps: See `loops.last_states`.
            max_repeats: How often one step is read at most, where the shards hold only one.
        """
        import tensorflow as tf

        recurrence, cell = self._recurrence, self._cell
        kernel, recurrent_kernel, bias = (tf.convert_to_tensor(one) for one in (cell.kernel, cell.recurrent_kernel, cell.bias))
        input_masks = state_masks = None
        if training and cell.dropout:
            input_masks = _listed(cell.get_dropout_mask(tf.concat([shard[0] for shard in shards], axis=0)))
        if training and cell.recurrent_dropout:
            state_masks = _listed(cell.get_recurrent_dropout_mask(initial[0]))
        return loops.last_states(
            recurrence,
            shards,
            initial=initial,
            kernel=kernel,
            recurrent_kernel=recurrent_kernel,
            biases=tf.unstack(bias) if recurrence is loops.GRU else [bias],
            input_masks=input_masks,
            state_masks=state_masks,
            num_steps=num_steps,
            max_repeats=max_repeats,
            learns_inputs=self.learns_inputs,
            compiled=self.execution.num_shards > 1,
        )


def _listed(masks: Any) -> list[Any]:
    """Return one mask for all gates, or one for each, as a list: Keras's cells make either."""
    return masks if isinstance(masks, list) else [masks]


def _draw_masks(cell: Any, like: Any, rate: float) -> Any:
    """Return the masks that Keras's own cell draws where nothing is compiled.

    XLA turns the same random bits into other fractions than TensorFlow does, so Keras's masks depend on how a training is
    run. These are made of the lowest 23 bits, everywhere.
    """
    import tensorflow as tf

    bits, scale = 23, 1 / (1 - rate)
    count = getattr(cell, "dropout_mask_count", None)
    masks = []
    for _ in range(count or 1):
        seed = tf.cast(tf.math.floormod(cell.seed_generator.next(), tf.int32.max - 1), tf.int32)
        drawn = tf.random.stateless_uniform(tf.shape(like), seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
        keeps = tf.bitwise.bitwise_and(drawn, tf.constant(2**bits - 1, tf.uint32)) >= math.ceil(rate * 2**bits)
        masks.append(tf.ensure_shape(tf.where(keeps, scale, 0.0), like.shape))
    return masks if count else masks[0]
