"""How steps are taken: one by one, many in one call, or on several devices that each take their part of every batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.models.engine.execution import Device
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


def take_steps(batches: Sequence[Batch]) -> dict[str, float]:
    """Take the steps of batches of one model and one size, and return their figures, means over all examples.

    A model that was compiled for many steps an execution takes them without returning to Python in between.
    """
    if len(batches) == 1:
        return take_step(batches[0])
    import tensorflow as tf

    model = batches[0].model
    model._maybe_symbolic_build(data_batch=(batches[0].inputs, batches[0].targets, None))
    model.make_train_function()
    model.reset_metrics()
    stacked = (np.stack([batch.inputs for batch in batches]), np.stack([batch.targets for batch in batches]))
    # What `fit` does with a data set; it would set up callbacks and more for every group.
    figures = model.train_function(iter(tf.data.Dataset.from_tensor_slices(stacked)))
    return {name: float(value) for name, value in figures.items()}


def grouped(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
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
