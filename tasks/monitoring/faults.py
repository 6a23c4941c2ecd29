"""Broken sensors and clocks, told apart from weather by what no weather can break.

A warm spell moves temperature, saturation pressure and air density together, and every law between them holds. A wrong offset,
unit or scale of one column breaks exactly the laws that this column takes part in, which names the column. A stuck sensor repeats
one reading, and a sound reading does not change within one row by twice the most that it ever did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.datasets.spec import FaultSign

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]

# A reading that changes from one row to the next by more than so many times the largest change of the training rows has jumped.
JUMP_FACTOR = 2.0


@dataclass(frozen=True)
class Fault:
    """A fault of one sensor, or of one of several between which nothing decides.

    Attributes:
        columns: The columns, of which one is at fault.
        day: First of the judged days that shows it, such as `2020-03-01`.
        reason: The laws that are broken and those that hold, with numbers.
        numbers: Evidence by name.
    """

    columns: tuple[str, ...]
    day: str
    reason: str
    numbers: Mapping[str, float]

    @property
    def subject(self) -> str:
        """The columns for people."""
        return " or ".join(self.columns)


def broken_hours_by_day(
    frame: pd.DataFrame, *, signs: Sequence[FaultSign], stamp: npt.NDArray[np.datetime64], row_seconds: int
) -> dict[str, dict[str, float]]:
    """Return for how many hours of each day each sign is outside its bounds, by day and column of the sign.

    Args:
        frame: What `DatasetSpec.validation_frame` returns for the rows.
        signs: Signs of the data set.
        stamp: datetime64 `(rows,)`: the end of each reading.
        row_seconds: Spacing of the rows.
    """
    days = _days_of(stamp)
    found: dict[str, dict[str, float]] = {str(day): {} for day in np.unique(days)}
    for sign in signs:
        broken = is_outside(frame[sign.column].to_numpy(), sign=sign)
        for day, hours in found.items():
            hours[sign.column] = float(np.sum(broken[days == np.datetime64(day)])) * row_seconds / 3600
    return found


def _days_of(stamp: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """Return the day of each reading; one that ends at midnight belongs to the day before."""
    return np.asarray((stamp.astype("datetime64[s]") - np.timedelta64(1, "s")).astype("datetime64[D]"))


def is_outside(values: Floats, *, sign: FaultSign) -> Flags:
    """Tell of each row whether it is outside the bounds of a sign; a missing value is not."""
    outside = np.zeros(len(values), dtype=np.bool_)
    if sign.minimum is not None:
        outside |= values < sign.minimum
    if sign.maximum is not None:
        outside |= values > sign.maximum
    return outside


def name_faults(hours: Mapping[str, float], *, signs: Sequence[FaultSign], day: str, max_hours: float) -> tuple[Fault, ...]:
    """Return the columns that explain the broken signs of one day, the one that explains most first.

    A column explains the broken laws that it takes part in. It is the more likely the fewer laws it takes part in hold: with
    a wrong temperature every law with temperature breaks, and no other. What is left is explained by further columns.

    Args:
        hours: Hours of the day in which each sign was outside its bounds, by its column.
        signs: Signs of the data set.
        day: The day.
        max_hours: Signs that are outside for longer are broken; a stuck sensor's from the first row.
    """
    ties = [sign for sign in signs if len(sign.readings) > 1]
    stuck = [sign for sign in signs if len(sign.readings) == 1 and hours[sign.column] > 0]
    faults = [
        Fault(
            columns=sign.readings,
            day=day,
            reason=f"it has stayed the same: {sign.meaning}",
            numbers={f"{sign.column} outside its bounds, hours": hours[sign.column]},
        )
        for sign in stuck
    ]
    explained = {fault.columns[0] for fault in faults}
    left = [tie for tie in ties if hours[tie.column] > max_hours and not explained & set(tie.readings)]
    while left:
        columns = _most_likely(left, ties=ties, hours=hours, max_hours=max_hours)
        theirs = [tie for tie in left if set(columns) & set(tie.readings)]
        holding = [tie for tie in ties if tie.is_equation and hours[tie.column] <= max_hours]
        broken_laws = "; ".join(tie.meaning for tie in theirs)
        faults.append(
            Fault(
                columns=columns,
                day=day,
                reason=f"{len(theirs)} of the laws between columns are broken, each with {' or '.join(columns)} in it "
                f"({broken_laws}), and {len(holding)} hold",
                numbers={f"{tie.column} outside its bounds, hours": hours[tie.column] for tie in theirs},
            )
        )
        left = [tie for tie in left if tie not in theirs]
    return tuple(faults)


def _most_likely(
    broken: Sequence[FaultSign], *, ties: Sequence[FaultSign], hours: Mapping[str, float], max_hours: float
) -> tuple[str, ...]:
    """Return the column that explains the broken laws best, or several that explain the same of them equally well."""
    columns = dict.fromkeys(column for tie in broken for column in tie.readings)

    def likelihood(column: str) -> float:
        explained = sum(column in tie.readings for tie in broken)
        contradicted = sum(column in tie.readings and tie.is_equation and hours[tie.column] <= max_hours for tie in ties)
        return explained / (len(broken) + contradicted)

    first = max(columns, key=likelihood)
    explains = [first in tie.readings for tie in broken]
    return tuple(
        column
        for column in columns
        if likelihood(column) == likelihood(first) and [column in tie.readings for tie in broken] == explains
    )


def largest_changes(columns: Mapping[str, Floats], *, stamp: npt.NDArray[np.datetime64], row_seconds: int) -> dict[str, float]:
    """Return the largest change from one row to the next by column; 0 where no two rows follow each other."""
    follows = np.diff(stamp.astype("datetime64[s]").astype(np.int64)) == row_seconds
    return {name: float(np.abs(np.diff(values)[follows]).max(initial=0.0)) for name, values in columns.items()}


def jumps(
    columns: Mapping[str, Floats], *, stamp: npt.NDArray[np.datetime64], row_seconds: int, largest: Mapping[str, float]
) -> Iterable[Fault]:
    """Yield a fault for every column that changes within one row by more than `JUMP_FACTOR` times the largest known change.

    Args:
        columns: Readings of the judged rows.
        stamp: Their stamps.
        row_seconds: Spacing of the rows.
        largest: What `largest_changes` returned for the training rows.
    """
    days = _days_of(stamp)
    follows = np.diff(stamp.astype("datetime64[s]").astype(np.int64)) == row_seconds
    for name, values in columns.items():
        change = np.abs(np.diff(values)) * follows
        if len(change) and largest[name] > 0 and change.max() > JUMP_FACTOR * largest[name]:
            row = int(np.argmax(change > JUMP_FACTOR * largest[name]))
            yield Fault(
                columns=(name,),
                day=str(days[row + 1]),
                reason=f"it jumps by {change[row]:.4g} within one row, by {largest[name]:.4g} at most in the rows that trained",
                numbers={"change within one row": float(change[row]), "largest known change": largest[name]},
            )


def faults_of_days(
    hours_by_day: Mapping[str, Mapping[str, float]], *, signs: Sequence[FaultSign], max_hours: float
) -> tuple[Fault, ...]:
    """Return the faults of some days, each named once with the first day that shows it, in the order of these days."""
    found: dict[tuple[str, ...], Fault] = {}
    for day, hours in sorted(hours_by_day.items()):
        for fault in name_faults(hours, signs=signs, day=day, max_hours=max_hours):
            found.setdefault(fault.columns, fault)
    return tuple(found.values())
