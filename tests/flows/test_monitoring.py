"""The flow `monitor` on real stores: before and after predictions, with a fault, again, and with what is missing."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from flow_helpers import WarmCommand, contents, query
from mlflow.tracking import MlflowClient

from storage.layout import Store
from storage.tables import read_manifest, read_splits, write_manifest, write_table
from tasks.datasets.spec import SPLITS
from tasks.ingestion.pipeline import table_ref
from tasks.prediction.issued import REVIEWS_SCHEMA, SERIES_SCHEMA, TABLE, append_issued

MODEL, TARGET = "jena-sample", "temperature_degc"
DAY = np.timedelta64(86_400, "s")
HALF_WIDTHS = {80: 4.0, 95: 8.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, warm: WarmCommand) -> Path:
    """A store whose champion is a ridge regression, which takes seconds."""
    home = tmp_path_factory.mktemp("monitored") / "var"
    done = warm("run", "jena", "--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit", home=home)
    assert done.code == 0, done.err
    return home


def copy_of(home: Path, *, to: Path) -> Path:
    """Return a copy of a store. Its registry keeps the places of artifacts, which are read from the store that it was."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("prefect", ".scratch"))
    return to


def series_of(home: Path) -> tuple[Store, str, np.ndarray, np.ndarray]:
    """Return the store, its table, and stamps and temperatures of all rows."""
    store = Store.at(home)
    version = max(path.name for path in (home / "tables" / "jena").iterdir())
    splits, manifest = read_splits(table_ref("jena", version=version, store=store, published=False), store=store)
    normalisation = manifest["normalisation"]
    mean, std = normalisation["mean"][TARGET], normalisation["std"][TARGET]
    stamp = np.concatenate([splits[name]["timestamp"].to_numpy() for name in SPLITS]).astype("datetime64[s]")
    return store, version, stamp, np.concatenate([splits[name][TARGET].to_numpy() for name in SPLITS]) * std + mean


def issue(home: Path, *, days: int, error_degc: float) -> int:
    """Issue a forecast an hour for the newest days of the table, each wrong by as much, and persistence by a degree."""
    store, _, stamp, measured = series_of(home)
    rows = np.flatnonzero(stamp > stamp[-1] - days * DAY)[::6]
    forecast = measured[rows] + error_degc
    columns: dict[str, Any] = {
        "model": [MODEL] * len(rows),
        "model_version": np.ones(len(rows)),
        "input_digest": [f"{row:016x}" for row in rows],
        "issued_at": stamp[rows] - DAY,
        "origin": [TABLE] * len(rows),
        "as_of": stamp[rows] - DAY,
        "target_time": stamp[rows],
        "prediction": forecast,
        "persistence": measured[rows] + 1,
    }
    for level, half in HALF_WIDTHS.items():
        columns |= {f"lower_{level}": forecast - half, f"upper_{level}": forecast + half}
    table = pa.table([pa.array(columns[field.name]).cast(field.type) for field in SERIES_SCHEMA], schema=SERIES_SCHEMA)
    return int(append_issued(table, model_name=MODEL, store=store).num_rows)


def plant(home: Path) -> None:
    """Let the last two days of the table have a temperature that is three degrees too high, in that column alone."""
    store, version, *_ = series_of(home)
    folder = store.table_folder("jena", version)
    manifest = read_manifest(folder)
    test = read_splits(table_ref("jena", version=version, store=store, published=False), store=store)[0]["test"]
    stamp = test["timestamp"].to_numpy().astype("datetime64[s]")
    wrong = test[TARGET].to_numpy() + 3 / manifest["normalisation"]["std"][TARGET] * (stamp > stamp[-1] - 2 * DAY)
    place = test.column_names.index(TARGET)
    write_table(test.set_column(place, TARGET, pa.array(wrong.astype(np.float32))), folder / "test.parquet")
    write_manifest(folder, {name: value for name, value in manifest.items() if name != "files"})


def events(warm: WarmCommand, *, kind: str, expected: int) -> list[dict[str, Any]]:
    """Return the payloads of events of a kind; the server stores them within moments."""
    rows: list[tuple[Any, ...]] = []
    for _ in range(60):
        rows = query(warm.home, f"SELECT payload, resource FROM events WHERE event = 'retrain.{kind}' ORDER BY occurred")
        if len(rows) >= expected:
            break
        time.sleep(0.5)
    return [{**json.loads(payload), "resource": json.loads(resource)} for payload, resource in rows]


def test_before_the_first_prediction_the_run_says_so(trained: Path, warm: WarmCommand, tmp_path: Path) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    done = warm("monitor", MODEL, home=home)
    assert done.code == 0, done.err
    assert "Nothing to compare yet: no prediction was issued." in done.out
    assert "SAMPLE" in done.out
    result = warm("monitor", MODEL, "--json", home=home).json
    assert result["findings"] == []
    # Half a year cannot tell a season from drift.
    assert any("no two years" in note for note in result["watch"]["notes"])


def test_good_forecasts_are_scored_over_time_and_a_second_run_finds_the_same(
    trained: Path, warm: WarmCommand, tmp_path: Path
) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    assert issue(home, days=10, error_degc=0.5) == 240
    done = warm("monitor", MODEL, home=home)
    assert done.code == 0, done.err
    first = contents(home)
    result = warm("monitor", MODEL, "--json", home=home).json
    assert contents(home) == first
    assert result["findings"] == []
    newest = result["watch"]["newest_errors"]
    # Every forecast is half a degree too high, and its interval holds what was measured.
    assert newest["mae"] == pytest.approx(0.5, abs=1e-3)
    assert newest["bias"] == pytest.approx(0.5, abs=1e-3)
    assert newest["naive_mae"] == pytest.approx(1, abs=1e-3)
    assert (newest["coverage_80"], newest["coverage_95"]) == (1, 1)
    folder = Path(result["folder"])
    assert {path.name for path in folder.iterdir()} >= {"manifest.json", "report.md", "errors.parquet", "rolling-error.png"}
    assert "0.50" in done.out
    client = MlflowClient(f"sqlite:///{home}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(f"{MODEL}-monitoring").experiment_id])
    logged = client.get_metric_history(run.info.run_id, "mae")
    assert [metric.value for metric in logged] == pytest.approx([0.5] * len(logged), abs=1e-3)
    days = [metric.step for metric in logged]
    assert days == list(range(days[0], days[-1] + 1))
    assert len(days) >= 9


def test_forecasts_of_the_command_predict_are_scored_where_the_version_has_not_seen_their_target(
    trained: Path, warm: WarmCommand, tmp_path: Path
) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    _, version, stamp, _ = series_of(home)
    validation_ends = np.datetime64(read_manifest(home / "tables" / "jena" / version)["bounds"]["val"]["last_stamp"])
    first = validation_ends - 5 * DAY
    assert warm("predict", MODEL, "--from", str(first), "--every-rows", "6", home=home).code == 0
    result = warm("monitor", MODEL, "--json", home=home).json
    # A forecast lies a day and a row behind its window. Targets up to the end of validation were seen; those after the last
    # reading were not measured.
    hours = (stamp[-1] - validation_ends) / np.timedelta64(3600, "s")
    assert sum(season["forecasts"] for season in result["watch"]["seasons"].values()) == result["watch"]["outcomes"]
    assert result["watch"]["outcomes"] == pytest.approx(hours, abs=2)
    assert result["watch"]["predictions"] - result["watch"]["outcomes"] == pytest.approx(24, abs=2)


def test_a_planted_fault_is_an_event_once_and_no_drift(trained: Path, warm: WarmCommand, tmp_path: Path) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    plant(home)
    before = len(events(warm, kind="fault", expected=0))
    done = warm("monitor", MODEL, home=home)
    assert done.code == 0, done.err
    assert f"fault of {TARGET}" in done.out
    told = events(warm, kind="fault", expected=before + 1)[before:]
    assert [finding["verdict"] for event in told for finding in event["findings"]] == [f"fault of {TARGET}"]
    assert told[0]["resource"]["retrain.faults"] == TARGET
    assert warm("monitor", MODEL, home=home).code == 0
    # Other predictions are another run, in which the fault is not new.
    issue(home, days=10, error_degc=0.5)
    result = warm("monitor", MODEL, "--json", home=home).json
    assert [(finding["verdict"], finding["is_new"]) for finding in result["findings"]] == [(f"fault of {TARGET}", False)]
    assert len(events(warm, kind="fault", expected=before + 1)) == before + 1


def test_errors_that_have_become_too_large_are_an_event(trained: Path, warm: WarmCommand, tmp_path: Path) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    issue(home, days=10, error_degc=30)
    before = len(events(warm, kind="performance", expected=0))
    result = warm("monitor", MODEL, "--json", home=home).json
    assert {finding["subject"] for finding in result["findings"]} == {"mean absolute error", "coverage"}
    (told,) = events(warm, kind="performance", expected=before + 1)[before:]
    assert told["resource"]["prefect.resource.id"] == f"retrain.model.{MODEL}"
    assert told["resource"]["retrain.faults"] == "none"


@pytest.mark.slow
def test_texts_are_compared_with_those_that_trained(warm: WarmCommand, tmp_path: Path) -> None:
    home = tmp_path / "var"
    options = ("--data", "sample", "--variants", "tfidf_logistic", "--allow-baselines", "--no-refit")
    assert warm("run", "imdb", *options, home=home).code == 0
    count = 200
    columns: dict[str, Any] = {
        "model": ["imdb-sample"] * count,
        "model_version": np.ones(count),
        "input_digest": [f"{row:016x}" for row in range(count)],
        "issued_at": np.repeat(np.datetime64("2026-03-01T12:00:00"), count),
        "label": ["positive"] * count,
        "probability": np.full(count, 0.9),
        "raw_probability": np.full(count, 0.9),
        "tokens": np.full(count, 3),
        "unknown_share": np.full(count, 0.9),
    }
    table = pa.table([pa.array(columns[field.name]).cast(field.type) for field in REVIEWS_SCHEMA], schema=REVIEWS_SCHEMA)
    append_issued(table, model_name="imdb-sample", store=Store.at(home))
    result = warm("monitor", "imdb-sample", "--json", home=home).json
    assert {finding["subject"] for finding in result["findings"]} == {"tokens", "unknown_share", "class share"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "model 'nothing' has no versions"),
        ((MODEL, "--drift-days", "3"), "--drift-days is 3"),
        ((MODEL, "--drift-factor", "0.5"), "--drift-factor is 0.5"),
    ],
    ids=["no_model", "few_days", "small_factor"],
)
def test_faults_of_input_are_one_line(
    trained: Path, warm: WarmCommand, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    before = contents(home)
    done = warm("monitor", *arguments, home=home)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert {name: digest for name, digest in contents(home).items() if not name.startswith(("prefect/", "mlflow/"))} == {
        name: digest for name, digest in before.items() if not name.startswith("mlflow/")
    }


def test_a_store_without_a_table_says_what_to_run(trained: Path, warm: WarmCommand, tmp_path: Path) -> None:
    home = copy_of(trained, to=tmp_path / "var")
    shutil.rmtree(home / "tables")
    done = warm("monitor", MODEL, home=home)
    assert done.code == 2
    assert "run `retrain ingest jena` first" in done.err
