"""How MLflow loads a model that holds the project's own layers.

A copy of this module and of those that it needs is stored beside the model (`tasks.models.model_code`), and
`mlflow.pyfunc.load_model` imports the copy. The project loads the `.keras` file itself and never imports such a copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.models.serialization import load_model_file

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 256


class WholeModel:
    """What `mlflow.pyfunc` wraps: it has checked the inputs by the signature before `predict` is called."""

    def __init__(self, model: keras.Model) -> None:
        """Wrap a whole model."""
        self._model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> npt.NDArray[np.float32]:
        """Return what the model predicts, float32 `(examples, 1)`.

        Args:
            data: Inputs as an array or a data frame, an example a row.
            params: What MLflow passes of a call; the model has no parameters.
        """
        del params
        import tensorflow as tf

        inputs = tf.constant(np.asarray(data))
        return np.asarray(self._model.predict(inputs, batch_size=BATCH_SIZE, verbose=0))


def _load_pyfunc(path: str) -> WholeModel:
    """Load the model in the folder that MLflow names."""
    return WholeModel(load_model_file(Path(path, "model.keras")))
