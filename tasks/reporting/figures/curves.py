"""Learning curves of the variants of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.canvas import COLOURS, TEXT, figure_of, legend, small_png
from tasks.reporting.markdown import result_name
from tasks.reporting.run_report import VariantResult


def learning_curves_png(results: Sequence[VariantResult], *, metric_label: str) -> bytes:
    """Draw the loss by epoch, and below it the accuracy if any result has one.

    Dots are the training split, lines the validation split, and a ring marks the best epoch.

    Args:
        results: Results without curves are left out.
        metric_label: Name of the loss, with its unit.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    drawn = [(result, COLOURS[index % len(COLOURS)]) for index, result in enumerate(r for r in results if any(r.curves.values()))]
    panels = [("loss", metric_label)]
    if any(result.curves.get("accuracy") or result.curves.get("val_accuracy") for result, _ in drawn):
        panels.append(("accuracy", "accuracy (share of rows)"))
    last_epoch = max((max(result.epochs_run, *map(len, result.curves.values())) for result, _ in drawn), default=1)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linestyle": "none", "alpha": 0.75}
    # The points show a training of a single epoch, for which there is no line.
    line: dict[str, Any] = {"marker": ".", "markersize": 3, "linewidth": 1.8}
    ring = dots | {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6, "alpha": 1.0}

    figure, grid = figure_of(len(panels))
    for axes, (key, label) in zip(grid[:, 0], panels, strict=True):
        for result, colour in drawn:
            for curve, style in ((key, dots), (f"val_{key}", line)):
                values = result.curves.get(curve, [])
                # A resumed training has the curves of its last epochs only.
                first = max(0, result.epochs_run - len(values)) + 1
                axes.plot(range(first, first + len(values)), values, color=colour, **style)
                if curve.startswith("val_") and first <= result.best_epoch < first + len(values):
                    axes.plot([result.best_epoch], [values[result.best_epoch - first]], color=colour, **ring)
        axes.set(xlabel="epoch", ylabel=label, xlim=(0, last_epoch + 1))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
        if not drawn:
            axes.text(0.5, 0.5, "no learning curves recorded", transform=axes.transAxes, ha="center", va="center", color=TEXT)
    if drawn:
        entries = [Line2D([], [], color=colour, linewidth=4, label=result_name(result)) for result, colour in drawn]
        styles = (("train", dots), ("validation", line), ("best epoch", ring))
        entries += [Line2D([], [], color=TEXT, label=label, **style) for label, style in styles]
        legend(figure, handles=entries)
    return small_png(figure)
