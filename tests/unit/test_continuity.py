"""A series beside the table before it: readings that were told otherwise, and months of another level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.layout import Store
from storage.tables import write_manifest, write_tables
from tasks.datasets import dataset_named
from tasks.ingestion.continuity import (
    SHARE,
    Series,
    continuity_frame,
    expectations_about,
    level_shifts,
    rewritten,
    series_of,
    table_before,
)
from tasks.ingestion.validation import run_suite

HOUR_S = 3_600


def hourly(first: str, last: str) -> np.ndarray:
    return np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), np.timedelta64(1, "h")).astype(np.int64)


def series(seconds: np.ndarray, **readings: np.ndarray) -> Series:
    return Series(seconds, {name: np.asarray(values, dtype=np.float64) for name, values in readings.items()})


def test_a_reading_that_was_told_otherwise_is_marked() -> None:
    """Deviations of 1, so that 0.0001 of one is rounding; the first stamp is new, and the last one was not asked for again."""
    before = series(np.arange(1, 5) * HOUR_S, air=np.array([1.0, -1.0, 1.0, -1.0]))
    new = series(np.arange(0, 4) * HOUR_S, air=np.array([5.0, 1.00005, -1.0, 1.5]))
    np.testing.assert_array_equal(rewritten(new, before=before), [np.nan, 0, 0, 1])
    frame = continuity_frame(new, before=before)
    np.testing.assert_allclose(frame[SHARE], [np.nan, 1 / 3, 1 / 3, 1 / 3])
    report = run_suite(frame, name="jena-0", expectations=expectations_about(frame))
    assert [(each.severity, each.success) for each in report.outcomes] == [("warning", False), ("critical", True)]
    assert report.failed[0].place == "1970-01-01T03:00"


def test_another_series_under_the_same_stamps_stops() -> None:
    before = series(np.arange(4) * HOUR_S, air=np.array([1.0, -1.0, 1.0, -1.0]))
    frame = continuity_frame(series(before.seconds, air=np.array([3.0, 4.0, 5.0, -1.0])), before=before)
    report = run_suite(frame, name="jena-0", expectations=expectations_about(frame))
    assert report.highest_failed_severity == "critical"


def test_a_series_that_begins_after_the_other_has_nothing_to_compare() -> None:
    before = series(hourly("2020-01-01", "2020-02-01"), air=np.ones(31 * 24))
    frame = continuity_frame(series(hourly("2020-02-01", "2020-03-01"), air=np.ones(29 * 24)), before=before)
    assert expectations_about(frame) == ()


def years(*, level_of_last_june: float) -> tuple[Series, Series]:
    """Hourly readings that are the number of their month, alternately 1 more and 1 less a year, and June 2024 after them."""
    seconds = hourly("2020-01-01", "2024-06-01")
    months = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(int)
    air = months % 12 + np.where(months // 12 % 2, 1.0, -1.0)
    june = hourly("2024-06-01", "2024-07-01")
    return series(seconds, air=air), series(june, air=np.full(len(june), level_of_last_june))


def test_the_level_of_a_month_is_measured_in_deviations_of_its_season() -> None:
    """Of June the years 2020 to 2023 have 4, 6, 4, 6, mean 5. May has five years, 3, 5, 3, 5, 3, July four as June.

    Squared deviations: June and July 4 x 1 each; May with mean 3.8: 3 x 0.64 + 2 x 1.44 = 4.8. Together 12.8, with 13 months
    less 3 means: a deviation of sqrt(1.28) = 1.1314. A June of 25 is 20 / 1.1314 = 17.678 of it away, one of 8 only 2.652.
    """
    before, june = years(level_of_last_june=25.0)
    found = level_shifts(june, before=before)
    np.testing.assert_allclose(found, 20 / np.sqrt(1.28))
    frame = continuity_frame(june, before=before)
    report = run_suite(frame, name="jena-0", expectations=expectations_about(frame))
    assert [(each.severity, each.success) for each in report.outcomes] == [("warning", False)]
    assert report.failed[0].place.startswith("2024-06-01T00:00 to 2024-06-30T23:00")
    np.testing.assert_allclose(level_shifts(years(level_of_last_june=8.0)[1], before=before), 3 / np.sqrt(1.28))


@pytest.mark.parametrize("first", ["2022-09-01", "2024-01-01"])
def test_a_season_that_is_hardly_known_is_no_measure(first: str) -> None:
    before, june = years(level_of_last_june=25.0)
    kept = before.seconds >= np.datetime64(first, "s").astype(np.int64)
    short = series(before.seconds[kept], air=before.readings["air"][kept])
    assert np.isnan(level_shifts(june, before=short)).all()


def test_a_month_of_few_days_is_no_measure() -> None:
    before, june = years(level_of_last_june=25.0)
    days = series(june.seconds[: 19 * 24], air=june.readings["air"][: 19 * 24])
    assert np.isnan(level_shifts(days, before=before)).all()


def publish(store: Store, version: str, *, source: str, last: str, simulated: bool = False) -> None:
    folder = store.staging("jena", version)
    folder.mkdir(parents=True)
    stamps = pa.array(np.arange(3) * HOUR_S).cast(pa.timestamp("s"))
    part = pa.table({"timestamp": stamps, "temperature_degc": pa.array([0.0, 1.0, -1.0], pa.float32())})
    write_tables({"train": part.slice(0, 1), "val": part.slice(1, 1), "test": part.slice(2, 1)}, folder=folder)
    statistics = {"mean": {"temperature_degc": 10.0}, "std": {"temperature_degc": 8.0}}
    facts = {"last_stamp": last}
    write_manifest(folder, {"source": source, "simulated": simulated, "facts": facts, "normalisation": statistics})
    folder.rename(_made(store.table_folder("jena", version)))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(str(path))


def test_the_table_before_is_the_newest_other_one_of_the_same_source_in_units(tmp_path: Path) -> None:
    store, spec = Store.at(tmp_path), dataset_named("jena")
    assert table_before(spec, version="a", source="station", store=store) is None
    publish(store, "a", source="station", last="2024-06-01T00:00:00")
    assert table_before(spec, version="a", source="station", store=store) is None
    publish(store, "b", source="keras", last="2024-07-01T00:00:00")
    publish(store, "c", source="station", last="2024-07-01T00:00:00", simulated=True)
    found = table_before(spec, version="d", source="station", store=store)
    assert found is not None
    assert found.seconds.tolist() == [0, 3_600, 7_200]
    assert found.readings["temperature_degc"].tolist() == [10.0, 18.0, 2.0]
    (tmp_path / "tables" / "jena" / "a" / "val.parquet").write_bytes(b"damaged")
    assert table_before(spec, version="d", source="station", store=store) is None


def test_reviews_have_no_table_before(tmp_path: Path) -> None:
    assert table_before(dataset_named("imdb"), version="a", source="keras", store=Store.at(tmp_path)) is None


def test_a_table_without_stamps_is_no_series() -> None:
    with pytest.raises(ValueError, match="no column holds time stamps: label"):
        series_of(pa.table({"label": [1]}))


def test_the_mean_of_an_angle_is_no_level() -> None:
    before, june = years(level_of_last_june=25.0)
    turned = [Series(each.seconds, {"wind_direction_deg": each.readings["air"]}) for each in (june, before)]
    assert np.isnan(level_shifts(turned[0], before=turned[1])).all()
