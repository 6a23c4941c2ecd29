"""Imports for the fork server of the training processes: everything slow to import.

Nothing here computes or starts a thread of the project, because a fork copies neither well.
"""

from storage.mlflow_compat import import_mlflow
from tasks.models.device import import_keras

import_keras()
import_mlflow()

# Keras and MLflow are imported quietly first. What they, and the linear baselines, would import on their first use comes after.
import mlflow.store.model_registry.sqlalchemy_store  # noqa: E402
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402, F401
import sklearn.feature_extraction.text  # noqa: E402
import sklearn.linear_model  # noqa: E402, F401

import flows.train  # noqa: E402, F401
