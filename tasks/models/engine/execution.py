"""How a network is run on a device: chosen from its built layers, and told in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.models.device import Device, prepare_device

if TYPE_CHECKING:
    import keras

STEPS_PER_EXECUTION = 50
# Examples; a smaller shard would take about as long as one of this size.
MIN_SHARD = 32


@dataclass(frozen=True)
class Execution:
    """How the recurrent layers of a network run on the device at hand.

    Attributes:
        use_cudnn: Passed to the Keras layer: True raises where cuDNN cannot run it, False never tries, `auto` lets Keras choose.
        jit_compile: Whether the step is compiled by XLA, which cannot hold a cuDNN call.
        steps_per_execution: Steps that are taken without returning to Python in between.
        num_shards: Shards of a batch whose recurrent layers run beside each other, each on a core of its own.
        skip_padding_steps: Whether a loop may run only the steps that a batch needs, a number not known when it is compiled.
    """

    use_cudnn: Literal["auto"] | bool
    jit_compile: bool
    steps_per_execution: int = 1
    num_shards: int = 1
    skip_padding_steps: bool = False

    @property
    def uses_loops(self) -> bool:
        """Whether `accelerate` may replace recurrent layers by the loops and cells of `engine.recurrent`."""
        return self.use_cudnn is False and (self.jit_compile or self.num_shards > 1)


@dataclass(frozen=True)
class ExecutionNote:
    """How a part of a network runs, in words.

    Attributes:
        text: The part, how it runs, and why.
        remedy: What would make it faster, or empty where nothing would.
    """

    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text}; faster: {self.remedy}" if self.remedy else self.text


def recurrent_layers(network: keras.Model) -> Iterator[Any]:
    """Yield the recurrent layers of a network, those within `Bidirectional` too."""
    import keras

    for layer in network.layers:
        wrapped = (layer.forward_layer, layer.backward_layer) if isinstance(layer, keras.layers.Bidirectional) else (layer,)
        yield from (each for each in wrapped if isinstance(each, keras.layers.RNN))


def fits_loop(layer: Any) -> bool:
    """Tell whether `engine.loops` can run a layer: forward, to its last output, otherwise as Keras makes it by default."""
    import keras

    if type(layer) not in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
        return False
    forward = not (layer.return_sequences or layer.go_backwards or layer.stateful or layer.unroll)
    return forward and layer.cell.use_bias and _has_default_gates(layer)


def _has_default_gates(layer: Any) -> bool:
    import keras

    cell = layer.cell
    gates = getattr(cell, "recurrent_activation", keras.activations.sigmoid)
    return cell.activation is keras.activations.tanh and gates is keras.activations.sigmoid and getattr(cell, "reset_after", True)


def runs_on_cudnn(network: keras.Model) -> bool:
    """Tell whether cuDNN has a kernel for every recurrent layer of a network that has any.

    cuDNN has no SimpleRNN, no recurrent dropout, no layer without biases and no other gates than Keras's defaults; with
    `use_cudnn=True` Keras raises for those rather than fall back to a slow loop.
    """
    import keras

    def has_kernel(layer: Any) -> bool:
        usual = type(layer) in (keras.layers.GRU, keras.layers.LSTM) and not layer.unroll
        return usual and layer.cell.use_bias and not layer.cell.recurrent_dropout and _has_default_gates(layer)

    layers = list(recurrent_layers(network))
    return bool(layers) and all(has_kernel(layer) for layer in layers)


def can_shard(network: keras.Model) -> bool:
    """Tell whether the shards of a batch are worth a core each.

    Every recurrent layer must be a loop, and the other layers light. None of those may drop out: XLA draws other masks for
    `Dropout` than TensorFlow, and a sharded step is not compiled as a whole.
    """
    import keras

    light = (keras.layers.InputLayer, keras.layers.Embedding, keras.layers.Dense)
    layers = list(recurrent_layers(network))
    return (
        bool(layers)
        and all(fits_loop(layer) for layer in layers)
        and all(layer in layers or isinstance(layer, light) for layer in network.layers)
    )


def choose_execution(network: keras.Model, *, device: Device, batch_size: int, has_schedule: bool) -> Execution:
    """Return how a network is trained: on cuDNN where it can be, else by XLA.

    XLA needs `use_cudnn=False` and is the faster way on every CPU (2.3 to 2.9 times, measured). One program of XLA cannot
    reach the variables of several devices, so it is left out there.

    A GPU would wait for Python after every step, which takes Python a few milliseconds; a processor has nothing to wait with
    (30.0 and 29.9 ms a step of GRU(32) on 240 steps, measured). A learning rate that follows a schedule is set from Python
    before every step.

    Args:
        network: Plain Keras, built.
        device: Where it is trained.
        batch_size: Examples a step.
        has_schedule: Whether the learning rate changes from step to step.
    """
    if device.backend == "jax":
        # Calls of cuDNN live within the compiled step there, and Keras knows where it can make them.
        return Execution(use_cudnn="auto", jit_compile=True)
    at_once = STEPS_PER_EXECUTION if device.kind == "gpu" and device.count == 1 and not has_schedule else 1
    if device.kind == "gpu" and runs_on_cudnn(network):
        return Execution(use_cudnn=True, jit_compile=False, steps_per_execution=at_once)
    # A program of XLA keeps to one core, so a training that has several runs shards of its batch beside each other.
    num_shards = min(device.threads, batch_size // MIN_SHARD) if device.kind == "cpu" and device.count == 1 else 1
    if num_shards > 1 and can_shard(network):
        return Execution(use_cudnn=False, jit_compile=False, num_shards=num_shards, skip_padding_steps=True)
    # A loop on a GPU whose number of steps is not known when it is compiled would ask the host before each of them.
    return Execution(
        use_cudnn=False, jit_compile=device.count == 1, steps_per_execution=at_once, skip_padding_steps=device.kind == "cpu"
    )


def choose_scoring_execution() -> Execution:
    """Return how a network runs that was trained before, here or elsewhere, and only predicts from now on.

    On a processor it is the execution that validates beside a training, so that XLA finds the programs that it compiled then.
    """
    device = prepare_device(1, require_gpu=False)
    if device.kind == "cpu" and device.backend == "tensorflow":
        return Execution(use_cudnn=False, jit_compile=True, skip_padding_steps=True)
    return Execution(use_cudnn="auto", jit_compile=True)


def describe_execution(network: keras.Model, *, execution: Execution) -> tuple[ExecutionNote, ...]:
    """Return a note on each recurrent layer of a plain network: how it runs, why, and what would make it run faster."""
    notes = []
    for number, layer in enumerate(recurrent_layers(network), start=1):
        text, remedy = _describe_layer(layer, execution=execution)
        notes.append(ExecutionNote(f"recurrent layer {number}, {type(layer).__name__}({layer.cell.units}): {text}", remedy))
    return tuple(notes)


def _describe_layer(layer: Any, *, execution: Execution) -> tuple[str, str]:
    if execution.use_cudnn is True:
        return "cuDNN", ""
    if not execution.uses_loops:
        return "plain Keras, compiled by XLA" if execution.jit_compile else "plain Keras", ""
    if fits_loop(layer):
        shards = f", {execution.num_shards} shards of the batch beside each other" if execution.num_shards > 1 else ""
        return f"fast loop{shards}", ""
    obstacle, remedy = _obstacle(layer)
    return f"XLA without the fast loop, because {obstacle}", remedy


def _obstacle(layer: Any) -> tuple[str, str]:
    """Return why `engine.loops` cannot run a layer, and the remedy."""
    if layer.return_sequences:
        return "it returns every step to the next layer", "return the last step alone (return_sequences=False)"
    if layer.go_backwards:
        return "it reads backwards", "leave out go_backwards or Bidirectional"
    if layer.stateful or layer.unroll:
        return "it is stateful or unrolled", "leave out stateful and unroll"
    if not layer.cell.use_bias:
        return "it has no biases", "use_bias=True"
    return "its activations or gates are not Keras's defaults", "leave them out"
