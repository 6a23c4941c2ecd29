"""What a variant is, which kernel it runs on, and what every data set's learner can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Kernel:
    """How a recurrent layer runs on the device at hand.

    Attributes:
        use_cudnn: Passed to the Keras layer: True raises where cuDNN cannot, False never tries, `auto` is for export.
        jit_compile: Whether the step is compiled by XLA, which cannot hold a cuDNN call.
    """

    use_cudnn: Literal["auto"] | bool
    jit_compile: bool


@dataclass(frozen=True)
class Variant:
    """One network and the budget that it is trained with.

    Attributes:
        summary: The network in a few words.
        network: Builds it for a kernel; its input is one normalised window or one padded review.
        epochs: Upper bound on the epochs, the tutorial's where it has the variant.
        batch_size: Examples a step.
        steps_per_epoch: Steps an epoch, or None for one pass over the training split.
        learning_rate: Of RMSprop.
        recurrent_dropout: Whether the state is dropped between steps: cuDNN has no such kernel.
        tutorial_best: Best validation figure that the tutorial prints (Jena: normalised MAE, IMDB: accuracy).
    """

    name: str
    summary: str
    network: Callable[[Kernel], keras.Model]
    epochs: int
    batch_size: int = 128
    steps_per_epoch: int | None = None
    learning_rate: float = 1e-3
    recurrent_dropout: bool = False
    tutorial_best: float | None = None


@dataclass(frozen=True)
class Batch:
    """One step: the model that takes it (one a width), its inputs and its targets."""

    model: keras.Model
    inputs: npt.NDArray[Any]
    targets: Floats


@dataclass(frozen=True)
class Budget:
    """How long a training may go on.

    Attributes:
        epochs: Upper bound on the epochs.
        steps_per_epoch: Steps an epoch, or None for one pass over the training split.
        patience_epochs: Stop when this many epochs in a row brought no better validation figure.
    """

    epochs: int
    steps_per_epoch: int | None
    patience_epochs: int


class Learner(Protocol):
    """A network on the tables of its data set: what `fit` and the evaluation need of it."""

    network: keras.Model
    optimizer: keras.Optimizer

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        """Return the number of steps of an epoch and its batches, in an order that follows from (seed, epoch)."""

    def predict(self, split: str) -> Floats:
        """Return one prediction for every example of a split, on the scale of the targets."""

    def targets(self, split: str) -> Floats:
        """Return the truth beside `predict`."""

    def validation(self) -> dict[str, float]:
        """Return the figures of the validation split that `is_better` compares."""

    def export(self) -> keras.Model:
        """Return the whole model: raw input in, prediction in its own unit out."""


@dataclass(frozen=True)
class TestView:
    """The test split as the evaluation sees it, in the unit that people read.

    Attributes:
        prediction: One value an example: °C, or the probability of a positive review.
        truth: Same unit, or the label.
        naive: What the naive reference says of each example.
        scale: Unit in normalised terms: the temperature's standard deviation in °C, or 1.
    """

    prediction: Floats
    truth: Floats
    naive: Floats
    scale: float


@dataclass(frozen=True)
class View:
    """A data set as its networks see it: the variants, and how tables become a learner.

    Attributes:
        dataset: Name of the data set.
        kind: Which scores and which paired test are its own.
        naive: Name of the naive reference.
        variants: Every variant by name; one more entry is one more variant.
        learner: Tables by split (and extras), normalisation, variant, kernel and seed to a learner.
        restore: The same tables and an exported model to a learner that predicts with it, whatever it was trained on.
        test_view: A learner's test predictions in their own unit, beside truth and naive reference.
        examples: Raw inputs of the exported model with the predictions that the learner gives for them.
        sample_budget: Epochs and steps that suffice on the sample.
        is_better: Whether the first validation figures beat the second.
        validation_metric: The validation figure that people read, comparable with the tutorial's.
    """

    dataset: str
    kind: Literal["forecast", "classification"]
    naive: str
    variants: Mapping[str, Variant]
    learner: Callable[[Mapping[str, pa.Table], Mapping[str, Any], Variant, Kernel, int], Learner]
    restore: Callable[[Mapping[str, pa.Table], Mapping[str, Any], keras.Model], Learner]
    test_view: Callable[[Any], TestView]
    examples: Callable[[Any, int], tuple[npt.NDArray[Any], Floats]]
    sample_budget: Budget
    is_better: Callable[[Mapping[str, float], Mapping[str, float]], bool]
    validation_metric: str
