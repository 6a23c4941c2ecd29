"""Validates a frame against a suite of expectations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.datasets.spec import Expectation
from tasks.ingestion.aggregates import judge
from tasks.ingestion.outcomes import SEVERITIES, Judgement, ValidationReport, outcome_of


def run_suite(
    frame: pd.DataFrame,
    *,
    name: str,
    expectations: tuple[Expectation, ...],
    docs_folder: Path | None = None,
) -> ValidationReport:
    """Validate a frame, and write the Data Docs to `docs_folder`.

    Of a failed expectation about single rows the place is said: their first and last time stamp, or their split.

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
        outcome_of(expectation, judgement, columns=columns, place=_place(frame, expectation=expectation, judgement=judgement))
        for expectation, judgement in zip(expectations, judgements, strict=True)
        if judgement is not None
    )
    report = ValidationReport(suite=name, outcomes=outcomes, validated_at=datetime.now(UTC).isoformat())
    if docs_folder is None:
        return report
    from tasks.ingestion.gx import write_data_docs

    return replace(report, docs_index=write_data_docs(report, folder=docs_folder))


def _place(frame: pd.DataFrame, *, expectation: Expectation, judgement: Judgement) -> str:
    """Return where the rows are that lie outside the bounds of an expectation; empty where that is not known."""
    arguments = expectation.arguments
    column = arguments.get("column")
    if judgement.success or expectation.kind != "column_values_to_be_between" or column not in frame.columns:
        return ""
    values = frame[column].to_numpy()
    if values.dtype.kind not in "iuf":
        return ""
    low, high = arguments.get("min_value"), arguments.get("max_value")
    outside = np.zeros(len(values), dtype=np.bool_)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    stamps = next((name for name in frame.columns if frame[name].dtype.kind == "M"), None)
    if stamps is not None and outside.any():
        first, last = (frame[stamps].to_numpy()[outside][place].astype("datetime64[m]") for place in (0, -1))
        days = len(np.unique(frame[stamps].to_numpy()[outside].astype("datetime64[D]")))
        return f"{first} to {last}, on {days:,} day{'s' if days != 1 else ''}" if last > first else str(first)
    if "split" in frame.columns and outside.any():
        return f"in {', '.join(sorted(set(frame['split'][outside])))}"
    return ""
