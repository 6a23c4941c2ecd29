"""Pictures of a time series and of a forecast of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.canvas import COLOURS, MEASURED, NAIVE, figure_of, legend, small_png
from tasks.intervals import month_and_hour
from tasks.models.spec import SeriesPlot

Floats = npt.NDArray[np.floating[Any]]
Bounds = Mapping[int, tuple[Floats, Floats]]
# Colours of the intervals, the widest first.
BANDS = ("#dcebf5", "#b3d4ea")
# Points beside the nominal coverage within which a month is taken for good.
TOLERANCE = 2.0
FIRST_DAYS = 10
WEEK_DAYS = 7


def series_pictures(
    plot_data: SeriesPlot, *, prediction: Floats, truth: Floats, naive: Floats, bounds: Bounds, model: str
) -> dict[str, bytes]:
    """Return the pictures of a forecast by title: a test week, errors, coverage of its intervals, and the series."""
    coverage = {"coverage of the intervals by month": coverage_png(plot_data, truth=truth, bounds=bounds)} if bounds else {}
    return {
        "forecast of a test week": forecast_png(
            plot_data, prediction=prediction, truth=truth, naive=naive, bounds=bounds, model=model
        ),
        "error by hour and by month": error_png(
            plot_data, error=np.abs(prediction - truth), naive_error=np.abs(naive - truth), model=model
        ),
        **coverage,
        f"{plot_data.quantity} of the whole series and of its first ten days": series_png(plot_data),
    }


def series_png(plot_data: SeriesPlot) -> bytes:
    """Draw the quantity over the whole series, with the test split in another colour, and below it over the first ten days."""
    figure, axes = figure_of(2, panel_inches=2.4)
    whole, days = axes[:, 0]
    stamp, value, first = plot_data.stamp, plot_data.value, plot_data.first_test_row
    # One reading an hour: hundreds of thousands of points on 700 pixels would show no more, and take seconds to draw.
    hourly = max(1, 3600 // plot_data.row_seconds)
    for part, name, colour in (
        (slice(0, first, hourly), "training and validation", COLOURS[0]),
        (slice(first, None, hourly), "test", COLOURS[1]),
    ):
        whole.plot(stamp[part], value[part], color=colour, linewidth=0.4, label=name)
    whole.set(xlabel="date", ylabel=plot_data.axis_label)
    count = min(FIRST_DAYS * plot_data.rows_a_day, len(value))
    days.plot(
        np.arange(count) / plot_data.rows_a_day, value[:count], color=MEASURED, linewidth=1.2, label=f"first {count:,} readings"
    )
    begins = np.datetime_as_string(stamp[0], unit="m").replace("T", " ")
    days.set(xlabel=f"days from {begins}", ylabel=plot_data.axis_label, xlim=(0, FIRST_DAYS))
    for line in figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9).get_lines():
        line.set_linewidth(2)
    return small_png(figure)


def forecast_png(plot_data: SeriesPlot, *, prediction: Floats, truth: Floats, naive: Floats, bounds: Bounds, model: str) -> bytes:
    """Draw one week of the test split: truth, forecast with its intervals, and the naive baseline, over days.

    Args:
        plot_data: The series.
        prediction: One forecast a row, in order of time. The first week is drawn.
        truth: The measured values at the same stamps.
        naive: The forecasts of the naive baseline.
        bounds: Lower and upper bound of every forecast by level; may be empty.
        model: Name for the legend.
    """
    figure, axes = figure_of(1)
    days = np.arange(min(WEEK_DAYS * plot_data.rows_a_day, len(truth))) / plot_data.rows_a_day
    for level, colour in zip(sorted(bounds, reverse=True), BANDS, strict=False):
        lower, upper = (side[: len(days)] for side in bounds[level])
        axes[0, 0].fill_between(days, lower, upper, color=colour, linewidth=0, label=f"{level} % interval")
    for values, name, colour, width in (
        (truth, "measured", MEASURED, 1.8),
        (naive, f"naive: {plot_data.horizon} before", NAIVE, 1.0),
        (prediction, f"{model}, {plot_data.horizon} ahead", COLOURS[0], 1.6),
    ):
        axes[0, 0].plot(days, values[: len(days)], color=colour, linewidth=width, label=name)
    axes[0, 0].set(xlabel="days from the first forecast of the test split", ylabel=plot_data.axis_label, xlim=(0, WEEK_DAYS))
    legend(figure)
    return small_png(figure)


def coverage_png(plot_data: SeriesPlot, *, truth: Floats, bounds: Bounds) -> bytes:
    """Draw the share of the targets of each month, of all years, that lay within their interval, a panel a level.

    Args:
        plot_data: The series, with the stamp of each target.
        truth: The measured values at these stamps.
        bounds: Lower and upper bound of every forecast by level.
    """
    month = month_and_hour(plot_data.target_stamp)[0]
    figure, axes = figure_of(len(bounds), panel_inches=2.0)
    for panel, (level, (lower, upper)) in zip(axes[:, 0], sorted(bounds.items()), strict=True):
        held = np.where((lower <= truth) & (truth <= upper), 100.0, 0.0)
        coverage = mean_by(month, value=held, groups=12)
        panel.axhspan(level - TOLERANCE, level + TOLERANCE, color=BANDS[0], linewidth=0)
        panel.axhline(level, color=NAIVE, linewidth=1.0, label="nominal, with 2 points to either side")
        panel.plot(np.arange(1, 13), coverage, color=COLOURS[0], marker="o", markersize=3.5, label="share within the interval")
        panel.set(xlabel="month", ylabel=f"coverage at {level} % (%)", xlim=(0.5, 12.5))
        panel.set_xticks(np.arange(1, 13))
        panel.set_ylim(top=100)
    legend(figure, handles=axes[0, 0].get_lines())
    return small_png(figure)


def mean_by(group: npt.NDArray[np.integer[Any]], *, value: Floats, groups: int) -> Floats:
    """Return the mean of the values of each group 0 to `groups` - 1, NaN for an empty group."""
    count = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=value, minlength=groups)
    return np.asarray(np.divide(total, count, out=np.full(groups, np.nan), where=count > 0))


def error_png(plot_data: SeriesPlot, *, error: Floats, naive_error: Floats, model: str) -> bytes:
    """Draw the mean absolute error by hour of day and by month, beside that of the naive baseline.

    Hour and month are those of the target, in local time.

    Args:
        plot_data: The series, with the stamp of each target.
        error: |forecast - measured| of every test example.
        naive_error: The same of the naive baseline.
        model: Name for the legend.
    """
    stamp = plot_data.target_stamp
    hour = (stamp.astype("datetime64[h]") - stamp.astype("datetime64[D]")).astype(int)
    month = stamp.astype("datetime64[M]").astype(int) % 12
    figure, axes = figure_of(2, panel_inches=2.4)
    for panel, group, groups, first, label in ((axes[0, 0], hour, 24, 0, "hour of day"), (axes[1, 0], month, 12, 1, "month")):
        ticks = np.arange(groups) + first
        for values, name, colour in (
            (naive_error, f"naive: {plot_data.horizon} before", NAIVE),
            (error, model, COLOURS[0]),
        ):
            # Points as well as a line: a short test split may have a month without neighbours.
            panel.plot(ticks, mean_by(group, value=values, groups=groups), color=colour, marker="o", markersize=3.5, label=name)
        panel.set(xlabel=label, ylabel=f"MAE ({plot_data.unit})", xlim=(first - 0.5, first + groups - 0.5))
        panel.set_xticks(ticks[:: 3 if groups == 24 else 1])
        panel.set_ylim(bottom=0)
    legend(figure, handles=axes[0, 0].get_lines())
    return small_png(figure)
