"""Jena as the networks see it: ten days of hourly readings in, the temperature a day ahead out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.datasets.jena.spec import REFERENCE_ROWS, ROW_SECONDS
from tasks.datasets.spec import SPLITS
from tasks.models.networks.jena import VARIANTS, WINDOWS
from tasks.models.spec import Budget, Problem, ScoredSplit, SeriesPlot, Variant
from tasks.models.windows import WindowLearner, example_windows, restore_learner, window_rows
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


def _test_view(learner: WindowLearner) -> ScoredSplit:
    """Return °C; the naive reference is the temperature 24 h before the target, the reading at the window's end."""
    return ScoredSplit(
        prediction=learner.in_target_unit(learner.predict("test")),
        truth=learner.in_target_unit(learner.targets("test")),
        naive=learner.in_target_unit(learner.persistence("test")),
        scale=learner.target_std,
    )


_examples = example_windows


def _plot_data(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any]) -> SeriesPlot:
    name = WINDOWS.target
    temperature = np.concatenate([splits[split][name].to_numpy() for split in SPLITS])
    stamp = np.concatenate([splits[split]["timestamp"].to_numpy() for split in SPLITS])
    first_test_row = len(stamp) - splits["test"].num_rows
    targets = window_rows(splits["test"]["segment"].to_numpy(), task=WINDOWS) + first_test_row + WINDOWS.horizon_rows
    return SeriesPlot(
        stamp=stamp,
        value=np.asarray(temperature * normalisation["std"][name] + normalisation["mean"][name], dtype=np.float32),
        first_test_row=first_test_row,
        target_stamp=stamp[targets],
        quantity="temperature",
        unit="°C",
        row_seconds=ROW_SECONDS,
        horizon_rows=WINDOWS.horizon_rows,
    )


def _is_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    return new["val_loss"] < old["val_loss"]


PROBLEM = Problem(
    dataset="jena",
    scoring=ForecastScoring(
        unit="°C", unit_suffix="degc", row_seconds=ROW_SECONDS, naive_label="temperature 24 h before the target"
    ),
    naive="persistence",
    variants={variant.name: variant for variant in VARIANTS},
    learner=_learner,
    restore=_restore,
    scored_split=_test_view,
    examples=_examples,
    plot_data=_plot_data,
    sample_budget=Budget(epochs=5, steps_per_epoch=100, patience_epochs=5),
    is_better=_is_better,
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
