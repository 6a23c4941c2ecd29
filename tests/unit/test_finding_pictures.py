"""Pictures of failed expectations: which there are, what they show, and that they belong to the report that names them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sample_helpers import publish_sample

from storage.checksums import CHECKSUMS, sha256_of_bytes
from storage.io import read_json
from storage.layout import Store
from storage.registry import Registry
from tasks.canvas import COLOURS, DOTS_PER_INCH, WIDTH_INCHES, figure_of, use_time_axis
from tasks.datasets import DATASETS, dataset_named
from tasks.datasets.spec import Expectation, Severity
from tasks.ingestion.outcomes import ValidationReport
from tasks.ingestion.pictures import MAX_PICTURES, with_pictures
from tasks.ingestion.pipeline import write_missing_docs
from tasks.ingestion.validation import run_suite
from tasks.verification.check import check_store
from tasks.verification.repair import repair_store

ROWS = 3 * 144
OUTSIDE = tuple(int(COLOURS[1][place : place + 2], 16) for place in (1, 3, 5))


def bounds(column: str, low: float | None, high: float | None, severity: Severity = "warning", reading: str = "") -> Expectation:
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Expectation("column_values_to_be_between", arguments, severity, f"{column} has bounds", reading=reading)


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    """Three days of ten minutes, without the last hour of the second; one hour of the first is hot, and steps into it."""
    stamps = np.datetime64("2020-01-01T00:10", "s") + np.arange(ROWS) * np.timedelta64(600, "s")
    temperature = np.sin(np.arange(ROWS) / 20).astype(np.float32)
    temperature[60:66] = 30
    step = np.abs(np.diff(temperature, prepend=temperature[0]))
    frame = pd.DataFrame({"timestamp": stamps, "temperature_degc": temperature, "step_degc": step, "place": ["roof"] * ROWS})
    return frame.drop(index=range(282, 288)).reset_index(drop=True)


def drawn(frame: pd.DataFrame, *expectations: Expectation) -> tuple[ValidationReport, dict[str, bytes]]:
    return with_pictures(run_suite(frame, name="suite", expectations=expectations), frames=[frame])


def pixels_outside(png: bytes) -> int:
    """Count the pixels in the colour of rows that do not meet the expectation, give or take the palette."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert picture.shape[1] == WIDTH_INCHES * DOTS_PER_INCH
    return int((np.abs(picture - OUTSIDE).max(axis=2) < 12).sum())


def test_the_rows_outside_are_drawn_and_the_reading_below(readings: pd.DataFrame) -> None:
    report, pictures = drawn(readings, bounds("step_degc", 0, 5, reading="temperature_degc"))
    assert [outcome.picture for outcome in report.outcomes] == ["finding-step_degc.png"]
    # One panel has two rows outside, the other the same rows of the reading; the legend holds the colour once more.
    alone = drawn(readings, bounds("step_degc", 0, 5))[1]["finding-step_degc.png"]
    both = pictures["finding-step_degc.png"]
    assert pixels_outside(both) > pixels_outside(alone) > 0
    assert Image.open(io.BytesIO(both)).height > Image.open(io.BytesIO(alone)).height


def test_more_rows_outside_are_more_of_their_colour(readings: pd.DataFrame) -> None:
    few = drawn(readings, bounds("temperature_degc", None, 20))[1]["finding-temperature_degc.png"]
    many = drawn(readings, bounds("temperature_degc", None, 0))[1]["finding-temperature_degc.png"]
    assert pixels_outside(many) > 2 * pixels_outside(few)


def test_what_is_met_or_bounds_no_values_has_no_picture(readings: pd.DataFrame) -> None:
    mean = Expectation("column_mean_to_be_between", {"column": "step_degc", "min_value": 9, "max_value": 10}, "warning", "mean")
    report, pictures = drawn(readings, bounds("step_degc", 0, 99), mean)
    assert [outcome.success for outcome in report.outcomes] == [True, False]
    assert pictures == {}
    assert [outcome.picture for outcome in report.outcomes] == ["", ""]


def test_bounds_on_one_column_share_the_picture_of_the_most_severe(readings: pd.DataFrame) -> None:
    report, pictures = drawn(readings, bounds("step_degc", 0, 1), bounds("step_degc", 0, 5, severity="critical"))
    assert len(pictures) == 1
    assert {outcome.picture for outcome in report.outcomes} == set(pictures)
    critical_alone = drawn(readings, bounds("step_degc", 0, 5, severity="critical"))[1]
    assert pictures == critical_alone


def test_the_most_severe_failures_come_first() -> None:
    frame = pd.DataFrame({f"column_{number}": np.arange(10.0) for number in range(MAX_PICTURES + 2)})
    expectations = [bounds(name, None, 5, severity="info") for name in frame.columns[:-1]]
    report, pictures = drawn(frame, *expectations, bounds(str(frame.columns[-1]), None, 5, severity="critical"))
    assert len(pictures) == MAX_PICTURES
    assert report.outcomes[-1].picture in pictures
    assert [bool(outcome.picture) for outcome in report.outcomes].count(True) == MAX_PICTURES


def test_without_stamps_the_picture_is_a_histogram() -> None:
    values = np.r_[np.arange(100.0), np.nan, 1_000.0]
    report, pictures = drawn(pd.DataFrame({"n_tokens": values}), bounds("n_tokens", 1, 500))
    (png,) = pictures.values()
    assert report.outcomes[0].unexpected_count == 2
    assert pixels_outside(png) > 0


def test_a_missing_reading_and_a_gap_break_the_line(readings: pd.DataFrame) -> None:
    with_hole = readings.copy()
    with_hole.loc[70:75, "temperature_degc"] = np.nan
    assert drawn(with_hole, bounds("temperature_degc", None, 20))[1]


@pytest.mark.parametrize("hours", [1, 5, 24, 50, 71, 72, 90, 96, 97, 120, 200, 24 * 21, 24 * 89, 24 * 100, 24 * 400, 24 * 4_383])
def test_a_span_of_any_length_has_an_axis_with_a_few_labels(hours: int) -> None:
    """Matplotlib warns where no interval fits, and warnings are errors here."""
    figure, axes = figure_of(1)
    first = np.datetime64("2009-01-01T00:10", "s")
    axes[0, 0].plot(np.array([first, first + np.timedelta64(hours, "h")]), [0, 1])
    use_time_axis(axes[0, 0])
    figure.canvas.draw()
    assert 2 <= len(axes[0, 0].get_xticklabels()) <= 12


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Store, str]:
    """A store with a table of the sample that the suite warns of: no day may be warmer than 15 °C."""
    spec = dataset_named("jena")
    warm = bounds("temperature_degc", None, 15)
    stricter = replace(spec, expectations=lambda request: (*spec.expectations(request), warm))
    monkeypatch.setitem(DATASETS, "jena", stricter)
    store = Store.at(tmp_path / "var")
    table = publish_sample("jena", store=store)
    write_missing_docs("jena", store=store)
    return store, table.version


def test_a_warning_leaves_its_picture_beside_the_report_and_on_its_page(warned: tuple[Store, str]) -> None:
    store, version = warned
    picture = store.report_folder("jena", version) / "finding-temperature_degc.png"
    record = read_json(store.validation_report("jena", version))
    assert record[CHECKSUMS] == {picture.name: sha256_of_bytes(picture.read_bytes())}
    page = store.docs_index("jena", version).read_text(encoding="utf-8")
    assert '<img src="finding-temperature_degc.png" alt="warning: temperature_degc: temperature_degc has bounds (' in page


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_picture_is_found_and_drawn_again(warned: tuple[Store, str], damage: str) -> None:
    store, version = warned
    picture = store.report_folder("jena", version) / "finding-temperature_degc.png"
    sound = picture.read_bytes()
    if damage == "gone":
        picture.unlink()
    else:
        picture.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    registry = Registry.open(store)
    faults = [found for found in check_store(store, registry=registry) if found.fault]
    name = f"reports/jena/{version}/{picture.name}"
    assert [found.name for found in faults] == [name]
    assert repair_store(faults, registry=registry, store=store) == {name: "made again"}
    assert picture.read_bytes() == sound
    assert not [found for found in check_store(store, registry=registry) if found.fault]
