"""Runs a suite of expectations over a frame with Great Expectations and says plainly what it found."""

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
"""From the gravest to the least."""

_MAX_COMPLAINTS = 5
_TYPE_KINDS = frozenset({"column_values_to_be_of_type", "column_values_to_be_in_type_list"})
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
# Written for the walkthrough that the pages leave out; three megabytes of a site of four.
_WALKTHROUGH_PICTURES = ("glossary_scroller.gif", "validation_failed_unexpected_values.gif")


@dataclass(frozen=True)
class Outcome:
    """What came of one expectation.

    Attributes:
        column: The column, or several with commas between, or None for the whole table.
        unexpected_count: Number of rows against it; None where it is not judged row by row.
        unexpected_share: The same over the rows that are not null, 0 to 1.
        observed: What was seen: an aggregate, some examples, or why it could not be judged.
        meaning: What a person reads when it fails.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Return the outcome that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class ValidationReport:
    """What came of a suite.

    Attributes:
        outcomes: One for each expectation, in their order.
        docs_index: Path of the Data Docs' `index.html`, or None where none were asked for.
    """

    suite: str
    outcomes: tuple[Outcome, ...]
    docs_index: str | None = None

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes that failed, gravest first."""
        failed = [outcome for outcome in self.outcomes if not outcome.success]
        return tuple(sorted(failed, key=lambda outcome: SEVERITIES.index(outcome.severity)))

    @property
    def highest_failed_severity(self) -> Severity | None:
        """The gravest severity that failed, or None."""
        return self.failed[0].severity if self.failed else None

    @property
    def passed_critical(self) -> bool:
        """Whether the data may be published."""
        return self.highest_failed_severity != "critical"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values, with what follows from the outcomes."""
        return {
            "suite": self.suite,
            "passed_critical": self.passed_critical,
            "highest_failed_severity": self.highest_failed_severity,
            "docs_index": self.docs_index,
            "outcomes": [outcome.as_dict() for outcome in self.outcomes],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ValidationReport:
        """Return the report that `as_dict` wrote."""
        outcomes = tuple(Outcome.from_dict(outcome) for outcome in values["outcomes"])
        return cls(suite=values["suite"], outcomes=outcomes, docs_index=values["docs_index"])


def run_suite(
    frame: pd.DataFrame,
    *,
    name: str,
    expectations: tuple[Expectation, ...],
    docs_folder: Path | None = None,
    examples: int = 0,
) -> ValidationReport:
    """Return what Great Expectations found, and leave its Data Docs in `docs_folder`.

    Whole and floating numbers are judged as 64-bit values, because Great Expectations compares any others one by one in
    Python (420,551 rows: 0.1 s a column and not 0.01 s); a bound on float32 readings therefore needs to be one that float32
    holds exactly, or to leave room. Type expectations see the frame as it is.

    Args:
        frame: One row for each thing judged; it is not changed.
        name: Name of the suite, as the report and the Data Docs show it.
        expectations: The suite; outcomes keep its order.
        docs_folder: Where the Data Docs go, as a site that opens from `index.html` without a server; None writes none.
        examples: Number of unexpected values that an outcome and the Data Docs may quote. 0 quotes none.

    Raises:
        ValueError: An expectation is not one that Great Expectations has: a fault of the suite, not of the data.
    """
    with _quiet():
        suite_parts = [_translate(expectation) for expectation in expectations]
        results, docs_index = _validate(frame, suite_parts, expectations, name=name, docs_folder=docs_folder, examples=examples)
    outcomes = tuple(
        _outcome(expectation, result, columns=frame.columns) for expectation, result in zip(expectations, results, strict=True)
    )
    return ValidationReport(suite=name, outcomes=outcomes, docs_index=docs_index)


def rejected_message(report: ValidationReport) -> str:
    """Return one line that says which critical expectations failed, where, and what was seen."""
    critical = [outcome for outcome in report.failed if outcome.severity == "critical"]
    if not critical:
        return f"{report.suite}: no critical expectation failed"
    told = [_complaint(outcome) for outcome in critical[:_MAX_COMPLAINTS]]
    if len(critical) > _MAX_COMPLAINTS:
        told.append(f"and {len(critical) - _MAX_COMPLAINTS} more")
    noun = "expectation" if len(critical) == 1 else "expectations"
    return f"{report.suite}: {len(critical)} critical {noun} failed: " + "; ".join(told)


def _complaint(outcome: Outcome) -> str:
    seen = outcome.observed
    if outcome.unexpected_count is not None:
        rows = "1 row" if outcome.unexpected_count == 1 else f"{outcome.unexpected_count:,} rows"
        seen = f"{rows} otherwise" + (f" ({outcome.observed})" if outcome.observed else "")
    return (
        f"{outcome.column or 'table'}: expected {outcome.expected}, found {seen or 'otherwise'} ({outcome.meaning.rstrip('.')})"
    )


def import_great_expectations() -> None:
    """Import what validation uses, which takes seconds."""
    with _quiet():
        import great_expectations.expectations  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Great Expectations' telemetry off and its own deprecation warnings from the reader."""
    set_library_variables()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _translate(expectation: Expectation) -> Any:
    """Return Great Expectations' own object for an expectation."""
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
    examples: int,
) -> tuple[list[Any], str | None]:
    """Return one result of Great Expectations for each expectation, in order, and the path of the Data Docs."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    # Its own site stands in a temporary folder, which nobody would ever remove.
    for site_name, site in dict(context.variables.data_docs_sites).items():
        context.delete_data_docs_site(site_name)
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    batch = context.data_sources.add_pandas("frames").add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
    result_format = {"result_format": "SUMMARY", "partial_unexpected_count": examples}
    is_type = [expectation.kind in _TYPE_KINDS for expectation in expectations]
    # A suite drops an expectation that equals another, so results are told apart by the number of the expectation.
    for number, part in enumerate(suite_parts):
        part.meta = {"number": number}
    runs = []
    for of_type in (True, False):
        parts = [part for part, flag in zip(suite_parts, is_type, strict=True) if flag is of_type]
        if parts:
            suite = context.suites.add(gx.ExpectationSuite(name=f"{name}-types" if of_type else name, expectations=parts))
            definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=suite)
            seen = frame if of_type else _widen(frame)
            runs.append(
                context.validation_definitions.add(definition).run(
                    batch_parameters={"dataframe": seen}, result_format=result_format
                )
            )
    results = {result.expectation_config.meta["number"]: result for run in runs for result in run.results}
    docs_index = None
    if docs_folder is not None:
        docs_index = _build_docs(context, docs_folder)
    return [results[number] for number in range(len(expectations))], docs_index


def _widen(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with whole and floating numbers of 64 bits; columns that have them are not copied."""
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
    # The table of the index is drawn by a script from the network; plain links are there without one too.
    results = sorted(page.relative_to(docs_folder).as_posix() for page in docs_folder.glob("validations/**/*.html"))
    links = "".join(f'<p><a href="{quote(page)}">{escape(page)}</a></p>' for page in results)
    index.write_text(index.read_text(encoding="utf-8").replace("</body>", f"{links}</body>"), encoding="utf-8")
    return str(index)


def _outcome(expectation: Expectation, result: Any, *, columns: pd.Index) -> Outcome:
    details = dict(result.result or {})
    count, percent = details.get("unexpected_count"), details.get("unexpected_percent")
    named = _columns_of(expectation)
    missing = [column for column in named if column not in columns]
    fault = _exception_of(result.exception_info)
    if missing:
        observed: str | None = f"no column {', '.join(missing)}"
    elif fault:
        observed = f"not judged: {fault}"
    else:
        observed = _observed(details)
    return Outcome(
        kind=expectation.kind,
        column=", ".join(named) or None,
        severity=expectation.severity,
        success=bool(result.success) and not missing and not fault,
        unexpected_count=None if count is None else int(count),
        unexpected_share=None if percent is None or np.isnan(percent) else float(percent) / 100.0,
        observed=observed,
        meaning=expectation.meaning,
        expected=_expected(expectation),
    )


def _columns_of(expectation: Expectation) -> list[str]:
    named: list[str] = []
    for argument in _COLUMN_ARGUMENTS:
        value = expectation.arguments.get(argument)
        if isinstance(value, str):
            named.append(value)
        elif value is not None:
            named.extend(str(column) for column in value)
    return named


def _exception_of(info: Any) -> str | None:
    """Return the reason why Great Expectations could not judge, out of either form in which it tells it."""
    if not info:
        return None
    # One exception stands there by itself; those of metrics each under the name of the metric.
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, Mapping)]
    raised = [entry for entry in entries if entry.get("raised_exception")]
    return " ".join(str(raised[0].get("exception_message")).split())[:200] if raised else None


def _observed(details: Mapping[str, Any]) -> str | None:
    if "observed_value" in details:
        value = details["observed_value"]
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    examples = details.get("partial_unexpected_list")
    return "for example " + ", ".join(str(example) for example in examples) if examples else None


def _expected(expectation: Expectation) -> str:
    """Return the condition in words, such as `values to be between min_value 0, max_value 100`."""
    said = {key: value for key, value in expectation.arguments.items() if key not in _COLUMN_ARGUMENTS}
    conditions = ", ".join(f"{key} {value}" for key, value in said.items())
    words = expectation.kind.removeprefix("column_").replace("_", " ")
    return f"{words} ({conditions})" if conditions else words
