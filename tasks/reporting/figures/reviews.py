"""Pictures of a review classifier: ROC curve, calibration, confusion matrix, and the lengths of the reviews."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.canvas import COLOURS, NAIVE, figure_of, legend, small_png
from tasks.metrics import calibration_curve
from tasks.models.spec import ReviewsPlot
from tasks.reporting.figures.classes import confusion_png

Floats = npt.NDArray[np.floating[Any]]
LABELS = ("negative", "positive")


def review_pictures(
    plot_data: ReviewsPlot, *, prediction: Floats, truth: Floats, model: str, calibrated: Floats | None = None
) -> dict[str, bytes]:
    """Return the pictures of a classifier by title.

    Args:
        plot_data: Lengths of the training reviews.
        prediction: Probability that a review is positive.
        truth: 1 for a positive review, else 0.
        model: Name for the legends.
        calibrated: The probability after temperature scaling, if there is one.
    """
    return {
        "ROC curve and calibration": roc_and_calibration_png(prediction, truth=truth, model=model, calibrated=calibrated),
        "confusion matrix": confusion_png((prediction > 0.5).astype(int), truth=truth, classes=LABELS, model=model),
        "length of the training reviews": lengths_png(plot_data.lengths, read_tokens=plot_data.read_tokens),
    }


def roc_and_calibration_png(probability: Floats, *, truth: Floats, model: str, calibrated: Floats | None = None) -> bytes:
    """Draw the ROC curve, and beside it the share of positive reviews by predicted probability, before and after scaling."""
    from sklearn.metrics import roc_curve

    figure, axes = figure_of(2, panel_inches=3.3, columns=2)
    roc, calibration = axes[0]
    false_rate, true_rate, _ = roc_curve(truth, probability)
    roc.plot(false_rate, true_rate, color=COLOURS[0], linewidth=1.8, label=model)
    roc.set(xlabel="false positive rate (share of negatives)", ylabel="true positive rate (share of positives)")
    for values, colour, name in ((probability, COLOURS[0], None), (calibrated, COLOURS[1], "after temperature scaling")):
        if values is not None:
            bins = calibration_curve(values, label=truth)
            calibration.plot(
                [part.mean_probability for part in bins],
                [part.positive_share for part in bins],
                color=colour,
                marker="o",
                markersize=4,
                label=name,
            )
    calibration.set(xlabel="predicted probability (mean of a bin)", ylabel="share of positive reviews")
    for panel, name in ((roc, "guessing"), (calibration, "perfectly calibrated")):
        panel.plot([0, 1], [0, 1], color=NAIVE, linewidth=1.0, linestyle="--" if panel is roc else ":", label=name)
        panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    legend(figure)
    return small_png(figure)


def lengths_png(lengths: npt.NDArray[np.integer[Any]], *, read_tokens: int) -> bytes:
    """Draw the lengths of the training reviews, and how many are cut."""
    figure, axes = figure_of(1, panel_inches=2.4)
    panel = axes[0, 0]
    panel.hist(lengths, bins=50, range=(0, read_tokens), color=COLOURS[5], label="training reviews")
    cut = 100 * float(np.mean(lengths >= read_tokens))
    panel.axvline(read_tokens, color=COLOURS[1], linewidth=1.6, label=f"tokens that are read: {cut:.1f} % are as long or longer")
    panel.set(xlabel="length (tokens)", ylabel="reviews", xlim=(0, None))
    legend(figure)
    return small_png(figure)


def most_wrong(probability: Floats, *, truth: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the row numbers of the reviews that are labelled wrongly with the greatest certainty, the worst first."""
    error = np.abs(probability - truth)
    rows = np.argsort(-error, kind="stable")[:count]
    return np.asarray(rows[error[rows] > 0.5])
