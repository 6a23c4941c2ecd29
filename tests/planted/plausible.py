"""Which of the planted faults the suites find, and which alarms they raise where nothing is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from planted import jena_planted, review_planted
from planted.review_planted import Part

from tasks.datasets.imdb import spec as imdb
from tasks.datasets.imdb.ranks import Ranks
from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import COLUMNS, TIMESTAMP
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import DatasetSpec, Parsed, Severity
from tasks.ingestion.validation import run_suite

Alarms = Mapping[str, Severity]
"""The failed expectations: column and kind, and how severe it is."""


def alarms_of(parsed: Parsed, *, spec: DatasetSpec, request: TableRequest) -> dict[str, Severity]:
    """Return the expectations of a suite that fail."""
    report = run_suite(spec.validation_frame(parsed), name=spec.name, expectations=spec.expectations(request))
    return {f"{outcome.column} {outcome.kind} {outcome.severity}": outcome.severity for outcome in report.failed}


@dataclass(frozen=True)
class Found:
    """What a suite says of a planted fault, beyond what it says of the data without it.

    Attributes:
        alarms: The expectations that fail because of it.
        refusal: Why the data could not even be parsed; empty: it could.
    """

    alarms: Alarms
    refusal: str = ""

    @property
    def severity(self) -> str:
        """`critical`, `warning`, or nothing."""
        if self.refusal or "critical" in self.alarms.values():
            return "critical"
        return "warning" if self.alarms else ""


class JenaBench:
    """A sound series, into which faults are planted."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.readings = {name: parsed.table[name].to_numpy() for name in COLUMNS}
        self.stamps = parsed.table[TIMESTAMP].to_numpy().astype("datetime64[s]")
        # Later than the last reading by more than a year: stamps of the year after are no fault by themselves.
        today = self.stamps[-1].astype("datetime64[D]").astype(date) + timedelta(days=400)
        self.request = TableRequest(source="station", today=today)
        self.before = alarms_of(parsed, spec=jena.SPEC, request=self.request)

    def plant(self, fault: jena_planted.Fault, *, seed: int) -> Found:
        """Plant a fault and return what is found of it."""
        readings, stamps = fault(dict(self.readings), self.stamps.copy(), np.random.default_rng(seed))
        columns: dict[str, Any] = {TIMESTAMP: pa.array(stamps.astype("datetime64[s]"))}
        columns |= {name: pa.array(np.asarray(readings[name], dtype=np.float32)) for name in COLUMNS}
        parsed = replace(self.parsed, table=pa.table(columns, schema=jena.SCHEMA))
        after = alarms_of(parsed, spec=jena.SPEC, request=self.request)
        return Found({name: severity for name, severity in after.items() if name not in self.before})


class ReviewBench:
    """Published reviews, into which faults are planted."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.request = TableRequest(source="keras")
        is_test = np.asarray(parsed.table["split"]) == "test"
        ranks, labels = Ranks.of_column(parsed.table["tokens"]), parsed.table["label"].to_numpy()
        rows = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
        self.parts = {name: Part(ranks.take(chosen), labels[chosen]) for name, chosen in rows.items()}
        self.before = self._alarms(self.parts)

    def plant(self, fault: review_planted.Fault, *, seed: int) -> Found:
        """Plant a fault and return what is found of it."""
        after = self._alarms(fault(dict(self.parts), np.random.default_rng(seed)))
        return Found({name: severity for name, severity in after.items() if name not in self.before})

    def _alarms(self, parts: Mapping[str, Part]) -> dict[str, Severity]:
        tables = [
            pa.table(
                [
                    pa.array([name] * len(part.labels)),
                    pa.array(np.arange(len(part.labels), dtype=np.int32)),
                    part.ranks.arrow(pa.int32()),
                    pa.array(part.labels),
                ],
                schema=imdb.SCHEMA,
            )
            for name, part in parts.items()
        ]
        parsed = replace(self.parsed, table=pa.concat_tables(tables).combine_chunks())
        return alarms_of(parsed, spec=imdb.SPEC, request=self.request)
