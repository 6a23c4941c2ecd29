"""Pictures for reports: labelled axes with units, a legend, and few enough bytes to travel within the text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.reporting import VariantResult, result_name

Floats = npt.NDArray[np.floating[Any]]
ROWS_A_DAY = 144
WEEK_ROWS = 7 * ROWS_A_DAY
# The text column of a report in the Prefect UI is about 600 pixels wide: a wider picture is shrunk there, its text with it.
WIDTH_INCHES, DOTS_PER_INCH = 7.0, 100
# Okabe and Ito (2008): told apart by people with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def learning_curves_png(results: Sequence[VariantResult], *, metric_label: str) -> bytes:
    """Draw loss by epoch, and accuracy below it where it was recorded: train as dots, validation as a line, best epoch ringed.

    Args:
        results: Those without curves are left out.
        metric_label: What the loss is, with its unit.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    drawn = [(result, COLOURS[index % len(COLOURS)]) for index, result in enumerate(r for r in results if any(r.curves.values()))]
    panels = [("loss", metric_label)]
    if any(result.curves.get("accuracy") or result.curves.get("val_accuracy") for result, _ in drawn):
        panels.append(("accuracy", "accuracy (share of rows)"))
    last_epoch = max((max(result.epochs_run, *map(len, result.curves.values())) for result, _ in drawn), default=1)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linestyle": "none", "alpha": 0.75}
    # The points make a single epoch visible, of which no line can be drawn.
    line: dict[str, Any] = {"marker": ".", "markersize": 3, "linewidth": 1.8}
    ring = dots | {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6, "alpha": 1.0}

    figure = Figure(figsize=(WIDTH_INCHES, 1.1 + 2.8 * len(panels)), dpi=DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (key, label) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for result, colour in drawn:
            for curve, style in ((key, dots), (f"val_{key}", line)):
                values = result.curves.get(curve, [])
                # A resumed training holds its last epochs only.
                first = max(0, result.epochs_run - len(values)) + 1
                axes.plot(range(first, first + len(values)), values, color=colour, **style)
                if curve.startswith("val_") and first <= result.best_epoch < first + len(values):
                    axes.plot([result.best_epoch], [values[result.best_epoch - first]], color=colour, **ring)
        axes.set(xlabel="epoch", ylabel=label, xlim=(0, last_epoch + 1), axisbelow=True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if not drawn:
            axes.text(
                0.5, 0.5, "no learning curves recorded", transform=axes.transAxes, ha="center", va="center", color="#555555"
            )
    if drawn:
        entries = [Line2D([], [], color=colour, linewidth=4, label=result_name(result)) for result, colour in drawn]
        styles = (("train", dots), ("validation", line), ("epoch that was kept", ring))
        entries += [Line2D([], [], color="#555555", label=label, **style) for label, style in styles]
        figure.legend(handles=entries, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    canvas.draw()
    return _small_png(canvas)


def forecast_png(prediction_degc: Floats, *, truth_degc: Floats, naive_degc: Floats, model: str) -> bytes:
    """Draw one week of the test split: truth, forecast, and the naive reference, °C over days.

    Args:
        prediction_degc: One forecast every 10 minutes, in order of time; the first week of it is drawn.
        truth_degc: What came, at the same stamps.
        naive_degc: What the naive reference said.
        model: Name for the legend.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    days = np.arange(min(WEEK_ROWS, len(truth_degc))) / ROWS_A_DAY
    for values, name, colour, width in (
        (truth_degc, "measured", "#333333", 1.8),
        (naive_degc, "naive: 24 h before", "#999999", 1.0),
        (prediction_degc, f"{model}, 24 h ahead", COLOURS[0], 1.6),
    ):
        axes.plot(days, values[: len(days)], color=colour, linewidth=width, label=name)
    axes.set(xlabel="days from the first forecast of the test split", ylabel="temperature (°C)", xlim=(0, 7), axisbelow=True)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    canvas.draw()
    return _small_png(canvas)


def _small_png(canvas: Any) -> bytes:
    """Return a drawn canvas with a palette of 64 colours: a third of the bytes, which every page with the report carries."""
    from PIL import Image

    picture = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64).save(picture, format="PNG", optimize=True)
    return picture.getvalue()
