"""The picture of an issued forecast: the last days, the forecast, and its intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.canvas import COLOURS, MEASURED, figure_of, legend, small_png

Times = npt.NDArray[np.datetime64]
Values = npt.NDArray[np.floating]
# More points than this are no more to see on 700 pixels.
MAX_POINTS = 1000


def prediction_png(
    measured: tuple[Times, Values],
    *,
    target_time: Times,
    prediction: Values,
    bounds: dict[int, tuple[Values, Values]],
    label: str,
    model: str,
) -> bytes:
    """Draw readings, and forecasts with their intervals.

    Args:
        measured: Stamps and values of the last days.
        target_time: Stamp of each forecast, rising.
        prediction: The forecasts, in the unit of the readings.
        bounds: Lower and upper bound of each forecast, by level in percent; empty: there are none.
        label: Quantity with its unit.
        model: Name for the legend.
    """
    figure, axes = figure_of(1)
    panel = axes[0, 0]
    stamp, value = measured
    panel.plot(stamp, value, color=MEASURED, linewidth=1.6, label="measured")
    chosen = slice(max(0, len(target_time) - MAX_POINTS), None)
    times, centre = target_time[chosen], prediction[chosen]
    for level, (lower, upper) in sorted(bounds.items(), reverse=True):
        alpha = 0.18 if level > 90 else 0.35
        if len(times) == 1:
            panel.vlines(
                times, lower[chosen], upper[chosen], color=COLOURS[0], alpha=2 * alpha, linewidth=5, label=f"{level} % interval"
            )
        else:
            panel.fill_between(
                times, lower[chosen], upper[chosen], color=COLOURS[0], alpha=alpha, linewidth=0, label=f"{level} % interval"
            )
    style = {"marker": "o", "markersize": 5} if len(times) == 1 else {}
    panel.plot(times, centre, color=COLOURS[1], linewidth=1.4, label=f"forecast of {model}", **style)
    panel.set(xlabel="time, on the clock of the series", ylabel=label)
    figure.autofmt_xdate(rotation=20)
    legend(figure)
    return small_png(figure)
