"""Predict with a registered version, from tables and files; nothing that was read later changes a forecast."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from storage.errors import DataError, RegistryError, RejectedError, SettingError
from storage.layout import Store
from storage.tables import published_versions
from tasks.config import InputSettings, PredictSettings
from tasks.datasets.jena.sample import SAMPLE_FILE, write_csv_zip
from tasks.intervals import LEVELS
from tasks.prediction.issued import SERIES_SCHEMA, read_issued
from tasks.prediction.predict import Predictions, predict
from tasks.prediction.readings import readings_of_table
from tasks.prediction.uncertainty import bounds_of, truth_at

NAME = "jena-sample"
MODEL = f"{NAME}@1"


def readings_of(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, encoding="latin-1")
    frame["Date Time"] = pd.to_datetime(frame["Date Time"], format="%d.%m.%Y %H:%M:%S")
    return frame


@pytest.fixture(scope="module")
def raw(trained: Any) -> pd.DataFrame:
    """The readings of the sample as its raw file has them."""
    return readings_of(next(Path(str(trained.store.root)).glob(f"raw/jena-sample/*/{SAMPLE_FILE}")))


@pytest.fixture
def store_with(trained: Any, tmp_path: Path) -> Callable[[pd.DataFrame, str], Store]:
    """Make a store with the sample's table, whose raw file has other readings."""

    def make(frame: pd.DataFrame, name: str) -> Store:
        root = tmp_path / name
        for part in ("raw", "tables"):
            shutil.copytree(Path(str(trained.store.root)) / part, root / part)
        write_csv_zip(frame, next(root.glob(f"raw/jena-sample/*/{SAMPLE_FILE}")))
        return Store.at(root)

    return make


def run(trained: Any, store: Store, model: str = MODEL, **settings: Any) -> Predictions:
    return predict(model, settings=PredictSettings(**settings), registry=trained.registry, store=store)


def later_changed(frame: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """Add 7 to every reading after a stamp."""
    other = frame.copy()
    numbers = other.columns[1:]
    other.loc[other["Date Time"] > at, numbers] = other.loc[other["Date Time"] > at, numbers] + 7
    return other


def test_the_newest_window_is_forecast_and_kept_once(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    store = store_with(raw, "store")
    first = run(trained, store)
    row = first.table.to_pylist()[0]
    newest = raw["Date Time"].iloc[-1].to_pydatetime()
    assert (first.table.num_rows, first.kept) == (1, 1)
    assert (row["as_of"], row["target_time"]) == (newest, newest + pd.Timedelta(minutes=1450))
    assert row["persistence"] == pytest.approx(raw["T (degC)"].iloc[-1], abs=1e-4)
    assert row["lower_95"] < row["lower_80"] < row["prediction"] < row["upper_80"] < row["upper_95"]
    assert row["model_version"] == 1
    again = run(trained, store)
    assert again.kept == 0
    assert again.table.drop(["issued_at"]).equals(first.table.drop(["issued_at"]))
    assert read_issued(NAME, store=store, schema=SERIES_SCHEMA).num_rows == 1


def test_no_later_reading_changes_a_forecast(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    at = raw["Date Time"].iloc[-3000]
    stores = [store_with(frame, f"store{number}") for number, frame in enumerate((raw, later_changed(raw, at)))]
    one, other = (run(trained, store, at=at.isoformat()).table.drop(["issued_at"]) for store in stores)
    assert one.equals(other)
    # The fault is found: as of a later stamp the forecasts differ.
    later = (at + pd.Timedelta(hours=1)).isoformat()
    one, other = (run(trained, store, at=later).table for store in stores)
    assert one["prediction"].to_pylist() != other["prediction"].to_pylist()


def test_a_hole_is_not_filled_with_a_later_reading(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    at = raw["Date Time"].iloc[-3000]
    holed = raw.copy()
    holed.loc[(holed["Date Time"] - at).abs() <= pd.Timedelta(minutes=20), "T (degC)"] = -9999.0
    store = store_with(holed, "store")
    known = readings_of_table(
        "jena",
        published_versions(store, "jena")[0],
        columns=("temperature_degc",),
        until=at.to_pydatetime(),
        store=store,
    )
    # Two rows before the stamp and its own are unknown as of then.
    assert known.stamp[-1] == np.datetime64(at - pd.Timedelta(minutes=30))
    with pytest.raises(DataError, match=r"there is no reading of .*: the last one before it is of"):
        run(trained, store, at=at.isoformat())


def test_outcomes_adapt_the_intervals_once_they_have_happened(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    store = store_with(raw, "store")
    rows = run(trained, store, first=raw["Date Time"].iloc[-400].isoformat()).table
    assert rows.num_rows == 400
    assert rows["lower_80"].null_count == 0
    # The same forecast alone has the bounds that it has among the others: what had happened is known from the store.
    (newest,) = run(trained, store).table.drop(["issued_at", "input_digest"]).to_pylist()
    (among,) = rows.slice(399).drop(["issued_at", "input_digest"]).to_pylist()
    # A batch of one and a batch of 400 may differ in the last bit of a float32.
    assert newest == {
        name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for name, value in among.items()
    }


def test_an_outcome_changes_no_bound_that_was_issued_before_it(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    from tasks.prediction.readings import Readings
    from tasks.training.uncertainty import uncertainty_of

    intervals: Any = uncertainty_of(trained.registry.version(NAME, 1), registry=trained.registry)
    after = np.datetime64(intervals.last_outcome_s, "s")
    stamp = after + np.arange(600) * np.timedelta64(600, "s")
    rng = np.random.default_rng(4)
    values = rng.normal(10, 6, (600, 1)).astype(np.float32)
    as_of = stamp[200:500]
    target_time = as_of + np.timedelta64(intervals.delay_s, "s")
    prediction = rng.normal(10, 1, 300).astype(np.float32)

    def lower(changed_from: int) -> Any:
        other = values.copy()
        other[changed_from:] += 50
        readings = Readings(stamp=stamp, values=other, origin="table")
        empty = (prediction[:0], target_time[:0])
        bounds = bounds_of(
            intervals, prediction, as_of=as_of, target_time=target_time, earlier=empty, readings=readings, target=0
        )
        return bounds[LEVELS[0]][0]

    usual = lower(600)
    for row in (360, 430):
        other = lower(row)
        issued_before = as_of < stamp[row]
        np.testing.assert_array_equal(other[issued_before], usual[issued_before])
        assert (other[~issued_before] != usual[~issued_before]).any()


def test_what_was_measured_at_a_stamp_is_found_or_missing() -> None:
    from tasks.prediction.readings import Readings

    stamp = np.array(["2024-01-01T00:00", "2024-01-01T00:20"], dtype="datetime64[s]")
    readings = Readings(stamp=stamp, values=np.array([[1.0], [2.0]], np.float32), origin="table")
    times = np.array(["2024-01-01T00:20", "2024-01-01T00:10", "2025-01-01T00:00"], dtype="datetime64[s]")
    np.testing.assert_array_equal(truth_at(times, readings=readings, target=0), np.array([2, np.nan, np.nan], np.float32))


# A person's own file.


def own_file(folder: Path, frame: pd.DataFrame) -> InputSettings:
    return InputSettings(path=str(write_csv_zip(frame, folder / "own.zip")))


def test_a_file_is_forecast_like_the_table_with_the_same_readings(
    trained: Any, raw: pd.DataFrame, store_with: Any, tmp_path: Path
) -> None:
    store = store_with(raw, "store")
    from_table = run(trained, store).table.to_pylist()[0]
    done = run(trained, store, input=own_file(tmp_path, raw.iloc[-1440:]))
    from_file = done.table.to_pylist()[0]
    assert from_file["prediction"] == pytest.approx(from_table["prediction"], abs=1e-5)
    assert from_file["origin"].startswith("file ")
    assert done.kept == 1
    assert read_issued(NAME, store=store, schema=SERIES_SCHEMA).num_rows == 1


def test_a_file_has_to_meet_the_expectations_of_training(
    trained: Any, raw: pd.DataFrame, store_with: Any, tmp_path: Path
) -> None:
    store = store_with(raw, "store")
    fahrenheit = raw.iloc[-1500:].copy()
    fahrenheit["T (degC)"] = fahrenheit["T (degC)"] * 1.8 + 32
    with pytest.raises(RejectedError, match=r"own\.zip: \d+ critical expectations failed: .*nothing was predicted"):
        run(trained, store, input=own_file(tmp_path, fahrenheit))
    assert read_issued(NAME, store=store, schema=SERIES_SCHEMA).num_rows == 0


@pytest.fixture
def bad_file(request: pytest.FixtureRequest, raw: pd.DataFrame, tmp_path: Path) -> InputSettings:
    return own_file(tmp_path, request.param(raw.iloc[-1500:].reset_index(drop=True)))


@pytest.mark.parametrize(
    ("bad_file", "message"),
    [
        (lambda frame: frame.iloc[:100], "there are 100 readings up to .*, and a window has 1,440: give more"),
        (lambda frame: frame.drop(frame.index[700:740]), "has a gap from .* to .*, which no forecast may bridge"),
        (lambda frame: frame.drop(columns=["rh (%)"]), "rh"),
        (lambda frame: frame.assign(**{"Date Time": frame["Date Time"] + pd.Timedelta(days=9000)}), "is in the future"),
    ],
    indirect=["bad_file"],
    ids=["short", "gap", "column", "future"],
)
def test_a_file_without_a_window_is_refused(bad_file: InputSettings, message: str, trained: Any) -> None:
    with pytest.raises(DataError, match=message):
        run(trained, trained.store, input=bad_file)


@pytest.mark.parametrize(
    ("model", "settings", "error", "message"),
    [
        ("jena-sample", {}, RegistryError, "has no alias 'champion': choose jena-sample@"),
        ("jena-sample@77", {}, RegistryError, "has no version 77"),
        ("jena-sample@best", {}, RegistryError, "has no alias 'best'"),
        ("rain", {}, RegistryError, "model 'rain' has no versions"),
        (MODEL, {"texts": ("good",)}, SettingError, "jena is forecast from readings, and texts were given"),
        (MODEL, {"input": InputSettings(path="none.csv")}, SettingError, r"none\.csv is not there"),
    ],
)
def test_what_cannot_be_predicted_is_said(trained: Any, model: str, settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        run(trained, trained.store, model=model, **settings)


def test_a_store_without_a_table_is_told(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="jena has no table of the sample: run `retrain ingest jena` first"):
        run(trained, Store.at(tmp_path / "empty"))


def test_a_version_without_intervals_forecasts_and_says_so(trained: Any, raw: pd.DataFrame, store_with: Any) -> None:
    class Before:
        """A registry whose version was registered before intervals were kept."""

        def resolve(self, reference: str) -> Any:
            version = trained.registry.resolve(reference)
            return replace(version, tags={name: value for name, value in version.tags.items() if name != "uncertainty"})

        def __getattr__(self, name: str) -> Any:
            return getattr(trained.registry, name)

    registry: Any = Before()
    done = predict(MODEL, settings=PredictSettings(), registry=registry, store=store_with(raw, "store"))
    assert done.table["lower_80"].null_count == 1
    assert done.remarks == ("SAMPLE: simulated, not real data", "jena-sample@1 has no intervals: train it again to have them")
