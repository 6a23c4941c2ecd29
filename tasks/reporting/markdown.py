"""The report of a run as Markdown, and its tables. It only formats: `tasks.reporting.collect` gathers the values."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from tasks.datasets.spec import Severity
from tasks.metrics import CALIBRATION_BINS, MetricSpec
from tasks.promotion.rule import Decision, Outcome
from tasks.reporting.run_report import CalibrationResult, IntervalResult, RefitResult, RunReport, VariantResult, WrongReview

NONE = "-"
MAX_CHARACTERS = 400
# What the tables say of the candidate, by the outcome of the decision.
CANDIDATE_MARKS: Mapping[Outcome, str] = {
    "promoted": "promoted",
    "kept": "not promoted",
    "manual": "awaits a person",
    "rejected": "rejected",
    "rolled back": "rolled back",
}


def markdown_cell(value: object) -> str:
    """Return a value as the text of one table cell: one line, in which nothing ends the cell or begins an HTML tag."""
    text = " ".join(str(value).split())
    # In a narrow column a line could otherwise break between a number and its per cent sign.
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(" %", "\N{NO-BREAK SPACE}%")


def markdown_table(header: Sequence[str], *, rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(markdown_cell(cell) or NONE for cell in line) + " |" for line in lines)


def _number(value: float | None, *, decimals: int, signed: bool = False) -> str:
    """Return a rounded number, or a dash if there is none or it is not finite."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:{'+' if signed else ''}.{decimals}f}"


def _percent(value: float) -> str:
    """Return a share as a signed percentage."""
    return f"{100 * value:+.1f} %"


def _metric(value: float, *, metric: MetricSpec) -> str:
    """Return a metric with its unit, or a dash if it is not finite."""
    return metric.text(value) if math.isfinite(value) else NONE


def _marked_results(report: RunReport) -> list[tuple[VariantResult, str]]:
    """Return every version in the tables with its role: the results of the run, and the champion if it is not among them."""
    decision, champion = report.decision, report.champion

    def role(result: VariantResult) -> str:
        if champion is not None and result.version == champion.version:
            name = "previous champion" if decision.outcome == "promoted" else "champion"
            if decision.champion != f"v{champion.version}":
                name += f" as {decision.champion}"
            return f"{name}, {champion.seen_note}" if champion.seen_note else name
        if decision.candidate == f"v{result.version}":
            return CANDIDATE_MARKS[decision.outcome] + (f" as {decision.refit}" if decision.refit else "")
        return "linear baseline" if result.is_baseline else "registered"

    results = list(report.results)
    if champion is not None and champion.version not in {result.version for result in results}:
        results.insert(0, champion)
    return [(result, role(result)) for result in results]


def result_rows(report: RunReport) -> list[dict[str, str]]:
    """Return the rows of the table that ends a run in the terminal, the best score on the test split first."""
    primary, validation = report.scoring.primary, report.scoring.validation
    sign = 1 if primary.lower_is_better else -1
    results = sorted(_marked_results(report), key=lambda marked: sign * marked[0].scores[primary.key])
    return [
        {
            "variant": result.variant,
            "version": f"v{result.version}",
            "epochs": f"{result.best_epoch} of {result.epochs_run}" if result.epochs_run else NONE,
            f"validation {validation.label}": _metric(result.validation[validation.key], metric=validation),
            f"test {primary.label}": _metric(result.scores[primary.key], metric=primary),
            "naive": _metric(report.naive[primary.key], metric=primary),
            "skill": _percent(result.scores["skill"]),
            "decision": role,
        }
        for result, role in results
    ]


def metrics_rows(report: RunReport) -> list[dict[str, str]]:
    """Return the rows of the scores table, all with the same keys: the naive baseline, the champion, then the variants."""
    primary, validation = report.scoring.primary, report.scoring.validation

    def row(
        model: str, role: str, scores: Mapping[str, float], *, validation_score: str, tutorial_best: float | None
    ) -> dict[str, str]:
        return {
            "model": model,
            "role": role,
            f"test {primary.axis_label}": _number(scores[primary.key], decimals=primary.decimals),
            "skill": _percent(scores["skill"]),
            **{
                further.heading: _number(scores.get(further.key), decimals=further.decimals, signed=further.signed)
                for further in report.scoring.further
            },
            f"validation {validation.label}": validation_score,
            f"tutorial's best validation {validation.label}": _number(tutorial_best, decimals=validation.decimals),
        }

    return [
        row(f"naive: {primary.naive_label}", "naive baseline", report.naive, validation_score=NONE, tutorial_best=None),
        *(
            row(
                result_name(result),
                role,
                result.scores,
                validation_score=_metric(result.validation[validation.key], metric=validation),
                tutorial_best=result.tutorial_best,
            )
            for result, role in _marked_results(report)
        ),
    ]


def result_name(result: VariantResult) -> str:
    """Return a name such as `gru_baseline v5`."""
    return f"{result.variant} v{result.version}"


def _sample_line(report: RunReport) -> list[str]:
    """Return the warning with which every report on the sample begins."""
    if not report.simulated:
        return []
    real = report.model_name.removesuffix("-sample")
    return [
        f"> **SAMPLE: simulated, not real data.** These scores say nothing about the real series, and `{report.model_name}` can "
        f"never become champion of the real model `{real}`.",
    ]


def _warnings(report: RunReport) -> list[str]:
    """Return what a reader must know of the data before any score."""
    lines = []
    if report.stale:
        newest = report.facts.get("last_stamp", "unknown")
        lines.append(f"> **STALE:** the newest reading is of {newest}; the source has brought nothing for longer than expected.")
    if report.acceptance:
        accepted = "; ".join(str(failure).rstrip(".") for failure in report.acceptance["failures"])
        lines.append(
            f"> **REJECTED, AND ACCEPTED** by {report.acceptance['by']} on {report.acceptance['at'][:10]}: {accepted}. Reason: "
            f"{report.acceptance['reason']}"
        )
    return "\n>\n".join(lines).split("\n") if lines else []


def _changes(report: RunReport) -> list[str]:
    """Return what this run published and trained, and what existed before."""
    table = "published" if report.table_published else "unchanged, nothing published"
    lines = [f"- Table version `{report.table_version}` from source `{report.source}`: {table}."]
    for result in report.results:
        if not result.trained:
            lines.append(
                f"- `{result.variant}`: v{result.version} was trained before with the same data and settings; not trained again."
            )
            continue
        epochs = f"best epoch {result.best_epoch} of {result.epochs_run}, {result.seconds_per_epoch:.1f} s an epoch"
        if result.is_baseline:
            epochs = f"computed in {result.seconds_per_epoch:.1f} s"
        lines.append(f"- `{result.variant}`: trained as v{result.version}, {epochs}, {result.parameters:,} parameters.")
        lines += [f"  - {note}" for note in result.execution]
    if report.refit:
        lines.append(_refit_line(report.refit, candidate=report.decision.candidate))
    previous = "none" if report.champion is None else f"{result_name(report.champion)}, scored on the test split of this table"
    if report.champion and report.decision.champion != f"v{report.champion.version}":
        previous += f" (in use is {report.decision.champion}, which is the same trained again on all rows and has no such score)"
    if report.champion and report.champion.seen_note:
        previous += f"; it {report.champion.seen_note}, so its scores there may be too good"
    return [*lines, f"- Champion before this run: {previous}."]


def _refit_line(refit: RefitResult, *, candidate: str) -> str:
    """Return what the refit is, what it cost, and whose scores stand for it."""
    cost = f"{refit.seconds:.1f} s"
    if refit.epochs:
        cost = f"{refit.epochs} epochs, as many as validation chose, {cost}"
    return (
        f"- Refit: v{refit.version} is {candidate} trained again on all {refit.rows:,} rows ({cost}), with the statistics of the "
        f"train rows. It has no scores of its own: those of {candidate} are of rows that {candidate} has not seen."
    )


def _data(report: RunReport) -> list[str]:
    """Return the rows by split, the facts and the repairs."""
    splits = ", ".join(f"{name} {count:,}" for name, count in report.rows.items())
    lines = [f"Rows: {splits}{f' ({report.split})' if report.split else ''}.", ""]
    if report.facts:
        lines += [
            markdown_table(
                ["fact", "value"], rows=[(name.replace("_", " "), _fact(value)) for name, value in report.facts.items()]
            ),
            "",
        ]
    repairs = [
        (repair["name"], repair["rule"], f"{repair['count']:,}", f"{100 * repair['share']:.3f} %", f"{100 * repair['limit']:g} %")
        for repair in report.repairs
    ]
    return [
        *lines,
        markdown_table(["repair", "rule", "count", "share", "limit"], rows=repairs) if repairs else "No repair rules.",
    ]


def _fact(value: object) -> str:
    """Return a fact as text, whole numbers with separators."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_fact(count)}" for name, count in value.items())
    return ", ".join(_fact(item) for item in value) if isinstance(value, list | tuple) else str(value)


def validation_markdown(report: RunReport) -> str:
    """Return how many expectations passed by severity, and every one that failed, the most severe first."""
    outcomes: list[dict[str, Any]] = report.validation["outcomes"]
    severities: tuple[Severity, ...] = get_args(Severity)
    counts = []
    for severity in severities:
        passed = [bool(outcome["success"]) for outcome in outcomes if outcome["severity"] == severity]
        counts.append((severity, sum(passed), len(passed) - sum(passed)))
    lines = [f"Suite `{report.validation['suite']}`: {len(outcomes)} expectations.", ""]
    lines += [markdown_table(["severity", "passed", "failed"], rows=counts), ""]
    failed = sorted(
        (outcome for outcome in outcomes if not outcome["success"]), key=lambda outcome: severities.index(outcome["severity"])
    )
    if not failed:
        return "\n".join([*lines, "Every expectation passed."])
    cells = [
        (
            outcome["severity"],
            outcome["column"] or NONE,
            outcome["meaning"],
            NONE if outcome["unexpected_count"] is None else _fact(outcome["unexpected_count"]),
            outcome.get("place") or NONE,
            outcome["kind"],
        )
        for outcome in failed
    ]
    table = markdown_table(["severity", "column", "what is wrong", "values", "where", "expectation"], rows=cells)
    return "\n".join([*lines, table, *_embedded(report.findings)])


def _uncertainty(report: RunReport) -> list[list[str]]:
    """Return the section on intervals or calibrated probabilities, or why there is none; empty for a problem without both."""
    if report.missing_uncertainty:
        return [["## Uncertainty"], [f"> **No intervals or calibrated probabilities:** {report.missing_uncertainty}"]]
    if report.intervals:
        return [["## Intervals"], _intervals(report.intervals, unit=report.scoring.primary.unit, model=report.decision.candidate)]
    if report.calibration:
        return [["## Calibration"], _calibration(report.calibration, model=report.decision.candidate)]
    return []


def _intervals(results: Sequence[IntervalResult], *, unit: str, model: str) -> list[str]:
    """Return how often the truth lay within its interval, and how wide that was, beside plain split conformal intervals."""
    text = (
        f"Conformal prediction intervals of {model}: learnt on the validation split, scaled by month and hour, and adapted with "
        "every outcome from when it is known. *Plain*: split conformal, one width for all."
    )
    header = ["level", "targets in", "rows", "coverage", f"mean width ({unit})", "plain coverage", f"plain width ({unit})"]
    cells = [
        (
            f"{result.level} %",
            result.part,
            f"{result.rows:,}",
            f"{100 * result.coverage:.1f} %",
            _number(result.width, decimals=2),
            f"{100 * result.plain_coverage:.1f} %",
            _number(result.plain_width, decimals=2),
        )
        for result in results
    ]
    return [text, "", markdown_table(header, rows=cells)]


def _calibration(result: CalibrationResult, *, model: str) -> list[str]:
    """Return the expected calibration error before and after temperature scaling."""
    header = ["probability", "expected calibration error"]
    cells = [
        ("of the network itself", _number(result.error_before, decimals=4)),
        (f"temperature {result.temperature:.3f}", _number(result.error_after, decimals=4)),
    ]
    text = (
        f"The logits of {model} are divided by a temperature that was fitted on the validation split. No label changes. The "
        f"error is that of the test split, over {CALIBRATION_BINS} bins of equal width. Log loss above is the network's own."
    )
    return [text, "", markdown_table(header, rows=cells)]


def _most_wrong(reviews: Sequence[WrongReview]) -> list[str]:
    """Return the table of the reviews that the candidate is most wrong about."""
    cells = [("positive" if review.label else "negative", f"{review.probability:.3f}", _ends(review.text)) for review in reviews]
    return [markdown_table(["label", "probability of positive", "review, its end"], rows=cells)]


def _ends(text: str) -> str:
    """Return the end of a long text: the network reads the last words, and mostly they hold a review's verdict."""
    return text if len(text) <= MAX_CHARACTERS else "... " + text[-MAX_CHARACTERS:].split(" ", 1)[-1]


def _checks(decision: Decision) -> list[str]:
    """Return the table of the checks behind a decision."""
    cells = [(check.name, "yes" if check.passed else "**no**", check.detail) for check in decision.checks]
    return [markdown_table(["check", "passed", "detail"], rows=cells)]


def report_markdown(report: RunReport, *, pictures: Mapping[str, bytes]) -> str:
    """Return the whole report of a run as Markdown.

    Args:
        report: What the report says.
        pictures: PNGs by title; they are embedded in the text.
    """
    scores = metrics_rows(report)
    tutorial = "The tutorial prints best *validation* scores: compare them with the validation column, not with the test column."
    has_tutorial = any(result.tutorial_best is not None for result, _ in _marked_results(report))
    # The report does not link to itself.
    links = [_link(name, address=address) for name, address in report.links.items() if name != "report"]
    parts: list[list[str]] = [
        [f"# {report.title}: {report.model_name}"],
        _sample_line(report),
        _warnings(report),
        [f"**Decision:** {report.decision.reason}"],
        [f"**{report.champion_warning}.**"] if report.champion_warning else [],
        [f"**Against the linear baseline:** {report.baseline_comparison}"] if report.baseline_comparison else [],
        ["## What changed"],
        _changes(report),
        ["## Scores"],
        [markdown_table(list(scores[0]), rows=[list(row.values()) for row in scores])],
        [tutorial] if has_tutorial else [],
        *_uncertainty(report),
        *([line] for line in _embedded(pictures) if line),
        *([["## Most wrong"], _most_wrong(report.most_wrong)] if report.most_wrong else []),
        ["## Data and repairs"],
        _data(report),
        ["## Validation"],
        [validation_markdown(report)],
        ["## Checks before promotion"],
        _checks(report.decision),
        ["## Where to look"],
        links,
        ["## How it was made"],
        [f"- date: {report.date}", f"- versions: {report.versions}"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _embedded(pictures: Mapping[str, bytes]) -> list[str]:
    """Return PNGs by title as images that need no file, with an empty line before each."""
    images = (f"![{name}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})" for name, png in pictures.items())
    return [line for image in images for line in ("", image)]


def _link(name: str, *, address: str) -> str:
    """Return a list item: a web address as a link, a path as code, because a browser does not open a path from a page."""
    is_web = address.startswith(("http://", "https://"))
    return f"- [{name}](<{address}>)" if is_web else f"- {name}: `{address}`"
