"""What a variant is, and what every data set's learner can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import SettingError
from tasks.datasets.row_ids import RowIds, content_ids
from tasks.models.optimizers import rmsprop
from tasks.scoring import Scoring

if TYPE_CHECKING:
    import keras

    from tasks.models.engine.accelerated import AcceleratedNetwork
    from tasks.models.engine.execution import Execution, ExecutionNote
    from tasks.models.predictor import Predictor

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Variant:
    """One network, or a linear baseline, and the budget that it is trained with.

    The name `gru_baseline` is the tutorial's: it is a network, and no baseline in the sense of `is_baseline`.

    Attributes:
        summary: The network in a few words.
        network: Builds it in plain Keras, without arguments; its input is one normalised window or one padded review. A
            function of the window task is bound to it by `functools.partial`.
        epochs: Upper bound on the epochs, the tutorial's where it has the variant.
        batch_size: Examples a step.
        steps_per_epoch: Steps an epoch, or None for one pass over the training split.
        learning_rate: Of the optimizer.
        optimizer: Learning rate to optimizer; where it averages the weights, the averages are validated and kept.
        schedule: Share of the budget that is done, 0 to 1, to a factor of the learning rate; None keeps it.
        init_weights: Sets weights of the learner's network before training, from its training split alone.
        crop_tokens: Tokens that training reads of a review, another part of a longer one each time; None reads the end.
        tutorial_best: Best validation metric that the tutorial prints (`validation_metric` of the problem).
        fit_closed_form: Fits a linear baseline: leaves a network with its weights in the learner, computed at once from the
            training split, where a variant without it is trained epoch by epoch.
    """

    name: str
    summary: str
    network: Callable[[], keras.Model]
    epochs: int
    batch_size: int = 128
    steps_per_epoch: int | None = None
    learning_rate: float = 1e-3
    optimizer: Callable[[float], keras.Optimizer] = rmsprop
    schedule: Callable[[float], float] | None = None
    init_weights: Callable[[Any], None] | None = None
    crop_tokens: int | None = None
    tutorial_best: float | None = None
    fit_closed_form: Callable[[Any], None] | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether this is a linear baseline: shown beside the networks, promoted only when a person allows it."""
        return self.fit_closed_form is not None

    def with_settings(self, *, batch_size: int | None, learning_rate: float | None) -> Variant:
        """Return the variant with what a person set in place of its own values; None keeps them."""
        return replace(self, batch_size=batch_size or self.batch_size, learning_rate=learning_rate or self.learning_rate)


def restored(network: keras.Model) -> Variant:
    """Return a stand-in for the variant of a network that was trained before, and only predicts from now on."""
    return Variant(name="restored", summary="", network=lambda: network, epochs=0)


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
        patience_epochs: Stop when this many epochs in a row brought no better validation metric.
    """

    epochs: int
    steps_per_epoch: int | None
    patience_epochs: int


class Learner(Protocol):
    """A network on the tables of its data set: what `fit` and the evaluation need of it."""

    network: keras.Model
    optimizer: keras.Optimizer
    variant: Variant
    execution: Execution

    def describe_execution(self) -> tuple[ExecutionNote, ...]:
        """Return in words how each part of the network runs, and what would make it faster."""

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        """Return the number of steps of an epoch and its batches, in an order that follows from (seed, epoch)."""

    def predict(self, split: str) -> Floats:
        """Return `(examples,)` or `(examples, classes)`: a prediction for every example, on the scale of the targets."""

    def targets(self, split: str) -> Floats:
        """Return the truth beside `predict`."""

    def validation(self) -> dict[str, float]:
        """Return the metrics of the validation split that `is_better` compares."""

    def export(self) -> keras.Model:
        """Return the whole model: raw input in, prediction in its own unit out."""


@dataclass(frozen=True)
class ScoredSplit:
    """A split, mostly the test split, as the evaluation sees it, in the unit that people read.

    Attributes:
        prediction: `(examples,)` in the unit of the target, or the probability of the second of two classes; or
            `(examples, classes)`: the probability of each of several classes.
        truth: `(examples,)` in the same unit, or the number of the class, from 0.
        naive: What the naive baseline says of each example, like `truth`.
        scale: Unit in normalised terms: the standard deviation of the target in its unit, or 1.
        row: `(examples,)`, rising: row of the split that the example predicts. A model with another lookback has other
            examples of the same split, and two models are compared on those of both.
    """

    prediction: Floats
    truth: Floats
    naive: Floats
    scale: float
    row: npt.NDArray[np.int64]


def duration(seconds: int) -> str:
    """Return a time for people: in hours where it is a whole number of them, else in minutes."""
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


@dataclass(frozen=True)
class SeriesPlot:
    """What the pictures of a forecast need beside its predictions.

    Attributes:
        stamp: datetime64 of every row of all splits, in order.
        value: The quantity at each stamp, in its unit.
        first_test_row: Where the test split begins.
        target_stamp: datetime64 of the target of every test example.
        quantity: Name of the quantity, such as temperature.
        unit: Its unit, such as °C.
        row_seconds: Spacing of the rows.
        horizon_rows: Rows from the end of a window to its target.
    """

    stamp: npt.NDArray[np.datetime64]
    value: Floats
    first_test_row: int
    target_stamp: npt.NDArray[np.datetime64]
    quantity: str
    unit: str
    row_seconds: int
    horizon_rows: int

    @property
    def axis_label(self) -> str:
        """The quantity with its unit in parentheses."""
        return f"{self.quantity} ({self.unit})"

    @property
    def rows_a_day(self) -> int:
        """Rows of a day, at least one."""
        return max(1, 86_400 // self.row_seconds)

    @property
    def horizon(self) -> str:
        """How far ahead the forecast is."""
        return duration(self.horizon_rows * self.row_seconds)


@dataclass(frozen=True)
class ReviewsPlot:
    """What the pictures of a review classifier need beside its predictions.

    Attributes:
        lengths: Tokens of every training review, the start token among them, `read_tokens` at most.
        read_tokens: Tokens that a network reads, the last ones.
        text: The test review at a place, decoded back to words; a word outside the vocabulary is an ellipsis.
    """

    lengths: npt.NDArray[np.int64]
    read_tokens: int
    text: Callable[[int], str]


@dataclass(frozen=True)
class ClassesPlot:
    """What the pictures of a classifier of several classes need beside its predictions.

    Attributes:
        classes: Names of the classes, in the order of their numbers.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """A data set as its networks see it: the variants, and how tables become a learner.

    Attributes:
        dataset: Name of the data set.
        scoring: The scores and the paired test that are its own.
        naive: Name of the naive baseline, such as persistence or majority, by which the contract tests know what to expect.
        variants: Every variant by name; one more entry is one more variant.
        learner: Tables by split (and extras), normalisation, variant and its accelerated network to a learner.
        restore: The same tables and an exported model to a learner that predicts with it, whatever it was trained on.
        scored_split: A learner's test predictions in their own unit, beside truth and naive baseline.
        examples: Raw inputs of the exported model with the predictions that the learner gives for them.
        sample_budget: Epochs and steps that suffice on the sample.
        plot_data: The same tables and normalisation to what the pictures of a report show beside predictions.
        is_better: Whether the first validation metrics beat the second.
        validation_metric: The validation metric that people read, comparable with the tutorial's.
        task: JSON-ready values that say what is predicted from what; a change of them trains anew.
        with_task: The problem with some of these values changed, by name. Raises `SettingError` for what cannot be.
        default_variants: The networks that a run trains when a person names none.
        tutorial_rows: Rows of the tutorial's own files; None where it has no such data set.
        model_suffix: End of the registered name of models that answer another question than the data set's own, such as
            another target: they never compete with those.
        row_ids: A split's table to the id of each row, by which the row is known again in another table: it must not follow from
            normalised values, whose scale is the table's own.
        is_series: Whether rows follow in time and their ids are stamps, so that a span of rows has a first and a last id.
        predictor: An exported model to what predicts raw input with it; None: nothing does.
        arrays: The same tables, a split and a stride to what a plain Keras network reads and should say, of each example or of
            one of so many: for notebooks. None: there are none.
        scored_validation: What `scored_split` is, of the validation split: intervals or calibrated probabilities are learnt from
            it. None: the problem has neither.
    """

    dataset: str
    scoring: Scoring
    naive: str
    variants: Mapping[str, Variant]
    learner: Callable[[Mapping[str, pa.Table], Mapping[str, Any], Variant, AcceleratedNetwork], Learner]
    restore: Callable[[Mapping[str, pa.Table], Mapping[str, Any], keras.Model], Learner]
    scored_split: Callable[[Any], ScoredSplit]
    examples: Callable[[Any, int], tuple[npt.NDArray[Any], Floats]]
    plot_data: Callable[[Mapping[str, pa.Table], Mapping[str, Any]], SeriesPlot | ReviewsPlot | ClassesPlot]
    sample_budget: Budget
    is_better: Callable[[Mapping[str, float], Mapping[str, float]], bool]
    validation_metric: str
    task: Mapping[str, Any]
    with_task: Callable[[Mapping[str, Any]], Problem]
    default_variants: tuple[str, ...]
    tutorial_rows: int | None = None
    model_suffix: str = ""
    row_ids: Callable[[pa.Table], RowIds] = content_ids
    is_series: bool = False
    predictor: Callable[[keras.Model], Predictor] | None = None
    scored_validation: Callable[[Any], ScoredSplit] | None = None
    arrays: Callable[[Mapping[str, pa.Table], str, int], tuple[npt.NDArray[Any], Floats]] | None = None

    @property
    def baselines(self) -> tuple[str, ...]:
        """The names of the linear baselines, which every run scores beside its networks."""
        return tuple(variant.name for variant in self.variants.values() if variant.is_baseline)


def refuse_task(changes: Mapping[str, Any], *, task: Mapping[str, Any], dataset: str) -> None:
    """Refuse settings of a task that a data set does not have, or does not let anybody change.

    Raises:
        SettingError: A value differs from that of the task.
    """
    for name, value in changes.items():
        if task.get(name) != value:
            raise SettingError(
                f"{name} is {value!r}, but {dataset} has no such setting: leave it out, or name the data set that has it"
            )
