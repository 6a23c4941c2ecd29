"""A variant's network beside the fast copy of it that is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.errors import SettingError
from tasks.models.device import Device
from tasks.models.engine.execution import (
    Execution,
    ExecutionNote,
    choose_execution,
    choose_scoring_execution,
    describe_execution,
)
from tasks.models.engine.recurrent import accelerate
from tasks.models.engine.rmsprop import accelerate_optimizer

if TYPE_CHECKING:
    import keras

    from tasks.models.spec import Variant


@dataclass(frozen=True)
class AcceleratedNetwork:
    """A plain network, and the copy that runs.

    Attributes:
        plain: Plain Keras, which is saved; its weights are those it began with until `Learner.export` copies those of `fast`.
        fast: The same function, which is trained and predicts.
        optimizer: Built for the weights of `fast`.
        execution: How `fast` runs.
    """

    plain: keras.Model
    fast: keras.Model
    optimizer: keras.Optimizer
    execution: Execution

    def describe(self) -> tuple[ExecutionNote, ...]:
        """Return a note on each recurrent layer: how it runs, why, and what would make it faster."""
        return describe_execution(self.plain, execution=self.execution)


def accelerate_for_training(
    variant: Variant, *, device: Device, seed: int, execution: Execution | None = None
) -> AcceleratedNetwork:
    """Build a variant with new weights that follow from the seed.

    Args:
        variant: The network and its optimizer.
        device: Where it is trained.
        seed: Of the weights and of the masks of dropout.
        execution: How it is run; None chooses what is fastest on the device.

    Raises:
        SettingError: The network has no input, or makes a mask, which training could not honour.
    """
    import keras

    keras.utils.set_random_seed(seed)
    plain = variant.network()
    if not plain.built:
        raise SettingError(f"the network of variant {variant.name!r} has no input: begin it with keras.Input")
    refuse_masks(plain, variant=variant.name)
    if execution is None:
        execution = choose_execution(
            plain, device=device, batch_size=variant.batch_size, has_schedule=variant.schedule is not None
        )
    return _accelerated(plain, variant=variant, execution=execution)


def accelerate_for_scoring(network: keras.Model, *, variant: Variant) -> AcceleratedNetwork:
    """Take a network that was trained before."""
    return _accelerated(network, variant=variant, execution=choose_scoring_execution())


def _accelerated(plain: keras.Model, *, variant: Variant, execution: Execution) -> AcceleratedNetwork:
    fast = accelerate(plain, execution)
    optimizer = accelerate_optimizer(variant.optimizer(variant.learning_rate))
    optimizer.build(fast.trainable_variables)
    return AcceleratedNetwork(plain=plain, fast=fast, optimizer=optimizer, execution=execution)


def refuse_masks(network: keras.Model, *, variant: str) -> None:
    """Refuse a network whose layers make masks of padding: the fast loops and the shared prefix read padding like any token.

    Raises:
        SettingError: Names the layer and the remedy.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False):
            raise SettingError(
                f"layer {layer.name!r} of variant {variant!r} makes a mask, which training cannot honour: leave out "
                "mask_zero and Masking, and multiply by a mask of your own as gru_pooled does"
            )
