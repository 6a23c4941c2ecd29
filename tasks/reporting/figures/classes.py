"""Picture of a classifier: the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.canvas import MEASURED, figure_of, small_png
from tasks.models.spec import ClassesPlot


def class_pictures(
    plot_data: ClassesPlot, *, prediction: npt.NDArray[np.floating[Any]], truth: npt.NDArray[Any], model: str
) -> dict[str, bytes]:
    """Return the pictures of a classifier of several classes by title.

    Args:
        plot_data: Names of the classes.
        prediction: Probability of each class, `(examples, classes)`.
        truth: Number of the true class, `(examples,)`.
        model: Name for the axis.
    """
    predicted = prediction.argmax(axis=1)
    return {"confusion matrix": confusion_png(predicted, truth=truth, classes=plot_data.classes, model=model)}


def confusion_png(predicted: npt.NDArray[Any], *, truth: npt.NDArray[Any], classes: tuple[str, ...], model: str) -> bytes:
    """Draw the number of examples by true class, in rows, and by predicted class, in columns.

    Args:
        predicted: Number of the predicted class, `(examples,)`.
        truth: Number of the true class, `(examples,)`.
        classes: Names of the classes.
        model: Name for the axis.
    """
    size = len(classes)
    counts = np.bincount(size * truth.astype(int) + predicted.astype(int), minlength=size**2).reshape(size, size)
    figure, axes = figure_of(1, panel_inches=max(2.6, 0.7 * size))
    panel = axes[0, 0]
    panel.grid(visible=False)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true in range(size):
        for label in range(size):
            share = shares[true, label]
            text = f"{counts[true, label]:,}\n{100 * share:.1f} %"
            panel.text(label, true, text, ha="center", va="center", color="white" if share > 0.5 else MEASURED)
    ticks = range(size)
    panel.set(
        xlabel=f"predicted by {model}", ylabel="label", xticks=ticks, yticks=ticks, xticklabels=classes, yticklabels=classes
    )
    figure.colorbar(image, ax=panel, label="share of the label's examples")
    return small_png(figure)
