"""The runner of expectations: outcomes, severities, Data Docs and the line for a person."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from tasks.datasets.spec import Expectation, Severity
from tasks.ingestion.gx import write_data_docs
from tasks.ingestion.outcomes import Outcome, ValidationReport, rejected_message
from tasks.ingestion.validation import run_suite

FRAME = pd.DataFrame(
    {
        "speed": np.array([0.5, 2.0, -1.0, np.nan, 9.0], dtype=np.float32),
        "place": np.array([1, 2, 3, 4, 4], dtype=np.int16),
        "word": ["a", "b", "a", "secretword", "a"],
    }
)


def expect(kind: str, severity: Severity = "critical", **arguments: Any) -> Expectation:
    return Expectation(kind=kind, arguments=arguments, severity=severity, meaning=f"Meaning of {kind}.")


def run_one(kind: str, severity: Severity = "critical", **arguments: Any) -> Outcome:
    (outcome,) = run_suite(FRAME, name="suite", expectations=(expect(kind, severity, **arguments),)).outcomes
    return outcome


def test_rows_against_a_range_are_counted() -> None:
    # -1 and 9 lie outside; the missing value is judged by no range, so the share is 2 of 4.
    outcome = run_one("column_values_to_be_between", column="speed", min_value=0, max_value=3)
    assert not outcome.success
    assert (outcome.unexpected_count, outcome.unexpected_share) == (2, 0.5)
    assert outcome.column == "speed"
    assert outcome.meaning == "Meaning of column_values_to_be_between."
    assert outcome.expected == "values to be between (min_value 0, max_value 3)"


@pytest.mark.parametrize(("mostly", "success"), [(0.5, True), (0.6, False)])
def test_mostly_leaves_room(mostly: float, success: bool) -> None:
    outcome = run_one("column_values_to_be_between", column="speed", min_value=0, max_value=3, mostly=mostly)
    assert outcome.success is success


@pytest.mark.parametrize(
    ("kind", "arguments", "count"),
    [
        ("column_values_to_not_be_null", {"column": "speed"}, 1),
        ("column_values_to_be_unique", {"column": "place"}, 2),
        ("column_values_to_be_in_set", {"column": "word", "value_set": ["a", "b"]}, 1),
        # 4 >= 9 is wrong; so is a pair of which one value is missing.
        ("column_pair_values_a_to_be_greater_than_b", {"column_A": "place", "column_B": "speed", "or_equal": True}, 2),
    ],
)
def test_kinds_by_their_snake_case_name(kind: str, arguments: dict[str, Any], count: int) -> None:
    outcome = run_one(kind, **arguments)
    assert (outcome.success, outcome.unexpected_count) == (False, count)


def test_an_aggregate_tells_what_it_saw() -> None:
    outcome = run_one("column_mean_to_be_between", column="place", min_value=0, max_value=1)
    assert (outcome.success, outcome.observed, outcome.unexpected_count) == (False, "2.8", None)
    assert run_one("table_row_count_to_equal", value=5).success


def test_types_are_those_of_the_frame_given() -> None:
    assert run_one("column_values_to_be_of_type", column="speed", type_="float32").success
    assert run_one("column_values_to_be_of_type", column="place", type_="int64").observed == "int16"
    assert FRAME.dtypes.astype(str).to_dict()["speed"] == "float32"


def test_a_missing_column_is_an_outcome() -> None:
    outcome = run_one("column_values_to_not_be_null", column="pressure")
    assert (outcome.success, outcome.observed) == (False, "no column pressure")
    outcome = run_one("column_pair_values_to_be_equal", column_A="place", column_B="pressure")
    assert (outcome.success, outcome.observed) == (False, "no column pressure")
    assert run_one("table_columns_to_match_set", column_set=["speed", "pressure"]).observed is not None


def test_what_cannot_be_evaluated_has_failed() -> None:
    outcome = run_one("column_values_to_be_between", column="word", min_value=0, max_value=3)
    assert not outcome.success
    assert outcome.observed is not None
    assert outcome.observed.startswith("could not be evaluated: ")


def test_outcomes_keep_the_order_and_twins_are_both_there() -> None:
    suite = (
        expect("column_values_to_not_be_null", column="word"),
        expect("column_values_to_be_of_type", column="place", type_="int16"),
        expect("column_values_to_not_be_null", column="place"),
        expect("column_values_to_not_be_null", column="word"),
    )
    outcomes = run_suite(FRAME, name="suite", expectations=suite).outcomes
    assert [outcome.column for outcome in outcomes] == ["word", "place", "place", "word"]
    assert [outcome.kind for outcome in outcomes] == [expectation.kind for expectation in suite]


@pytest.mark.parametrize(
    ("failing", "highest", "passed"),
    [
        ((), None, True),
        (("info",), "info", True),
        (("info", "warning"), "warning", True),
        (("warning", "critical", "info"), "critical", False),
    ],
)
def test_the_gate_is_the_highest_failed_severity(failing: tuple[Severity, ...], highest: Severity | None, passed: bool) -> None:
    suite = [expect("column_values_to_not_be_null", "critical", column="word")]
    suite += [expect("column_values_to_not_be_null", severity, column="speed") for severity in failing]
    report = run_suite(FRAME, name="suite", expectations=tuple(suite))
    assert report.highest_failed_severity == highest
    assert report.passed_critical is passed


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (expect("column_values_to_be_lovely", column="word"), "unknown expectation 'column_values_to_be_lovely'"),
        (expect("column_values_to_not_be_null", "fatal", column="word"), "unknown severity 'fatal'"),  # type: ignore[arg-type]
        (expect("column_values_to_be_between", column="speed", minimum=1), "does not take the arguments"),
    ],
)
def test_a_fault_of_the_suite_is_a_fault_of_the_program(expectation: Expectation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_suite(FRAME, name="suite", expectations=(expectation,))


def test_a_report_is_json_ready() -> None:
    suite = (expect("column_values_to_not_be_null", column="speed"), expect("table_row_count_to_equal", "warning", value=4))
    report = run_suite(FRAME, name="suite", expectations=suite)
    written = json.loads(json.dumps(report.as_dict()))
    assert [outcome["success"] for outcome in written["outcomes"]] == [False, False]
    assert written["highest_failed_severity"] == "critical"
    assert written["passed_critical"] is False
    assert ValidationReport.from_dict(written) == report


SECRET = expect("column_values_to_be_in_set", column="word", value_set=["a", "b"])


def pages(folder: Path) -> dict[Path, str]:
    return {page: page.read_text(encoding="utf-8") for page in folder.rglob("*.html")}


def test_data_docs_open_without_a_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = run_suite(FRAME, name="suite", expectations=(SECRET,), docs_folder=tmp_path / "docs")
    assert report.docs_index == str(tmp_path / "docs" / "index.html")
    written = pages(tmp_path / "docs")
    links = re.findall(r'href="(validations/[^"]+)"', written[tmp_path / "docs" / "index.html"])
    assert len(links) == 1
    # One word of five rows is not in the set.
    assert "1 unexpected values found. 20% of 5 total rows." in written[tmp_path / "docs" / unquote(links[0])]
    assert any(SECRET.meaning in page for page in written.values())
    assert capfd.readouterr().err == ""


def test_data_docs_come_from_a_stored_report(tmp_path: Path) -> None:
    suite = (
        expect("column_values_to_be_between", column="speed", min_value=0, max_value=3),
        expect("column_values_to_be_between", "warning", column="word", min_value=0, max_value=3),
        expect("column_mean_to_be_between", "info", column="place", min_value=0, max_value=1),
        expect("column_median_to_be_between", column="place", min_value=0, max_value=9),
    )
    report = run_suite(FRAME, name="suite", expectations=suite)
    stored = ValidationReport.from_dict(json.loads(json.dumps(report.as_dict())))
    write_data_docs(stored, folder=tmp_path / "docs")
    (page,) = (text for path, text in pages(tmp_path / "docs").items() if "validations" in path.parts)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    # -1 and 9 of four numbers lie outside; the mean of 1, 2, 3, 4 and 4 is 2.8, their median 3; words are no numbers.
    assert "less than or equal to 3.0 . 2 unexpected values found. 50%" in text
    assert "less than or equal to 1.0 . 2.8 median" in text
    assert "less than or equal to 9.0 . 3 speed" in text
    assert "expect_column_values_to_be_between raised an exception" in text
    assert "Evaluated Expectations 4 Successful Expectations 1 Unsuccessful Expectations 3 Success Percent 25%" in text


def test_no_value_is_quoted(tmp_path: Path) -> None:
    report = run_suite(FRAME, name="suite", expectations=(SECRET,), docs_folder=tmp_path / "none")
    assert report.outcomes[0].unexpected_count == 1
    assert "secretword" not in json.dumps(report.as_dict())
    assert not any("secretword" in page for page in pages(tmp_path / "none").values())


def outcome(column: str, **changes: Any) -> Outcome:
    values = {
        "kind": "column_values_to_not_be_null",
        "column": column,
        "severity": "critical",
        "success": False,
        "unexpected_count": 3,
        "unexpected_share": 0.1,
        "observed": None,
        "meaning": "A value is missing.",
        "expected": "values to not be null",
    }
    return Outcome(**(values | changes))


def test_the_message_says_what_failed() -> None:
    report = ValidationReport(
        suite="jena",
        outcomes=(
            outcome("speed"),
            outcome("place", severity="warning"),
            outcome("word", unexpected_count=None, observed="no column word"),
            outcome("good", success=True),
        ),
    )
    assert rejected_message(report) == (
        "jena: 2 critical expectations failed: "
        "speed: expected values to not be null, found 3 rows otherwise (A value is missing); "
        "word: expected values to not be null, found no column word (A value is missing)"
    )


def test_the_message_stays_short() -> None:
    report = ValidationReport(suite="jena", outcomes=tuple(outcome(f"c{number}") for number in range(8)))
    message = rejected_message(report)
    assert message.startswith("jena: 8 critical expectations failed: c0: ")
    assert message.endswith("; and 3 more")
    assert "c5" not in message
