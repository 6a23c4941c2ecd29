"""All that is asked of Great Expectations: to judge what `aggregates` does not, and to write the Data Docs.

Its import takes seconds, so it is imported inside the functions that use it.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from storage.library_variables import set_library_variables
from tasks.datasets.spec import Expectation
from tasks.ingestion.aggregates import wide_type
from tasks.ingestion.outcomes import Judgement, Outcome, ValidationReport, failed_text

_TYPE_KINDS = frozenset({"column_values_to_be_of_type", "column_values_to_be_in_type_list"})
# Pictures of a walkthrough that the pages do not show: three of the four megabytes of the Data Docs.
_WALKTHROUGH_PICTURES = ("glossary_scroller.gif", "validation_failed_unexpected_values.gif")


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


def run_expectations(frame: pd.DataFrame, *, name: str, expectations: Sequence[Expectation]) -> list[Judgement]:
    """Let Great Expectations judge a frame, and return its judgements in the order of the expectations.

    Integers and floats are compared as 64-bit values, because Great Expectations compares all others one by one in Python:
    420,551 rows take 0.1 s a column in place of 0.01 s. Type expectations check the frame's own types, before the widening.
    No judgement holds a value of the data, but for aggregates.

    Args:
        frame: The data; it is not changed.
        name: Name of the suite.
        expectations: The suite.

    Raises:
        ValueError: Great Expectations has no such expectation, or it does not take the arguments.
    """
    with _quiet():
        import great_expectations as gx

        parts = [_translate(expectation) for expectation in expectations]
        # A suite drops an expectation that equals another. The number makes each one different, and identifies its result.
        for number, part in enumerate(parts):
            part.meta = {"number": number}
        context = _context()
        batch = context.data_sources.add_pandas("frames").add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        results: dict[int, Any] = {}
        for of_type in (True, False):
            chosen = [part for part, each in zip(parts, expectations, strict=True) if (each.kind in _TYPE_KINDS) is of_type]
            if not chosen:
                continue
            suite = context.suites.add(gx.ExpectationSuite(name=f"{name}-types" if of_type else name, expectations=chosen))
            definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=suite)
            run = context.validation_definitions.add(definition).run(
                batch_parameters={"dataframe": frame if of_type else _widen(frame)},
                result_format={"result_format": "SUMMARY", "partial_unexpected_count": 0},
            )
            results |= {result.expectation_config.meta["number"]: result for result in run.results}
        return [_judgement(results[number]) for number in range(len(expectations))]


def _context() -> Any:
    """Return a context of Great Expectations that writes nothing."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    # The default site is in a temporary folder that Great Expectations never removes.
    for site_name, site in dict(context.variables.data_docs_sites).items():
        context.delete_data_docs_site(site_name)
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


def _translate(expectation: Expectation | Outcome) -> Any:
    """Return the object of Great Expectations for an expectation, or for the one that an outcome is of."""
    import great_expectations.expectations as gxe

    class_name = "Expect" + "".join(word[:1].upper() + word[1:] for word in expectation.kind.split("_"))
    kind = getattr(gxe, class_name, None)
    if kind is None:
        raise ValueError(f"unknown expectation {expectation.kind!r}: Great Expectations has no {class_name}")
    try:
        return kind(**expectation.arguments, severity=expectation.severity, notes=expectation.meaning)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{expectation.kind} does not take the arguments {dict(expectation.arguments)}: {reason}") from error


def _widen(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with integers and floats of 64 bits; columns that have 64 bits already are not copied."""
    wide = {
        column: wide_type(dtype)
        for column, dtype in frame.dtypes.items()
        if isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype != wide_type(dtype)
    }
    return frame.astype(wide) if wide else frame


def _judgement(result: Any) -> Judgement:
    return Judgement(bool(result.success), result.to_json_dict()["result"] or {}, _exception_of(result.exception_info))


def _exception_of(info: Any) -> str | None:
    """Return the message of the exception that Great Expectations met, or None."""
    if not info:
        return None
    # The information is either one exception, or a mapping from the names of metrics to exceptions.
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, Mapping)]
    raised = [entry for entry in entries if entry.get("raised_exception")]
    return " ".join(str(raised[0].get("exception_message")).split())[:200] if raised else None


def write_data_docs(report: ValidationReport, *, folder: Path) -> str:
    """Write the Data Docs of a report, a site that opens from `index.html` without a server, and return the path of that file.

    Great Expectations builds the suite again from the report, so that the docs can be written at any time after the data was
    judged.

    Raises:
        ValueError: Great Expectations has no such expectation, or it does not take the arguments.
    """
    with _quiet():
        context = _context()
        _add_results(report, context=context)
        folder.mkdir(parents=True, exist_ok=True)
        context.add_data_docs_site(
            site_name="docs",
            site_config={
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
            },
        )
        context.build_data_docs(site_names=["docs"])
    for picture in _WALKTHROUGH_PICTURES:
        (folder / "static" / "images" / picture).unlink(missing_ok=True)
    index = folder / "index.html"
    # A script from the network draws the table of the index page. Plain links work without it.
    results = sorted(page.relative_to(folder).as_posix() for page in folder.glob("validations/**/*.html"))
    links = "".join(f'<p><a href="{quote(page)}">{escape(page)}</a></p>' for page in results)
    # Of several failures that share a picture the most severe is told below it.
    shown = {outcome.picture: outcome for outcome in reversed(report.failed) if outcome.picture}
    links += "".join(_figure(shown[name]) for name in sorted(shown))
    index.write_text(index.read_text(encoding="utf-8").replace("</body>", f"{links}</body>"), encoding="utf-8")
    return str(index)


def _figure(outcome: Outcome) -> str:
    """Return the picture of a failed expectation, which lies beside the page, with what it shows in words."""
    text = escape(f"{outcome.severity}: {failed_text(outcome)}")
    return f'<figure><img src="{quote(outcome.picture)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _add_results(report: ValidationReport, *, context: Any) -> None:
    """Add the suite of a report and its results to a context, as if Great Expectations had run the suite there."""
    import great_expectations as gx
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    parts = [_translate(outcome) for outcome in report.outcomes]
    for number, part in enumerate(parts):
        part.meta = {"number": number}
    suite = context.suites.add(gx.ExpectationSuite(name=report.suite, expectations=parts))
    results = [
        ExpectationValidationResult(
            success=outcome.success,
            expectation_config=part.configuration,
            result=dict(outcome.details),
            exception_info={
                "raised_exception": outcome.exception is not None,
                "exception_message": outcome.exception,
                "exception_traceback": outcome.exception,
            },
        )
        for part, outcome in zip(parts, report.outcomes, strict=True)
    ]
    passed = sum(outcome.success for outcome in report.outcomes)
    run_id = RunIdentifier(run_time=datetime.fromisoformat(report.validated_at))
    context.validation_results_store.store_validation_results(
        suite_validation_result=ExpectationSuiteValidationResult(
            success=passed == len(results),
            results=results,
            suite_name=suite.name,
            statistics={
                "evaluated_expectations": len(results),
                "successful_expectations": passed,
                "unsuccessful_expectations": len(results) - passed,
                "success_percent": 100 * passed / len(results) if results else None,
            },
            meta={
                "great_expectations_version": gx.__version__,
                "run_id": run_id,
                "active_batch_definition": {"data_asset_name": report.suite},
            },
        ),
        suite_validation_result_identifier=ValidationResultIdentifier(
            expectation_suite_identifier=ExpectationSuiteIdentifier(name=suite.name),
            run_id=run_id,
            batch_identifier=f"frames-{report.suite}",
        ),
    )
