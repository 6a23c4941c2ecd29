"""What all pictures share: size, colours, grid, axis of time, legend and file format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

# The text column of a report in the Prefect UI is about 600 pixels wide. A wider picture is shrunk there, and its text too.
WIDTH_INCHES, DOTS_PER_INCH = 7.0, 100
# Okabe and Ito (2008): people with any kind of colour vision can distinguish these colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A600")
MEASURED, NAIVE, TEXT = "#333333", "#999999", "#555555"


def figure_of(panels: int, *, panel_inches: float = 2.8, columns: int = 1) -> tuple[Any, Any]:
    """Return an empty figure and its axes, an array `(panels / columns, columns)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH_INCHES, 0.8 + panel_inches * rows), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.grid(color="#dddddd", linewidth=0.6)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def use_time_axis(panel: Any) -> None:
    """Label the horizontal axis with hours, days, months or years, as its span asks for."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # With fewer than three ticks the next finer unit is taken; with the usual five, four days of hours fit into no eight ticks.
    locator = AutoDateLocator(minticks=3, maxticks=8)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def legend(figure: Any, *, handles: list[Any] | None = None) -> None:
    """Put one legend for all panels above them."""
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)


def small_png(figure: Any) -> bytes:
    """Return a figure as a PNG of 64 colours, which has a third of the bytes: every page with the report embeds them.

    The colours are those that cover the range of colours, so that the few points of a rare one keep theirs.
    """
    from PIL import Image

    figure.canvas.draw()
    picture = io.BytesIO()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    Image.fromarray(pixels).convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE).save(
        picture, format="PNG", optimize=True
    )
    return picture.getvalue()
