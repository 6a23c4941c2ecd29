"""The weather forecast of the Jena data set: ten days of hourly readings in, the temperature a day ahead out, and its networks.

A network is plain Keras on windows of float32 `(batch, steps, columns)`, by default `(batch, 240, 14)`, with one linear output.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from storage.errors import SettingError
from tasks.datasets.jena.physics import COLUMNS, ROW_SECONDS, UNITS
from tasks.datasets.jena.spec import REFERENCE_ROWS
from tasks.models.forecast import Forecast, WindowTask
from tasks.models.networks.ridge import ridge_variant
from tasks.models.optimizers import adamw, cosine
from tasks.models.spec import Budget, Variant

if TYPE_CHECKING:
    import keras

DAY_S = 86_400
# Lags and penalty by the validation split of 2009a-2014a (reconstructed): a week and 100 gave 0.2951 normalised MAE, three
# days 0.2973, one day 0.3030.
RIDGE_STEPS = 168
RIDGE_PENALTY = 100.0


def gru_network(task: WindowTask, *, dropout: float = 0.0) -> keras.Model:
    """Return GRU(32) and one linear output."""
    import keras

    return _chain(task, keras.layers.GRU(32, dropout=dropout, recurrent_dropout=dropout))


def gru_stacked_network(task: WindowTask) -> keras.Model:
    """Return two GRUs, of which the second reads every step of the first."""
    import keras

    return _chain(task, keras.layers.GRU(32, return_sequences=True), keras.layers.GRU(32))


def gru_bidirectional_network(task: WindowTask) -> keras.Model:
    """Return two GRUs, one of which reads backwards."""
    import keras

    return _chain(task, keras.layers.Bidirectional(keras.layers.GRU(32)))


def _chain(task: WindowTask, *layers: keras.layers.Layer) -> keras.Model:
    """Return layers one after the other, between a window and one linear output."""
    import keras

    return keras.Sequential([keras.Input(task.shape), *layers, keras.layers.Dense(1)], name="network")


def gru_daily_network(task: WindowTask) -> keras.Model:
    """Return a GRU that reads a day a step, beside a linear path from the last week, as a change of the last value.

    Raises:
        SettingError: A window is shorter than a day, or a day is no whole number of its steps.
    """
    import keras

    steps_a_day, rest = divmod(DAY_S, task.step_rows * ROW_SECONDS)
    if rest or task.steps < steps_a_day:
        raise SettingError(
            f"gru_daily reads whole days, and a window has {task.steps} steps of {task.step_rows * ROW_SECONDS} s: set "
            "lookback_rows to a day or more and step_rows to a part of a day, or leave gru_daily out"
        )
    days = task.steps // steps_a_day
    layers = keras.layers
    readings = keras.Input(task.shape)
    whole_days = readings
    if task.steps % steps_a_day:
        whole_days = layers.Cropping1D((task.steps % steps_a_day, 0))(readings)
    day = layers.Reshape((days, steps_a_day * len(task.columns)))(whole_days)
    # The mask of inputs is one for all days.
    day = layers.Dense(32)(layers.SpatialDropout1D(0.6)(day))
    state = layers.Dropout(0.3)(layers.GRU(32)(day))
    # Scaled down, the linear path learns slowly and leaves to the recurrent one what that can learn.
    last_week = layers.Cropping1D((max(task.steps - RIDGE_STEPS, 0), 0))(readings)
    linear = layers.Dense(1, use_bias=False, kernel_initializer="zeros")(layers.Rescaling(0.03)(layers.Flatten()(last_week)))
    target = task.target_index
    now = layers.Flatten()(layers.Cropping1D((task.steps - 1, 0))(readings))[:, target : target + 1]
    return keras.Model(readings, layers.Add()([layers.Dense(1)(state), linear, now]), name="network")


def variants(task: WindowTask) -> tuple[Variant, ...]:
    """Return every network for windows of a task; one more entry is one more variant."""
    return (
        Variant(
            name="gru_baseline",
            summary="GRU(32), Dense(1)",
            network=partial(gru_network, task),
            epochs=20,
            steps_per_epoch=500,
            tutorial_best=0.2605,
        ),
        Variant(
            name="gru_dropout",
            summary="GRU(32, dropout 0.2, recurrent dropout 0.2), Dense(1)",
            network=partial(gru_network, task, dropout=0.2),
            epochs=40,
            steps_per_epoch=500,
        ),
        Variant(
            name="gru_stacked",
            summary="GRU(32), GRU(32), Dense(1)",
            network=partial(gru_stacked_network, task),
            epochs=20,
            steps_per_epoch=500,
        ),
        Variant(
            name="gru_bidirectional",
            summary="Bidirectional(GRU(32)), Dense(1)",
            network=partial(gru_bidirectional_network, task),
            epochs=20,
            steps_per_epoch=500,
        ),
        Variant(
            name="gru_daily",
            summary="GRU(32) over days beside a linear path over a week, change of the last temperature; AdamW, cosine",
            network=partial(gru_daily_network, task),
            epochs=6,
            steps_per_epoch=250,
            optimizer=adamw,
            schedule=cosine,
        ),
        ridge_variant(
            task,
            summary="ridge regression on the hourly readings of the last week",
            steps=RIDGE_STEPS,
            penalty=RIDGE_PENALTY,
        ),
    )


FORECAST = Forecast(
    dataset="jena",
    # Ten days of hourly readings in, the temperature a day ahead out; a row is ten minutes.
    task=WindowTask(columns=COLUMNS, target="temperature_degc", lookback_rows=1440, step_rows=6, horizon_rows=144),
    # The error of a direction is no difference of two numbers: 359 and 1 degrees are 2 apart.
    units={column: unit for column, unit in UNITS.items() if column != "wind_direction_deg"},
    row_seconds=ROW_SECONDS,
    variants=variants,
    default_variants=("gru_baseline", "gru_dropout"),
    sample_budget=Budget(epochs=5, steps_per_epoch=100, patience_epochs=5),
    tutorial_rows=REFERENCE_ROWS,
)
