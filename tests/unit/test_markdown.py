"""Reports: what they must say, in tables that are well formed."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scoring_helpers import CLASSES, FORECAST

from tasks.promotion.rule import Check, Decision
from tasks.reporting.collect import champion_warning
from tasks.reporting.figures.curves import learning_curves_png
from tasks.reporting.markdown import (
    markdown_cell,
    markdown_table,
    metrics_rows,
    report_markdown,
    result_rows,
    validation_markdown,
)
from tasks.reporting.run_report import CalibrationResult, IntervalResult, RefitResult, RunReport, VariantResult

BASELINE = VariantResult(
    variant="gru_baseline",
    version=5,
    trained=True,
    validation={"mae_normalised": 0.26049},
    scores={"mae_degc": 2.346, "rmse_degc": 3.104, "bias_degc": -0.118, "skill": 0.0463, "naive_mae_degc": 2.46},
    curves={"loss": [0.4, 0.3, 0.28], "val_loss": [0.32, 0.27, 0.29]},
    epochs_run=3,
    best_epoch=2,
    seconds_per_epoch=9.84,
    parameters=4705,
    tutorial_best=0.2605,
    is_baseline=False,
)
DROPOUT = replace(
    BASELINE, variant="gru_dropout", version=3, trained=False, scores=BASELINE.scores | {"mae_degc": 2.412}, tutorial_best=None
)
CHAMPION = replace(
    BASELINE, variant="gru_baseline", version=4, trained=False, scores=BASELINE.scores | {"mae_degc": 2.401, "skill": 0.024}
)
DECISION = Decision(
    outcome="promoted",
    reason="Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)",
    candidate="v5",
    champion="v4",
    checks=(
        Check("loads in a fresh process", passed=True, detail="same predictions"),
        Check("beats champion v4", passed=True, detail="p | q"),
    ),
)
OUTCOMES = [
    {
        "kind": "column_to_exist",
        "column": "temperature_degc",
        "severity": "critical",
        "success": True,
        "unexpected_count": None,
        "meaning": "there",
    },
    {"kind": "gaps", "column": None, "severity": "info", "success": False, "unexpected_count": 5, "meaning": "five gaps"},
    {
        "kind": "column_values_to_be_between",
        "column": "wind_speed_m_per_s",
        "severity": "warning",
        "success": False,
        "unexpected_count": 12345,
        "meaning": "wind speed is outside 0 | 60\nm/s",
    },
]
REPORT = RunReport(
    dataset="jena",
    title="Jena air temperature, 24 h ahead",
    scoring=FORECAST,
    model_name="jena",
    simulated=False,
    source="station",
    table_version="0123456789ab",
    table_published=True,
    rows={"train": 200_000, "val": 100_000, "test": 120_551},
    repairs=[{"name": "repeated_stamps", "rule": "the later row is dropped", "count": 327, "share": 0.000777, "limit": 0.01}],
    facts={"rows_read": 420_551, "first_stamp": "2009-01-01 00:10:00"},
    validation={"suite": "jena-station", "outcomes": OUTCOMES},
    results=(BASELINE, DROPOUT),
    champion=CHAMPION,
    naive={"mae_degc": 2.4601, "rmse_degc": 3.3, "bias_degc": 0.0, "skill": 0.0},
    decision=DECISION,
    links={"MLflow run": "https://mlflow.example/run/1", "model": "var/mlflow"},
    baseline_comparison="",
    most_wrong=(),
    versions="keras 3.15.1",
    date="2025-01-31",
)


def cells_of(line: str) -> list[str]:
    """Split a table line as GitHub does: at each bar that no backslash escapes."""
    inner = re.fullmatch(r"\|((?:\\.|[^\\])*)\|", line)
    assert inner is not None, line
    return [cell.strip() for cell in re.findall(r"((?:\\.|[^\\|])*)(?:\||$)", inner[1])[:-1]]


def tables_of(markdown: str) -> list[list[list[str]]]:
    blocks = re.findall(r"(?:^\|.*\n?)+", markdown, flags=re.M)
    return [[cells_of(line) for line in block.strip().split("\n")] for block in blocks]


def test_every_table_of_the_report_has_one_width() -> None:
    tables = tables_of(report_markdown(REPORT, pictures={}))
    assert len(tables) == 6
    for table in tables:
        assert {len(line) for line in table} == {len(table[0])}
        assert set(table[1]) == {"---"}


def test_a_champion_that_stays_and_loses_to_the_naive_baseline_is_told_of() -> None:
    kept = replace(DECISION, outcome="kept", reason="Kept champion v4: no significant gain")
    losing = replace(CHAMPION, scores=CHAMPION.scores | {"mae_degc": 3.02, "naive_mae_degc": 2.44})
    warning = champion_warning(losing, decision=kept, scoring=FORECAST)
    assert warning == (
        f"Champion v4 does not beat the naive baseline here (MAE 3.02 °C against 2.44 °C, {FORECAST.primary.naive_label}): "
        "train on newer data, or roll it back"
    )
    assert f"**{warning}.**" in report_markdown(replace(REPORT, champion_warning=warning), pictures={})
    assert champion_warning(losing, decision=DECISION, scoring=FORECAST) == ""  # it goes
    assert champion_warning(CHAMPION, decision=kept, scoring=FORECAST) == ""  # 2.40 beats 2.46
    assert champion_warning(None, decision=kept, scoring=FORECAST) == ""
    # Of another task, so it has no score here.
    other = replace(CHAMPION, scores={"mae_mbar": 1.0, "naive_mae_mbar": 0.5})
    assert champion_warning(other, decision=kept, scoring=FORECAST) == ""


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_no_text_breaks_a_table(rows: list[tuple[str, str]]) -> None:
    lines = markdown_table(["a", "b"], rows=rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert {len(cells_of(line)) for line in lines} == {2}


def test_cells_escape_bars_lines_and_tags() -> None:
    assert markdown_cell("a|b\n c\\") == "a\\|b c\\\\"
    assert markdown_cell("<script>") == "&lt;script>"
    assert markdown_cell("+4.6 %") == "+4.6\N{NO-BREAK SPACE}%"
    assert markdown_table(["head"], rows=[[""]]) == "| head |\n| --- |\n| - |"


def test_the_report_tells_what_changed_and_why() -> None:
    text = report_markdown(REPORT, pictures={})
    assert text.startswith("# Jena air temperature, 24 h ahead: jena\n")
    for sentence in (
        "**Decision:** Promoted v5: MAE 2.35 °C beats champion v4 by 0.06 °C (p = 0.003)\n",
        "- Table version `0123456789ab` from source `station`: published.",
        "- `gru_baseline`: trained as v5, best epoch 2 of 3, 9.8 s an epoch, 4,705 parameters.",
        "- `gru_dropout`: v3 was trained before with the same data and settings; not trained again.",
        "- Champion before this run: gru_baseline v4, scored on the test split of this table.",
        "Rows: train 200,000, val 100,000, test 120,551.",
        "| rows read | 420,551 |",
        "| repeated_stamps | the later row is dropped | 327 | 0.078\N{NO-BREAK SPACE}% | 1\N{NO-BREAK SPACE}% |",
        "| beats champion v4 | yes | p \\| q |",
        "- [MLflow run](<https://mlflow.example/run/1>)",
        "- model: `var/mlflow`",
        "The tutorial prints best *validation* scores",
    ):
        assert sentence in text
    assert "SAMPLE" not in text
    assert "![" not in text


def test_a_refit_says_what_it_cost_and_whose_scores_are_shown() -> None:
    decision = replace(DECISION, refit="v6")
    report = replace(REPORT, decision=decision, refit=RefitResult(version=6, rows=420_551, epochs=2, seconds=31.24))
    assert (
        "- Refit: v6 is v5 trained again on all 420,551 rows (2 epochs, as many as validation chose, 31.2 s), with the "
        "statistics of the train rows. It has no scores of its own: those of v5 are of rows that v5 has not seen.\n"
    ) in report_markdown(report, pictures={})
    assert [row["role"] for row in metrics_rows(report)] == [
        "naive baseline",
        "previous champion",
        "promoted as v6",
        "registered",
    ]


def test_a_refitted_champion_is_shown_by_its_twin_and_says_so() -> None:
    report = replace(REPORT, decision=replace(DECISION, champion="v7", outcome="kept"))
    assert (metrics_rows(report)[1]["model"], metrics_rows(report)[1]["role"]) == ("gru_baseline v4", "champion as v7")
    assert (
        "- Champion before this run: gru_baseline v4, scored on the test split of this table (in use is v7, which is the same "
        "trained again on all rows and has no such score).\n"
    ) in report_markdown(report, pictures={})


def test_a_score_on_seen_rows_says_so() -> None:
    champion = replace(CHAMPION, seen_note="has seen 1,234 of the 7,450 test rows")
    report = replace(REPORT, champion=champion)
    assert metrics_rows(report)[1]["role"] == "previous champion, has seen 1,234 of the 7,450 test rows"
    assert (
        "- Champion before this run: gru_baseline v4, scored on the test split of this table; it has seen 1,234 of the "
        "7,450 test rows, so its scores there may be too good.\n"
    ) in report_markdown(report, pictures={})


def test_a_sample_says_so_before_anything_else() -> None:
    text = report_markdown(replace(REPORT, simulated=True, model_name="jena-sample"), pictures={})
    warning = text.splitlines()[2]
    assert warning.startswith("> **SAMPLE: simulated, not real data.**")
    assert "can never become champion of the real model `jena`" in warning


def test_a_run_that_made_nothing_says_so() -> None:
    old = replace(REPORT, table_published=False, results=(DROPOUT,), champion=None, facts={}, repairs=[])
    text = report_markdown(old, pictures={})
    assert "unchanged, nothing published" in text
    assert "- Champion before this run: none." in text
    assert "The tutorial prints" not in text
    assert "No repair rules." in text


def test_counts_by_column_read_as_text() -> None:
    text = report_markdown(replace(REPORT, facts={"sentinels": {"rain_mm": 1200, "wind": 2}, "null values": {}}), pictures={})
    assert "| sentinels | rain_mm: 1,200, wind: 2 |" in text
    assert "| null values | - |" in text


def test_a_report_does_not_point_to_itself() -> None:
    text = report_markdown(replace(REPORT, links={"report": "https://here.example/report.md"}), pictures={})
    assert "here.example" not in text


def test_the_picture_is_embedded() -> None:
    picture = learning_curves_png(REPORT.results, metric_label="MAE (normalised)")
    (encoded,) = re.findall(
        r"^!\[learning curves\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)$",
        report_markdown(REPORT, pictures={"learning curves": picture}),
        re.M,
    )
    assert base64.b64decode(encoded) == picture


def test_scores_stand_beside_the_naive_baseline_and_the_champion() -> None:
    naive, champion, baseline, dropout = metrics_rows(REPORT)
    assert naive == {
        "model": "naive: temperature 24 h before the target",
        "role": "naive baseline",
        "test MAE (°C)": "2.46",
        "skill": "+0.0 %",
        "test RMSE (°C)": "3.30",
        "test bias (°C)": "+0.00",
        "validation normalised MAE": "-",
        "tutorial's best validation normalised MAE": "-",
    }
    assert (champion["model"], champion["role"], champion["test MAE (°C)"]) == ("gru_baseline v4", "previous champion", "2.40")
    assert baseline == {
        "model": "gru_baseline v5",
        "role": "promoted",
        "test MAE (°C)": "2.35",
        "skill": "+4.6 %",
        "test RMSE (°C)": "3.10",
        "test bias (°C)": "-0.12",
        "validation normalised MAE": "0.2605",
        "tutorial's best validation normalised MAE": "0.2605",
    }
    assert (dropout["role"], dropout["tutorial's best validation normalised MAE"]) == ("registered", "-")


def test_a_classifier_has_its_own_columns() -> None:
    scores = {
        "accuracy": 0.8763,
        "auc": 0.9456,
        "log_loss": 0.3004,
        "calibration_error": 0.021,
        "skill": 0.7526,
        "majority_accuracy": 0.5,
    }
    lstm = replace(BASELINE, variant="lstm", validation={"accuracy": 0.8888}, scores=scores, tutorial_best=0.8888)
    report = replace(
        REPORT,
        scoring=CLASSES,
        results=(lstm,),
        champion=None,
        naive={"accuracy": 0.5, "skill": 0.0},
        decision=replace(DECISION, outcome="kept"),
    )
    naive, row = metrics_rows(report)
    assert naive["test accuracy"] == "0.500"
    assert row == {
        "model": "lstm v5",
        "role": "not promoted",
        "test accuracy": "0.876",
        "skill": "+75.3 %",
        "test AUC": "0.946",
        "test log loss": "0.300",
        "test calibration error": "0.021",
        "validation accuracy": "0.8888",
        "tutorial's best validation accuracy": "0.8888",
    }


def test_intervals_stand_beside_plain_ones_by_level_and_season() -> None:
    winter = IntervalResult(level=80, part="DJF", rows=1_234, coverage=0.812, width=8.166, plain_coverage=0.7, plain_width=8.8)
    whole = replace(winter, level=95, part="whole test split", coverage=0.951)
    markdown = report_markdown(replace(REPORT, intervals=(winter, whole)), pictures={})
    table = next(table for table in tables_of(markdown) if table[0][0] == "level")
    assert table[0] == ["level", "targets in", "rows", "coverage", "mean width (°C)", "plain coverage", "plain width (°C)"]
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in table[2]] == [
        "80 %",
        "DJF",
        "1,234",
        "81.2 %",
        "8.17",
        "70.0 %",
        "8.80",
    ]
    assert table[3][1] == "whole test split"
    assert "## Intervals" in markdown
    assert "## Calibration" not in markdown


def test_the_calibration_error_stands_before_and_after() -> None:
    result = CalibrationResult(temperature=1.2345, error_before=0.03456, error_after=0.0123)
    markdown = report_markdown(replace(REPORT, calibration=result), pictures={})
    table = next(table for table in tables_of(markdown) if table[0][0] == "probability")
    assert table[2:] == [["of the network itself", "0.0346"], ["temperature 1.234", "0.0123"]]


def test_a_candidate_without_intervals_says_why() -> None:
    markdown = report_markdown(replace(REPORT, missing_uncertainty="v2 was scored before"), pictures={})
    assert "## Uncertainty\n\n> **No intervals or calibrated probabilities:** v2 was scored before" in markdown
    assert "## Uncertainty" not in report_markdown(REPORT, pictures={})


def test_the_terminal_table_is_sorted_by_the_test_metric() -> None:
    rows = result_rows(REPORT)
    assert [row["version"] for row in rows] == ["v5", "v4", "v3"]
    assert rows[0] == {
        "variant": "gru_baseline",
        "version": "v5",
        "epochs": "2 of 3",
        "validation normalised MAE": "0.2605",
        "test MAE": "2.35 °C",
        "naive": "2.46 °C",
        "skill": "+4.6 %",
        "decision": "promoted",
    }


def test_higher_accuracy_comes_first() -> None:
    results = tuple(
        replace(BASELINE, version=version, validation={"accuracy": 0.8}, scores={"accuracy": accuracy, "skill": 0.5})
        for version, accuracy in [(1, 0.7), (3, 0.9)]
    )
    report = replace(REPORT, scoring=CLASSES, results=results, champion=None, naive={"accuracy": 0.5, "skill": 0.0})
    assert [(row["version"], row["test accuracy"]) for row in result_rows(report)] == [("v3", "0.900"), ("v1", "0.700")]


@pytest.mark.parametrize(
    ("outcome", "mark", "champion_mark"),
    [
        ("promoted", "promoted", "previous champion"),
        ("kept", "not promoted", "champion"),
        ("manual", "awaits a person", "champion"),
        ("rejected", "rejected", "champion"),
    ],
)
def test_marks_follow_the_decision(outcome: str, mark: str, champion_mark: str) -> None:
    rows = result_rows(replace(REPORT, decision=replace(DECISION, outcome=outcome)))  # type: ignore[arg-type]
    assert {row["version"]: row["decision"] for row in rows} == {"v5": mark, "v4": champion_mark, "v3": "registered"}


def test_a_champion_of_this_run_stands_there_once() -> None:
    rows = result_rows(replace(REPORT, champion=DROPOUT, decision=replace(DECISION, champion="v3", outcome="kept")))
    assert [(row["version"], row["decision"]) for row in rows] == [("v5", "not promoted"), ("v3", "champion")]


def test_validation_counts_by_severity_and_lists_what_failed_worst_first() -> None:
    text = validation_markdown(REPORT)
    assert text.startswith("Suite `jena-station`: 3 expectations.")
    counts, failed = tables_of(text)
    assert counts[2:] == [["critical", "1", "0"], ["warning", "0", "1"], ["info", "0", "1"]]
    assert failed[2:] == [
        ["warning", "wind_speed_m_per_s", "wind speed is outside 0 \\| 60 m/s", "12,345", "-", "column_values_to_be_between"],
        ["info", "-", "five gaps", "5", "-", "gaps"],
    ]


def test_validation_without_failures() -> None:
    assert "Every expectation passed." in validation_markdown(
        replace(REPORT, validation={"suite": "s", "outcomes": OUTCOMES[:1]})
    )


def test_a_report_is_json_ready() -> None:
    assert json.loads(json.dumps(asdict(REPORT)))["results"][0]["curves"]["loss"] == [0.4, 0.3, 0.28]


# --- the picture


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def _inked(png: bytes, colour: tuple[int, int, int]) -> int:
    return int(np.sum(np.abs(_pixels(png) - colour).max(axis=2) < 12))


def test_the_picture_is_small_and_holds_every_variant() -> None:
    long = {"loss": [0.3 + 0.1 / (e + 1) for e in range(40)], "val_loss": [0.33 + 0.1 / (e + 1) for e in range(40)]}
    long |= {"accuracy": [0.9 - 0.2 / (e + 1) for e in range(40)], "val_accuracy": [0.87 - 0.2 / (e + 1) for e in range(40)]}
    shifted = {key: [value + 0.05 for value in values] for key, values in long.items()}
    one = replace(BASELINE, curves=long, epochs_run=40, best_epoch=40)
    png = learning_curves_png([one, replace(DROPOUT, curves=shifted, epochs_run=40)], metric_label="cross-entropy (nats)")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) < 60_000
    assert _inked(png, (0x00, 0x72, 0xB2)) > 300
    assert _inked(png, (0xD5, 0x5E, 0x00)) > 300


def test_accuracy_has_a_panel_of_its_own() -> None:
    alone = _pixels(learning_curves_png([BASELINE], metric_label="loss"))
    curves = BASELINE.curves | {"accuracy": [0.7, 0.8, 0.9], "val_accuracy": [0.7, 0.75, 0.8]}
    both = _pixels(learning_curves_png([replace(BASELINE, curves=curves)], metric_label="loss"))
    assert both.shape[0] > 1.4 * alone.shape[0]
    assert both.shape[1] == alone.shape[1]


def test_the_epoch_that_was_kept_is_ringed() -> None:
    # Without a best epoch in reach, only the ring is missing.
    ringed = learning_curves_png([BASELINE], metric_label="loss")
    bare = learning_curves_png([replace(BASELINE, best_epoch=0)], metric_label="loss")
    assert _inked(ringed, (0x00, 0x72, 0xB2)) > _inked(bare, (0x00, 0x72, 0xB2))


def test_a_resumed_training_is_drawn_at_its_last_epochs() -> None:
    resumed = replace(BASELINE, curves={"loss": [0.3, 0.28], "val_loss": [0.3, 0.31]}, epochs_run=40, best_epoch=0)
    pixels = _pixels(learning_curves_png([resumed], metric_label="loss"))
    columns = np.flatnonzero((np.abs(pixels[60:] - (0x00, 0x72, 0xB2)).max(axis=2) < 12).any(axis=0))
    assert columns.min() > 0.8 * pixels.shape[1]


@pytest.mark.parametrize(
    "curves", [{}, {"loss": [], "val_loss": []}, {"loss": [0.3]}, {"loss": [math.nan, 0.3], "val_loss": [math.nan, math.nan]}]
)
def test_scant_curves_are_drawn_all_the_same(curves: dict[str, list[float]]) -> None:
    png = learning_curves_png([replace(BASELINE, curves=curves, epochs_run=2, best_epoch=1)], metric_label="loss")
    assert png.startswith(b"\x89PNG")
