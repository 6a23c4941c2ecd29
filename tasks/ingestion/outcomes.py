"""The results of a suite of expectations: what each one found, and whether the data may be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from tasks.datasets.spec import Expectation, Severity

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the most to the least severe."""

_MAX_FAILURES = 5
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True)
class Judgement:
    """What an expectation found in a frame, before it is put into words.

    Attributes:
        success: Whether the frame meets it.
        details: JSON-ready, under the names that Great Expectations gives them in the result format `SUMMARY`.
        exception: Why the expectation could not be evaluated, or None.
    """

    success: bool
    details: Mapping[str, Any]
    exception: str | None = None


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
        arguments: The arguments of the expectation.
        details: `details` of the judgement; with `arguments` all that the Data Docs show.
        exception: Why the expectation could not be evaluated, or None.
        place: Where the rows are that do not meet it, in words; empty if it is met, or concerns no single rows.
        reading: Column of which the judged one is computed; empty: none, or several.
        picture: Name of the file beside the report that shows the place; empty if there is none.
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
    arguments: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    exception: str | None = None
    place: str = ""
    reading: str = ""
    picture: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """The result of a suite.

    Attributes:
        outcomes: One for each expectation, in the order of the suite.
        validated_at: When the frame was judged, in ISO form.
        docs_index: Path of the Data Docs' `index.html`, or None if they were not written with the report.
    """

    suite: str
    outcomes: tuple[Outcome, ...]
    validated_at: str = ""
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
            "validated_at": self.validated_at,
            "docs_index": self.docs_index,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ValidationReport:
        """Return the report that `as_dict` returned, also after a way through JSON."""
        names = {each.name for each in fields(Outcome)}
        outcomes = tuple(
            Outcome(**{name: value for name, value in outcome.items() if name in names}) for outcome in values["outcomes"]
        )
        return cls(values["suite"], outcomes, validated_at=values["validated_at"], docs_index=values["docs_index"])


def outcome_of(expectation: Expectation, judgement: Judgement, *, columns: frozenset[str], place: str = "") -> Outcome:
    """Return a judgement in words; `columns` are those of the frame, `place` says where the rows are that do not meet it."""
    count, percent = judgement.details.get("unexpected_count"), judgement.details.get("unexpected_percent")
    expected_columns = _columns_of(expectation)
    missing = [column for column in expected_columns if column not in columns]
    if missing:
        observed: str | None = f"no column {', '.join(missing)}"
    elif judgement.exception:
        observed = f"could not be evaluated: {judgement.exception}"
    else:
        observed = _observed(judgement.details)
    return Outcome(
        kind=expectation.kind,
        column=", ".join(expected_columns) or None,
        severity=expectation.severity,
        success=judgement.success and not missing and not judgement.exception,
        unexpected_count=count,
        unexpected_share=None if percent is None else percent / 100.0,
        observed=observed,
        meaning=expectation.meaning,
        expected=_expected(expectation),
        arguments=dict(expectation.arguments),
        details=judgement.details,
        exception=judgement.exception,
        place=place,
        reading=expectation.reading,
    )


def failed_text(outcome: Outcome) -> str:
    """Return a failed expectation in one line: what it means, where, and how much of the data it concerns."""
    count = outcome.unexpected_count
    rows = "" if count is None else f"{count:,} row{'s' if count != 1 else ''}"
    told = ", ".join(part for part in (rows, outcome.place or outcome.observed or "") if part)
    return f"{outcome.column or 'table'}: {outcome.meaning.rstrip('.')}" + (f" ({told})" if told else "")


def _columns_of(expectation: Expectation) -> list[str]:
    columns: list[str] = []
    for argument in _COLUMN_ARGUMENTS:
        value = expectation.arguments.get(argument)
        if isinstance(value, str):
            columns.append(value)
        elif value is not None:
            columns.extend(str(column) for column in value)
    return columns


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


def rejection_markdown(*, dataset: str, reasons: Sequence[str], remedy: str, docs: str) -> str:
    """Return the artifact of a run whose data was rejected, Markdown: what failed, what to do, and where all of it is shown."""
    # What a stranger's file says may look like HTML.
    listed, remedy = "\n".join(f"- {reason}" for reason in reasons).replace("<", "&lt;"), remedy.replace("<", "&lt;")
    shown = f"[Data Docs]({docs})" if "://" in docs else f"Data Docs: `{docs}`"
    return (
        f"# {dataset}: the data was rejected\n\nNothing was published, and the champion is what it was.\n\n{listed}\n\n"
        f"**What to do:** {remedy}\n\n{shown}, with each failure and where it is."
    )


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
        where = outcome.place or outcome.observed
        observed = f"{rows} otherwise" + (f" ({where})" if where else "")
    return f"{outcome.column or 'table'}: expected {outcome.expected}, found {observed} ({outcome.meaning.rstrip('.')})"
