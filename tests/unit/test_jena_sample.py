"""The simulated Jena weather: deterministic, physically consistent, learnable, with the faults that it promises."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import LAYOUT, dew_point_degc, saturation_vapor_pressure_mbar
from tasks.datasets.jena.sample import SAMPLE_FILE, simulate, simulated_weather, write_csv_zip
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("sample"))[0]


@pytest.fixture(scope="module")
def parsed(sample: Path) -> Parsed:
    return jena.SPEC.parse({SAMPLE_FILE: sample}, TableRequest(source="sample"))


def test_sample_is_the_same_bytes_each_time(sample: Path, tmp_path: Path) -> None:
    (again,) = simulate(tmp_path / "new folder")
    assert again.name == SAMPLE_FILE
    assert again.read_bytes() == sample.read_bytes()


def test_sample_has_the_promised_faults_and_no_others(parsed: Parsed) -> None:
    # 26,000 rows, 7 cut out for the gap (80 minutes = 8 steps), 2 repeated.
    assert parsed.facts["rows_read"] == 25_995
    assert parsed.facts["rows"] == 25_993
    assert {repair.name: repair.count for repair in parsed.repairs} == {
        "repeated_rows": 2,
        "contradicting_rows": 0,
        "out_of_order_rows": 0,
        "missing_values": 1,
        "incomplete_rows": 0,
    }
    assert parsed.facts["missing_values"] == {"wind_speed_m_per_s": 1}
    assert (parsed.facts["gaps"], parsed.facts["longest_gap_minutes"], parsed.facts["missing_rows"]) == (1, 80, 7)


def test_every_split_holds_windows_on_both_sides_of_what_a_window_needs(parsed: Parsed) -> None:
    for name, table in jena.SPEC.split(parsed).tables.items():
        longest = int(table["segment"].value_counts().field(1).to_numpy().max())
        assert longest > 2 * (1440 + 144), name


def test_season_of_the_test_rows_lies_within_that_of_the_train_rows(parsed: Parsed) -> None:
    tables = jena.SPEC.split(parsed).tables
    daily = {
        name: table["temperature_degc"].to_numpy()[: len(table) // 144 * 144].reshape(-1, 144).mean(axis=1)
        for name, table in tables.items()
    }
    for name in ("val", "test"):
        inside = (daily[name] > daily["train"].min()) & (daily[name] < daily["train"].max())
        assert inside.mean() > 0.9, name


def test_pressure_and_wind_direction_foretell_the_next_day_better_than_persistence() -> None:
    weather = simulated_weather(20_000, seed=3, start="2010-05-01T00:00:00")
    temperature = weather["T (degC)"].to_numpy()
    change = temperature[288:] - temperature[144:-144]
    today, yesterday = (weather[["p (mbar)", "wd (deg)"]].to_numpy()[part] for part in (slice(144, -144), slice(None, -288)))
    design = np.column_stack([np.ones(len(today)), today, yesterday])
    left = change - design @ np.linalg.lstsq(design, change, rcond=None)[0]
    assert np.abs(left).mean() < 0.6 * np.abs(change).mean()


def test_weather_has_a_daily_and_a_yearly_cycle() -> None:
    weather = simulated_weather(3 * 52_560, seed=1, start="2010-01-01T00:00:00")
    temperature, stamps = weather["T (degC)"], weather["Date Time"].dt
    assert temperature[stamps.hour == 15].mean() - temperature[stamps.hour == 3].mean() > 4
    assert temperature[stamps.month == 7].mean() - temperature[stamps.month == 1].mean() > 12


def test_same_seed_same_weather_other_seed_other_weather() -> None:
    first, second, third = (simulated_weather(50, seed=seed, start="2010-01-01T00:00:00") for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["T (degC)"].equals(third["T (degC)"])


def test_frame_has_the_upstream_columns_and_ten_minute_stamps() -> None:
    weather = simulated_weather(3, seed=1, start="2012-02-28T23:50:00")
    assert list(weather.columns) == ["Date Time", *(column.header for column in LAYOUT)]
    # 2012 is a leap year.
    assert [str(stamp) for stamp in weather["Date Time"]] == ["2012-02-28 23:50:00", "2012-02-29 00:00:00", "2012-02-29 00:10:00"]


def test_saturation_pressure_at_the_freezing_point_and_the_inverse() -> None:
    # exp(0) = 1 at 0 degC leaves the constant 6.1078 mbar, the vapour pressure of water at the triple point.
    assert saturation_vapor_pressure_mbar(np.array([0.0]))[0] == pytest.approx(6.1078)
    temperatures = np.array([-20.0, 0.0, 15.5, 35.0])
    assert dew_point_degc(saturation_vapor_pressure_mbar(temperatures)) == pytest.approx(temperatures)


def test_csv_has_the_upstream_form(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Date Time": pd.to_datetime(["2009-01-01 00:10:00"]), "p (mbar)": [996.5], "SWDR (W/m²)": [np.nan]})
    path = write_csv_zip(frame, tmp_path / "mpi_roof_2009a.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["mpi_roof_2009a.csv"]
        body = archive.read("mpi_roof_2009a.csv")
    assert body == '"Date Time","p (mbar)","SWDR (W/m²)"\n01.01.2009 00:10:00,996.50,\n'.encode("latin-1")
