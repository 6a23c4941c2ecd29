"""Jena as the networks see it: ten days of hourly readings in, the temperature a day ahead out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasks.datasets.jena.spec import REFERENCE_ROWS, ROW_SECONDS
from tasks.models.networks.jena import VARIANTS, WINDOWS
from tasks.models.spec import Budget, Problem, SeriesPlot, Variant
from tasks.models.windows import WindowLearner, example_windows, has_lower_error, plot_series, restore_learner, score_test_split
from tasks.scoring import ForecastScoring

if TYPE_CHECKING:
    import keras

    from tasks.models.engine.accelerated import AcceleratedNetwork


def _learner(
    splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], variant: Variant, accelerated: AcceleratedNetwork
) -> WindowLearner:
    return WindowLearner(splits, normalisation, task=WINDOWS, dataset="jena", accelerated=accelerated, variant=variant)


def _restore(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], exported: keras.Model) -> WindowLearner:
    return restore_learner(exported, splits=splits, normalisation=normalisation, task=WINDOWS, dataset="jena")


def _plot_data(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any]) -> SeriesPlot:
    return plot_series(
        splits, normalisation=normalisation, task=WINDOWS, quantity="temperature", unit="°C", row_seconds=ROW_SECONDS
    )


PROBLEM = Problem(
    dataset="jena",
    scoring=ForecastScoring(
        unit="°C", unit_suffix="degc", row_seconds=ROW_SECONDS, naive_label="temperature 24 h before the target"
    ),
    naive="persistence",
    variants={variant.name: variant for variant in VARIANTS},
    learner=_learner,
    restore=_restore,
    scored_split=score_test_split,
    examples=example_windows,
    plot_data=_plot_data,
    sample_budget=Budget(epochs=5, steps_per_epoch=100, patience_epochs=5),
    is_better=has_lower_error,
    validation_metric="val_loss",
    task={
        "target": WINDOWS.target,
        "lookback_rows": WINDOWS.lookback_rows,
        "step_rows": WINDOWS.step_rows,
        "horizon_rows": WINDOWS.horizon_rows,
        "loss": "mae",
    },
    default_variants=("gru_baseline", "gru_dropout"),
    tutorial_rows=REFERENCE_ROWS,
)
