"""Pictures of a temperature series and of a forecast of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.models.spec import SeriesPlot
from tasks.reporting.figures.canvas import COLOURS, MEASURED, NAIVE, figure_of, legend, small_png

Floats = npt.NDArray[np.floating[Any]]
ROWS_A_DAY = 144
FIRST_DAYS_ROWS = 10 * ROWS_A_DAY
WEEK_ROWS = 7 * ROWS_A_DAY
TEMPERATURE_LABEL = "temperature (°C)"


def weather_pictures(plot_data: SeriesPlot, *, prediction: Floats, truth: Floats, naive: Floats, model: str) -> dict[str, bytes]:
    """Return what a person looks at in a forecast: the series, a test week, and where the errors are. All values in °C."""
    return {
        "forecast of a test week": forecast_png(prediction, truth_degc=truth, naive_degc=naive, model=model),
        "error by hour and by month": error_png(
            np.abs(prediction - truth), naive_error_degc=np.abs(naive - truth), stamp=plot_data.target_stamp, model=model
        ),
        "temperature of the whole series and of its first ten days": series_png(plot_data),
    }


def series_png(plot_data: SeriesPlot) -> bytes:
    """Draw the temperature over the whole series, the test split set off, and below it over the first ten days."""
    figure, axes = figure_of(2, panel_inches=2.4)
    whole, days = axes[:, 0]
    stamp, value, first = plot_data.stamp, plot_data.temperature_degc, plot_data.first_test_row
    # One reading an hour: a line of hundreds of thousands of points on 700 pixels shows no more, and takes seconds.
    for part, name, colour in (
        (slice(0, first, 6), "training and validation", COLOURS[0]),
        (slice(first, None, 6), "test", COLOURS[1]),
    ):
        whole.plot(stamp[part], value[part], color=colour, linewidth=0.4, label=name)
    whole.set(xlabel="date", ylabel=TEMPERATURE_LABEL)
    count = min(FIRST_DAYS_ROWS, len(value))
    days.plot(np.arange(count) / ROWS_A_DAY, value[:count], color=MEASURED, linewidth=1.2, label=f"first {count:,} readings")
    days.set(
        xlabel=f"days from {np.datetime_as_string(stamp[0], unit='m').replace('T', ' ')}", ylabel=TEMPERATURE_LABEL, xlim=(0, 10)
    )
    for line in figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9).get_lines():
        line.set_linewidth(2)
    return small_png(figure)


def forecast_png(prediction_degc: Floats, *, truth_degc: Floats, naive_degc: Floats, model: str) -> bytes:
    """Draw one week of the test split: truth, forecast, and the naive reference, °C over days.

    Args:
        prediction_degc: One forecast every 10 minutes, in order of time; the first week of it is drawn.
        truth_degc: What came, at the same stamps.
        naive_degc: What the naive reference said.
        model: Name for the legend.
    """
    figure, axes = figure_of(1)
    days = np.arange(min(WEEK_ROWS, len(truth_degc))) / ROWS_A_DAY
    for values, name, colour, width in (
        (truth_degc, "measured", MEASURED, 1.8),
        (naive_degc, "naive: 24 h before", NAIVE, 1.0),
        (prediction_degc, f"{model}, 24 h ahead", COLOURS[0], 1.6),
    ):
        axes[0, 0].plot(days, values[: len(days)], color=colour, linewidth=width, label=name)
    axes[0, 0].set(xlabel="days from the first forecast of the test split", ylabel=TEMPERATURE_LABEL, xlim=(0, 7))
    legend(figure)
    return small_png(figure)


def mean_by(group: npt.NDArray[np.integer[Any]], *, value: Floats, groups: int) -> Floats:
    """Return the mean of the values of each group 0 to `groups` - 1; NaN where a group has none."""
    count = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=value, minlength=groups)
    return np.asarray(np.divide(total, count, out=np.full(groups, np.nan), where=count > 0))


def error_png(error_degc: Floats, *, naive_error_degc: Floats, stamp: npt.NDArray[np.datetime64], model: str) -> bytes:
    """Draw the mean absolute error by hour of day and by month of the time that was forecast, beside the naive reference.

    Args:
        error_degc: |forecast - measured| of every test example.
        naive_error_degc: The same of the naive reference.
        stamp: datetime64 of each target, local time.
        model: Name for the legend.
    """
    hour = (stamp.astype("datetime64[h]") - stamp.astype("datetime64[D]")).astype(int)
    month = stamp.astype("datetime64[M]").astype(int) % 12
    figure, axes = figure_of(2, panel_inches=2.4)
    for panel, group, groups, first, label in ((axes[0, 0], hour, 24, 0, "hour of day"), (axes[1, 0], month, 12, 1, "month")):
        place = np.arange(groups) + first
        for error, name, colour in ((naive_error_degc, "naive: 24 h before", NAIVE), (error_degc, model, COLOURS[0])):
            # Points as well as a line: a short test split has months that stand alone.
            panel.plot(place, mean_by(group, value=error, groups=groups), color=colour, marker="o", markersize=3.5, label=name)
        panel.set(
            xlabel=label, ylabel="MAE (°C)", xticks=place[:: 3 if groups == 24 else 1], xlim=(first - 0.5, first + groups - 0.5)
        )
        panel.set_ylim(bottom=0)
    legend(figure, handles=axes[0, 0].get_lines())
    return small_png(figure)
