"""Jena as the networks see it: ten days of hourly readings in, the temperature a day ahead out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import DataError
from tasks.datasets.jena.spec import COLUMNS, REFERENCE_ROWS, ROW_SECONDS
from tasks.datasets.spec import SPLITS
from tasks.models.engine.accelerated import AcceleratedNetwork, accelerate_for_scoring
from tasks.models.engine.train_step import predict
from tasks.models.networks.jena import HORIZON_ROWS, LOOKBACK_ROWS, STEP_ROWS, TEMPERATURE, VARIANTS
from tasks.models.spec import Batch, Budget, Floats, Ids, Problem, ScoredSplit, SeriesPlot, Variant, restored
from tasks.scoring import ForecastScoring

if TYPE_CHECKING:
    import keras

PREDICT_BATCH = 512


def window_rows(segment: npt.NDArray[np.int32]) -> Ids:
    """Return the rows of one split that have a whole window before them and a target after them.

    Row `r` stands for the inputs `[r - 1440, r)` and the target at `r + 144`.

    Args:
        segment: int32 `(rows,)`: number of the gapless run that each row belongs to, never falling. Equal numbers at
            both ends of a window therefore mean that no gap lies within.
    """
    last = len(segment) - HORIZON_ROWS
    rows = np.arange(LOOKBACK_ROWS, max(last, LOOKBACK_ROWS), dtype=np.int32)
    whole = segment[rows - LOOKBACK_ROWS] == segment[rows + HORIZON_ROWS]
    return np.asarray(rows[whole])


def _window_layer(rows: int) -> keras.layers.Layer:
    """Return the layer that gathers windows from a table resident on the device, so that a step is fed row ids only."""
    import keras

    class Windows(keras.layers.Layer):  # type: ignore[misc]
        """Row ids int32 `(batch,)` to windows float32 `(batch, 240, 14)`."""

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            # A weight, because a backend that compiles whole steps would bake a constant of 23 MB into the program.
            del input_shape
            self.table = self.add_weight(shape=(rows, len(COLUMNS)), initializer="zeros", trainable=False)

        def call(self, row: Any) -> Any:
            offsets = keras.ops.arange(-LOOKBACK_ROWS, 0, STEP_ROWS, dtype="int32")
            return keras.ops.take(self.table, row[:, None] + offsets[None, :], axis=0)

    return Windows(name="windows")


class JenaLearner:
    """A network beside the resident table of all three splits.

    Attributes:
        table: float32 `(rows, 14)`: train, validation and test one after the other, as the network wants them.
        rows: Window rows by split, counted in `table`.
        mean, std: float64 `(14,)`: what undoes the normalisation.

    Raises:
        DataError: A split has no row with a whole window before it and a target after it.
    """

    def __init__(
        self,
        splits: Mapping[str, pa.Table],
        normalisation: Mapping[str, Any],
        *,
        accelerated: AcceleratedNetwork,
        variant: Variant,
    ) -> None:
        import keras

        self.mean = np.array([normalisation["mean"][name] for name in COLUMNS])
        self.std = np.array([normalisation["std"][name] for name in COLUMNS])
        self.table = np.concatenate([_matrix(splits[name]) for name in SPLITS])
        self.rows: dict[str, Ids] = {}
        first = 0
        for name in SPLITS:
            self.rows[name] = (window_rows(splits[name]["segment"].to_numpy()) + first).astype(np.int32)
            if not len(self.rows[name]):
                raise DataError(
                    f"split {name} of jena has {splits[name].num_rows} rows and no window: expected at least "
                    f"{LOOKBACK_ROWS + HORIZON_ROWS + 1} rows without a gap, give a longer span"
                )
            first += splits[name].num_rows
        self.network, self.plain_network = accelerated.fast, accelerated.plain
        self.execution = accelerated.execution
        self.describe_execution = accelerated.describe
        row = keras.Input((), dtype="int32")
        windows = _window_layer(len(self.table))
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
        return len(groups), (Batch(self.model, ids, self._target(ids)) for ids in groups)

    def _target(self, ids: Ids) -> Floats:
        return np.asarray(self.table[ids + HORIZON_ROWS, TEMPERATURE][:, None])

    def predict(self, split: str) -> Floats:
        """Return normalised temperatures float32 `(windows,)`."""
        return self.predict_rows(self.rows[split])

    def predict_rows(self, ids: Ids) -> Floats:
        """Return normalised temperatures for any window rows, in batches of one shape so that one program serves all."""
        padded = np.resize(ids, -(-len(ids) // PREDICT_BATCH) * PREDICT_BATCH)
        parts = [predict(self.model, chunk) for chunk in padded.reshape(-1, PREDICT_BATCH)]
        return np.concatenate(parts)[: len(ids)]

    def targets(self, split: str) -> Floats:
        """Return normalised temperatures float32 `(windows,)`."""
        return self._target(self.rows[split])[:, 0]

    def validation(self) -> dict[str, float]:
        """Return the mean absolute error of the validation split, normalised."""
        return {"val_loss": float(np.mean(np.abs(self.predict("val") - self.targets("val")), dtype=np.float64))}

    def raw_windows(self, ids: Ids) -> Floats:
        """Return readings in their own units, float32 `(windows, 1440, 14)`."""
        normalised = self.table[ids[:, None] + np.arange(-LOOKBACK_ROWS, 0)]
        return np.asarray(normalised * self.std + self.mean, dtype=np.float32)

    def degc(self, normalised: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return temperatures in °C."""
        return np.asarray(normalised * self.std[TEMPERATURE] + self.mean[TEMPERATURE], dtype=np.float32)

    def export(self) -> keras.Model:
        """Return the whole model: raw 10-minute readings float32 `(batch, 1440, 14)` in, °C `(batch, 1)` out."""
        import keras

        readings = keras.Input((LOOKBACK_ROWS, len(COLUMNS)), name="readings")
        normalise = keras.layers.Normalization(mean=self.mean, variance=self.std**2, name="normalise")
        scale, offset = float(self.std[TEMPERATURE]), float(self.mean[TEMPERATURE])
        denormalise = keras.layers.Rescaling(scale, offset, name="denormalise")
        network = self.plain_network
        network.set_weights(self.network.get_weights())
        return keras.Model(readings, denormalise(network(normalise(readings[:, ::STEP_ROWS]))), name="jena")


def _matrix(split: pa.Table) -> Floats:
    return np.column_stack([split[name].to_numpy() for name in COLUMNS])


def _learner(
    splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], variant: Variant, accelerated: AcceleratedNetwork
) -> JenaLearner:
    return JenaLearner(splits, normalisation, accelerated=accelerated, variant=variant)


def _restore(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], exported: keras.Model) -> JenaLearner:
    """Put today's readings on the scale that the exported model was trained on."""
    layer = exported.get_layer("normalise")
    theirs_mean = np.asarray(layer.mean, dtype=np.float64).reshape(-1)
    theirs_std = np.sqrt(np.asarray(layer.variance, dtype=np.float64)).reshape(-1)
    ours_mean = np.array([normalisation["mean"][name] for name in COLUMNS])
    ours_std = np.array([normalisation["std"][name] for name in COLUMNS])
    rescaled: dict[str, pa.Table] = {}
    for name in SPLITS:
        matrix = ((_matrix(splits[name]) * ours_std + ours_mean) - theirs_mean) / theirs_std
        columns = {column: pa.array(matrix[:, i].astype(np.float32)) for i, column in enumerate(COLUMNS)}
        rescaled[name] = pa.table(columns | {"segment": splits[name]["segment"]})
    theirs = {"mean": dict(zip(COLUMNS, theirs_mean, strict=True)), "std": dict(zip(COLUMNS, theirs_std, strict=True))}
    network = exported.get_layer("network")
    variant = restored(network)
    accelerated = accelerate_for_scoring(network, variant=variant)
    return JenaLearner(rescaled, theirs, accelerated=accelerated, variant=variant)


def _test_view(learner: JenaLearner) -> ScoredSplit:
    """Return °C; the naive reference is the temperature 24 h before the target, the reading at the window's end."""
    ids = learner.rows["test"]
    return ScoredSplit(
        prediction=learner.degc(learner.predict("test")),
        truth=learner.degc(learner.targets("test")),
        naive=learner.degc(learner.table[ids, TEMPERATURE]),
        scale=float(learner.std[TEMPERATURE]),
    )


def _examples(learner: JenaLearner, count: int) -> tuple[Floats, Floats]:
    ids = learner.rows["test"]
    chosen = ids[np.linspace(0, len(ids) - 1, num=min(count, len(ids)), dtype=int)]
    return learner.raw_windows(chosen), learner.degc(learner.predict_rows(chosen))


def _plot_data(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any]) -> SeriesPlot:
    name = COLUMNS[TEMPERATURE]
    temperature = np.concatenate([splits[split][name].to_numpy() for split in SPLITS])
    stamp = np.concatenate([splits[split]["timestamp"].to_numpy() for split in SPLITS])
    first_test_row = len(stamp) - splits["test"].num_rows
    targets = window_rows(splits["test"]["segment"].to_numpy()) + first_test_row + HORIZON_ROWS
    return SeriesPlot(
        stamp=stamp,
        value=np.asarray(temperature * normalisation["std"][name] + normalisation["mean"][name], dtype=np.float32),
        first_test_row=first_test_row,
        target_stamp=stamp[targets],
        quantity="temperature",
        unit="°C",
        row_seconds=ROW_SECONDS,
        horizon_rows=HORIZON_ROWS,
    )


def _is_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    return new["val_loss"] < old["val_loss"]


PROBLEM = Problem(
    dataset="jena",
    scoring=ForecastScoring(
        unit="°C", unit_suffix="degc", row_seconds=ROW_SECONDS, naive_label="temperature 24 h before the target"
    ),
    naive="persistence",
    variants={variant.name: variant for variant in VARIANTS},
    learner=_learner,
    restore=_restore,
    scored_split=_test_view,
    examples=_examples,
    plot_data=_plot_data,
    sample_budget=Budget(epochs=5, steps_per_epoch=100, patience_epochs=5),
    is_better=_is_better,
    validation_metric="val_loss",
    task={
        "target": COLUMNS[TEMPERATURE],
        "lookback_rows": LOOKBACK_ROWS,
        "step_rows": STEP_ROWS,
        "horizon_rows": HORIZON_ROWS,
        "loss": "mae",
    },
    default_variants=("gru_baseline", "gru_dropout"),
    tutorial_rows=REFERENCE_ROWS,
)
