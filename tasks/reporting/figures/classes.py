"""The picture of a classifier: what it calls the examples of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.models.spec import ClassesPlot
from tasks.reporting.figures.canvas import MEASURED, figure_of, small_png


def class_pictures(
    plot_data: ClassesPlot, *, prediction: npt.NDArray[np.floating[Any]], truth: npt.NDArray[Any], model: str
) -> dict[str, bytes]:
    """Return what a person looks at in a classifier of several classes.

    Args:
        plot_data: Names of the classes.
        prediction: Probability of each class, `(examples, classes)`.
        truth: Number of the class, `(examples,)`.
        model: Name for the axis.
    """
    predicted = prediction.argmax(axis=1)
    return {"confusion matrix": confusion_png(predicted, truth=truth, classes=plot_data.classes, model=model)}


def confusion_png(predicted: npt.NDArray[Any], *, truth: npt.NDArray[Any], classes: tuple[str, ...], model: str) -> bytes:
    """Draw how many examples of each class were called what: the class is a row, what the model said a column.

    Args:
        predicted: Number of the class that the model said, `(examples,)`.
        truth: Number of the class, `(examples,)`.
        classes: Their names.
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
    places = range(size)
    panel.set(
        xlabel=f"predicted by {model}", ylabel="label", xticks=places, yticks=places, xticklabels=classes, yticklabels=classes
    )
    figure.colorbar(image, ax=panel, label="share of the label's examples")
    return small_png(figure)
