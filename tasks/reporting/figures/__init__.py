"""Pictures for reports: labelled axes with units, a legend, and few enough bytes to be embedded in the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.models.spec import ReviewsPlot, SeriesPlot
from tasks.reporting.figures.forecasts import series_pictures
from tasks.reporting.figures.reviews import review_pictures


def example_pictures(plot_data: SeriesPlot | ReviewsPlot, *, predictions: pa.Table, model: str) -> Mapping[str, bytes]:
    """Return the pictures of one model's predictions on the test split, PNGs by title.

    Args:
        plot_data: The examples as the data set's problem describes them for pictures.
        predictions: `prediction`, `truth` and `naive` of every test example, in the order of the split.
        model: Name for the legends.
    """
    arrays: dict[str, Any] = {name: predictions[name].to_numpy() for name in ("prediction", "truth", "naive")}
    if isinstance(plot_data, SeriesPlot):
        return series_pictures(plot_data, model=model, **arrays)
    return review_pictures(plot_data, model=model, prediction=arrays["prediction"], truth=arrays["truth"])
