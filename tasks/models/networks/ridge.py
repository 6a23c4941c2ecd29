"""The linear baseline of a forecast: ridge regression on the last readings of a window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.models.forecast import WindowTask
from tasks.models.spec import Variant

if TYPE_CHECKING:
    import keras

# Neighbouring windows are all but equal: more of them cost time and memory and change nothing.
MAX_WINDOWS = 50_000


def ridge_variant(task: WindowTask, *, summary: str, steps: int, penalty: float) -> Variant:
    """Return ridge regression of the target on the readings of the last `steps` steps, or of a whole shorter window.

    Args:
        task: What is forecast from what.
        summary: The baseline in a few words.
        steps: Steps of a window that the regression reads.
        penalty: Weight of the squared norm of the coefficients, whose inputs are normalised.
    """
    read = min(steps, task.steps)
    return Variant(
        name="ridge",
        summary=summary,
        network=partial(linear_network, task, steps=read),
        epochs=1,
        fit_closed_form=partial(fit_ridge, task=task, steps=read, penalty=penalty),
    )


def linear_network(task: WindowTask, *, steps: int) -> keras.Model:
    """Return one weight for each reading of the last `steps` steps, and an intercept."""
    import keras

    layers = keras.layers
    last_steps = layers.Cropping1D((task.steps - steps, 0))
    return keras.Sequential([keras.Input(task.shape), last_steps, layers.Flatten(), layers.Dense(1)], name="network")


def fit_ridge(learner: Any, *, task: WindowTask, steps: int, penalty: float) -> None:
    """Leave the ridge regression on the training windows in a learner's linear network."""
    from sklearn.linear_model import Ridge

    rows = learner.rows["train"]
    rows = rows[:: -(-len(rows) // MAX_WINDOWS)]
    offsets = np.arange(-steps * task.step_rows, 0, task.step_rows)
    lagged = learner.table[rows[:, None] + offsets].reshape(len(rows), -1)
    target = learner.targets_of_rows(rows)
    solved = Ridge(alpha=penalty, solver="cholesky", copy_X=False).fit(lagged, target)
    learner.network.set_weights([solved.coef_[:, None], np.atleast_1d(solved.intercept_)])
