"""What a forecast of a time series is, in values: the readings that go in, the value that comes out, and the networks.

This module knows no engine, so that networks can import it. `tasks.models.windows.forecast_problem` makes a problem of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.models.spec import Budget, Variant


@dataclass(frozen=True)
class WindowTask:
    """The question that every network of one time series answers.

    A window is the last `lookback_rows` readings before a row, thinned to every `step_rows`-th; the target is one column,
    `horizon_rows` after that row.

    Attributes:
        columns: Columns of the table that a network reads, in the order in which it reads them.
        target: The one of them that is forecast.
        lookback_rows: Rows that lie before a window's row and that the window covers.
        step_rows: Spacing of the readings that a network sees, in rows.
        horizon_rows: Rows from the window's row to its target.

    Raises:
        ValueError: A number is not positive, `step_rows` does not divide `lookback_rows`, a column is named twice, or
            `target` is no column.
    """

    columns: tuple[str, ...]
    target: str
    lookback_rows: int
    step_rows: int
    horizon_rows: int

    def __post_init__(self) -> None:
        for name in ("lookback_rows", "step_rows", "horizon_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a whole number above 0")
        if self.lookback_rows % self.step_rows:
            raise ValueError(
                f"lookback_rows {self.lookback_rows} is no multiple of step_rows {self.step_rows}: a window would begin "
                "between two of its readings"
            )
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns {', '.join(self.columns)} name a column twice: name each once")
        if self.target not in self.columns:
            raise ValueError(f"target {self.target!r} is not among the columns {', '.join(self.columns)}: choose one of them")

    @property
    def target_index(self) -> int:
        """Place of the target among the columns."""
        return self.columns.index(self.target)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one window as a network sees it: (steps, columns)."""
        return self.steps, len(self.columns)

    @property
    def steps(self) -> int:
        """Readings that a network sees of one window."""
        return self.lookback_rows // self.step_rows

    @property
    def min_rows(self) -> int:
        """Rows without a gap that hold exactly one window and its target."""
        return self.lookback_rows + self.horizon_rows + 1


@dataclass(frozen=True)
class Forecast:
    """A forecast problem: everything about it that is its data set's own.

    Attributes:
        dataset: Name of the data set.
        task: The question that is asked when a person sets nothing else.
        units: Unit for people by column, such as {"temperature_degc": "°C"}, for every column that can be the target. A
            column is called by its quantity and ends in its unit, such as `temperature_degc`.
        row_seconds: Regular spacing of the rows.
        variants: A task to the networks for windows of it, and the linear baseline.
        default_variants: The networks that a run trains when a person names none.
        sample_budget: Epochs and steps that suffice on the sample.
        decimals: Digits of the unit that mean something.
        tutorial_rows: Rows of the tutorial's own files; None where it has no such data set.
    """

    dataset: str
    task: WindowTask
    units: Mapping[str, str]
    row_seconds: int
    variants: Callable[[WindowTask], tuple[Variant, ...]]
    default_variants: tuple[str, ...]
    sample_budget: Budget
    decimals: int = 2
    tutorial_rows: int | None = None


def quantity_and_unit(column: str) -> tuple[str, str]:
    """Return the quantity and the unit that a column's name holds: of `temperature_degc`, temperature and degc.

    Of a name such as `wind_speed_m_per_s`, whose unit is a quotient, the unit begins before `per`.
    """
    parts = column.split("_")
    if len(parts) < 2:
        raise ValueError(f"column {column!r} does not end in its unit: call it by quantity and unit, such as temperature_degc")
    first = len(parts) - 1
    while first >= 2 and "per" in (parts[first - 1], parts[first]):
        first -= 1
    return " ".join(parts[:first]), "_".join(parts[first:])
