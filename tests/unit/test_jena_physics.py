"""The Jena suite: what is right passes, simulated and real; what is swapped, shifted or in a wrong unit does not."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jena_helpers import DATA, MIRROR, TUTORIAL, failures, parse_text, parsed_of, real, repairs

from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import COLUMNS, DERIVED, validation_frame
from tasks.datasets.jena.sample import SAMPLE_FILE, simulate
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed
from tasks.ingestion.validation import run_suite


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    folder = tmp_path_factory.mktemp("suite")
    (path,) = simulate(folder)
    return jena.SPEC.parse({SAMPLE_FILE: path}, TableRequest(source="sample"))


@pytest.fixture(scope="module")
def readings(sample: Parsed) -> dict[str, Any]:
    return {name: sample.table[name].to_numpy() for name in COLUMNS}


def test_sample_passes(readings: dict[str, Any]) -> None:
    assert failures(validation_frame(parsed_of(readings))) == set()


def test_every_expectation_names_a_column_of_the_frame(readings: dict[str, Any]) -> None:
    frame = validation_frame(parsed_of(readings))
    assert list(frame.columns) == ["timestamp", *COLUMNS, "spacing_s", *DERIVED]
    suite = jena.SPEC.expectations(TableRequest(source="station", today=date(2030, 1, 1)))
    assert {e.arguments["column"] for e in suite if "column" in e.arguments} == set(frame.columns)
    assert all(e.meaning for e in suite)


def test_any_two_swapped_columns_fail(readings: dict[str, Any]) -> None:
    for first in range(14):
        for second in range(first + 1, 14):
            a, b = COLUMNS[first], COLUMNS[second]
            swapped = readings | {a: readings[b], b: readings[a]}
            assert failures(validation_frame(parsed_of(swapped))), (a, b)


@pytest.mark.parametrize(
    ("column", "factor", "offset"),
    [
        ("temperature_degc", 1, 273.15),
        ("temperature_degc", 1.8, 32),
        ("dew_point_degc", 1, 273.15),
        ("potential_temperature_k", 1, -273.15),
        ("pressure_mbar", 100, 0),
        ("pressure_mbar", 0.750062, 0),
        ("relative_humidity_percent", 0.01, 0),
        ("vapor_pressure_mbar", 100, 0),
        ("saturation_vapor_pressure_mbar", 0.1, 0),
        ("specific_humidity_g_per_kg", 0.001, 0),
        ("air_density_g_per_m3", 0.001, 0),
        ("wind_speed_m_per_s", 3.6, 0),
        ("wind_direction_deg", -1, 0),
    ],
)
def test_a_wrong_unit_fails(readings: dict[str, Any], column: str, factor: float, offset: float) -> None:
    wrong = readings | {column: readings[column] * factor + offset}
    assert failures(validation_frame(parsed_of(wrong)))


@pytest.mark.parametrize("column", COLUMNS[:-1])
def test_a_column_shifted_by_a_day_fails(readings: dict[str, Any], column: str) -> None:
    # The wind direction is tied to nothing, so its shift cannot be seen.
    shifted = readings | {column: np.roll(readings[column], 144)}
    assert failures(validation_frame(parsed_of(shifted)))


def test_all_columns_moved_by_one_place_fail(readings: dict[str, Any]) -> None:
    moved = dict(zip(COLUMNS, [readings[name] for name in (COLUMNS[-1], *COLUMNS[:-1])], strict=True))
    assert failures(validation_frame(parsed_of(moved)))


def test_impossible_readings_reach_the_suite_without_a_warning(readings: dict[str, Any]) -> None:
    zeros = {name: np.zeros(200, dtype=np.float32) for name in COLUMNS} | {"temperature_degc": np.full(200, -234.175)}
    assert ("column_values_to_be_between", "pressure_mbar") in failures(validation_frame(parsed_of(zeros)))


def test_residuals_of_one_row_by_hand(tmp_path: Path) -> None:
    # First tutorial row: 0.22 - (3.33 - 3.11) = 0; 3.11 - 3.33 x 0.933 = 0.00311; -8.90 + 8.02 = -0.88; 1.75 - 1.03 = 0.72.
    frame = validation_frame(parse_text(tmp_path, *TUTORIAL))
    assert frame["vapor_pressure_deficit_residual_mbar"][0] == pytest.approx(0, abs=1e-6)
    assert frame["vapor_pressure_residual_mbar"][0] == pytest.approx(0.00311, abs=1e-5)
    assert frame["dew_point_excess_degc"][0] == pytest.approx(-0.88, abs=1e-5)
    assert frame["gust_excess_m_per_s"][0] == pytest.approx(0.72, abs=1e-5)
    # 3.11 / 996.52 x 1000 = 3.12086 and 622 x 3.11 / (996.52 - 0.378 x 3.11) = 1.94346.
    assert frame["water_vapor_concentration_residual_mmol_per_mol"][0] == pytest.approx(3.12 - 3.12086, abs=1e-5)
    assert frame["specific_humidity_residual_g_per_kg"][0] == pytest.approx(1.94 - 1.94347, abs=1e-4)
    assert frame["spacing_s"].tolist() == [600] * 5


def test_real_year_2020_has_its_known_faults_and_passes() -> None:
    parsed = real(MIRROR, ["mpi_roof_2020a.zip", "mpi_roof_2020b.zip"])
    assert repairs(parsed) == {
        "repeated_rows": 1,
        "contradicting_rows": 0,
        "out_of_order_rows": 0,
        "missing_values": 1,
        "incomplete_rows": 0,
    }
    assert parsed.facts["missing_values"] == {"wind_speed_m_per_s": 1}
    assert parsed.facts["rows_read"] == 26_200 + 26_496
    assert (parsed.facts["gaps"], parsed.facts["longest_gap_minutes"]) == (1, 100)
    frame = validation_frame(parsed)
    assert failures(frame) == set()
    columns = {name: parsed.table[name].to_numpy() for name in COLUMNS}
    stamps = parsed.table["timestamp"].to_numpy()
    for name in COLUMNS[:-1]:
        shifted = columns | {name: np.roll(columns[name], 144)}
        assert failures(validation_frame(parsed_of(shifted, stamps=stamps))), name
    for one, other in itertools.pairwise(COLUMNS):
        swapped = columns | {one: columns[other], other: columns[one]}
        assert failures(validation_frame(parsed_of(swapped, stamps=stamps))), (one, other)


def test_reconstructed_years_pass() -> None:
    halves = [f"mpi_roof_{year}{half}.zip" for year in range(2009, 2015) for half in "ab"][:11]
    parsed = real(DATA / "reconstructed", halves)
    assert parsed.facts["rows"] == 289_001
    assert (parsed.facts["first_stamp"], parsed.facts["last_stamp"]) == ("2009-01-01T00:10:00", "2014-07-01T00:00:00")
    assert failures(validation_frame(parsed)) == set()


def test_the_suite_names_what_is_wrong(sample: Parsed, readings: dict[str, Any]) -> None:
    suite = jena.SPEC.expectations(TableRequest(source="sample"))
    report = run_suite(validation_frame(sample), name="jena", expectations=suite)
    assert [outcome for outcome in report.outcomes if not outcome.success] == []

    missing = readings["temperature_degc"].copy()
    missing[5] = np.nan
    wrong = readings | {"temperature_degc": missing, "wind_speed_m_per_s": readings["wind_speed_m_per_s"] * 2}
    stamps = sample.table["timestamp"].to_numpy().copy()
    stamps[7] = stamps[6]
    report = run_suite(validation_frame(parsed_of(wrong, stamps=stamps)), name="jena", expectations=suite)
    failed = {(outcome.kind, outcome.column): outcome.unexpected_count for outcome in report.outcomes if not outcome.success}
    assert failed.pop(("column_values_to_be_between", "gust_excess_m_per_s")) > 1000
    assert failed.pop(("column_values_to_be_between", "broken_ties_h_of_day")) > 1000
    assert failed.pop(("column_values_to_be_between", "calm_gusts_share_of_month")) > 1000
    assert failed.pop(("column_values_to_be_between", "mean_wind_speed_m_per_s_of_month")) > 1000
    # Both rows that share a stamp count as not unique.
    assert failed == {
        ("column_values_to_not_be_null", "temperature_degc"): 1,
        ("column_values_to_be_unique", "timestamp"): 2,
        ("column_values_to_be_between", "spacing_s"): 1,
    }
