"""What a person can set of the removal of old things."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from tasks.config import Settings

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([dw]?)")
_DAYS = {"": 1, "d": 1, "w": 7}


def days_of_text(value: Any) -> Any:
    """Return the days of an age such as `90d` or `12w`; what is none is left to the model to refuse."""
    match = _AGE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1]) * _DAYS[match[2]] if match else value


Days = Annotated[float, BeforeValidator(days_of_text), Field(ge=1, le=36_500)]


class RetentionSettings(Settings):
    """What is old enough to go, if nothing needs it."""

    model_config = ConfigDict(title="Retention")

    apply: bool = Field(default=False, description="Remove it. Without it nothing is removed: the run tells what would be.")
    older_than_days: Days = Field(
        90, description="Days after which tables, reports, evaluations and runs that nothing refers to are removed."
    )
    leftover_days: Days = Field(
        14,
        description="Days after which what nobody goes on with is removed: scratch files, checkpoints, and what failed or was "
        "deleted in MLflow.",
    )
    keep: int = Field(
        5,
        ge=1,
        le=10_000,
        description="So many of the newest tables of each data set, and runs of each deployment, stay whatever their age.",
    )
    keep_versions: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Remove model versions too, but for so many of the newest of each model and all that anything refers to. "
        "None: only what a person has deleted.",
    )
