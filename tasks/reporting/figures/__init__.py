"""Pictures for reports: labelled axes with units, a legend, and few enough bytes to be embedded in the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        predictions: Arrays `prediction`, `truth` and `naive` of every test example, in the order of the split.
        model: Name for the legends.
    """
    arrays = {name: predictions[name] for name in ("prediction", "truth", "naive")}
    if isinstance(plot_data, SeriesPlot):
        return series_pictures(plot_data, model=model, **arrays)
    if isinstance(plot_data, ClassesPlot):
        return class_pictures(plot_data, model=model, prediction=arrays["prediction"], truth=arrays["truth"])
    return review_pictures(plot_data, model=model, prediction=arrays["prediction"], truth=arrays["truth"])
