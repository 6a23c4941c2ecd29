"""Validates a frame against a suite of expectations with Great Expectations."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import numpy as np
import pandas as pd

from storage.library_variables import set_library_variables
from tasks.datasets.spec import Expectation, Severity

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the most to the least severe."""

_MAX_FAILURES = 5
_TYPE_KINDS = frozenset({"column_values_to_be_of_type", "column_values_to_be_in_type_list"})
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
# Pictures of a walkthrough that the pages do not show: three of the four megabytes of the Data Docs.
_WALKTHROUGH_PICTURES = ("glossary_scroller.gif", "validation_failed_unexpected_values.gif")


@dataclass(frozen=True)
class Outcome:
    """The result of one expectation.

    Attributes:
        column: The column, or several separated by commas, or None for the whole table.
        unexpected_count: Number of rows that do not meet it; None if it does not concern single rows.
        unexpected_share: Share of such rows among those that are not null, 0 to 1.
        observed: The observed aggregate, or the reason why the expectation could not be evaluated.
        meaning: What its failure means, for people.
        expected: The condition in words.
    """

    kind: str
    column: str | None
    severity: Severity
    success: bool
    unexpected_count: int | None
    unexpected_share: float | None
    observed: str | None
    meaning: str
    expected: str


@dataclass(frozen=True)
class ValidationReport:
    """The result of a suite.

    Attributes:
        outcomes: One for each expectation, in the order of the suite.
        docs_index: Path of the Data Docs' `index.html`, or None if none were written.
    """

    suite: str
    outcomes: tuple[Outcome, ...]
    docs_index: str | None = None

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes that failed, the most severe first."""
        failed = [outcome for outcome in self.outcomes if not outcome.success]
        return tuple(sorted(failed, key=lambda outcome: SEVERITIES.index(outcome.severity)))

    @property
    def highest_failed_severity(self) -> Severity | None:
        """The highest severity among the outcomes that failed, or None."""
        return self.failed[0].severity if self.failed else None

    @property
    def passed_critical(self) -> bool:
        """Whether the data may be published."""
        return self.highest_failed_severity != "critical"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values, the derived ones among them."""
        return {
            "suite": self.suite,
            "passed_critical": self.passed_critical,
            "highest_failed_severity": self.highest_failed_severity,
            "docs_index": self.docs_index,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }


def run_suite(
    frame: pd.DataFrame,
    *,
    name: str,
    expectations: tuple[Expectation, ...],
    docs_folder: Path | None = None,
) -> ValidationReport:
    """Validate a frame, and write the Data Docs to `docs_folder`.

    Integers and floats are compared as 64-bit values, because Great Expectations compares all others one by one in Python:
    420,551 rows take 0.1 s a column in place of 0.01 s. A bound on float32 readings must therefore be exact in float32, or
    leave room for rounding. Type expectations check the frame's own types, before the widening. Reports contain no values of
    the data.

    Args:
        frame: The data; it is not changed.
        name: Name of the suite in the report and the Data Docs.
        expectations: The suite.
        docs_folder: Folder of the Data Docs, a site that opens from `index.html` without a server. None writes none.

    Raises:
        ValueError: Great Expectations has no such expectation, or it does not take the arguments.
    """
    with _quiet():
        suite_parts = [_translate(expectation) for expectation in expectations]
        results, docs_index = _validate(frame, suite_parts, expectations, name=name, docs_folder=docs_folder)
    outcomes = tuple(
        _outcome(expectation, result, columns=frame.columns) for expectation, result in zip(expectations, results, strict=True)
    )
    return ValidationReport(suite=name, outcomes=outcomes, docs_index=docs_index)


def rejected_message(report: ValidationReport) -> str:
    """Return one line on the critical expectations that failed: where, what was expected, and what was found."""
    critical = [outcome for outcome in report.failed if outcome.severity == "critical"]
    failures = [_failure_text(outcome) for outcome in critical[:_MAX_FAILURES]]
    if len(critical) > _MAX_FAILURES:
        failures.append(f"and {len(critical) - _MAX_FAILURES} more")
    noun = "expectation" if len(critical) == 1 else "expectations"
    return f"{report.suite}: {len(critical)} critical {noun} failed: " + "; ".join(failures)


def _failure_text(outcome: Outcome) -> str:
    observed = outcome.observed or "otherwise"
    if outcome.unexpected_count is not None:
        rows = "1 row" if outcome.unexpected_count == 1 else f"{outcome.unexpected_count:,} rows"
        observed = f"{rows} otherwise" + (f" ({outcome.observed})" if outcome.observed else "")
    return f"{outcome.column or 'table'}: expected {outcome.expected}, found {observed} ({outcome.meaning.rstrip('.')})"


def import_great_expectations() -> None:
    """Import Great Expectations, which takes seconds."""
    with _quiet():
        import great_expectations.expectations  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn Great Expectations' telemetry off, and hide the deprecation warnings of its own code."""
    set_library_variables()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _translate(expectation: Expectation) -> Any:
    """Return the object of Great Expectations for an expectation."""
    import great_expectations.expectations as gxe

    class_name = "Expect" + "".join(word[:1].upper() + word[1:] for word in expectation.kind.split("_"))
    kind = getattr(gxe, class_name, None)
    if kind is None:
        raise ValueError(f"unknown expectation {expectation.kind!r}: Great Expectations has no {class_name}")
    if expectation.severity not in SEVERITIES:
        raise ValueError(f"unknown severity {expectation.severity!r} of {expectation.kind}: choose {', '.join(SEVERITIES)}")
    try:
        return kind(**expectation.arguments, severity=expectation.severity, notes=expectation.meaning)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{expectation.kind} does not take the arguments {dict(expectation.arguments)}: {reason}") from error


def _validate(
    frame: pd.DataFrame,
    suite_parts: Sequence[Any],
    expectations: Sequence[Expectation],
    *,
    name: str,
    docs_folder: Path | None,
) -> tuple[list[Any], str | None]:
    """Return one result of Great Expectations for each expectation, in order, and the path of the Data Docs."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    # The default site is in a temporary folder that Great Expectations never removes.
    for site_name, site in dict(context.variables.data_docs_sites).items():
        context.delete_data_docs_site(site_name)
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    batch = context.data_sources.add_pandas("frames").add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
    result_format = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
    is_type = [expectation.kind in _TYPE_KINDS for expectation in expectations]
    # A suite drops an expectation that equals another. The number makes each one different, and identifies its result.
    for number, part in enumerate(suite_parts):
        part.meta = {"number": number}
    runs = []
    for of_type in (True, False):
        parts = [part for part, flag in zip(suite_parts, is_type, strict=True) if flag is of_type]
        if parts:
            suite = context.suites.add(gx.ExpectationSuite(name=f"{name}-types" if of_type else name, expectations=parts))
            definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=suite)
            runs.append(
                context.validation_definitions.add(definition).run(
                    batch_parameters={"dataframe": frame if of_type else _widen(frame)}, result_format=result_format
                )
            )
    results = {result.expectation_config.meta["number"]: result for run in runs for result in run.results}
    docs_index = None
    if docs_folder is not None:
        docs_index = _build_docs(context, docs_folder)
    return [results[number] for number in range(len(expectations))], docs_index


def _widen(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with integers and floats of 64 bits; columns that have 64 bits already are not copied."""
    wide: dict[Any, type] = {}
    for column, dtype in frame.dtypes.items():
        if isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype not in (np.dtype(np.int64), np.dtype(np.float64)):
            wide[column] = np.float64 if dtype.kind == "f" or dtype == np.dtype(np.uint64) else np.int64
    return frame.astype(wide) if wide else frame


def _build_docs(context: Any, docs_folder: Path) -> str:
    docs_folder.mkdir(parents=True, exist_ok=True)
    context.add_data_docs_site(
        site_name="docs",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs_folder.resolve())},
        },
    )
    context.build_data_docs(site_names=["docs"])
    for picture in _WALKTHROUGH_PICTURES:
        (docs_folder / "static" / "images" / picture).unlink(missing_ok=True)
    index = docs_folder / "index.html"
    # A script from the network draws the table of the index page. Plain links work without it.
    results = sorted(page.relative_to(docs_folder).as_posix() for page in docs_folder.glob("validations/**/*.html"))
    links = "".join(f'<p><a href="{quote(page)}">{escape(page)}</a></p>' for page in results)
    index.write_text(index.read_text(encoding="utf-8").replace("</body>", f"{links}</body>"), encoding="utf-8")
    return str(index)


def _outcome(expectation: Expectation, result: Any, *, columns: pd.Index) -> Outcome:
    details = dict(result.result or {})
    count, percent = details.get("unexpected_count"), details.get("unexpected_percent")
    expected_columns = _columns_of(expectation)
    missing = [column for column in expected_columns if column not in columns]
    exception = _exception_of(result.exception_info)
    if missing:
        observed: str | None = f"no column {', '.join(missing)}"
    elif exception:
        observed = f"could not be evaluated: {exception}"
    else:
        observed = _observed(details)
    return Outcome(
        kind=expectation.kind,
        column=", ".join(expected_columns) or None,
        severity=expectation.severity,
        success=bool(result.success) and not missing and not exception,
        unexpected_count=None if count is None else int(count),
        unexpected_share=None if percent is None or np.isnan(percent) else float(percent) / 100.0,
        observed=observed,
        meaning=expectation.meaning,
        expected=_expected(expectation),
    )


def _columns_of(expectation: Expectation) -> list[str]:
    columns: list[str] = []
    for argument in _COLUMN_ARGUMENTS:
        value = expectation.arguments.get(argument)
        if isinstance(value, str):
            columns.append(value)
        elif value is not None:
            columns.extend(str(column) for column in value)
    return columns


def _exception_of(info: Any) -> str | None:
    """Return the message of the exception that Great Expectations met, or None."""
    if not info:
        return None
    # The information is either one exception, or a mapping from the names of metrics to exceptions.
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, Mapping)]
    raised = [entry for entry in entries if entry.get("raised_exception")]
    return " ".join(str(raised[0].get("exception_message")).split())[:200] if raised else None


def _observed(details: Mapping[str, Any]) -> str | None:
    if "observed_value" in details:
        value = details["observed_value"]
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return None


def _expected(expectation: Expectation) -> str:
    """Return the condition in words, such as `values to be between min_value 0, max_value 100`."""
    arguments = {key: value for key, value in expectation.arguments.items() if key not in _COLUMN_ARGUMENTS}
    conditions = ", ".join(f"{key} {value}" for key, value in arguments.items())
    words = expectation.kind.removeprefix("column_").replace("_", " ")
    return f"{words} ({conditions})" if conditions else words
