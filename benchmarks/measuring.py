"""What is done with measured times: medians, spreads, growth, turns, and the tables that show them. Nothing is run here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from benchmarks.remarks import remarks_on

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, with the least, the greatest and their number."""

    median: float
    least: float
    greatest: float
    count: int

    def text(self, *, digits: int = 2) -> str:
        """Return the median with the least and the greatest behind it, where they say more than it does."""
        if self.count == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.greatest:.{digits}f})"


def spread_of(values: Sequence[float], *, scale: float = 1.0) -> Spread:
    """Return the spread of measurements, each times a scale.

    Raises:
        ValueError: There is none.
    """
    if not values:
        raise ValueError("no measurement was made: expected at least one")
    scaled = [value * scale for value in values]
    return Spread(statistics.median(scaled), min(scaled), max(scaled), len(scaled))


def exponent_of(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return b of `cost = a * size ** b` by least squares on the logarithms of both.

    Raises:
        ValueError: There are fewer than two different sizes, or a value is not above 0.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2:
        raise ValueError(f"{len(sizes)} sizes and {len(costs)} costs: expected as many, of two sizes at least")
    if min(*sizes, *costs) <= 0:
        raise ValueError("a size or cost is 0 or less: it has no logarithm")
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def interleaved(
    names: Sequence[str], *, rounds: int, take: Callable[[str], Measured], pause: Callable[[], None] = lambda: None
) -> dict[str, list[Measured]]:
    """Let everyone take a turn, and again in the reverse order: a, b, c, c, b, a, a, ...

    A drift of the machine then meets all alike, and so does what one of them leaves behind for the next.

    Args:
        names: Who takes turns, in this order.
        rounds: Turns of each.
        take: Takes one turn.
        pause: Called before every turn.
    """
    taken: dict[str, list[Measured]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            pause()
            taken[name].append(take(name))
    return taken


@dataclass(frozen=True)
class Goal:
    """One line of the summary: what was measured against what, and whether it is what was to be reached.

    Attributes:
        measured: With its unit: `2.51x`, `11.2 s`.
        reached: None where it could not be measured.
    """

    what: str
    against: str
    measured: str
    aim: str
    reached: bool | None


def ratio_goal(what: str, *, against: str, ratio: float | None, at_least: float) -> Goal:
    """Return the line of a ratio, None for one that could not be measured."""
    if ratio is None:
        return Goal(what, against, "not measured", f"at least {at_least:g}x", None)
    return Goal(what, against, f"{ratio:.2f}x", f"at least {at_least:g}x", ratio >= at_least)


def ceiling_goal(what: str, *, against: str, value: float | None, at_most: float, unit: str, digits: int = 2) -> Goal:
    """Return the line of a figure that must stay below another; None for one that could not be measured."""
    aim = f"at most {at_most:g} {unit}".rstrip()
    if value is None:
        return Goal(what, against, "not measured", aim, None)
    return Goal(what, against, f"{value:.{digits}f} {unit}".rstrip(), aim, value <= at_most)


@dataclass(frozen=True)
class Table:
    """A table with a title, and remarks below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """What one part of the benchmarks found.

    Attributes:
        values: The raw measurements, JSON-ready.
    """

    name: str
    goals: tuple[Goal, ...] = ()
    tables: tuple[Table, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def plain_part(part: Part, *, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part as JSON-ready values, with the circumstances under which it was measured."""
    return {"circumstances": dict(circumstances), **asdict(part)}


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table; a bar within a cell is escaped.

    Raises:
        ValueError: A row has another number of cells.
    """
    lines = [list(columns), ["---"] * len(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"the row {list(row)} has {len(row)} cells, expected {len(columns)}")
        lines.append([str(cell).replace("|", "\\|") for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_REACHED = {True: "yes", False: "**no**", None: "-"}
_INTRODUCTION = (
    "Made by `make bench`, which runs the project beside what a user would use instead: in turns, in one run, on the same data.\n"
    "Times are medians, with the least and the greatest in brackets. A ratio is the other's time by ours; where either was\n"
    "run in several ways, its fastest counts: a training alone, with every core. The raw figures stand in `benchmarks.json`."
)


def document(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the whole report in markdown, from parts as `plain_part` gives them."""
    blocks = ["# Benchmarks", _INTRODUCTION]
    goals = [goal for part in parts.values() for goal in part["goals"]]
    if goals:
        rows = [(goal["what"], goal["against"], goal["measured"], goal["aim"], _REACHED[goal["reached"]]) for goal in goals]
        blocks += ["## Aims", markdown_table(("what", "against", "measured", "aim", "reached"), rows)]
        told = remarks_on(goals)
        blocks += ["### What fell short, and why", *told] if told else []
    for name, part in parts.items():
        blocks += [f"## {name.capitalize()}", _told(part["circumstances"])]
        for table in part["tables"]:
            blocks += [f"### {table['title']}"]
            if table["rows"]:
                blocks += [markdown_table(table["columns"], table["rows"])]
            if table["notes"]:
                blocks += ["\n".join(f"- {note}" for note in table["notes"])]
    return "\n\n".join(blocks) + "\n"


def _told(circumstances: Mapping[str, Any]) -> str:
    """Return the circumstances as a list; values that are mappings become `name value` pairs."""
    lines = []
    for name, value in circumstances.items():
        text = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)
        lines.append(f"- {name}: {text}")
    return "\n".join(lines)
