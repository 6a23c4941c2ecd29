"""The report of a run, made from a real store and registry."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from storage.io import write_json
from storage.tables import read_table, write_table
from tasks.ingestion.pipeline import write_missing_docs
from tasks.promotion.rule import Check, Decision
from tasks.reporting import collect
from tasks.training.scoring import evaluate_version, read_predictions


def decision(*, candidate: str, champion: str | None, outcome: Any = "promoted") -> Decision:
    checks = (Check(name="loads and predicts the same", passed=True, detail="yes"),)
    return Decision(outcome=outcome, reason="Because of the test", candidate=candidate, champion=champion, checks=checks)


def rendered(trained: Any, **options: Any) -> collect.RenderedReport:
    return collect.run_report(
        trained.table,
        models=(trained.better.model_copy(update={"trained": False}), trained.worse),
        decision=decision(**options),
        registry=trained.registry,
        store=trained.store,
    )


def test_the_plain_values_are_those_of_store_and_registry(trained: Any) -> None:
    plain = rendered(trained, candidate="v1", champion=None).plain
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["dataset"], plain["model"], plain["simulated"], plain["source"]) == ("jena", "jena-sample", True, "sample")
    assert plain["table"] == {"version": trained.table.version, "published": True, "rows": trained.table.rows}
    assert plain["decision"] == {
        "outcome": "promoted",
        "reason": "Because of the test",
        "candidate": "v1",
        "champion": None,
        "refit": None,
    }
    assert plain["refit"] is None
    assert [(result["version"], result["trained"]) for result in plain["results"]] == [(1, False), (2, True)]
    for result in plain["results"]:
        version = trained.registry.version("jena-sample", result["version"])
        assert result["scores"]["mae_degc"] == version.metrics["mae_degc"]
        assert result["validation"] == {"mae_normalised": version.metrics["val_loss"]}
    # The sample's faults: two repeated stamps, and one -9999.
    assert {repair["name"]: repair["count"] for repair in plain["repairs"]} == {
        "repeated_rows": 2,
        "contradicting_rows": 0,
        "out_of_order_rows": 0,
        "missing_values": 1,
        "incomplete_rows": 0,
    }


def test_the_naive_baseline_is_scored_on_the_same_rows(trained: Any) -> None:
    plain = rendered(trained, candidate="v1", champion=None).plain
    version = trained.registry.version("jena-sample", 1)
    evaluation = evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    seen = read_predictions(evaluation, table=trained.table, store=trained.store)
    error = np.abs(seen["naive"].astype(float) - seen["truth"])
    assert plain["naive"]["mae_degc"] == pytest.approx(error.mean(), rel=1e-6)
    assert plain["naive"]["skill"] == pytest.approx(0.0, abs=1e-9)
    assert plain["naive"]["mae_degc"] == pytest.approx(evaluation.scores["naive_mae_degc"], rel=1e-6)


def test_the_report_says_sample_decision_scores_and_champion(trained: Any) -> None:
    report = rendered(trained, candidate="v2", champion="v1", outcome="kept")
    assert "SAMPLE" in report.markdown.upper()
    assert "Because of the test" in report.markdown
    assert "Champion before this run: gru_baseline v1, scored on the test split of this table" in report.markdown
    assert "data:image/png;base64," in report.markdown
    assert trained.table.version in report.markdown
    assert any("temperature 24 h before the target" in value for value in report.metrics[0].values())
    assert [row["model"] for row in report.metrics[1:]] == ["gru_baseline v1", "gru_baseline v2"]
    assert "113 expectations" in report.validation
    assert "Every expectation passed." in report.validation


def test_a_run_without_a_champion_says_so(trained: Any) -> None:
    assert "Champion before this run: none." in rendered(trained, candidate="v1", champion=None).markdown


def test_the_report_is_kept_beside_the_data_docs(trained: Any) -> None:
    report = rendered(trained, candidate="v1", champion=None)
    collect.save_report(report, table=trained.table, store=trained.store)
    folder = trained.store.report_folder("jena", trained.table.version)
    assert (folder / "report.md").read_text(encoding="utf-8") == report.markdown
    write_missing_docs("jena", store=trained.store)
    assert report.plain["links"]["report"] == str(folder / "report.html")
    assert "<table>" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "index.html").is_file()


def test_pictures_that_would_show_the_same_are_not_drawn_again(trained: Any) -> None:
    first = rendered(trained, candidate="v1", champion=None)
    collect.save_report(first, table=trained.table, store=trained.store)
    drawn = trained.store.report_folder("jena", trained.table.version) / "learning-curves.png"
    assert drawn.read_bytes() == first.pictures["learning curves"]
    drawn.write_bytes(b"taken from the file")
    again = rendered(trained, candidate="v1", champion=None)
    assert again.pictures == {**first.pictures, "learning curves": b"taken from the file"}
    assert rendered(trained, candidate="v2", champion=None).pictures["learning curves"] == first.pictures["learning curves"]
    drawn.unlink()
    assert rendered(trained, candidate="v1", champion=None).pictures == first.pictures


def test_the_report_tells_how_the_candidates_intervals_held(trained: Any) -> None:
    report = rendered(trained, candidate="v1", champion=None)
    version = trained.registry.version("jena-sample", 1)
    whole = {entry["level"]: entry for entry in report.plain["intervals"] if entry["part"] == "whole test split"}
    for level in (80, 95):
        assert whole[level]["coverage"] == version.metrics[f"coverage_{level}"]
        assert whole[level]["width"] == version.metrics[f"interval_width_{level}_degc"]
        assert whole[level]["plain_coverage"] == pytest.approx(version.metrics[f"plain_coverage_{level}"], abs=1e-3)
        seasons = [
            entry for entry in report.plain["intervals"] if entry["level"] == level and entry["part"] != "whole test split"
        ]
        assert sum(entry["rows"] for entry in seasons) == whole[level]["rows"] == version.metrics["rows"]
        held = sum(entry["rows"] * entry["coverage"] for entry in seasons)
        assert held / whole[level]["rows"] == pytest.approx(whole[level]["coverage"])
    assert "## Intervals" in report.markdown
    assert "coverage of the intervals by month" in report.pictures
    assert report.plain["calibration"] is None


def test_an_evaluation_of_before_is_reported_without_intervals(trained: Any) -> None:
    version = trained.registry.version("jena-sample", 1)
    evaluation = evaluate_version(version, table=trained.table, registry=trained.registry, store=trained.store)
    path = trained.store.evaluation(trained.table.version, evaluation.training_key)
    whole, record = path.read_bytes(), path.with_suffix(".json").read_bytes()
    write_table(read_table(path).select(["prediction", "truth", "naive", "row"]), path)
    write_json(path.with_suffix(".json"), evaluation.scores)
    try:
        report = rendered(trained, candidate="v1", champion=None)
    finally:
        path.write_bytes(whole)
        path.with_suffix(".json").write_bytes(record)
    assert report.plain["intervals"] == []
    assert "gru_baseline v1 was scored before versions kept intervals" in report.markdown
