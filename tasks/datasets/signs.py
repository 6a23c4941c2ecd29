"""Signs of faults that are plausible value by value: columns of a validation frame, with bounds that stop or warn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.datasets.series_suite import between
from tasks.datasets.spec import Expectation, Severity

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Sign:
    """A column of the validation frame, and within which bounds it lies in sound data.

    Attributes:
        possible: Bounds outside of which the data cannot be true; None: there are none.
        usual: Bounds outside of which it is unlikely; None: there are none.
        mostly: Share of rows within `possible` that is enough, because the publisher's own files hold such faults.
        reading: Column of which it is computed, for pictures; empty: none, or several.
    """

    column: str
    meaning: str
    possible: Bounds | None
    usual: Bounds | None
    mostly: float = 1.0
    reading: str = ""

    def expectations(self) -> tuple[Expectation, ...]:
        """Return what is expected: outside of the usual is a warning, what cannot be is critical."""
        found = []
        if self.usual:
            found.append(self._expectation(between(self.column, *self.usual), severity="warning"))
        if self.possible:
            share = {"mostly": self.mostly} if self.mostly < 1 else {}
            found.append(self._expectation(between(self.column, *self.possible, **share), severity="critical"))
        return tuple(found)

    def _expectation(self, arguments: Mapping[str, Any], *, severity: Severity) -> Expectation:
        kind = "column_values_to_be_between"
        return Expectation(kind, arguments, severity, self.meaning, can_be_accepted=True, reading=self.reading)


def expectations_of(signs: Iterable[Sign]) -> tuple[Expectation, ...]:
    """Return what is expected of some signs, in their order. A person may accept what they find: bounds are of known data."""
    return tuple(expectation for sign in signs for expectation in sign.expectations())
