"""What a person asks of a table beside the files it is made from: its source, its limits, and how it is split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.choices import SplitRule


def mapping_of_text(value: Any) -> Any:
    """Return the mapping that a text such as `reading=column,reading=column` stands for; anything else as it is.

    Raises:
        ValueError: The text is no such list, or names something twice.
    """
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in re.split(r",(?=[^,=]*=)", value)]
    names = [name.strip() for name, _, _ in pairs]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"{value!r}: expected reading=column,reading=column")
    if repeated := next((name for position, name in enumerate(names) if name in names[:position]), None):
        raise ValueError(f"{repeated!r} is named twice: name each reading once")
    return {name: header.strip() for name, (_, _, header) in zip(names, pairs, strict=True)}


class QualityLimits(BaseModel):
    """How much of the data may be missing or repaired. Data above a limit is rejected; shares are from 0 to 1.

    A limit is about faults that its data set can have: reviews have no time stamps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Limits")

    contradicting_rows: float = Field(
        0.005, ge=0, le=1, description="Largest share of time stamps that stand in the files twice, with different readings."
    )
    out_of_order_rows: float = Field(
        0.001, ge=0, le=1, description="Largest share of rows that are earlier than a row before them in the same file."
    )
    missing_values: float = Field(
        0.005, ge=0, le=1, description="Largest share of readings of all columns that are missing in the rows that are there."
    )
    missing_rows: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows between the first and the last that are missing in gaps."
    )
    max_hole_rows: int = Field(
        36,
        ge=0,
        le=1_000,
        description="Readings in a row that are filled between their neighbours; a longer hole becomes a gap of the series.",
    )


class SplitSettings(BaseModel):
    """How the rows are divided into train, validation and test."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Split")

    rule: SplitRule | None = Field(
        None,
        description="shares: fixed shares of the rows, as in the tutorial. recent: the newest months test, the months before "
        "validate, all before trains. None: recent for a source that goes on to now, else shares.",
    )
    test_months: int = Field(12, ge=1, le=120, description="Months that test, for the rule recent.")
    validation_months: int = Field(12, ge=1, le=120, description="Months before these that validate, for the rule recent.")


class TableRequest(BaseModel):
    """What a table is made by, beside its files; a table with other values here is another version.

    Attributes:
        source: Name of the source, or `sample`.
        options: What a person set of the source.
        limits: When the data is rejected.
        split: How it is divided; its rule is never None here.
        until: Stamp of the newest reading of a series that is read, for a forecast as of then; None: all are. No table that
            is published has one.
        today: Day that counts as today while a table is validated; None: what is in the future is not asked. It is no part of
            what a table follows from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    limits: QualityLimits = QualityLimits()
    split: SplitSettings = SplitSettings(rule="shares")
    until: datetime | None = None
    today: date | None = Field(None, exclude=True)

    def content(self) -> dict[str, Any]:
        """Return what a table follows from, JSON-ready: what is left at its default is left out."""
        values = self.model_dump(mode="json")
        limits = self.limits.model_dump(exclude_defaults=True)
        split = self.split.model_dump() if self.split.rule == "recent" else {}
        parts = {"options": values["options"], "limits": limits, "split": split, "until": values["until"]}
        return {"source": self.source} | {name: part for name, part in parts.items() if part}
