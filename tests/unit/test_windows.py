"""Window forecasts of any series against definitions written anew here, and the exported model against the trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_helpers import CPU, PLAIN

from storage.errors import DataError, SettingError
from tasks.datasets.spec import SPLITS
from tasks.models import PROBLEMS
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.engine.train_step import train_step
from tasks.models.forecast import Forecast, WindowTask
from tasks.models.spec import Budget, Variant
from tasks.models.windows import (
    WindowLearner,
    example_windows,
    forecast_problem,
    has_lower_error,
    plot_series,
    restore_learner,
    score_split,
    window_rows,
)

HOURLY = WindowTask(columns=("wind", "sun", "load"), target="load", lookback_rows=48, step_rows=1, horizon_rows=24)
THINNED = WindowTask(columns=("price", "volume"), target="price", lookback_rows=60, step_rows=5, horizon_rows=7)
every_task = pytest.mark.parametrize("task", [HOURLY, THINNED], ids=["hourly", "thinned"])
ROWS, EDGES = 900, (500, 700)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lookback_rows": 0}, "lookback_rows is 0: give a whole number above 0"),
        ({"step_rows": -1}, "step_rows is -1"),
        ({"horizon_rows": 0}, "horizon_rows is 0"),
        ({"step_rows": 7}, "lookback_rows 48 is no multiple of step_rows 7"),
        ({"target": "rain"}, "target 'rain' is not among the columns wind, sun, load"),
        ({"columns": ("load", "load")}, "columns load, load name a column twice"),
    ],
)
def test_an_impossible_task_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(HOURLY, **change)


def test_what_follows_from_a_task_by_hand() -> None:
    assert (HOURLY.target_index, HOURLY.steps, HOURLY.min_rows) == (2, 48, 73)
    assert (THINNED.target_index, THINNED.steps, THINNED.min_rows) == (0, 12, 68)


def rows_by_runs(lengths: list[int], *, task: WindowTask) -> list[int]:
    """The rows of each unbroken run that have the whole lookback of it before them and the horizon behind."""
    rows: list[int] = []
    start = 0
    for length in lengths:
        rows += range(start + task.lookback_rows, start + length - task.horizon_rows)
        start += length
    return rows


@st.composite
def tasks_and_runs(draw: st.DrawFn) -> tuple[WindowTask, list[int]]:
    step = draw(st.integers(1, 8))
    lookback, horizon = step * draw(st.integers(1, 40)), draw(st.integers(1, 200))
    task = WindowTask(columns=("a",), target="a", lookback_rows=lookback, step_rows=step, horizon_rows=horizon)
    edge = lookback + horizon
    return task, draw(st.lists(st.one_of(st.integers(1, 40), st.integers(max(edge - 2, 1), edge + 30)), max_size=6))


@settings(max_examples=200, deadline=None)
@given(drawn=tasks_and_runs(), first=st.integers(0, 5))
def test_no_window_or_target_crosses_a_gap(drawn: tuple[WindowTask, list[int]], first: int) -> None:
    task, lengths = drawn
    segment = np.repeat(np.arange(first, first + len(lengths), dtype=np.int32), lengths)
    assert window_rows(segment, task=task).tolist() == rows_by_runs(lengths, task=task)


@every_task
def test_one_run_of_the_smallest_number_of_rows_has_one_window(task: WindowTask) -> None:
    counts = [len(window_rows(np.zeros(rows, dtype=np.int32), task=task)) for rows in (0, task.min_rows - 1, task.min_rows)]
    assert counts == [0, 0, 1]


def series(
    task: WindowTask, *, rows: int = ROWS, edges: tuple[int, int] = EDGES, gaps: tuple[int, ...] = ()
) -> tuple[np.ndarray, dict[str, pa.Table], dict[str, Any]]:
    """Random readings, their splits as they are published (a run ends before each gap), and the normalisation."""
    rng = np.random.default_rng(0)
    width = len(task.columns)
    mean, std = rng.uniform(-5, 20, width), rng.uniform(0.5, 8, width)
    readings = rng.normal(size=(rows, width)) * std + mean
    return readings, splits_of(readings, task=task, edges=edges, gaps=gaps, mean=mean, std=std), statistics(mean, std, task=task)


def splits_of(
    readings: np.ndarray, *, task: WindowTask, edges: tuple[int, int] = EDGES, gaps: tuple[int, ...] = (), mean: Any, std: Any
) -> dict[str, pa.Table]:
    segment = np.searchsorted(gaps, np.arange(len(readings)), side="right").astype(np.int32)
    normalised = ((readings - mean) / std).astype(np.float32)
    whole = pa.table({name: normalised[:, i] for i, name in enumerate(task.columns)} | {"segment": segment})
    first, second = edges
    return {"train": whole.slice(0, first), "val": whole.slice(first, second - first), "test": whole.slice(second)}


def statistics(mean: np.ndarray, std: np.ndarray, *, task: WindowTask) -> dict[str, dict[str, float]]:
    return {key: dict(zip(task.columns, part.tolist(), strict=True)) for key, part in (("mean", mean), ("std", std))}


def small_gru(task: WindowTask) -> Variant:
    def network() -> Any:
        import keras

        shape = (task.steps, len(task.columns))
        return keras.Sequential([keras.Input(shape), keras.layers.GRU(4), keras.layers.Dense(1)], name="network")

    return Variant(name="small_gru", summary="GRU(4), Dense(1)", network=network, epochs=1, batch_size=16)


def learner_of(task: WindowTask, splits: Any, normalisation: Any, *, seed: int = 0, batch_size: int = 16) -> WindowLearner:
    variant = replace(small_gru(task), batch_size=batch_size)
    accelerated = accelerate_for_training(variant, device=CPU, seed=seed, execution=PLAIN)
    return WindowLearner(splits, normalisation, task=task, dataset="meter", accelerated=accelerated, variant=variant)


@every_task
@pytest.mark.parametrize("gaps", [(), (150, 240), (499, 505, 700, 850), (500, 700)])
def test_the_rows_of_a_learner_stay_in_their_split_and_run(keras: Any, task: WindowTask, gaps: tuple[int, ...]) -> None:
    _, splits, normalisation = series(task, gaps=gaps)
    learner = learner_of(task, splits, normalisation)
    for name, (start, stop) in dict(zip(SPLITS, ((0, 500), EDGES, (700, ROWS)), strict=True)).items():
        allowed = [
            row
            for row in range(start + task.lookback_rows, stop - task.horizon_rows)
            if not any(row - task.lookback_rows < gap <= row + task.horizon_rows for gap in gaps)
        ]
        assert learner.rows[name].tolist() == allowed
        assert allowed  # or there would be nothing to see


def test_an_hourly_network_sees_48_rows_and_is_told_the_load_a_day_later(keras: Any) -> None:
    _, splits, normalisation = series(HOURLY)
    learner = learner_of(HOURLY, splits, normalisation)
    table = np.concatenate([np.column_stack([splits[name][column].to_numpy() for column in HOURLY.columns]) for name in SPLITS])
    ids = learner.rows["val"][[0, 5, -1]]
    assert ids.tolist() == [500 + 48, 500 + 53, 700 - 25]
    windows = np.stack([table[row - 48 : row] for row in ids])
    expected = np.asarray(learner.network.predict_on_batch(windows))[:, 0]
    np.testing.assert_allclose(learner.predict_rows(ids), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(learner.targets("val")[[0, 5, -1]], table[ids + 24, 2])
    np.testing.assert_array_equal(learner.persistence("val")[[0, 5, -1]], table[ids, 2])
    error = np.abs(learner.predict("val") - learner.targets("val")).mean()
    assert learner.validation() == {"val_loss": pytest.approx(float(error), rel=1e-5)}


@every_task
def test_a_step_is_fed_numbers_of_rows_and_is_the_step_on_their_windows(keras: Any, task: WindowTask) -> None:
    _, splits, normalisation = series(task)
    learner, plain = (learner_of(task, splits, normalisation) for _ in range(2))
    assert learner.model.input_shape == (None,)
    resident = [variable for variable in learner.model.non_trainable_variables if variable.shape == (ROWS, len(task.columns))]
    assert len(resident) == 1  # the whole table is a variable of the model, so it lies on the model's device
    plain.network.compile(optimizer=plain.optimizer, loss="mae", jit_compile=False)
    for batch in learner.batches(seed=0, epoch=0, steps=2)[1]:
        windows = np.stack([learner.table[row - task.lookback_rows : row : task.step_rows] for row in batch.inputs])
        expected = plain.network.train_on_batch(windows, batch.targets)
        assert train_step(batch)["loss"] == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(learner.network.get_weights(), plain.network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_batches_follow_from_seed_and_epoch(keras: Any) -> None:
    _, splits, normalisation = series(HOURLY)
    learner = learner_of(HOURLY, splits, normalisation)

    def drawn(*, seed: int, epoch: int, steps: int | None = 8) -> tuple[int, np.ndarray]:
        count, batches = learner.batches(seed=seed, epoch=epoch, steps=steps)
        taken = list(batches)
        assert len(taken) == count
        for batch in taken:
            np.testing.assert_array_equal(batch.targets[:, 0], learner.table[batch.inputs + 24, 2])
        return count, np.concatenate([batch.inputs for batch in taken])

    count, first = drawn(seed=1, epoch=0)
    assert (count, len(first)) == (8, 8 * 16)
    assert np.array_equal(first, drawn(seed=1, epoch=0)[1])
    assert not np.array_equal(first, drawn(seed=1, epoch=1)[1])
    assert not np.array_equal(first, drawn(seed=2, epoch=0)[1])
    assert len(set(first.tolist())) == len(first)
    assert set(first.tolist()) <= set(learner.rows["train"].tolist())
    # 500 - 72 = 428 windows: 26 whole batches and one that is filled up, and no window left out.
    count, once = drawn(seed=1, epoch=0, steps=None)
    assert (count, set(once.tolist())) == (27, set(learner.rows["train"].tolist()))
    # 60 batches are two passes and 104 windows: none is drawn four times, all are drawn twice.
    _, thrice = drawn(seed=1, epoch=0, steps=60)
    assert set(np.unique(thrice, return_counts=True)[1].tolist()) == {2, 3}


def test_the_batch_size_is_the_variants(keras: Any) -> None:
    _, splits, normalisation = series(HOURLY)
    _, batches = learner_of(HOURLY, splits, normalisation, batch_size=10).batches(seed=0, epoch=0, steps=3)
    assert [len(batch.inputs) for batch in batches] == [10, 10, 10]


def test_a_seed_fixes_the_weights(keras: Any) -> None:
    _, splits, normalisation = series(HOURLY)

    def weights(seed: int) -> list[np.ndarray]:
        return learner_of(HOURLY, splits, normalisation, seed=seed).network.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(3), weights(3), strict=True))
    assert not np.array_equal(weights(3)[0], weights(4)[0])


@every_task
def test_the_exported_model_on_raw_rows_is_the_trained_one_on_windows(keras: Any, tmp_path: Path, task: WindowTask) -> None:
    readings, splits, normalisation = series(task)
    learner = learner_of(task, splits, normalisation, seed=5)
    learner.export().save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert model.name == "meter"
    ids = learner.rows["test"]
    raw = np.stack([readings[row - task.lookback_rows : row] for row in ids]).astype(np.float32)
    predicted = np.asarray(model.predict_on_batch(raw))
    assert predicted.shape == (len(ids), 1)
    mean, std = normalisation["mean"][task.target], normalisation["std"][task.target]
    np.testing.assert_allclose(predicted[:, 0], learner.predict("test") * std + mean, atol=2e-4 * std)
    assert predicted.std() > 0.01 * std  # or any constant would pass
    assert learner.target_std == pytest.approx(std)


@every_task
def test_a_restored_model_predicts_the_same_on_a_table_of_other_statistics(keras: Any, task: WindowTask) -> None:
    readings, splits, normalisation = series(task)
    learner = learner_of(task, splits, normalisation, seed=5)
    width = len(task.columns)
    mean, std = np.linspace(-3, 12, width), np.linspace(0.7, 5, width)
    todays, todays_normalisation = splits_of(readings, task=task, mean=mean, std=std), statistics(mean, std, task=task)
    restored = restore_learner(learner.export(), splits=todays, normalisation=todays_normalisation, task=task, dataset="meter")

    def forecasts(which: WindowLearner) -> np.ndarray:
        return which.in_target_unit(which.predict("test"))

    np.testing.assert_allclose(forecasts(restored), forecasts(learner), atol=1e-3)
    for normalised in ("targets", "persistence"):
        now, then = (which.in_target_unit(getattr(which, normalised)("test")) for which in (restored, learner))
        np.testing.assert_allclose(now, then, atol=1e-3)
    assert forecasts(restored).std() > 0.01
    # What the translation must be worth: the same network on today's scale as it stands says something else.
    untranslated = learner_of(task, todays, todays_normalisation, seed=5)
    assert np.abs(forecasts(untranslated) - forecasts(learner)).max() > 0.1


@every_task
def test_the_examples_are_raw_windows_with_the_predictions_in_the_targets_unit(keras: Any, task: WindowTask) -> None:
    readings, splits, normalisation = series(task)
    learner = learner_of(task, splits, normalisation)
    inputs, outputs = example_windows(learner, 3)
    rows = learner.rows["test"]
    positions = [0, (len(rows) - 1) // 2, len(rows) - 1]
    windows = np.stack([readings[row - task.lookback_rows : row] for row in rows[positions]])
    np.testing.assert_allclose(inputs, windows, atol=1e-4)
    np.testing.assert_allclose(outputs, learner.in_target_unit(learner.predict("test"))[positions], atol=1e-5)
    assert len(example_windows(learner, 10_000)[0]) == len(rows)


@every_task
def test_a_scored_split_is_in_the_targets_unit(keras: Any, task: WindowTask) -> None:
    readings, splits, normalisation = series(task)
    learner = learner_of(task, splits, normalisation)
    scored = score_split(learner)
    target = readings[:, task.columns.index(task.target)]
    rows = learner.rows["test"]
    np.testing.assert_allclose(scored.truth, target[rows + task.horizon_rows], atol=1e-4)
    np.testing.assert_allclose(scored.naive, target[rows], atol=1e-4)
    np.testing.assert_array_equal(scored.prediction, learner.in_target_unit(learner.predict("test")))
    assert scored.scale == pytest.approx(normalisation["std"][task.target])


def test_the_plotted_series_is_the_target_with_the_stamps_of_the_test_targets() -> None:
    readings, splits, normalisation = series(HOURLY, gaps=(800,))
    stamp = np.datetime64("2020-01-01T00:00:00", "s") + np.arange(ROWS) * np.timedelta64(3600, "s")
    bounds = dict(zip(SPLITS, ((0, 500), EDGES, (700, ROWS)), strict=True))
    stamped = {name: splits[name].append_column("timestamp", pa.array(stamp[slice(*bounds[name])])) for name in SPLITS}
    plot = plot_series(stamped, normalisation=normalisation, task=HOURLY, quantity="load", unit="MW", row_seconds=3600)
    np.testing.assert_array_equal(plot.stamp, stamp)
    np.testing.assert_allclose(plot.value, readings[:, 2], atol=1e-4)
    assert plot.first_test_row == 700
    # Runs of 100 rows on both sides of the gap: each has 48 rows before its first window, and a target 24 rows on.
    np.testing.assert_array_equal(plot.target_stamp, np.concatenate([stamp[700 + 72 : 800], stamp[800 + 72 : 900]]))
    assert (plot.quantity, plot.unit, plot.row_seconds, plot.horizon_rows) == ("load", "MW", 3600, 24)


def test_the_lower_validation_error_is_better() -> None:
    assert has_lower_error({"val_loss": 0.2}, {"val_loss": 0.3})
    assert not has_lower_error({"val_loss": 0.3}, {"val_loss": 0.3})


@every_task
@pytest.mark.parametrize("short", SPLITS)
def test_a_split_without_one_window_is_refused(keras: Any, task: WindowTask, short: str) -> None:
    lengths = {name: task.min_rows - 1 if name == short else task.min_rows + 10 for name in SPLITS}
    edges = (lengths["train"], lengths["train"] + lengths["val"])
    _, splits, normalisation = series(task, rows=sum(lengths.values()), edges=edges)
    with pytest.raises(DataError, match=f"split {short} of meter .* {task.min_rows} rows .* longer span"):
        learner_of(task, splits, normalisation)


@pytest.mark.parametrize(
    ("column", "quantity", "suffix"),
    [
        ("temperature_degc", "temperature", "degc"),
        ("wind_speed_m_per_s", "wind speed", "m_per_s"),
        ("specific_humidity_g_per_kg", "specific humidity", "g_per_kg"),
        ("water_vapor_concentration_mmol_per_mol", "water vapor concentration", "mmol_per_mol"),
        ("load_mw", "load", "mw"),
    ],
)
def test_a_column_is_called_by_its_quantity_and_its_unit(column: str, quantity: str, suffix: str) -> None:
    task = WindowTask(columns=(column,), target=column, lookback_rows=4, step_rows=2, horizon_rows=3)
    forecast = Forecast(
        dataset="meter",
        task=task,
        units={column: "U"},
        row_seconds=1800,
        variants=lambda task: (),
        default_variants=(),
        sample_budget=Budget(epochs=1, steps_per_epoch=1, patience_epochs=1),
    )
    scoring = forecast_problem(forecast).scoring
    assert scoring.primary.key == f"mae_{suffix}"
    assert scoring.primary.naive_label == f"{quantity} 90 min before the target"


def test_another_task_is_another_problem_on_the_same_table() -> None:
    jena = PROBLEMS["jena"]
    pressure = jena.with_task({"target": "pressure_mbar", "horizon_rows": 36})
    assert pressure.scoring.primary.unit == "mbar"
    assert pressure.scoring.primary.naive_label == "pressure 6 h before the target"
    assert pressure.model_suffix == "-pressure-mbar-36-rows"
    assert set(pressure.variants) == set(jena.variants)
    # Changes add up, and what is set back to the data set's own value is no change.
    assert pressure.with_task({"lookback_rows": 720}).task == {**pressure.task, "lookback_rows": 720}
    assert pressure.with_task({"target": "temperature_degc", "horizon_rows": 144}).model_suffix == jena.model_suffix == ""
    assert jena.with_task(jena.task).task == jena.task


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "wind_direction_deg"}, "unknown target 'wind_direction_deg' for jena: choose air_density"),
        ({"lookback_rows": 1441}, "lookback_rows 1441 is no multiple of step_rows 6"),
        ({"review_tokens": 3}, "review_tokens is 3, but a forecast has no such setting: leave it out"),
        ({"loss": "mse"}, "loss is 'mse', but a forecast has no such setting"),
    ],
)
def test_a_task_that_cannot_be_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        PROBLEMS["jena"].with_task(changes)
    with pytest.raises(SettingError, match="but imdb has no such setting: leave it out, or name the data set that has it"):
        PROBLEMS["imdb"].with_task({"lookback_rows": 3})


@pytest.mark.parametrize("task", [{"lookback_rows": 432}, {"lookback_rows": 1008, "step_rows": 3}, {"lookback_rows": 150}])
def test_every_network_fits_another_window(keras: Any, task: dict[str, int]) -> None:
    problem = PROBLEMS["jena"].with_task(task)
    for variant in problem.variants.values():
        # A day that is no whole number of windows is cut; a window shorter than a day has no day in it.
        assert variant.network().output_shape == (None, 1)


def test_a_network_of_days_says_that_a_window_has_no_day(keras: Any) -> None:
    with pytest.raises(SettingError, match="gru_daily reads whole days, and a window has 20 steps of 3600 s"):
        PROBLEMS["jena"].with_task({"lookback_rows": 120}).variants["gru_daily"].network()
