"""Validates a frame against a suite of expectations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from tasks.datasets.spec import Expectation
from tasks.ingestion.aggregates import judge
from tasks.ingestion.outcomes import SEVERITIES, ValidationReport, outcome_of


def run_suite(
    frame: pd.DataFrame,
    *,
    name: str,
    expectations: tuple[Expectation, ...],
    docs_folder: Path | None = None,
) -> ValidationReport:
    """Validate a frame, and write the Data Docs to `docs_folder`.

    Expectations that follow from aggregates of a column are judged without Great Expectations, with its results; it judges
    the others, and is imported only for them and for the Data Docs. Integers and floats are compared with bounds as 64-bit
    values: a bound on float32 readings must therefore be exact in float32, or leave room for rounding. Type expectations
    check the frame's own types. Reports contain no values of the data, but for aggregates.

    Args:
        frame: The data; it is not changed.
        name: Name of the suite in the report and the Data Docs.
        expectations: The suite.
        docs_folder: Folder of the Data Docs, a site that opens from `index.html` without a server. None writes none:
            `gx.write_data_docs` writes them later, from the report alone.

    Raises:
        ValueError: Great Expectations has no such expectation, or it does not take the arguments.
    """
    for expectation in expectations:
        if expectation.severity not in SEVERITIES:
            raise ValueError(f"unknown severity {expectation.severity!r} of {expectation.kind}: choose {', '.join(SEVERITIES)}")
    judgements = judge(frame, expectations)
    left = [number for number, judgement in enumerate(judgements) if judgement is None]
    if left:
        from tasks.ingestion.gx import run_expectations

        results = run_expectations(frame, name=name, expectations=[expectations[number] for number in left])
        for number, result in zip(left, results, strict=True):
            judgements[number] = result
    columns = frozenset(frame.columns)
    outcomes = tuple(
        outcome_of(expectation, judgement, columns=columns)
        for expectation, judgement in zip(expectations, judgements, strict=True)
        if judgement is not None
    )
    report = ValidationReport(suite=name, outcomes=outcomes, validated_at=datetime.now(UTC).isoformat())
    if docs_folder is None:
        return report
    from tasks.ingestion.gx import write_data_docs

    return replace(report, docs_index=write_data_docs(report, folder=docs_folder))
