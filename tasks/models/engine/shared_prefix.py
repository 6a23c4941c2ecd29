"""Padding that every review shares is run once: the same loss, a fraction of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tasks.datasets.tokens import PADDING
from tasks.models.engine.recurrent import loop_of, states_after_repeats

if TYPE_CHECKING:
    import keras


PaddingMode = Literal["any", "prefix", "none"]


def padding_mode(network: keras.Model) -> PaddingMode:
    """Tell how a network runs on reviews that are cut to their own width without another result.

    `any`: it passes padding over, which an input without a fixed width declares. `prefix`: one recurrent layer reads
    forward from the padding into the review, so that the padding can be shared (`shared_prefix_model`). `none`: it reads
    padding otherwise, and runs on the full width.
    """
    import keras

    if network.input_shape[1] is None:
        return "any"
    embedding, recurrent = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)][:2]
    forward = isinstance(recurrent, keras.layers.RNN) and not recurrent.go_backwards and not recurrent.return_sequences
    is_chain = isinstance(network, keras.Sequential) and isinstance(embedding, keras.layers.Embedding)
    return "prefix" if forward and is_chain else "none"


def skips_padding_steps(network: keras.Model) -> bool:
    """Tell whether `shared_prefix_model` runs only the steps that the longest review of a batch needs, whatever the width."""
    loops = (loop_of(layer) for layer in network.layers)
    return padding_mode(network) == "prefix" and any(loop and loop.execution.skip_padding_steps for loop in loops)


def padded_model(network: keras.Model, width: int) -> keras.Model:
    """Return the network on reviews int32 `(batch, width)`: the full width, or any where padding is passed over."""
    import keras

    tokens = keras.Input((width,), dtype="int32")
    return keras.Model(tokens, network(tokens))


def shared_prefix_model(network: keras.Model, width: int) -> keras.Model:
    """Return the same function of reviews of which only the last `width` tokens can be other than padding.

    A review of 500 tokens that begins with `500 - width` zeros takes the recurrent layer through the same states
    whatever follows. They are run once at batch size 1 and the last one is given to the whole batch; gradients flow
    back through it, so loss and gradients are those of the plain run to rounding. The network keeps no mask: padding
    is part of what it learns.

    Args:
        network: An embedding, one recurrent layer that runs forward and returns its last output, then anything.
        width: Steps that are run for every review, where the layer does not leave out those that are padding for all of a
            batch (`skips_padding_steps`).
    """
    import keras

    embedding, recurrent, *head = network.layers
    longest, skips_padding = network.input_shape[1], skips_padding_steps(network)
    if width == longest and not skips_padding:
        return padded_model(network, width)

    class SharedPrefix(keras.layers.Layer):  # type: ignore[misc]
        """Tokens int32 `(batch, width)` to the recurrent layer's last output `(batch, units)`."""

        def __init__(self) -> None:
            super().__init__(name="shared_prefix")
            self.embedding, self.recurrent = embedding, recurrent

        def call(self, tokens: Any, training: bool | None = None) -> Any:  # noqa: FBT001  (Keras's own signature)
            loop = loop_of(self.recurrent)
            shared = _columns_of_padding(tokens) if skips_padding else 0
            step = self.embedding(keras.ops.zeros((1, 1), dtype="int32"))
            repeats = longest - width + shared
            states = states_after_repeats(self.recurrent, step, repeats=repeats, max_repeats=longest, training=bool(training))
            batch = keras.ops.shape(tokens)[0]
            spread = [keras.ops.broadcast_to(state, (batch, state.shape[-1])) for state in states]
            if not loop:
                return self.recurrent(self.embedding(tokens), initial_state=spread, training=training)
            # The loop wants steps first; to turn tokens round costs less than to turn vectors.
            shards = [self.embedding(shard) for shard in loop.shards(keras.ops.transpose(tokens), axis=1)]
            return loop.states(shards, initial=spread, training=bool(training), num_steps=width - shared)[0]

    tokens = keras.Input((width,), dtype="int32")
    output = SharedPrefix()(tokens)
    for layer in head:
        output = layer(output)
    return keras.Model(tokens, output)


def _columns_of_padding(tokens: Any) -> Any:
    """Return how many columns of int32 `(batch, width)` in front hold nothing but padding, an int32 scalar."""
    import keras

    ops = keras.ops
    return ops.cast(ops.argmax(ops.any(tokens != PADDING, axis=0)), "int32")
