"""The networks of the Jena data set, and the linear baseline: on windows of float32 `(batch, 240, 14)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.datasets.jena.spec import COLUMNS
from tasks.models.optimizers import adamw, cosine
from tasks.models.spec import Variant
from tasks.models.window_task import WindowTask

if TYPE_CHECKING:
    import keras

# Ten days of hourly readings in, the temperature a day ahead out; a row is ten minutes.
WINDOWS = WindowTask(columns=COLUMNS, target="temperature_degc", lookback_rows=1440, step_rows=6, horizon_rows=144)
STEPS = WINDOWS.steps
HOURS_A_DAY = 24
# Lags and penalty by the validation split of 2009a-2014a (reconstructed): a week and 100 gave 0.2951 normalised MAE, three
# days 0.2973, one day 0.3030.
RIDGE_STEPS = 168
RIDGE_PENALTY = 100.0
# Neighbouring windows are all but equal: more of them cost time and memory and change nothing.
RIDGE_WINDOWS = 50_000


def gru_network(*, dropout: float = 0.0) -> keras.Model:
    """Return GRU(32) and one linear output on windows of float32 `(batch, 240, 14)`."""
    import keras

    return _chain(keras.layers.GRU(32, dropout=dropout, recurrent_dropout=dropout))


def _gru_dropout() -> keras.Model:
    return gru_network(dropout=0.2)


def _gru_stacked() -> keras.Model:
    import keras

    first = keras.layers.GRU(32, return_sequences=True)
    return _chain(first, keras.layers.GRU(32))


def _gru_bidirectional() -> keras.Model:
    import keras

    return _chain(keras.layers.Bidirectional(keras.layers.GRU(32)))


def _linear() -> keras.Model:
    """Return one weight for each reading of the last week."""
    import keras

    return _chain(keras.layers.Cropping1D((STEPS - RIDGE_STEPS, 0)), keras.layers.Flatten())


def _chain(*layers: keras.layers.Layer) -> keras.Model:
    """Return layers one after the other, between a window and one linear output."""
    import keras

    return keras.Sequential([keras.Input((STEPS, len(COLUMNS))), *layers, keras.layers.Dense(1)], name="network")


def _gru_daily() -> keras.Model:
    """Return a GRU that reads a day a step, beside a linear path from the last week, as a change of the last temperature."""
    import keras

    layers = keras.layers
    readings = keras.Input((STEPS, len(COLUMNS)))
    day = layers.Reshape((STEPS // HOURS_A_DAY, HOURS_A_DAY * len(COLUMNS)))(readings)
    # The mask of inputs is one for all days.
    day = layers.Dense(32)(layers.SpatialDropout1D(0.6)(day))
    state = layers.Dropout(0.3)(layers.GRU(32)(day))
    # Scaled down, the linear path learns slowly and leaves to the recurrent one what that can learn.
    week = layers.Rescaling(0.03)(layers.Flatten()(layers.Cropping1D((STEPS - RIDGE_STEPS, 0))(readings)))
    linear = layers.Dense(1, use_bias=False, kernel_initializer="zeros")(week)
    target = WINDOWS.target_index
    now = layers.Flatten()(layers.Cropping1D((STEPS - 1, 0))(readings))[:, target : target + 1]
    return keras.Model(readings, layers.Add()([layers.Dense(1)(state), linear, now]), name="network")


def _solve_ridge(learner: Any) -> None:
    """Leave the ridge regression on the training windows in a learner's linear network."""
    from sklearn.linear_model import Ridge

    rows = learner.rows["train"]
    rows = rows[:: -(-len(rows) // RIDGE_WINDOWS)]
    offsets = np.arange(-RIDGE_STEPS * WINDOWS.step_rows, 0, WINDOWS.step_rows)
    lagged = learner.table[rows[:, None] + offsets].reshape(len(rows), -1)
    target = learner.targets_of_rows(rows)
    solved = Ridge(alpha=RIDGE_PENALTY, solver="cholesky", copy_X=False).fit(lagged, target)
    learner.network.set_weights([solved.coef_[:, None], np.atleast_1d(solved.intercept_)])


VARIANTS = (
    Variant(
        name="gru_baseline",
        summary="GRU(32), Dense(1)",
        network=gru_network,
        epochs=20,
        steps_per_epoch=500,
        tutorial_best=0.2605,
    ),
    Variant(
        name="gru_dropout",
        summary="GRU(32, dropout 0.2, recurrent dropout 0.2), Dense(1)",
        network=_gru_dropout,
        epochs=40,
        steps_per_epoch=500,
    ),
    Variant(
        name="gru_stacked",
        summary="GRU(32), GRU(32), Dense(1)",
        network=_gru_stacked,
        epochs=20,
        steps_per_epoch=500,
    ),
    Variant(
        name="gru_bidirectional",
        summary="Bidirectional(GRU(32)), Dense(1)",
        network=_gru_bidirectional,
        epochs=20,
        steps_per_epoch=500,
    ),
    Variant(
        name="gru_daily",
        summary="GRU(32) over days beside a linear path over a week, change of the last temperature; AdamW, cosine",
        network=_gru_daily,
        epochs=6,
        steps_per_epoch=250,
        optimizer=adamw,
        schedule=cosine,
    ),
    Variant(
        name="ridge",
        summary="ridge regression on the hourly readings of the last week",
        network=_linear,
        epochs=1,
        fit_closed_form=_solve_ridge,
    ),
)
