"""Publishes tables and registers models as a run does, for fixtures and for tests with a data set of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.layout import Store
from storage.records import ModelVersion
from storage.references import TableRef
from storage.registry import Registry
from tasks.config import DataSettings, TrainSettings
from tasks.ingestion import fetching, pipeline


@dataclass(frozen=True)
class Registered:
    """One version with its scores on the encoded test split, and inputs of the whole model with the training's predictions."""

    folder: Path
    version: ModelVersion
    scores: Mapping[str, float]
    inputs: np.ndarray
    outputs: np.ndarray


def publish_sample(name: str, *, store: Store) -> TableRef:
    return publish(name, settings=DataSettings(data="sample"), store=store, mirror=None)


def publish(name: str, *, settings: DataSettings, store: Store, mirror: str | None) -> TableRef:
    raw = fetching.fetch_raw(name, settings=settings, store=store, mirror=mirror)
    parsed = pipeline.parse_raw(raw, store=store)
    validation = pipeline.validate_parsed(parsed, settings=settings, store=store)
    return pipeline.publish_parsed(parsed, validation=validation, store=store)


def register(table: TableRef, *, store: Store, registry: Registry, variant: str, steps: int) -> Registered:
    """Train a little, score and register; the registry may be that of another store than the table's."""
    from tasks.training import fitting, registering, scoring

    settings = TrainSettings(epochs=1, steps_per_epoch=steps)
    fitted = fitting.fit_variant(table, variant=variant, settings=settings, store=store, on_progress=lambda progress: None)
    evaluation = scoring.evaluate_fitted(fitted, store=store)
    made = registering.register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-1")
    version = registry.version(made.name, made.version)
    with np.load(io.BytesIO(registry.read_file(version.run_id, "examples.npz"))) as examples:
        return Registered(registry.model_folder(version), version, evaluation.scores, examples["inputs"], examples["outputs"])
