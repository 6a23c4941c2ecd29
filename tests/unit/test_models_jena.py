"""Jena's numbers of windows, its learner and its ridge regression; what any window forecast does is in `test_windows.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from learner_helpers import learner_with

from storage.errors import DataError
from tasks.datasets.jena.spec import COLUMNS
from tasks.datasets.spec import SPLITS
from tasks.models import PROBLEMS
from tasks.models.networks.jena import FORECAST, RIDGE_PENALTY
from tasks.models.windows import window_rows

PROBLEM = PROBLEMS["jena"]
WINDOWS = FORECAST.task
BASELINE = PROBLEM.variants["gru_baseline"]
MINUTES = 10


@pytest.mark.parametrize(("rows", "windows"), [(0, 0), (1440, 0), (1584, 0), (1585, 1), (1600, 16)])
def test_windows_of_one_run_by_counting(rows: int, windows: int) -> None:
    assert len(window_rows(np.zeros(rows, dtype=np.int32), task=WINDOWS)) == windows


def splits_of(readings: np.ndarray, *, minutes: np.ndarray, edges: tuple[int, int], mean: Any, std: Any) -> dict[str, pa.Table]:
    """Split raw readings `(rows, 14)` as they are published: normalised, with the number of the unbroken run."""
    segment = np.concatenate([[0], np.cumsum(np.diff(minutes) != MINUTES)]).astype(np.int32)
    normalised = ((readings - mean) / std).astype(np.float32)
    whole = pa.table({name: normalised[:, i] for i, name in enumerate(COLUMNS)} | {"segment": segment})
    first, second = edges
    return {"train": whole.slice(0, first), "val": whole.slice(first, second - first), "test": whole.slice(second)}


def statistics(mean: np.ndarray, std: np.ndarray) -> dict[str, dict[str, float]]:
    return {"mean": dict(zip(COLUMNS, mean.tolist(), strict=True)), "std": dict(zip(COLUMNS, std.tolist(), strict=True))}


def simple_splits(rows: int = 5100, edges: tuple[int, int] = (1700, 3400), gaps: tuple[int, ...] = ()) -> Any:
    """Random readings, their minutes with gaps before the named rows, the splits, and the normalisation."""
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(-5, 20, 14), rng.uniform(0.5, 8, 14)
    readings = rng.normal(size=(rows, 14)) * std + mean
    minutes = MINUTES * np.arange(rows)
    for gap in gaps:
        minutes[gap:] += 70
    return readings, minutes, splits_of(readings, minutes=minutes, edges=edges, mean=mean, std=std), statistics(mean, std)


def test_the_network_sees_every_sixth_of_1440_rows_and_is_told_the_temperature_a_day_later(keras: Any) -> None:
    _, _, splits, normalisation = simple_splits()
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0)
    table = np.concatenate([np.column_stack([splits[name][column].to_numpy() for column in COLUMNS]) for name in SPLITS])
    ids = learner.rows["val"][[0, 5, -1]]
    assert ids.tolist() == [1700 + 1440, 1700 + 1445, 3400 - 145]
    windows = np.stack([table[row - 1440 : row : 6] for row in ids])
    assert windows.shape == (3, 240, 14)
    expected = np.asarray(learner.network.predict_on_batch(windows))[:, 0]
    np.testing.assert_allclose(learner.predict_rows(ids), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(learner.targets("val")[[0, 5, -1]], table[ids + 144, COLUMNS.index("temperature_degc")])


def test_the_exported_model_on_raw_rows_is_the_trained_one_on_windows(keras: Any, tmp_path: Path) -> None:
    readings, _, splits, normalisation = simple_splits()
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=5)
    learner.export().save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    ids = learner.rows["test"]
    raw = np.stack([readings[row - 1440 : row] for row in ids]).astype(np.float32)
    predicted = np.asarray(model.predict_on_batch(raw))
    assert predicted.shape == (len(ids), 1)
    mean, std = normalisation["mean"]["temperature_degc"], normalisation["std"]["temperature_degc"]
    np.testing.assert_allclose(predicted[:, 0], learner.predict("test") * std + mean, atol=2e-4 * std)
    assert predicted.std() > 0.01 * std  # or any constant would pass
    # The table stays out of the file: 5100 rows of 14 columns would be 285,600 bytes.
    assert (tmp_path / "model.keras").stat().st_size < 100_000
    assert model.get_layer("network").layers[0].use_cudnn == "auto"


def test_the_naive_baseline_is_the_temperature_24_hours_before_the_target(keras: Any) -> None:
    readings, minutes, _, _ = simple_splits()
    readings[:, COLUMNS.index("temperature_degc")] = 0.01 * np.arange(len(readings))  # 0.01 °C more every ten minutes
    mean, std = readings[:1700].mean(axis=0), readings[:1700].std(axis=0)
    splits = splits_of(readings, minutes=minutes, edges=(1700, 3400), mean=mean, std=std)
    seen = PROBLEM.scored_split(learner_with(PROBLEM, splits, statistics(mean, std), variant=BASELINE, seed=0))
    assert len(seen.truth) == 1700 - 1584
    np.testing.assert_allclose(seen.truth - seen.naive, 1.44, atol=1e-4)
    assert seen.truth[0] == pytest.approx(0.01 * (3400 + 1440 + 144), abs=1e-3)
    assert seen.scale == pytest.approx(std[COLUMNS.index("temperature_degc")])


@pytest.mark.parametrize("short", SPLITS)
def test_a_split_without_one_window_is_refused(keras: Any, short: str) -> None:
    lengths: Mapping[str, int] = {name: 1584 if name == short else 1600 for name in SPLITS}
    edges = (lengths["train"], lengths["train"] + lengths["val"])
    _, _, splits, normalisation = simple_splits(sum(lengths.values()), edges)
    with pytest.raises(DataError, match=f"split {short} of jena .* 1585 .* longer span"):
        learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0)


def test_the_sample_is_learnt(keras: Any, tiny: Callable[[str], Any]) -> None:
    splits, normalisation = tiny("jena")
    learner = learner_with(PROBLEM, splits, normalisation, variant=replace(BASELINE, learning_rate=5e-3), execution=None)
    losses = [
        batch.model.train_on_batch(batch.inputs, batch.targets, return_dict=True)["loss"]
        for batch in learner.batches(seed=0, epoch=0, steps=25)[1]
    ]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_ridge_is_the_regression_on_the_last_week_by_its_formula(keras: Any) -> None:
    """In its dual form, w = X'(XX' + aI)⁻¹ y on centred values, with every lag gathered by hand."""
    _, _, splits, normalisation = simple_splits()
    variant = PROBLEM.variants["ridge"]
    learner = learner_with(PROBLEM, splits, normalisation, variant=variant, seed=0)
    variant.fit_closed_form(learner)

    def week(row: int) -> np.ndarray:
        return np.concatenate([learner.table[row - lag] for lag in range(1008, 0, -6)]).astype(np.float64)

    rows = learner.rows["train"]
    inputs, targets = np.array([week(row) for row in rows]), learner.table[rows + 144, 1].astype(np.float64)
    centre, level = inputs.mean(axis=0), targets.mean()
    centred = inputs - centre
    weights = centred.T @ np.linalg.solve(centred @ centred.T + RIDGE_PENALTY * np.eye(len(rows)), targets - level)
    asked = learner.rows["test"][:20]
    expected = np.array([(week(row) - centre) @ weights + level for row in asked])
    np.testing.assert_allclose(learner.predict_rows(asked), expected, atol=2e-4)
    assert expected.std() > 0.05
