"""Refit: train a version that passed promotion again on the rows of every split, before it is used.

The evaluated version, its twin, was fitted on the train rows alone; the newest rows of a series are in the test split, and a
model in use should know them. The refit takes the epochs that validation chose for the twin, with the same seed, and so many
steps that a row comes as often as it came before. It has no scores of its own, because it has seen every row: what is shown
are the scores of its twin. Tags link the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.errors import RegistryError
from storage.records import ModelVersion
from storage.references import Reference, Refit, TableRef
from storage.registry import Registry
from tasks.config import TrainSettings
from tasks.training.identity import BASE_TAG, training_base

# Tag of a refit: the number of its twin. Tag of the twin: the number of its refit.
TWIN_TAG, REFIT_TAG = "refit_of", "refitted_as"
# Settings that say where and how fast a training runs, and change a weight by rounding at most.
PLACEMENT = ("threads", "timeout_hours", "run_on", "require_gpu")


class RefitPlan(Reference):
    """What the training of a refit is given beside its table."""

    variant: str
    settings: TrainSettings
    refit: Refit


def plan_refit(twin: ModelVersion, *, table: TableRef, placement: TrainSettings, registry: Registry) -> RefitPlan:
    """Return how a version is trained again on all rows of its table.

    Args:
        twin: The evaluated version.
        table: The table that it was trained on.
        placement: Where the refit is trained; every other setting is that of the twin's training.
        registry: Registry that holds the twin.

    Raises:
        RegistryError: This code would not train the twin as it was trained.
    """
    training = registry.read_json(twin.run_id, "manifest.json")["training"]
    own = {name: value for name, value in training["settings"].items() if name in TrainSettings.model_fields}
    settings = TrainSettings(**own | {name: getattr(placement, name) for name in PLACEMENT})
    twin_key = twin.tags["training_key"]
    if training_base(table, variant=twin.variant, settings=settings) != twin.tags.get(BASE_TAG, twin_key):
        raise RegistryError(
            f"{twin.name}@{twin.version} cannot be refitted on table {table.version}: it was trained on another table or by "
            "other code, expected an equal training; run retrain again, or promote it without a refit (--no-refit)"
        )
    steps = training["budget"]["steps_per_epoch"]
    scale = sum(table.rows.values()) / table.rows["train"]
    refit = Refit(
        twin=twin.version,
        epochs=training["best_epoch"],
        steps_per_epoch=None if steps is None else round(steps * scale),
        twin_key=twin_key,
    )
    return RefitPlan(variant=twin.variant, settings=settings, refit=refit)


def twin_number(version: ModelVersion) -> int:
    """Return the number of the version that was evaluated: that of the twin of a refit, else its own."""
    return int(version.tags.get(TWIN_TAG, version.version))


def evaluated_version(version: ModelVersion, *, versions: Iterable[ModelVersion]) -> ModelVersion:
    """Return the version whose scores stand for a version: the twin of a refit, or itself, also where the twin is gone."""
    return next((other for other in versions if other.version == twin_number(version)), version)
