"""What is recorded of a training, and what the registry returns about a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL_PAGES = "?workflowType=machine_learning"
"""End of an address in MLflow's UI that shows pages of models; without it a browser sees those of chat models first."""


@dataclass(frozen=True)
class ModelVersion:
    """One complete version of a registered model.

    Attributes:
        uri: `models:/<name>/<version>`.
        metrics: The run's scores, without its learning curves.
        created: ISO 8601, UTC.
    """

    name: str
    version: int
    variant: str
    run_id: str
    uri: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    metrics: dict[str, float]
    created: str


@dataclass(frozen=True)
class DatasetRecord:
    """A table that a run read.

    Attributes:
        digest: Full SHA-256; MLflow's own field holds its first 36 digits.
        context: Such as `train` or `test`.
    """

    name: str
    digest: str
    uri: str
    context: str
    rows: int


@dataclass(frozen=True)
class ModelCode:
    """Source that is stored with a model, for those who load it by MLflow alone; the project never imports it.

    Attributes:
        loader_module: The module that MLflow imports to load the model.
        files: Source by path relative to the folder that MLflow puts on the path of imports.
    """

    loader_module: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class RunRecord:
    """Everything that the registry records of one training.

    Attributes:
        training_key: Digest of everything that determines the training; an equal training has an equal key.
        curves: One value an epoch, from epoch 1.
        tags: Further tags of the run and of the version.
        manifest: JSON-ready; kept as `manifest.json`.
        files: Further artifacts by path.
        input_example: A small batch as an array, from which the signature is inferred. None: no signature.
        output_example: The model's output for it.
        pip_requirements: What a process that loads the model must have installed.
        code: What MLflow needs to load the model beside these. None: nothing, Keras's own layers are all that it holds.
        description: The model card, Markdown of at most 5,000 characters.
    """

    run_name: str
    variant: str
    training_key: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    tags: Mapping[str, str]
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    input_example: Any | None = None
    output_example: Any | None = None
    datasets: Sequence[DatasetRecord] = ()
    pip_requirements: Sequence[str] = ()
    code: ModelCode | None = None
    description: str = ""
