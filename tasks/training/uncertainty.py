"""What a version keeps to say how sure its predictions are: intervals of a forecast, or the temperature of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upath import UPath

from storage.records import ModelVersion
from storage.registry import Registry
from tasks.calibration import Temperature
from tasks.intervals import ConformalIntervals

UNCERTAINTY_FILE = "uncertainty.json"
# Tag of a version that has the file: which of the two it holds.
UNCERTAINTY_TAG = "uncertainty"
KINDS: Mapping[str, type[ConformalIntervals] | type[Temperature]] = {"intervals": ConformalIntervals, "temperature": Temperature}


def uncertainty_of(version: ModelVersion, *, registry: Registry) -> ConformalIntervals | Temperature | None:
    """Return what a version keeps to say how sure its predictions are.

    The intervals are adapted up to the end of the test split of the version's own table. Those of a refit are its twin's: it has
    seen every row, so no outcome is left from which its own could be learnt. None of versions that were registered before this
    file was kept, and of problems that have neither, such as three classes.
    """
    if UNCERTAINTY_TAG not in version.tags:
        return None
    return uncertainty_from_json(registry.read_json(version.run_id, UNCERTAINTY_FILE))


def uncertainty_json(state: ConformalIntervals | Temperature) -> dict[str, Any]:
    """Return the JSON-ready content of `uncertainty.json`."""
    kind = next(name for name, cls in KINDS.items() if isinstance(state, cls))
    return {"kind": kind, "state": state.as_json()}


def uncertainty_from_json(content: Mapping[str, Any]) -> ConformalIntervals | Temperature:
    """Return the state that `uncertainty_json` described."""
    return KINDS[content["kind"]].from_json(content["state"])


def uncertainty_file(evaluation: UPath) -> UPath:
    """Return the file beside an evaluation that holds the state."""
    return evaluation.with_suffix(f".{UNCERTAINTY_FILE}")
