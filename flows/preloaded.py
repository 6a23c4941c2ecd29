"""Imported by the process that trainings come from: all that takes long, and nothing that computes or starts a thread of ours."""

from storage.mlflow_quirks import import_mlflow
from tasks.models.device import import_keras

import_keras()
import_mlflow()

import flows.train  # noqa: E402, F401  (Keras is imported quietly first)
