"""Values that tasks pass to each other: addresses, digests and counts, never a frame or a model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Reference(BaseModel):
    """A small frozen value that Prefect can store as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RawFile(Reference):
    """One fetched file, stored under its own digest."""

    name: str
    uri: str
    sha256: str
    size_bytes: int


class RawRef(Reference):
    """The raw files of one data set from one source.

    Attributes:
        origin: Where they were fetched from: `upstream`, `mirror`, `own` or `sample`.
        request: What is asked of the table beside its source and files, JSON-ready; empty: nothing.
    """

    dataset: str
    source: str
    origin: str
    simulated: bool
    files: tuple[RawFile, ...]
    request: dict[str, Any] = {}


class TableRef(Reference):
    """A published table: immutable, its version derived from content.

    Attributes:
        version: First 12 hexadecimal digits of the SHA-256 over raw digests, transform version and settings.
        rows: Number of rows by split.
        published: False when this version had been published before.
        newest: ISO stamp of the newest reading of a series; empty for another kind of data set.
        stale: True if the source should have brought newer readings by today.
    """

    dataset: str
    version: str
    uri: str
    simulated: bool
    rows: dict[str, int]
    published: bool = True
    newest: str = ""
    stale: bool = False


class Refit(Reference):
    """A training on the rows of every split, as long as validation chose for an evaluated twin on the train rows alone.

    Attributes:
        twin: Number of the evaluated version.
        epochs: Exactly so many, without validation; 0 for a closed form.
        steps_per_epoch: Steps of an epoch, in which a row comes as often as in the twin's; None: one pass over all rows.
        twin_key: Training key of that version; empty in references of release 0.1 and 0.2.
    """

    twin: int
    epochs: int
    steps_per_epoch: int | None
    twin_key: str = ""


class ModelRef(Reference):
    """A registered model version.

    Attributes:
        name: Registered model, which ends in `-sample` for a simulation.
        trained: False when an equal training was in the registry before.
    """

    name: str
    version: int
    variant: str
    run_id: str
    uri: str
    trained: bool = True


class PredictionRef(Reference):
    """Predictions that were issued.

    Attributes:
        uri: Folder of the model's issued predictions.
        rows: Number of predictions.
        kept: Number of them that were not issued before.
        summary: What was predicted, in one sentence.
    """

    model: str
    version: int
    uri: str
    rows: int
    kept: int
    summary: str
