"""Forecasts of a time series from windows of its readings: the learner of every data set that has a `WindowTask`.

All splits lie one after the other in one table on the device. A window is then no more than the number of its row, and a
training step is fed row numbers instead of readings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import DataError, SettingError, unknown
from tasks.datasets.row_ids import stamp_ids
from tasks.datasets.spec import SPLITS
from tasks.models.engine.accelerated import AcceleratedNetwork, accelerate_for_scoring
from tasks.models.engine.train_step import predict
from tasks.models.forecast import Forecast, WindowTask, quantity_and_unit
from tasks.models.predictor import WindowPredictor
from tasks.models.spec import Batch, Floats, Ids, Problem, ScoredSplit, SeriesPlot, Variant, duration, restored
from tasks.scoring import ForecastScoring

if TYPE_CHECKING:
    import keras

PREDICT_BATCH = 512


def window_rows(segment: npt.NDArray[np.int32], *, task: WindowTask) -> Ids:
    """Return the rows of one split that have a whole window before them and a target after them.

    Row `r` stands for the inputs `[r - lookback_rows, r)` and the target at `r + horizon_rows`.

    Args:
        segment: int32 `(rows,)`: number of the gapless run that each row belongs to, never falling. Equal numbers at
            both ends of a window therefore mean that no gap lies within.
        task: How long a window is, and how far behind it its target lies.
    """
    last = len(segment) - task.horizon_rows
    rows = np.arange(task.lookback_rows, max(last, task.lookback_rows), dtype=np.int32)
    whole = segment[rows - task.lookback_rows] == segment[rows + task.horizon_rows]
    return np.asarray(rows[whole])


def _window_layer(rows: int, *, task: WindowTask) -> keras.layers.Layer:
    """Return the layer that gathers windows from a table resident on the device, so that a step is fed row ids only."""
    import keras

    class Windows(keras.layers.Layer):  # type: ignore[misc]
        """Row ids int32 `(batch,)` to windows float32 `(batch, steps, columns)`."""

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            # A weight, because a backend that compiles whole steps would bake a constant of many MB into the program.
            del input_shape
            self.table = self.add_weight(shape=(rows, len(task.columns)), initializer="zeros", trainable=False)

        def call(self, row: Any) -> Any:
            offsets = keras.ops.arange(-task.lookback_rows, 0, task.step_rows, dtype="int32")
            return keras.ops.take(self.table, row[:, None] + offsets[None, :], axis=0)

    return Windows(name="windows")


class WindowLearner:
    """A network beside the resident table of all three splits.

    Attributes:
        task: What is forecast from what.
        table: float32 `(rows, columns)`: train, validation and test one after the other, as the network wants them.
        rows: Window rows by split, counted in `table`.
        first_row: First row of each split in `table`.
        mean, std: float64 `(columns,)`: what undoes the normalisation.

    Raises:
        DataError: A split has no row with a whole window before it and a target after it.
        SettingError: The network does not end with one value a window.
    """

    def __init__(
        self,
        splits: Mapping[str, pa.Table],
        normalisation: Mapping[str, Any],
        *,
        task: WindowTask,
        dataset: str,
        accelerated: AcceleratedNetwork,
        variant: Variant,
    ) -> None:
        import keras

        if accelerated.plain.output_shape != (None, 1):
            raise SettingError(
                f"variant {variant.name!r} of {dataset} returns the shape {accelerated.plain.output_shape}, expected one "
                "forecast a window: end it with Dense(1)"
            )
        self.task, self.dataset = task, dataset
        self.mean, self.std = _statistics(normalisation, task=task)
        self.table = np.concatenate([_matrix(splits[name], task=task) for name in SPLITS])
        self.rows: dict[str, Ids] = {}
        self.first_row: dict[str, int] = {}
        first = 0
        for name in SPLITS:
            self.first_row[name] = first
            self.rows[name] = (window_rows(splits[name]["segment"].to_numpy(), task=task) + first).astype(np.int32)
            if not len(self.rows[name]):
                raise DataError(
                    f"split {name} of {dataset} has {splits[name].num_rows} rows and no window: expected at least "
                    f"{task.min_rows} rows without a gap, give a longer span"
                )
            first += splits[name].num_rows
        self.network, self.plain_network = accelerated.fast, accelerated.plain
        self.execution = accelerated.execution
        self.describe_execution = accelerated.describe
        row = keras.Input((), dtype="int32")
        windows = _window_layer(len(self.table), task=task)
        self.model = keras.Model(row, self.network(windows(row)))
        windows.table.assign(self.table)
        self.variant = variant
        self.optimizer = accelerated.optimizer
        self.model.compile(
            optimizer=self.optimizer,
            loss="mae",
            jit_compile=self.execution.jit_compile,
            steps_per_execution=self.execution.steps_per_execution,
        )

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        """Return windows drawn without replacement; where there are too few, all of them come before one comes again."""
        train = self.rows["train"]
        count = (steps or -(-len(train) // self.variant.batch_size)) * self.variant.batch_size
        # (seed, epoch) seeds are independent streams of numpy's SeedSequence.
        rng = np.random.default_rng((seed, epoch))
        passes, rest = divmod(count, len(train))
        drawn = [rng.permutation(train) for _ in range(passes)]
        groups = np.concatenate([*drawn, rng.choice(train, size=rest, replace=False)]).reshape(-1, self.variant.batch_size)
        return len(groups), (Batch(self.model, ids, self.targets_of_rows(ids)[:, None]) for ids in groups)

    def predict(self, split: str) -> Floats:
        """Return normalised forecasts float32 `(windows,)`."""
        return self.predict_rows(self.rows[split])

    def predict_rows(self, ids: Ids) -> Floats:
        """Return normalised forecasts for any window rows, in batches of one shape so that one program serves all."""
        padded = np.resize(ids, -(-len(ids) // PREDICT_BATCH) * PREDICT_BATCH)
        parts = [predict(self.model, chunk) for chunk in padded.reshape(-1, PREDICT_BATCH)]
        return np.concatenate(parts)[: len(ids)]

    def targets(self, split: str) -> Floats:
        """Return normalised targets float32 `(windows,)`."""
        return self.targets_of_rows(self.rows[split])

    def targets_of_rows(self, ids: Ids) -> Floats:
        """Return the normalised targets of any window rows."""
        return np.asarray(self.table[ids + self.task.horizon_rows, self.task.target_index])

    def persistence(self, split: str) -> Floats:
        """Return the naive forecast, normalised: the target's column at the window's row, `horizon_rows` before the target."""
        return np.asarray(self.table[self.rows[split], self.task.target_index])

    def validation(self) -> dict[str, float]:
        """Return the mean absolute error of the validation split, normalised."""
        return {"val_loss": float(np.mean(np.abs(self.predict("val") - self.targets("val")), dtype=np.float64))}

    def raw_windows(self, ids: Ids) -> Floats:
        """Return readings in their own units, float32 `(windows, lookback_rows, columns)`."""
        normalised = self.table[ids[:, None] + np.arange(-self.task.lookback_rows, 0)]
        return np.asarray(normalised * self.std + self.mean, dtype=np.float32)

    @property
    def target_std(self) -> float:
        """One standard deviation of the target, in its own unit."""
        return float(self.std[self.task.target_index])

    def in_target_unit(self, normalised: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return values of the target in its own unit."""
        target = self.task.target_index
        return np.asarray(normalised * self.std[target] + self.mean[target], dtype=np.float32)

    def export(self) -> keras.Model:
        """Return the whole model: raw readings in, forecasts in the target's unit out.

        Its input is float32 `(batch, lookback_rows, columns)`, its output `(batch, 1)`.
        """
        import keras

        readings = keras.Input((self.task.lookback_rows, len(self.task.columns)), name="readings")
        normalise = keras.layers.Normalization(mean=self.mean, variance=self.std**2, name="normalise")
        offset = float(self.mean[self.task.target_index])
        denormalise = keras.layers.Rescaling(self.target_std, offset, name="denormalise")
        network = self.plain_network
        network.set_weights(self.network.get_weights())
        forecast = denormalise(network(normalise(readings[:, :: self.task.step_rows])))
        return keras.Model(readings, forecast, name=self.dataset)


def _matrix(split: pa.Table, *, task: WindowTask) -> Floats:
    return np.column_stack([split[name].to_numpy() for name in task.columns])


def _statistics(normalisation: Mapping[str, Any], *, task: WindowTask) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation, float64 `(columns,)`."""
    mean = np.array([normalisation["mean"][name] for name in task.columns])
    return mean, np.array([normalisation["std"][name] for name in task.columns])


def restore_learner(
    exported: keras.Model,
    *,
    splits: Mapping[str, pa.Table],
    normalisation: Mapping[str, Any],
    task: WindowTask,
    dataset: str,
) -> WindowLearner:
    """Return a learner that predicts with an exported model, on today's readings put on the scale it was trained on.

    Raises:
        SettingError: The model reads other columns than the table has.
    """
    layer = exported.get_layer("normalise")
    if exported.input_shape != (None, task.lookback_rows, len(task.columns)):
        raise SettingError(
            f"a model of {dataset} reads windows of (rows, columns) {exported.input_shape[1:]}, and its task has "
            f"{(task.lookback_rows, len(task.columns))}: columns were added or taken away since, make another version champion"
        )
    theirs_mean = np.asarray(layer.mean, dtype=np.float64).reshape(-1)
    theirs_std = np.sqrt(np.asarray(layer.variance, dtype=np.float64)).reshape(-1)
    ours_mean, ours_std = _statistics(normalisation, task=task)
    rescaled: dict[str, pa.Table] = {}
    for name in SPLITS:
        matrix = ((_matrix(splits[name], task=task) * ours_std + ours_mean) - theirs_mean) / theirs_std
        columns = {column: pa.array(matrix[:, i].astype(np.float32)) for i, column in enumerate(task.columns)}
        rescaled[name] = pa.table(columns | {"segment": splits[name]["segment"]})
    theirs = {
        "mean": dict(zip(task.columns, theirs_mean, strict=True)),
        "std": dict(zip(task.columns, theirs_std, strict=True)),
    }
    network = exported.get_layer("network")
    variant = restored(network)
    accelerated = accelerate_for_scoring(network, variant=variant)
    return WindowLearner(rescaled, theirs, task=task, dataset=dataset, accelerated=accelerated, variant=variant)


def example_windows(learner: WindowLearner, count: int) -> tuple[Floats, Floats]:
    """Return raw test windows, evenly spread, with the learner's forecasts in the target's unit."""
    ids = learner.rows["test"]
    rows = ids[np.linspace(0, len(ids) - 1, num=min(count, len(ids)), dtype=int)]
    return learner.raw_windows(rows), learner.in_target_unit(learner.predict_rows(rows))


def window_arrays(splits: Mapping[str, pa.Table], split: str, every: int, *, task: WindowTask) -> tuple[Floats, Floats]:
    """Return normalised windows, float32 `(examples, steps, columns)`, and targets `(examples, 1)` of a split, one of `every`."""
    table = _matrix(splits[split], task=task)
    rows = window_rows(splits[split]["segment"].to_numpy(), task=task)[::every]
    offsets = np.arange(-task.lookback_rows, 0, task.step_rows)
    return table[rows[:, None] + offsets], table[rows + task.horizon_rows, task.target_index][:, None]


def score_split(learner: WindowLearner, *, split: str = "test") -> ScoredSplit:
    """Return forecast, truth and naive forecast of every window of a split, in the target's unit."""
    return ScoredSplit(
        prediction=learner.in_target_unit(learner.predict(split)),
        truth=learner.in_target_unit(learner.targets(split)),
        naive=learner.in_target_unit(learner.persistence(split)),
        scale=learner.target_std,
        row=(learner.rows[split] + learner.task.horizon_rows - learner.first_row[split]).astype(np.int64),
    )


def plot_series(
    splits: Mapping[str, pa.Table],
    *,
    normalisation: Mapping[str, Any],
    task: WindowTask,
    quantity: str,
    unit: str,
    row_seconds: int,
) -> SeriesPlot:
    """Return the target's readings over all splits, in their unit, with the stamp of every test target."""
    readings = np.concatenate([splits[name][task.target].to_numpy() for name in SPLITS])
    stamp = np.concatenate([splits[name]["timestamp"].to_numpy() for name in SPLITS])
    mean, std = normalisation["mean"][task.target], normalisation["std"][task.target]
    first_test_row = len(stamp) - splits["test"].num_rows
    targets = window_rows(splits["test"]["segment"].to_numpy(), task=task) + first_test_row + task.horizon_rows
    return SeriesPlot(
        stamp=stamp,
        value=np.asarray(readings * std + mean, dtype=np.float32),
        first_test_row=first_test_row,
        target_stamp=stamp[targets],
        quantity=quantity,
        unit=unit,
        row_seconds=row_seconds,
        horizon_rows=task.horizon_rows,
    )


def has_lower_error(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    """Return whether the first of two `WindowLearner.validation` results is the better one."""
    return new["val_loss"] < old["val_loss"]


def forecast_problem(forecast: Forecast) -> Problem:
    """Return the problem of a forecast: its learner, its scores in the target's unit, and its networks for the task."""
    task, dataset = forecast.task, forecast.dataset
    unit = forecast.units[task.target]
    quantity, unit_suffix = quantity_and_unit(task.target)

    def learner(
        splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], variant: Variant, accelerated: AcceleratedNetwork
    ) -> WindowLearner:
        return WindowLearner(splits, normalisation, task=task, dataset=dataset, accelerated=accelerated, variant=variant)

    def restore(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], exported: keras.Model) -> WindowLearner:
        return restore_learner(exported, splits=splits, normalisation=normalisation, task=task, dataset=dataset)

    def plot_data(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any]) -> SeriesPlot:
        return plot_series(
            splits, normalisation=normalisation, task=task, quantity=quantity, unit=unit, row_seconds=forecast.row_seconds
        )

    return Problem(
        dataset=dataset,
        scoring=ForecastScoring(
            unit=unit,
            unit_suffix=unit_suffix,
            row_seconds=forecast.row_seconds,
            naive_label=f"{quantity} {duration(task.horizon_rows * forecast.row_seconds)} before the target",
            decimals=forecast.decimals,
            horizon_rows=task.horizon_rows,
        ),
        naive="persistence",
        variants={variant.name: variant for variant in forecast.variants(task)},
        learner=learner,
        restore=restore,
        scored_split=score_split,
        scored_validation=partial(score_split, split="val"),
        arrays=partial(window_arrays, task=task),
        examples=example_windows,
        plot_data=plot_data,
        sample_budget=forecast.sample_budget,
        is_better=has_lower_error,
        validation_metric="val_loss",
        task=_plain_task(task),
        with_task=lambda changes: _with_task(forecast, changes=changes),
        default_variants=forecast.default_variants,
        tutorial_rows=forecast.tutorial_rows,
        row_ids=stamp_ids,
        is_series=True,
        predictor=lambda exported: WindowPredictor(exported, forecast=forecast),
    )


def _plain_task(task: WindowTask) -> dict[str, Any]:
    return {name: value for name, value in asdict(task).items() if name != "columns"} | {"loss": "mae"}


def _with_task(forecast: Forecast, *, changes: Mapping[str, Any]) -> Problem:
    """Return the problem of another task on the same table.

    A model with another target or horizon answers another question, and so has another registered name.
    """
    own = _plain_task(forecast.task)
    changed = {name: value for name, value in changes.items() if own.get(name) != value}
    for name in changed.keys() - (own.keys() - {"loss"}):
        raise SettingError(f"{name} is {changed[name]!r}, but a forecast has no such setting: leave it out")
    if changed.get("target", forecast.task.target) not in forecast.units:
        raise unknown("target", changed["target"], where=forecast.dataset, choices=forecast.units)
    try:
        task = replace(forecast.task, **changed)
    except ValueError as error:
        raise SettingError(str(error)) from None
    problem = forecast_problem(replace(forecast, task=task))
    if (task.target, task.horizon_rows) == (forecast.task.target, forecast.task.horizon_rows):
        return replace(problem, with_task=lambda more: _with_task(forecast, changes={**changed, **more}))
    suffix = f"-{task.target}-{task.horizon_rows}-rows".replace("_", "-")
    return replace(problem, model_suffix=suffix, with_task=lambda more: _with_task(forecast, changes={**changed, **more}))
