"""Jena's windows against definitions written anew here, and the exported model against the trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_helpers import learner_with

from storage.errors import DataError
from tasks.datasets.jena.spec import COLUMNS
from tasks.datasets.spec import SPLITS
from tasks.models.engine.train_step import train_step
from tasks.models.jena import PROBLEM, window_rows
from tasks.models.networks.jena import RIDGE_PENALTY

BASELINE = PROBLEM.variants["gru_baseline"]
BEFORE, AFTER = 1440, 144  # rows that a window needs before its row, and after it
MINUTES = 10


def runs_to_segments(lengths: list[int], first: int = 0) -> np.ndarray:
    return np.repeat(np.arange(first, first + len(lengths), dtype=np.int32), lengths)


def rows_by_runs(lengths: list[int]) -> list[int]:
    """The rows of each unbroken run that have 1440 rows of it before them and another 144 behind."""
    rows: list[int] = []
    start = 0
    for length in lengths:
        rows += range(start + BEFORE, start + length - AFTER)
        start += length
    return rows


@settings(max_examples=200)
@given(
    lengths=st.lists(
        st.one_of(st.integers(1, 40), st.integers(BEFORE + AFTER - 2, BEFORE + AFTER + 30), st.integers(1, 4000)), max_size=6
    ),
    first=st.integers(0, 5),
)
def test_no_window_or_target_crosses_a_gap(lengths: list[int], first: int) -> None:
    assert window_rows(runs_to_segments(lengths, first)).tolist() == rows_by_runs(lengths)


@pytest.mark.parametrize(("rows", "windows"), [(0, 0), (1440, 0), (1584, 0), (1585, 1), (1600, 16)])
def test_windows_of_one_run_by_counting(rows: int, windows: int) -> None:
    assert len(window_rows(np.zeros(rows, dtype=np.int32))) == windows


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


@pytest.mark.parametrize(
    ("edges", "gaps"),
    [((4000, 6000), ()), ((4000, 6000), (1500, 1700)), ((4000, 5990), (3990, 4010, 5990, 7700)), ((4000, 6000), (4000, 6000))],
)
def test_the_rows_of_a_learner_stay_in_their_split_and_run(keras: Any, edges: tuple[int, int], gaps: tuple[int, ...]) -> None:
    _, minutes, splits, normalisation = simple_splits(8000, edges, gaps)
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0)
    bounds = dict(zip(SPLITS, ((0, edges[0]), edges, (edges[1], 8000)), strict=True))
    for name, (start, stop) in bounds.items():
        allowed = [
            row
            for row in range(start + BEFORE, stop - AFTER)
            if minutes[row + AFTER] - minutes[row - BEFORE] == MINUTES * (BEFORE + AFTER)
        ]
        assert learner.rows[name].tolist() == allowed
        assert allowed  # or there would be nothing to see


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


def test_a_step_is_fed_numbers_of_rows_and_is_the_step_on_their_windows(keras: Any) -> None:
    _, _, splits, normalisation = simple_splits()
    learner, plain = (learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0) for _ in range(2))
    assert learner.model.input_shape == (None,)
    resident = [variable for variable in learner.model.non_trainable_variables if variable.shape == (5100, 14)]
    assert len(resident) == 1  # the whole table is a variable of the model, so it lies on the model's device
    plain.network.compile(optimizer=plain.optimizer, loss="mae", jit_compile=False)
    for batch in learner.batches(seed=0, epoch=0, steps=2)[1]:
        windows = np.stack([learner.table[row - 1440 : row : 6] for row in batch.inputs])
        expected = plain.network.train_on_batch(windows, batch.targets)
        assert train_step(batch)["loss"] == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(learner.network.get_weights(), plain.network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_batches_follow_from_seed_and_epoch(keras: Any) -> None:
    _, _, splits, normalisation = simple_splits(8000, (4000, 6000))
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0)

    def drawn(*, seed: int, epoch: int, steps: int | None = 8) -> tuple[int, np.ndarray]:
        count, batches = learner.batches(seed=seed, epoch=epoch, steps=steps)
        taken = list(batches)
        assert len(taken) == count
        for batch in taken:
            np.testing.assert_array_equal(batch.targets[:, 0], learner.table[batch.inputs + 144, 1])
        return count, np.concatenate([batch.inputs for batch in taken])

    count, first = drawn(seed=1, epoch=0)
    assert (count, len(first)) == (8, 8 * 128)
    assert np.array_equal(first, drawn(seed=1, epoch=0)[1])
    assert not np.array_equal(first, drawn(seed=1, epoch=1)[1])
    assert not np.array_equal(first, drawn(seed=2, epoch=0)[1])
    assert len(set(first.tolist())) == len(first)
    assert set(first.tolist()) <= set(learner.rows["train"].tolist())
    # 4000 - 1584 = 2416 windows: 18 whole batches and one that is filled up, and no window left out.
    count, once = drawn(seed=1, epoch=0, steps=None)
    assert (count, set(once.tolist())) == (19, set(learner.rows["train"].tolist()))
    # 40 batches are two passes and 288 windows: none is drawn four times, all are drawn twice.
    _, thrice = drawn(seed=1, epoch=0, steps=40)
    assert set(np.unique(thrice, return_counts=True)[1].tolist()) == {2, 3}


def test_the_batch_size_is_the_variants(keras: Any) -> None:
    _, _, splits, normalisation = simple_splits()
    learner = learner_with(PROBLEM, splits, normalisation, variant=replace(BASELINE, batch_size=10), seed=0)
    _, batches = learner.batches(seed=0, epoch=0, steps=3)
    assert [len(batch.inputs) for batch in batches] == [10, 10, 10]


def test_a_seed_fixes_the_weights(keras: Any) -> None:
    _, _, splits, normalisation = simple_splits()

    def weights(seed: int) -> list[np.ndarray]:
        return learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=seed).network.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(3), weights(3), strict=True))
    assert not np.array_equal(weights(3)[0], weights(4)[0])


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


def test_a_restored_model_predicts_the_same_degrees_on_a_table_of_other_statistics(keras: Any) -> None:
    readings, minutes, splits, normalisation = simple_splits()
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=5)
    other_mean, other_std = np.linspace(-3, 12, 14), np.linspace(0.7, 5, 14)
    todays = splits_of(readings, minutes=minutes, edges=(1700, 3400), mean=other_mean, std=other_std)
    restored = PROBLEM.restore(todays, statistics(other_mean, other_std), learner.export())
    then, now = PROBLEM.scored_split(learner), PROBLEM.scored_split(restored)
    np.testing.assert_allclose(now.prediction, then.prediction, atol=1e-3)
    np.testing.assert_allclose(now.truth, then.truth, atol=1e-3)
    np.testing.assert_allclose(now.naive, then.naive, atol=1e-3)
    assert now.prediction.std() > 0.01
    # What the translation must be worth: the same network on today's scale as it stands says something else.
    untranslated = learner_with(PROBLEM, todays, statistics(other_mean, other_std), variant=BASELINE, seed=5)
    assert np.abs(PROBLEM.scored_split(untranslated).prediction - then.prediction).max() > 0.1


def test_the_naive_reference_is_the_temperature_24_hours_before_the_target(keras: Any) -> None:
    readings, minutes, _, _ = simple_splits()
    readings[:, COLUMNS.index("temperature_degc")] = 0.01 * np.arange(len(readings))  # 0.01 °C more every ten minutes
    mean, std = readings[:1700].mean(axis=0), readings[:1700].std(axis=0)
    splits = splits_of(readings, minutes=minutes, edges=(1700, 3400), mean=mean, std=std)
    seen = PROBLEM.scored_split(learner_with(PROBLEM, splits, statistics(mean, std), variant=BASELINE, seed=0))
    assert len(seen.truth) == 1700 - 1584
    np.testing.assert_allclose(seen.truth - seen.naive, 1.44, atol=1e-4)
    assert seen.truth[0] == pytest.approx(0.01 * (3400 + 1440 + 144), abs=1e-3)
    assert seen.scale == pytest.approx(std[COLUMNS.index("temperature_degc")])


def test_the_examples_are_raw_windows_with_the_predictions_in_degrees(keras: Any) -> None:
    readings, _, splits, normalisation = simple_splits()
    learner = learner_with(PROBLEM, splits, normalisation, variant=BASELINE, seed=0)
    inputs, outputs = PROBLEM.examples(learner, 4)
    rows = learner.rows["test"]
    chosen = [rows[0], rows[38], rows[76], rows[-1]]  # 116 windows: positions 0, 38.3, 76.7 and 115
    np.testing.assert_allclose(inputs, np.stack([readings[row - 1440 : row] for row in chosen]), atol=1e-4)
    np.testing.assert_allclose(outputs, PROBLEM.scored_split(learner).prediction[[0, 38, 76, 115]], atol=1e-5)


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
