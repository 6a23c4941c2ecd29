"""Pictures of failed expectations: the judged column around the place, its bounds, and the rows that lie outside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.canvas import COLOURS, MEASURED, NAIVE, figure_of, legend, small_png, use_time_axis
from tasks.ingestion.outcomes import Outcome, ValidationReport

MAX_PICTURES = 5
_KIND = "column_values_to_be_between"
_LEAST_MARGIN = np.timedelta64(2, "D")
_BINS = 60


def with_pictures(report: ValidationReport, *, frames: Sequence[pd.DataFrame]) -> tuple[ValidationReport, dict[str, bytes]]:
    """Return the report with the names of its pictures, and the PNGs by name: of the most severe failures, five at most.

    An expectation has a picture if it bounds the values of a numeric column. Along a series the picture shows the place with as
    much time before and after it, two days at least, and below it the reading from which the column was computed; elsewhere it
    shows how often which values occur. Bounds on one column share a picture. Matplotlib is imported only if something failed.

    Args:
        report: What the expectations found.
        frames: The frames that were judged; the first that has a column is the one it is drawn from.
    """
    drawn: dict[str, tuple[str, bytes]] = {}
    for outcome in report.failed:
        frame = next((each for each in frames if outcome.column in each.columns), None)
        if outcome.column is None or frame is None or outcome.column in drawn or len(drawn) == MAX_PICTURES:
            continue
        png = _picture(outcome, frame=frame)
        if png is not None:
            drawn[outcome.column] = (f"finding-{outcome.column}.png", png)
    names = {column: name for column, (name, _) in drawn.items()}
    outcomes = tuple(
        replace(outcome, picture=names.get(outcome.column or "", ""))
        if not outcome.success and outcome.kind == _KIND
        else outcome
        for outcome in report.outcomes
    )
    return replace(report, outcomes=outcomes), dict(drawn.values())


def _picture(outcome: Outcome, *, frame: pd.DataFrame) -> bytes | None:
    if outcome.kind != _KIND:
        return None
    values = frame[str(outcome.column)].to_numpy()
    if values.dtype.kind not in "iuf":
        return None
    low, high = outcome.arguments.get("min_value"), outcome.arguments.get("max_value")
    is_outside = np.zeros(len(values), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        if low is not None:
            is_outside |= values < low
        if high is not None:
            is_outside |= values > high
    if not is_outside.any():
        return None
    stamps = next((name for name in frame.columns if frame[name].dtype.kind == "M"), None)
    if stamps is None:
        return _histogram(values, is_outside=is_outside, outcome=outcome)
    return _along_time(values, stamps=frame[stamps].to_numpy(), is_outside=is_outside, outcome=outcome, frame=frame)


def _crossed(values: npt.NDArray[Any], outcome: Outcome) -> list[float]:
    """Return the bounds that values lie beyond."""
    low, high = outcome.arguments.get("min_value"), outcome.arguments.get("max_value")
    crossed = [low] if low is not None and bool((values < low).any()) else []
    return [*crossed, high] if high is not None and bool((values > high).any()) else crossed


def _along_time(
    values: npt.NDArray[Any],
    *,
    stamps: npt.NDArray[np.datetime64],
    is_outside: npt.NDArray[np.bool_],
    outcome: Outcome,
    frame: pd.DataFrame,
) -> bytes:
    places = stamps[is_outside]
    first, last = places.min(), places.max()
    margin = max((last - first) / 2, _LEAST_MARGIN)
    shown = (stamps >= first - margin) & (stamps <= last + margin)
    reading = outcome.reading if outcome.reading in frame.columns else None
    figure, axes = figure_of(2 if reading else 1, panel_inches=2.2)
    _draw(axes[0, 0], stamps=stamps[shown], values=values[shown], is_outside=is_outside[shown], name=str(outcome.column))
    for bound in _crossed(values, outcome):
        axes[0, 0].axhline(bound, color=NAIVE, linestyle="--", linewidth=1, label="bound")
    if reading:
        below = frame[reading].to_numpy()[shown]
        _draw(axes[1, 0], stamps=stamps[shown], values=below, is_outside=is_outside[shown], name=reading)
        axes[1, 0].sharex(axes[0, 0])
    for panel in axes.flat:
        use_time_axis(panel)
    axes[-1, 0].set_xlabel("time stamp")
    handles, names = axes[0, 0].get_legend_handles_labels()
    legend(figure, handles=list(dict(zip(names, handles, strict=True)).values()))
    return small_png(figure)


def _draw(
    panel: Any, *, stamps: npt.NDArray[np.datetime64], values: npt.NDArray[Any], is_outside: npt.NDArray[np.bool_], name: str
) -> None:
    """Draw a column over time, with no line across a gap, and the rows that lie outside the bounds."""
    spacing = np.diff(stamps)
    gaps: npt.NDArray[np.intp] = np.flatnonzero(spacing > 1.5 * np.median(spacing)) + 1 if len(spacing) else np.empty(0, np.intp)
    line = np.insert(values.astype(np.float64), gaps, np.nan)
    panel.plot(np.insert(stamps, gaps, stamps[gaps]), line, color=MEASURED, linewidth=0.8, label="rows")
    panel.plot(
        stamps[is_outside],
        values[is_outside],
        color=COLOURS[1],
        linestyle="none",
        marker=".",
        markersize=6,
        label="rows that do not meet the expectation",
    )
    panel.set_ylabel(name)


def _histogram(values: npt.NDArray[Any], *, is_outside: npt.NDArray[np.bool_], outcome: Outcome) -> bytes:
    finite = np.isfinite(values)
    edges = np.histogram_bin_edges(values[finite].astype(np.float64), bins=_BINS)
    figure, axes = figure_of(1)
    panel = axes[0, 0]
    panel.hist(values[finite & ~is_outside], bins=edges, color=MEASURED, label="rows")
    panel.hist(values[finite & is_outside], bins=edges, color=COLOURS[1], label="rows that do not meet the expectation")
    for bound in _crossed(values[finite], outcome):
        panel.axvline(bound, color=NAIVE, linestyle="--", linewidth=1, label="bound")
    panel.set(xlabel=str(outcome.column), ylabel="rows", yscale="log")
    legend(figure)
    return small_png(figure)
