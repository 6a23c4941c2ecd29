"""What a window forecast is asked: which readings go in, and which value, how far ahead, comes out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WindowTask:
    """The question that every network of one time series answers.

    A window is the last `lookback_rows` readings before a row, thinned to every `step_rows`-th; the target is one column,
    `horizon_rows` after that row. This module knows no engine, so that networks can ask it for their shapes.

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
    def steps(self) -> int:
        """Readings that a network sees of one window."""
        return self.lookback_rows // self.step_rows

    @property
    def min_rows(self) -> int:
        """Rows without a gap that hold exactly one window and its target."""
        return self.lookback_rows + self.horizon_rows + 1
