"""Verdicts, what is new since the last run, repairs, texts, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from monitoring_helpers import DAY

from storage.layout import Store
from storage.registry import Registry
from tasks.config import MonitorSettings
from tasks.datasets.imdb.spec import train_profile
from tasks.datasets.spec import TextProfile
from tasks.monitoring.faults import Fault
from tasks.monitoring.figures import watch_pictures
from tasks.monitoring.findings import Finding, Watch, fault_finding, performance_finding, since_last
from tasks.monitoring.repairs import repair_findings
from tasks.monitoring.report import MonitorReport, finding_rows, metric_history, report_markdown, score_rows, threshold_rows
from tasks.monitoring.reviews import watch_reviews
from tasks.prediction.issued import REVIEWS_SCHEMA

SETTINGS = MonitorSettings()
FAULT = Finding("fault", "t", "fault", "fault of t", "t is stuck", {"hours": 9.0})
WEATHER = Finding("drift", "p", "weather", "unusual weather / change of climate", "p is high", {"psi": 3.0})


def test_errors_are_put_down_to_a_fault_before_the_weather() -> None:
    def cause(*others: Finding) -> str:
        return performance_finding("coverage", reason="low", numbers={}, others=others).cause

    assert cause(WEATHER, FAULT) == "fault"
    assert cause(WEATHER) == "weather"
    assert cause() == "drift"


def test_a_finding_that_stands_keeps_its_day_and_is_not_new() -> None:
    first = since_last([FAULT], last=[], day="2020-03-01")
    assert [(finding.since, finding.is_new) for finding in first] == [("2020-03-01", True)]
    second = since_last([FAULT, WEATHER], last=[finding.as_dict() for finding in first], day="2020-03-02")
    assert [(finding.since, finding.is_new) for finding in second] == [("2020-03-01", False), ("2020-03-02", True)]
    # A fault has the first day that shows it, which may be before the day of the run.
    seen = fault_finding(Fault(columns=("t",), day="2020-02-28", reason="it is stuck", numbers={}))
    assert since_last([seen], last=[], day="2020-03-01")[0].since == "2020-02-28"
    # What was gone for a run is new again.
    gone = since_last([], last=[finding.as_dict() for finding in second], day="2020-03-03")
    assert since_last([FAULT], last=[finding.as_dict() for finding in gone], day="2020-03-04")[0].is_new


def manifest(*, rows: int, missing: int, source: str = "station") -> dict[str, Any]:
    # Missing values are counted among 10 readings a row.
    repairs = [
        {"name": "missing_values", "count": missing, "share": missing / (10 * rows), "limit": 0.005},
        {"name": "repeated_rows", "count": rows // 2, "share": 0.5, "limit": 1.0},
    ]
    return {"source": source, "facts": {"rows_read": rows}, "repairs": repairs}


def test_repairs_of_the_added_rows_are_compared_with_those_of_before() -> None:
    # 100 rows were added with 1,000 readings, of which 60 are missing: 6 %, where 100 of 10,000 were before, 1 %.
    (finding,) = repair_findings(manifest(rows=1100, missing=160), trained=manifest(rows=1000, missing=100), settings=SETTINGS)
    assert (finding.subject, finding.verdict) == ("share of missing_values", "fault of the source")
    assert finding.numbers["share among the added rows"] == pytest.approx(0.06)
    assert finding.numbers["share before"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("newest", "trained"),
    [
        (manifest(rows=1100, missing=140), manifest(rows=1000, missing=100)),  # 4 %
        (manifest(rows=1100, missing=360), manifest(rows=1000, missing=1000)),  # fewer than before
        (manifest(rows=1100, missing=480), manifest(rows=1000, missing=400)),  # 8 %, less than 3 times 4 %
        (manifest(rows=1000, missing=160), manifest(rows=1000, missing=100)),  # no row was added
        (manifest(rows=1100, missing=160, source="file"), manifest(rows=1000, missing=100)),
    ],
    ids=["few", "fewer", "as_before", "no_rows", "another_source"],
)
def test_no_finding_on_repairs(newest: dict[str, Any], trained: dict[str, Any]) -> None:
    assert repair_findings(newest, trained=trained, settings=SETTINGS) == ()


# Texts.

NOW = np.datetime64("2026-03-01T12:00:00")


def reviews(*, tokens: np.ndarray, unknown: np.ndarray, probability: np.ndarray, at: Any = NOW) -> pa.Table:
    count = len(tokens)
    columns = {
        "model": ["imdb"] * count,
        "model_version": np.ones(count, dtype=np.int32),
        "input_digest": [str(row) for row in range(count)],
        "issued_at": np.broadcast_to(np.asarray(at), count),
        "label": np.where(probability > 0.5, "positive", "negative"),
        "probability": probability.astype(np.float32),
        "raw_probability": probability.astype(np.float32),
        "tokens": tokens.astype(np.int32),
        "unknown_share": unknown.astype(np.float32),
    }
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in REVIEWS_SCHEMA], schema=REVIEWS_SCHEMA)


@pytest.fixture(scope="module")
def profile() -> TextProfile:
    random = np.random.default_rng(1)
    values = {
        "tokens": random.integers(20, 500, 5000),
        "unknown_share": random.beta(2, 30, 5000),
        "probability": random.integers(0, 2, 5000).astype(float),
    }
    return TextProfile(values, largest={"tokens": 500})


def found(profile: TextProfile, **changes: Any) -> list[str]:
    random = np.random.default_rng(2)
    usual = {
        "tokens": random.integers(20, 500, 300),
        "unknown": random.beta(2, 30, 300),
        "probability": random.uniform(0, 1, 300),
    }
    return [finding.subject for finding in watch_reviews(reviews(**usual | changes), profile=profile, settings=SETTINGS).findings]


def test_texts_like_those_that_trained_have_not_drifted(profile: TextProfile) -> None:
    assert found(profile) == []


def test_other_texts_have(profile: TextProfile) -> None:
    random = np.random.default_rng(3)
    assert found(profile, tokens=random.integers(1, 12, 300)) == ["tokens"]
    assert found(profile, unknown=random.beta(20, 30, 300)) == ["unknown_share"]
    # Beyond every training text too.
    assert found(profile, unknown=np.full(300, 0.99)) == ["unknown_share"]
    assert found(profile, probability=random.uniform(0.5, 1, 300)) == ["class share"]
    # A text longer than any that training reads whole is cut there too.
    assert found(profile, tokens=np.where(np.arange(300) < 20, 5000, random.integers(20, 500, 300))) == []


def test_few_texts_of_the_same_kind_hardly_ever_drift_by_chance() -> None:
    # Bounds of some standard errors are passed by chance in few of many draws: draws are counted, and not one looked at.
    reference = {"tokens": np.arange(1, 1001), "unknown_share": np.linspace(0, 0.2, 1000), "probability": np.full(1000, 0.5)}
    alarms = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        count = 20 + seed % 41
        rows = random.integers(0, 1000, count)
        tokens, unknown = reference["tokens"][rows], reference["unknown_share"][rows]
        issued = reviews(tokens=tokens, unknown=unknown, probability=np.full(count, 0.5))
        alarms += bool(watch_reviews(issued, profile=TextProfile(reference), settings=SETTINGS).findings)
    assert alarms <= 2


def test_few_texts_are_not_judged_and_no_texts_say_so(profile: TextProfile) -> None:
    few = reviews(tokens=np.ones(3), unknown=np.ones(3), probability=np.ones(3))
    assert watch_reviews(few, profile=profile, settings=SETTINGS).notes == (
        "Nothing to compare yet: fewer than 20 texts in 30 days.",
    )
    none = watch_reviews(few.slice(0, 0), profile=profile, settings=SETTINGS)
    assert none.notes == ("Nothing to compare yet: no prediction was issued.",)


def test_only_the_newest_weeks_of_texts_are_compared(profile: TextProfile) -> None:
    random = np.random.default_rng(4)
    at = np.where(np.arange(300) < 100, NOW - 60 * DAY, NOW)
    short_before = np.where(np.arange(300) < 100, 3, random.integers(20, 500, 300))
    assert found(profile, tokens=short_before, at=at) == []


def test_the_profile_of_the_training_reviews_by_hand() -> None:
    # 1 starts a review and is no word, 2 is a word outside the vocabulary.
    tokens = pa.array([[1, 2, 9, 2, 7], [5, 2]], type=pa.list_(pa.uint16()))
    table = pa.table({"tokens": tokens, "label": pa.array([1, 0], type=pa.int8())})
    profile = train_profile({"train": table})
    assert profile.values["tokens"].tolist() == [4, 2]
    assert profile.values["unknown_share"].tolist() == [0.5, 0.5]
    assert profile.values["probability"].tolist() == [1.0, 0.0]


# The page.


def entry(day: int, *, mae: float) -> dict[str, float]:
    return {
        "day": float(day),
        "forecasts": 30.0,
        "mae": mae,
        "naive_mae": 3.0,
        "bias": -0.5,
        "coverage_80": 0.8,
        "coverage_95": 0.9,
    }


REPORT = MonitorReport(
    model="jena",
    champion=7,
    simulated=True,
    table="0123456789ab",
    title="Weather",
    findings=since_last([FAULT, WEATHER], last=[], day="2020-03-01"),
    watch=Watch(
        notes=("a note",),
        drift=({"day": "2020-03-01", "column": "p", "psi": 3.0, "wasserstein_std": 2.0, "excess": 1.5},),
        errors=(entry(18_321, mae=2.0), entry(18_322, mae=2.5)),
        seasons={"March to May": entry(0, mae=2.5)},
        hours={"12": entry(0, mae=2.5)},
        thresholds={"p": {"psi": 2.0, "wasserstein_std": 1.25, "comparisons": 9}},
        outcomes=60,
        predictions=61,
        day="2020-03-01",
    ),
    unit="°C",
    settings=SETTINGS.model_dump(),
    made_at="2020-03-02T02:30:00+00:00",
)


def test_the_summary_tells_every_verdict_once() -> None:
    assert REPORT.summary == "jena@7 until 2020-03-01: fault of t; p: unusual weather / change of climate"
    assert replace(REPORT, findings=()).summary == "jena@7 until 2020-03-01: as it was when it was trained"
    none = replace(REPORT, findings=(), watch=Watch(notes=("Nothing to compare yet: no prediction was issued.",)))
    assert none.summary == "jena@7: Nothing to compare yet: no prediction was issued"


def test_the_report_goes_through_json() -> None:
    written = json.loads(json.dumps(REPORT.as_dict()))
    history = {"errors": REPORT.watch.errors, "drift": REPORT.watch.drift}
    assert MonitorReport.from_dict(written, history=history) == REPORT
    assert MonitorReport.from_dict(written).watch.errors == REPORT.watch.errors[-1:]


def test_the_rows_for_people() -> None:
    assert [row["since"] for row in finding_rows(REPORT.findings)] == ["2020-03-01 (new)"] * 2
    assert score_rows(REPORT)[0] == {
        "when": "last 28 days",
        "forecasts": "30",
        "MAE (°C)": "2.50",
        "persistence MAE (°C)": "3.00",
        "bias (°C)": "-0.50",
        "in the 80 % interval": "80 %",
        "in the 95 % interval": "90 %",
    }
    assert threshold_rows(REPORT) == [("p", "3.00", "2.00", "2.00", "1.25")]


def test_the_page_has_findings_notes_scores_and_pictures() -> None:
    pictures = watch_pictures(REPORT.watch, unit="°C")
    assert list(pictures) == ["rolling error", "coverage of the intervals", "drift of the inputs", "error by season and by hour"]
    assert all(png.startswith(b"\x89PNG") and len(png) < 60_000 for png in pictures.values())
    page = report_markdown(REPORT, pictures=pictures)
    for text in ("SAMPLE", "fault of t", "a note", "-0.50", "| p | 3.00 | 2.00 |"):
        assert text in page
    assert page.count("data:image/png;base64,") == 4
    assert watch_pictures(Watch(), unit="") == {}


def test_metrics_over_time_are_logged_once(tmp_path: Any) -> None:
    registry = Registry.open(Store.at(tmp_path))
    history = metric_history(REPORT)
    assert history["mae"] == [(18_321, 2.0), (18_322, 2.5)]
    assert history["drift/p"] == [(18_322, 1.5)]
    opened = registry.metric_history("jena-monitoring", run_name="jena")
    assert opened.append({"mae": history["mae"][:1]}) == 1
    again = registry.metric_history("jena-monitoring", run_name="jena")
    assert (again.run_id, again.last_step) == (opened.run_id, 18_321)
    assert again.append({"mae": history["mae"]}) == 1
    assert again.append({"mae": history["mae"]}) == 0
    logged = registry._client.get_metric_history(opened.run_id, "mae")
    assert [(metric.step, metric.value) for metric in logged] == history["mae"]
