"""Pictures for reports: labelled axes with units, a legend, and few enough bytes to be embedded in the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.intervals import LEVELS
from tasks.models.spec import ClassesPlot, ReviewsPlot, SeriesPlot
from tasks.reporting.figures.classes import class_pictures
from tasks.reporting.figures.forecasts import series_pictures
from tasks.reporting.figures.reviews import review_pictures


def example_pictures(
    plot_data: SeriesPlot | ReviewsPlot | ClassesPlot, *, predictions: Mapping[str, Any], model: str
) -> Mapping[str, bytes]:
    """Return the pictures of one model's predictions on the test split, PNGs by title.

    Args:
        plot_data: The examples as the data set's problem describes them for pictures.
        predictions: Arrays `prediction`, `truth` and `naive` of every test example, in the order of the split; where there are
            intervals or calibrated probabilities, also `lower_80` and so on, or `calibrated`.
        model: Name for the legends.
    """
    arrays = {name: predictions[name] for name in ("prediction", "truth", "naive")}
    if isinstance(plot_data, SeriesPlot):
        bounds = {
            level: (predictions[f"lower_{level}"], predictions[f"upper_{level}"])
            for level in LEVELS
            if f"lower_{level}" in predictions
        }
        return series_pictures(plot_data, model=model, bounds=bounds, **arrays)
    if isinstance(plot_data, ClassesPlot):
        return class_pictures(plot_data, model=model, prediction=arrays["prediction"], truth=arrays["truth"])
    return review_pictures(
        plot_data,
        model=model,
        prediction=arrays["prediction"],
        truth=arrays["truth"],
        calibrated=predictions.get("calibrated"),
    )
