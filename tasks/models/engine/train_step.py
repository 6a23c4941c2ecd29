"""Training steps: one by one, many in one call, or on several devices that each take a shard of every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, proxy

import numpy as np
import numpy.typing as npt

from tasks.models.device import Device
from tasks.models.spec import Batch

if TYPE_CHECKING:
    import keras


@contextmanager
def mirrored_scope(device: Device) -> Iterator[None]:
    """Make the variables that are built within on every device, as mirrors of each other; one device needs nothing."""
    if device.count == 1 or device.backend != "tensorflow":
        yield
        return
    import tensorflow as tf

    names = [f"/{device.kind.upper()}:{number}" for number in range(device.count)]
    with tf.distribute.MirroredStrategy(names).scope():
        yield


def train_steps(batches: Sequence[Batch]) -> dict[str, float]:
    """Take the steps of batches of one model and one size, and return their metrics, means over all examples.

    A model that was compiled for many steps an execution takes them without returning to Python in between.
    """
    if len(batches) == 1:
        return train_step(batches[0])
    import tensorflow as tf

    model = batches[0].model
    model.reset_metrics()
    _programs(model).many(
        tf.constant(np.stack([batch.inputs for batch in batches])), tf.constant(np.stack([batch.targets for batch in batches]))
    )
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def group_batches(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Put together what one execution takes: consecutive batches of one model and size, as many as it was compiled for."""
    group: list[Batch] = []
    for batch in batches:
        fits = bool(group) and group[0].model is batch.model and len(group[0].inputs) == len(batch.inputs)
        if group and not (fits and len(group) < batch.model.steps_per_execution):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def train_step(batch: Batch) -> dict[str, float]:
    """Take one step and return its metrics, means over the batch.

    On several devices the gradients are those of the whole batch, so the step is that of one device to rounding; but an
    optimizer that clips gradients clips each device's own. All devices take shards of one size: a batch that does not divide
    loses the rest, fewer examples than there are devices.
    """
    model = batch.model
    if _devices(model) == 1:
        return dict(model.train_on_batch(batch.inputs, batch.targets, return_dict=True))
    # What `train_on_batch` does, but for the shards: Keras would give the whole batch to every device.
    model.reset_metrics()
    inputs, targets = _shards(model, batch.inputs, batch.targets)
    _programs(model).distributed(inputs, targets)
    return {name: float(value) for name, value in model.get_metrics_result().items()}


@dataclass(frozen=True)
class _Programs:
    """The compiled steps of a model beside those that Keras makes itself.

    Attributes:
        many: Inputs and targets `(steps, batch, ...)`: takes every step in one call.
        distributed: One shard of inputs and targets a device: takes one step on all of them.
    """

    many: Callable[[Any, Any], None]
    distributed: Callable[[Any, Any], None]


# A model lives as long as its learner; its programs go with it.
_PROGRAMS: WeakKeyDictionary[Any, _Programs] = WeakKeyDictionary()


def _programs(model: keras.Model) -> _Programs:
    if model not in _PROGRAMS:
        import tensorflow as tf

        # A program that named the model itself would keep it alive.
        trained = proxy(model)
        one = tf.function(lambda inputs, targets: trained.train_step((inputs, targets)), jit_compile=model.jit_compile)

        @tf.function  # type: ignore[untyped-decorator]
        def many(inputs: Any, targets: Any) -> None:
            for step in tf.range(tf.shape(inputs)[0]):
                one(inputs[step], targets[step])

        @tf.function  # type: ignore[untyped-decorator]
        def distributed(inputs: Any, targets: Any) -> None:
            trained.distribute_strategy.run(lambda x, y: trained.train_step((x, y)), args=(inputs, targets))

        _PROGRAMS[model] = _Programs(many=many, distributed=distributed)
    return _PROGRAMS[model]


def predict(model: keras.Model, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the predictions of one batch, float32 `(batch,)`, or `(batch, outputs)` of a network with several outputs."""
    # On several devices each predicts the whole batch, and the answers come one after the other.
    return one_value_a_row(np.asarray(model.predict_on_batch(inputs), dtype=np.float32)[: len(inputs)])


def one_value_a_row(outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `(rows,)` for the outputs `(rows, 1)` of a network with one output, and those of any other as they are."""
    return outputs[:, 0] if outputs.shape[1:] == (1,) else outputs


def _devices(model: keras.Model) -> int:
    strategy = getattr(model, "distribute_strategy", None)  # a backend other than TensorFlow has none
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def _shards(model: keras.Model, *arrays: npt.NDArray[Any]) -> Any:
    import tensorflow as tf

    size = len(arrays[0]) // _devices(model)

    def shard(context: Any) -> tuple[Any, ...]:
        first = context.replica_id_in_sync_group * size
        return tuple(tf.constant(array[first : first + size]) for array in arrays)

    return model.distribute_strategy.experimental_distribute_values_from_function(shard)
