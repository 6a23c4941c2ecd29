"""What a person reads of a run: the report, its tables and the picture of the learning curves."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.metrics import MetricSpec
from tasks.promotion.rule import Decision, Outcome
from tasks.scoring import Scoring

NONE = "-"
MAX_CHARACTERS = 400
CANDIDATE_MARKS: Mapping[Outcome, str] = {
    "promoted": "promoted",
    "kept": "not promoted",
    "manual": "awaits a person",
    "rejected": "rejected",
}


@dataclass(frozen=True)
class VariantResult:
    """One registered model with its scores, in JSON-ready values.

    Attributes:
        version: Registered version, or None for a reference that is not registered.
        trained: False when an equal training stood in the registry already.
        validation: Scores on the validation split, of the best epoch, keyed as the test scores.
        scores: Scores on the test split.
        curves: `loss`, `val_loss`, and for classifiers `accuracy`, `val_accuracy`: one value an epoch. A resumed training
            may hold its last epochs only.
        best_epoch: Epoch whose weights were kept, counted from 1.
        parameters: Number of trainable parameters.
        tutorial_best: The tutorial's best validation metric of this variant, or None.
        uri: Where the model is.
        is_reference: Whether it is a simple reference, not a network.
    """

    variant: str
    version: int | None
    trained: bool
    validation: dict[str, float]
    scores: dict[str, float]
    curves: dict[str, list[float]] = field(default_factory=dict)
    epochs_run: int = 0
    best_epoch: int = 0
    seconds_per_epoch: float = 0.0
    parameters: int = 0
    tutorial_best: float | None = None
    uri: str = ""
    is_reference: bool = False


@dataclass(frozen=True)
class WrongReview:
    """A review of the test split that a model is wrong about, decoded; `probability` is that of a positive review."""

    label: int
    probability: float
    text: str


@dataclass(frozen=True)
class RunReport:
    """Everything that the report of one run says, in JSON-ready values.

    Attributes:
        scoring: Which metrics are read.
        model_name: Registered name, such as `jena` or `jena-sample`.
        table_published: False when this table version stood there already.
        rows: Number of rows by split.
        repairs: `Repair` values as dictionaries.
        facts: Counts from parsing.
        validation: `{"suite": ..., "outcomes": [{"kind", "column", "severity", "success", "unexpected_count", "meaning"}]}`.
        champion: The champion before this run, scored on today's test split, or None.
        naive: Scores of the naive reference on the test split, keyed as the models' scores.
        most_wrong: Test reviews that the candidate is most wrong about; none for a forecast.
        beside: How the candidate does against the best simple reference, one sentence, or empty.
        links: Address by name.
        versions: Library versions, one line.
    """

    dataset: str
    title: str
    scoring: Scoring
    model_name: str
    simulated: bool
    source: str
    table_version: str
    table_published: bool
    rows: dict[str, int]
    repairs: list[dict[str, Any]]
    facts: dict[str, Any]
    validation: dict[str, Any]
    results: tuple[VariantResult, ...]
    champion: VariantResult | None
    naive: dict[str, float]
    decision: Decision | None
    beside: str = ""
    most_wrong: tuple[WrongReview, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    command: str = ""
    versions: str = ""
    date: str = ""


def markdown_cell(value: object) -> str:
    """Return a value as the text of one table cell: one line, with nothing in it that ends a cell or begins a tag."""
    text = " ".join(str(value).split())
    # A narrow column must not part a number from its sign of per cent.
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(" %", "\N{NO-BREAK SPACE}%")


def markdown_table(header: Sequence[str], *, rows: Iterable[Sequence[object]]) -> str:
    """Return a table of as many columns as the header has."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(markdown_cell(cell) or NONE for cell in line) + " |" for line in lines)


def _number(value: float | None, *, decimals: int, signed: bool = False) -> str:
    """Return a rounded number, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:{'+' if signed else ''}.{decimals}f}"


def _percent(value: float | None) -> str:
    """Return a share as a signed percentage, or a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:+.1f} %"


def _metric(scores: Mapping[str, float], *, spec: MetricSpec) -> str:
    """Return a metric with its unit, or a dash."""
    value = scores.get(spec.key)
    return NONE if value is None or not math.isfinite(value) else spec.text(value)


def _naive_scores(report: RunReport) -> dict[str, float]:
    """Return the naive reference's scores with its primary metric, which the models' scores hold too."""
    spec = report.scoring.primary
    known = next((result.scores[spec.naive_key] for result in report.results if spec.naive_key in result.scores), None)
    return report.naive if spec.key in report.naive or known is None else report.naive | {spec.key: known}


def _models(report: RunReport) -> list[tuple[VariantResult, str]]:
    """Return every scored model with what became of it, the champion only once."""
    decision, champion = report.decision, report.champion
    champion_version = None if champion is None else champion.version

    def mark(result: VariantResult) -> str:
        if result.version is None:
            return "reference"
        if result.version == champion_version:
            return "previous champion" if decision is not None and decision.outcome == "promoted" else "champion"
        if decision is not None and decision.candidate == f"v{result.version}":
            return CANDIDATE_MARKS[decision.outcome]
        return "simple reference" if result.is_reference else "registered"

    models = list(report.results)
    if champion is not None and champion_version not in {result.version for result in models}:
        models.insert(0, champion)
    return [(result, mark(result)) for result in models]


def result_rows(report: RunReport) -> list[dict[str, str]]:
    """Return the rows of the table that ends a run in the terminal, best model by the test split's metric first."""
    spec, validation = report.scoring.primary, report.scoring.validation
    naive = _metric(_naive_scores(report), spec=spec)
    sign = 1 if spec.lower_is_better else -1
    models = sorted(_models(report), key=lambda model: sign * model[0].scores.get(spec.key, sign * math.inf))
    return [
        {
            "variant": result.variant,
            "version": NONE if result.version is None else f"v{result.version}",
            "epochs": f"{result.best_epoch} of {result.epochs_run}" if result.epochs_run else NONE,
            f"validation {validation.label}": _metric(result.validation, spec=validation),
            f"test {spec.label}": _metric(result.scores, spec=spec),
            "naive": naive,
            "skill": _percent(result.scores.get("skill")),
            "decision": mark,
        }
        for result, mark in models
    ]


def metrics_rows(report: RunReport) -> list[dict[str, str]]:
    """Return the rows of the scores table: the naive reference, the champion, then the variants; the same keys in each."""
    spec, validation = report.scoring.primary, report.scoring.validation

    def row(model: str, role: str, scores: Mapping[str, float], *, result: VariantResult | None = None) -> dict[str, str]:
        cells = {
            "model": model,
            "role": role,
            f"test {spec.axis_label}": _number(scores.get(spec.key), decimals=spec.decimals),
            "skill": _percent(scores.get("skill")),
        }
        for further in report.scoring.further:
            cells[further.heading] = _number(scores.get(further.key), decimals=further.decimals, signed=further.signed)
        cells[f"validation {validation.label}"] = NONE if result is None else _metric(result.validation, spec=validation)
        tutorial_best = None if result is None else result.tutorial_best
        cells[f"tutorial's best validation {validation.label}"] = _number(tutorial_best, decimals=validation.decimals)
        return cells

    return [
        row(f"naive: {spec.naive_label}", "reference", _naive_scores(report)),
        *(row(result_name(result), mark, result.scores, result=result) for result, mark in _models(report)),
    ]


def result_name(result: VariantResult) -> str:
    """Return a variant with its version, where it has one."""
    return result.variant if result.version is None else f"{result.variant} v{result.version}"


def _sample_line(report: RunReport) -> list[str]:
    """Return the warning that leads everything made from the sample."""
    if not report.simulated:
        return []
    real = report.model_name.removesuffix("-sample")
    return [
        f"> **SAMPLE: simulated, not real data.** These scores say nothing about the real series, and `{report.model_name}` can "
        f"never become champion of the real model `{real}`.",
    ]


def _changes(report: RunReport) -> list[str]:
    """Return what this run made, and what it found already made."""
    table = "published" if report.table_published else "unchanged, nothing published"
    lines = [f"- Table version `{report.table_version}` from source `{report.source}`: {table}."]
    for result in report.results:
        if result.version is None:
            continue
        if result.trained:
            budget = f"best epoch {result.best_epoch} of {result.epochs_run}, {result.seconds_per_epoch:.1f} s an epoch"
            if result.is_reference:
                budget = f"computed in {result.seconds_per_epoch:.1f} s"
            lines.append(f"- `{result.variant}`: trained as v{result.version}, {budget}, {result.parameters:,} parameters.")
        else:
            lines.append(
                f"- `{result.variant}`: v{result.version} stood there already with the same data and settings; not trained again."
            )
    previous = "none" if report.champion is None else f"{result_name(report.champion)}, scored again on today's test split"
    return [*lines, f"- Champion before this run: {previous}."]


def _data(report: RunReport) -> list[str]:
    """Return rows by split, the counts from parsing, and the repairs."""
    splits = ", ".join(f"{name} {count:,}" for name, count in report.rows.items())
    lines = [f"Rows: {splits}.", ""]
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
    """Return a fact for a cell, whole numbers with separators."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_fact(count)}" for name, count in value.items())
    return ", ".join(_fact(item) for item in value) if isinstance(value, list | tuple) else str(value)


def validation_markdown(report: RunReport) -> str:
    """Return the summary of the expectations: how many passed by severity, and each that failed, the worst first."""
    outcomes: list[dict[str, Any]] = list(report.validation.get("outcomes", []))
    if not outcomes:
        return "Not validated in this run."
    severities = ("critical", "warning", "info")
    counts = []
    for severity in severities:
        passed = [bool(outcome["success"]) for outcome in outcomes if outcome["severity"] == severity]
        counts.append((severity, sum(passed), len(passed) - sum(passed)))
    lines = [f"Suite `{report.validation.get('suite', report.dataset)}`: {len(outcomes)} expectations.", ""]
    lines += [markdown_table(["severity", "passed", "failed"], rows=counts), ""]
    failed = sorted(
        (outcome for outcome in outcomes if not outcome["success"]), key=lambda outcome: severities.index(outcome["severity"])
    )
    if not failed:
        return "\n".join([*lines, "Every expectation passed."])
    cells = [
        (
            outcome["severity"],
            outcome.get("column") or NONE,
            outcome["meaning"],
            NONE if outcome.get("unexpected_count") is None else _fact(outcome["unexpected_count"]),
            outcome["kind"],
        )
        for outcome in failed
    ]
    return "\n".join([*lines, markdown_table(["severity", "column", "what is wrong", "values", "expectation"], rows=cells)])


def _most_wrong(reviews: Sequence[WrongReview]) -> list[str]:
    """Return the reviews that were called wrong with the greatest certainty; `…` is a word outside the vocabulary."""
    if not reviews:
        return []
    cells = [("positive" if review.label else "negative", f"{review.probability:.3f}", _ends(review.text)) for review in reviews]
    return [markdown_table(["label", "probability of positive", "review, its end"], rows=cells)]


def _ends(text: str) -> str:
    """Return the end of a long text: a network reads the last words, and a review's verdict is mostly there."""
    return text if len(text) <= MAX_CHARACTERS else "... " + text[-MAX_CHARACTERS:].split(" ", 1)[-1]


def _decision(decision: Decision | None) -> list[str]:
    """Return the checks behind a decision."""
    if decision is None:
        return ["Nothing was newly trained, so nothing was decided."]
    cells = [(check.name, "yes" if check.passed else "**no**", check.detail) for check in decision.checks]
    return [markdown_table(["check", "passed", "detail"], rows=cells)]


def report_markdown(report: RunReport, *, pictures: Mapping[str, bytes]) -> str:
    """Return the whole report of a run, with its pictures, PNGs by title, embedded in the text."""
    scores = metrics_rows(report)
    verdict = "nothing newly trained" if report.decision is None else report.decision.reason
    tutorial = (
        "The tutorial's figures are its best *validation* figures: compare them with the validation column, not with the test."
    )
    parts: list[list[str]] = [
        [f"# {report.title}: {report.model_name}"],
        _sample_line(report),
        [f"**Decision:** {verdict}"],
        [f"**Beside the simple reference:** {report.beside}"] if report.beside else [],
        ["## What changed"],
        _changes(report),
        ["## Scores"],
        [markdown_table(list(scores[0]), rows=[list(row.values()) for row in scores])],
        [tutorial] if any(result.tutorial_best is not None for result, _ in _models(report)) else [],
        *([f"![{name}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"] for name, png in pictures.items()),
        ["## Most wrong"] if report.most_wrong else [],
        _most_wrong(report.most_wrong),
        ["## Data and repairs"],
        _data(report),
        ["## Validation"],
        [validation_markdown(report)],
        ["## Checks before promotion"],
        _decision(report.decision),
    ]
    # The report itself is what is being read.
    links = {name: address for name, address in report.links.items() if name != "report"}
    if links:
        parts += [["## Where to look"], [_link(name, address=address) for name, address in links.items()]]
    origin = [
        (name, text) for name, text in (("command", report.command), ("date", report.date), ("versions", report.versions)) if text
    ]
    if origin:
        parts += [
            ["## How it was made"],
            [f"- {name}: {_code(text)}" if name == "command" else f"- {name}: {text}" for name, text in origin],
        ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _link(name: str, *, address: str) -> str:
    """Return a list item: a web address as a link, any other as code, because a browser does not follow it from a page."""
    return f"- [{name}](<{address}>)" if address.startswith(("http://", "https://")) else f"- {name}: {_code(address)}"


def _code(text: str) -> str:
    """Return text as a code span that its own backticks do not end."""
    line = " ".join(text.split())
    return f"`` {line} ``" if "`" in line else f"`{line}`"
