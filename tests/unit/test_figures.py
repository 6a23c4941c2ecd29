"""The pictures of predictions: the numbers behind them by hand, and that each shows something."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tasks.canvas import DOTS_PER_INCH, WIDTH_INCHES
from tasks.models.spec import ReviewsPlot, SeriesPlot
from tasks.reporting.figures import example_pictures
from tasks.reporting.figures.forecasts import mean_by
from tasks.reporting.figures.reviews import most_wrong

MAX_BYTES = 60_000


def test_means_by_group() -> None:
    means = mean_by(np.array([0, 2, 2, 0, 2]), value=np.array([1.0, 2.0, 4.0, 3.0, 6.0]), groups=4)
    assert means[[0, 2]].tolist() == [2.0, 4.0]
    assert np.isnan(means[[1, 3]]).all()


def test_most_wrong_are_wrong_and_the_worst_come_first() -> None:
    probability, truth = np.array([0.9, 0.01, 0.6, 0.2, 0.4]), np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    assert most_wrong(probability, truth=truth, count=2).tolist() == [1, 2]
    assert most_wrong(probability, truth=truth, count=5).tolist() == [1, 2, 4]


@pytest.fixture(scope="module")
def weather() -> tuple[SeriesPlot, pa.Table]:
    rows = 144 * 40
    stamp = np.datetime64("2009-01-01T00:10", "ms") + np.arange(rows) * np.timedelta64(600_000, "ms")
    temperature = (10 * np.sin(2 * np.pi * np.arange(rows) / 144)).astype(np.float32)
    plot_data = SeriesPlot(
        stamp=stamp,
        value=temperature,
        first_test_row=rows // 2,
        target_stamp=stamp[rows // 2 :],
        quantity="temperature",
        unit="°C",
        row_seconds=600,
        horizon_rows=144,
    )
    truth = temperature[rows // 2 :]
    bounds = {"lower_80": truth - 1, "upper_80": truth + 3, "lower_95": truth - 2, "upper_95": truth + 4}
    return plot_data, {"prediction": truth + 1, "truth": truth, "naive": truth - 2} | bounds


@pytest.fixture(scope="module")
def reviews() -> tuple[ReviewsPlot, pa.Table]:
    truth = np.tile(np.array([0.0, 1.0], dtype=np.float32), 50)
    prediction = np.linspace(0.1, 0.9, 100, dtype=np.float32)
    plot_data = ReviewsPlot(lengths=np.arange(10, 500, 3), read_tokens=500, text=str)
    naive = np.zeros(100, dtype=np.float32)
    return plot_data, {"prediction": prediction, "truth": truth, "naive": naive, "calibrated": 0.25 + prediction / 2}


@pytest.mark.parametrize(
    ("fixture", "titles"),
    [
        (
            "weather",
            {
                "forecast of a test week",
                "error by hour and by month",
                "coverage of the intervals by month",
                "temperature of the whole series and of its first ten days",
            },
        ),
        ("reviews", {"ROC curve and calibration", "confusion matrix", "length of the training reviews"}),
    ],
)
def test_every_picture_is_wide_enough_small_enough_and_not_empty(
    fixture: str, titles: set[str], request: pytest.FixtureRequest
) -> None:
    plot_data, predictions = request.getfixturevalue(fixture)
    pictures = example_pictures(plot_data, predictions=predictions, model="gru_baseline v1")
    assert set(pictures) == titles
    for png in pictures.values():
        assert len(png) < MAX_BYTES
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        assert picture.width == WIDTH_INCHES * DOTS_PER_INCH
        assert 200 < picture.height < 800
        colours = picture.getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 10


@pytest.mark.parametrize(
    ("row_seconds", "horizon_rows", "rows_a_day", "horizon"),
    [(600, 144, 144, "24 h"), (3600, 24, 24, "24 h"), (3600, 1, 24, "1 h"), (600, 3, 144, "30 min")],
)
def test_days_and_horizon_follow_from_the_spacing_of_rows(
    weather: tuple[SeriesPlot, pa.Table], row_seconds: int, horizon_rows: int, rows_a_day: int, horizon: str
) -> None:
    series = replace(weather[0], quantity="load", unit="MW", row_seconds=row_seconds, horizon_rows=horizon_rows)
    assert (series.rows_a_day, series.horizon, series.axis_label) == (rows_a_day, horizon, "load (MW)")
