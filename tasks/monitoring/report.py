"""What monitoring found as values, and as a page for people."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from tasks.monitoring.findings import Finding, Watch
from tasks.reporting.markdown import markdown_table

# History of days, which is kept as tables beside the manifest.
HISTORY = ("drift", "errors")


@dataclass(frozen=True)
class MonitorReport:
    """What monitoring found of one model.

    Attributes:
        model: Registered model.
        champion: Number of its champion.
        simulated: Whether its data is the sample.
        table: Version of the newest table.
        title: Title of the data set.
        findings: What is not as it was, of `watch` and of the repairs, with the day since which it stands.
        watch: All that was watched.
        unit: Unit of the errors; empty for a classifier.
        settings: Thresholds, as plain values.
        made_at: ISO 8601, UTC.
    """

    model: str
    champion: int
    simulated: bool
    table: str
    title: str
    findings: tuple[Finding, ...]
    watch: Watch
    unit: str
    settings: Mapping[str, Any]
    made_at: str

    @property
    def summary(self) -> str:
        """One sentence: the verdicts, or that there is nothing to tell."""
        until = f" until {self.watch.day}" if self.watch.day else ""
        if self.findings:
            verdicts = list(dict.fromkeys(_subject_and_verdict(finding) for finding in self.findings))
            return f"{self.model}@{self.champion}{until}: {'; '.join(verdicts)}"
        nothing = next((note for note in self.watch.notes if note.startswith("Nothing to compare yet")), "")
        return f"{self.model}@{self.champion}{until}: {nothing or 'as it was when it was trained.'}".rstrip(".")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values, without the history of days but its newest errors."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("findings", "watch")}
        watch = {name: value for name, value in asdict(self.watch).items() if name not in (*HISTORY, "findings")}
        newest = dict(self.watch.errors[-1]) if self.watch.errors else None
        return {
            **values,
            "settings": dict(self.settings),
            "summary": self.summary,
            "findings": [finding.as_dict() for finding in self.findings],
            "watch": {**watch, "newest_errors": newest},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, history: Mapping[str, Any] | None = None) -> Self:
        """Return the report that `as_dict` wrote, with the history of days or with its newest errors alone."""
        watch = dict(values["watch"])
        newest = watch.pop("newest_errors")
        days = {"errors": (newest,) if newest else ()} if history is None else history
        return cls(
            **{name: values[name] for name in cls.__dataclass_fields__ if name not in ("findings", "watch")},
            findings=tuple(Finding(**finding) for finding in values["findings"]),
            watch=Watch(**{**watch, "notes": tuple(watch["notes"]), **days}),
        )


def _subject_and_verdict(finding: Finding) -> str:
    return finding.verdict if finding.subject in finding.verdict else f"{finding.subject}: {finding.verdict}"


def finding_rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return one row a finding for people."""
    return [
        {
            "what": finding.subject,
            "verdict": finding.verdict,
            "since": finding.since + (" (new)" if finding.is_new else ""),
            "why": finding.reason,
        }
        for finding in findings
    ]


def score_rows(report: MonitorReport) -> list[dict[str, str]]:
    """Return the scores of the last days, then by season; empty without outcomes."""
    days = report.settings["error_days"]
    newest = [(f"last {days} days", report.watch.errors[-1])] if report.watch.errors else []
    groups = [*newest, *report.watch.seasons.items()]
    return [{"when": name, **_score_cells(values, unit=report.unit)} for name, values in groups]


def _score_cells(values: Mapping[str, float], *, unit: str) -> dict[str, str]:
    def share(name: str) -> str:
        return f"{100 * values[name]:.0f} %" if name in values else "-"

    return {
        "forecasts": f"{values['forecasts']:,.0f}",
        f"MAE ({unit})": f"{values['mae']:.2f}",
        f"persistence MAE ({unit})": f"{values['naive_mae']:.2f}",
        f"bias ({unit})": f"{values['bias']:+.2f}",
        "in the 80 % interval": share("coverage_80"),
        "in the 95 % interval": share("coverage_95"),
    }


def threshold_rows(report: MonitorReport) -> list[tuple[str, str, str, str, str]]:
    """Return the newest distance of every column beside its thresholds; empty if no column was compared."""
    newest = {str(entry["column"]): entry for entry in report.watch.drift}
    return [
        (
            column,
            f"{newest[column]['psi']:.2f}",
            f"{limits['psi']:.2f}",
            f"{newest[column]['wasserstein_std']:.2f}",
            f"{limits['wasserstein_std']:.2f}",
        )
        for column, limits in report.watch.thresholds.items()
        if column in newest
    ]


def report_markdown(report: MonitorReport, *, pictures: Mapping[str, bytes]) -> str:
    """Return the page of a run of monitoring.

    Args:
        report: What it says.
        pictures: PNGs by title, which are embedded.
    """
    findings, scores, thresholds = finding_rows(report.findings), score_rows(report), threshold_rows(report)
    parts = [f"# {report.title}: {report.model}@{report.champion} at work"]
    if report.simulated:
        parts.append("> **SAMPLE: simulated, not real data.**")
    parts.append(f"**{report.summary}.**")
    if findings:
        parts += ["## Findings", markdown_table(list(findings[0]), rows=[list(row.values()) for row in findings])]
    if report.watch.notes:
        parts += ["## Not judged", "\n".join(f"- {note}" for note in report.watch.notes)]
    if scores:
        parts += ["## Errors", markdown_table(list(scores[0]), rows=[list(row.values()) for row in scores])]
    parts += [f"![{title}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})" for title, png in pictures.items()]
    if thresholds:
        header = ("column", "PSI", "threshold", "Wasserstein distance (std)", "threshold")
        parts += [f"## Inputs of the last {report.settings['drift_days']} days", markdown_table(header, rows=thresholds)]
    parts += ["## How it was made", f"- table `{report.table}`, {report.watch.predictions:,} predictions, {report.made_at}"]
    return "\n\n".join(parts) + "\n"


def metric_history(report: MonitorReport) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics over time that MLflow keeps: pairs of day, counted from 1970, and value, by metric."""
    history: dict[str, list[tuple[int, float]]] = {}
    for entry in report.watch.errors:
        for name, value in entry.items():
            if name != "day":
                history.setdefault(name, []).append((int(entry["day"]), float(value)))
    for entry in report.watch.drift:
        day = int(np.datetime64(str(entry["day"]), "D").astype(int))
        history.setdefault(f"drift/{entry['column']}", []).append((day, float(entry["excess"])))
    return history
