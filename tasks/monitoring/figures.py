"""Pictures of a model at work: errors beside persistence, coverage, and how far the inputs lie from those that trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.canvas import COLOURS, NAIVE, figure_of, legend, small_png, use_time_axis
from tasks.intervals import LEVELS
from tasks.monitoring.findings import Watch

# Columns of a picture of drift, those that came nearest to their threshold.
MAX_COLUMNS = 8
MIN_DAYS = 14


def watch_pictures(watch: Watch, *, unit: str) -> dict[str, bytes]:
    """Return the pictures by title; what was not watched is not drawn."""
    pictures = {}
    if watch.errors:
        pictures["rolling error"] = rolling_error_png(watch.errors, unit=unit)
        if any(f"coverage_{level}" in entry for entry in watch.errors for level in LEVELS):
            pictures["coverage of the intervals"] = coverage_png(watch.errors)
    if watch.drift:
        pictures["drift of the inputs"] = drift_png(watch.drift)
    if watch.seasons and watch.hours:
        pictures["error by season and by hour"] = groups_png(watch.seasons, hours=watch.hours, unit=unit)
    return pictures


def _days(entries: Sequence[Mapping[str, Any]]) -> Any:
    return np.array([int(entry["day"]) for entry in entries]).astype("datetime64[D]")


def _time_axis(panel: Any) -> None:
    """Label days, months or years, over two weeks at least."""
    first, last = panel.dataLim.intervalx
    if last - first < MIN_DAYS:
        panel.set_xlim(last - MIN_DAYS, last + 1)
    use_time_axis(panel)


def rolling_error_png(errors: Sequence[Mapping[str, float]], *, unit: str) -> bytes:
    """Draw the rolling mean absolute error beside that of persistence, and below them the bias."""
    figure, axes = figure_of(2, panel_inches=2.2)
    days = _days(errors)
    dot = {"marker": ".", "markersize": 3}  # a single day has no line
    for key, name, colour in (("naive_mae", "persistence", NAIVE), ("mae", "forecasts", COLOURS[0])):
        axes[0, 0].plot(days, [entry[key] for entry in errors], color=colour, linewidth=1.6, label=name, **dot)
    axes[1, 0].plot(days, [entry["bias"] for entry in errors], color=COLOURS[1], linewidth=1.6, label="bias", **dot)
    axes[1, 0].axhline(0, color=NAIVE, linewidth=0.8)
    axes[0, 0].set(ylabel=f"rolling MAE ({unit})")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set(xlabel="last day of the window", ylabel=f"forecast - measured ({unit})")
    for panel in axes[:, 0]:
        _time_axis(panel)
    legend(figure)
    return small_png(figure)


def coverage_png(errors: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the share of measurements within each interval over time, and the share that was promised."""
    figure, axes = figure_of(1, panel_inches=2.4)
    panel = axes[0, 0]
    for level, colour in zip(LEVELS, COLOURS, strict=False):
        shares = [100 * entry.get(f"coverage_{level}", np.nan) for entry in errors]
        panel.plot(_days(errors), shares, color=colour, linewidth=1.6, marker=".", markersize=3, label=f"{level} % interval")
        panel.axhline(level, color=colour, linewidth=0.9, linestyle="--")
    panel.set(xlabel="last day of the window", ylabel="measured within it (%)", ylim=(0, 102))
    _time_axis(panel)
    legend(figure)
    return small_png(figure)


def drift_png(drift: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw over time how far the columns lie from the training rows, in units of their thresholds."""
    by_column: dict[str, list[Mapping[str, Any]]] = {}
    for entry in drift:
        by_column.setdefault(str(entry["column"]), []).append(entry)
    largest = sorted(by_column, key=lambda column: -max(float(entry["excess"]) for entry in by_column[column]))
    figure, axes = figure_of(1, panel_inches=3.4)
    panel = axes[0, 0]
    for column, colour in zip(largest[:MAX_COLUMNS], COLOURS, strict=False):
        days = np.array([str(entry["day"]) for entry in by_column[column]], dtype="datetime64[D]")
        excess = [float(entry["excess"]) for entry in by_column[column]]
        panel.plot(days, excess, color=colour, linewidth=1.3, marker=".", markersize=3, label=column)
    panel.axhline(1, color=NAIVE, linewidth=1.2, linestyle="--", label="threshold")
    panel.set(xlabel="last day of the window", ylabel="distance (1 = threshold)")
    panel.set_ylim(bottom=0)
    _time_axis(panel)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return small_png(figure)


def groups_png(seasons: Mapping[str, Mapping[str, float]], *, hours: Mapping[str, Mapping[str, float]], unit: str) -> bytes:
    """Draw the mean absolute error by season and by hour of the target, beside that of persistence."""
    figure, axes = figure_of(2, panel_inches=2.4)
    for panel, groups, label in ((axes[0, 0], seasons, "season of the target"), (axes[1, 0], hours, "hour of the target")):
        place = np.arange(len(groups))
        for shift, key, name, colour in ((-0.2, "naive_mae", "persistence", NAIVE), (0.2, "mae", "forecasts", COLOURS[0])):
            heights = [values[key] for values in groups.values()]
            panel.bar(place + shift, heights, width=0.38, color=colour, label=name)
        panel.set(xlabel=label, ylabel=f"MAE ({unit})")
        panel.set_xticks(place, [name.replace(" to ", " to\n") for name in groups], fontsize=8)
    legend(figure, handles=axes[0, 0].get_legend_handles_labels()[0])
    return small_png(figure)
