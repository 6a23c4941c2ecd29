"""Signs of faults that are plausible value by value: columns of a validation frame, with bounds that stop or warn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.datasets.series_suite import between
from tasks.datasets.spec import Expectation

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Sign:
    """A column of the validation frame, and within which bounds it lies in sound data.

    Attributes:
        possible: Bounds outside of which the data cannot be true; None: there are none.
        usual: Bounds outside of which it is unlikely; None: there are none.
        mostly: Share of rows within `possible` that is enough, because the publisher's own files hold such faults.
    """

    column: str
    meaning: str
    possible: Bounds | None
    usual: Bounds | None
    mostly: float = 1.0

    def expectations(self) -> tuple[Expectation, ...]:
        """Return what is expected: outside of the usual is a warning, what cannot be is critical."""
        kind, found = "column_values_to_be_between", []
        if self.usual:
            found.append(Expectation(kind, between(self.column, *self.usual), "warning", self.meaning, can_be_accepted=True))
        if self.possible:
            share = {"mostly": self.mostly} if self.mostly < 1 else {}
            arguments = between(self.column, *self.possible, **share)
            found.append(Expectation(kind, arguments, "critical", self.meaning, can_be_accepted=True))
        return tuple(found)


def expectations_of(signs: Iterable[Sign]) -> tuple[Expectation, ...]:
    """Return what is expected of some signs, in their order. A person may accept what they find: bounds are of known data."""
    return tuple(expectation for sign in signs for expectation in sign.expectations())
