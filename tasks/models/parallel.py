"""One training on several devices: each takes its part of every batch, and all of them take the same step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.models.device import Device
from tasks.models.spec import Batch

if TYPE_CHECKING:
    import keras


@contextmanager
def on_every(device: Device) -> Iterator[None]:
    """Make the variables that are built within on every device, as mirrors of each other; one device needs nothing."""
    if device.count == 1 or device.backend != "tensorflow":
        yield
        return
    import tensorflow as tf

    names = [f"/{device.kind.upper()}:{number}" for number in range(device.count)]
    with tf.distribute.MirroredStrategy(names).scope():
        yield


def take_step(batch: Batch) -> dict[str, float]:
    """Take one step and return its figures, means over the batch.

    On several devices the gradients are those of the whole batch, so the step is that of one device to rounding; but an
    optimizer that clips gradients clips each part's own. Parts must be of one size: a batch that does not divide loses the
    rest, fewer examples than there are devices.
    """
    model = batch.model
    devices = _devices(model)
    if devices == 1:
        return dict(model.train_on_batch(batch.inputs, batch.targets, return_dict=True))
    # What `train_on_batch` does, but for the parts: Keras would give the whole batch to every device.
    model._maybe_symbolic_build(data_batch=(batch.inputs, batch.targets, None))
    model.make_train_function()
    model.reset_metrics()
    parts = _parts(model, batch.inputs, batch.targets)
    return {name: float(value) for name, value in model.train_function(iter([parts])).items()}


def predict(model: keras.Model, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the predictions of one batch, float32 `(batch,)`."""
    # On several devices each predicts the whole batch, and the answers come one after the other.
    return np.asarray(model.predict_on_batch(inputs), dtype=np.float32)[: len(inputs), 0]


def _devices(model: keras.Model) -> int:
    strategy = getattr(model, "distribute_strategy", None)  # a backend other than TensorFlow has none
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def _parts(model: keras.Model, *arrays: npt.NDArray[Any]) -> Any:
    import tensorflow as tf

    size = len(arrays[0]) // _devices(model)

    def part(context: Any) -> tuple[Any, ...]:
        first = context.replica_id_in_sync_group * size
        return tuple(tf.constant(array[first : first + size]) for array in arrays)

    return model.distribute_strategy.experimental_distribute_values_from_function(part)
