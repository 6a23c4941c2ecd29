"""The tutorial's scores beside ours over several seeds, as a section of docs/results.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tasks.metrics import MetricSpec
from tasks.reporting.markdown import NONE, markdown_table
from tasks.scoring import Scoring


@dataclass(frozen=True)
class Reproduction:
    """The results of one run a seed on one table.

    Attributes:
        scoring: Names and formats the scores.
        tutorial_rows: Rows of the tutorial's own files, readings or reviews; None if the tutorial has no such data set.
        results: The plain values of each run's report.
        pinned: SHA-256 of the publisher's own files by name, where it is known.
        usual_budget: Whether every variant was trained for the tutorial's epochs and steps.
        machine: Processor and cores, one line.
    """

    dataset: str
    scoring: Scoring
    tutorial_rows: int | None
    results: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    pinned: Mapping[str, str]
    usual_budget: bool
    command: str
    date: str
    machine: str
    versions: str


def differences(reproduction: Reproduction) -> list[str]:
    """Return the reasons why the scores cannot be compared with the tutorial's; none if they can."""
    first = reproduction.results[0]
    rows = sum(first["table"]["rows"].values())
    expected = reproduction.tutorial_rows
    reasons = []
    if first["simulated"]:
        reasons.append("the data is the sample, a simulation")
    elif expected is None:
        reasons.append("the tutorial has no such data set")
    elif abs(rows - expected) > 0.01 * expected:  # repairs may drop a few rows
        reasons.append(f"the table has {rows:,} rows, not those of the tutorial ({expected:,})")
    if not reproduction.usual_budget:
        reasons.append("epochs or steps are not the tutorial's")
    return reasons


def remarks(reproduction: Reproduction) -> list[str]:
    """Return what a reader should know even if the scores are comparable."""
    files = {file["name"]: file["sha256"] for file in reproduction.results[0]["raw"]}
    replaced = [name for name, digest in reproduction.pinned.items() if name in files and files[name] != digest]
    return [f"`{name}` is not the publisher's own file: the splits may hold other examples." for name in replaced]


def section(reproduction: Reproduction) -> str:
    """Return the section of one data set as Markdown."""
    first, metric, validation = reproduction.results[0], reproduction.scoring.primary, reproduction.scoring.validation
    reasons = differences(reproduction)
    mark = " (not comparable)" if reasons else ""
    naive = metric.text(next(iter(first["results"]))["scores"][metric.naive_key])
    rows = []
    worse = []
    for variant in [entry["variant"] for entry in first["results"]]:
        entries = [_entry(result, variant=variant) for result in reproduction.results]
        scores = [entry["validation"][validation.key] for entry in entries]
        printed = entries[0]["tutorial_best"]
        rows.append(
            (
                f"`{variant}`" + (" (linear baseline)" if entries[0]["is_baseline"] else ""),
                NONE if printed is None else f"{printed}{mark}",
                _spread(scores, metric=validation),
                _spread([entry["scores"][metric.key] for entry in entries], metric=metric),
                naive,
                f"{entries[0]['parameters']:,}",
                f"{fmean(entry['seconds_per_epoch'] for entry in entries):.1f}",
                NONE if entries[0]["is_baseline"] else " / ".join(f"{e['best_epoch']} of {e['epochs_run']}" for e in entries),
            )
        )
        if printed is not None and not reasons and not validation.better(fmean(scores), than=printed):
            worse.append(_worse(variant, printed=printed, scores=scores, metric=validation))
    header = (
        "variant",
        f"tutorial's best validation {validation.label}",
        f"our best validation {validation.label}",
        f"test {metric.label}",
        "naive, test",
        "parameters",
        "seconds an epoch",
        "best epoch, a seed",
    )
    title = f"## {reproduction.dataset}: every variant"
    warning = f"> **Not comparable with the tutorial's figures:** {'; '.join(reasons)}." if reasons else ""
    seeds = (
        f"seeds {', '.join(map(str, reproduction.seeds))}"
        if len(reproduction.seeds) > 1
        else f"one seed ({reproduction.seeds[0]})"
    )
    spread = " Each cell: mean (lowest to highest)." if len(reproduction.seeds) > 1 else ""
    summary = (
        f"Table `{first['table']['version']}` from source `{first['source']}`, "
        + ", ".join(f"{name} {count:,}" for name, count in first["table"]["rows"].items())
        + f" rows; {seeds}.{spread} The validation figure is that of the best epoch, as in the tutorial. The test split is "
        "scored once, after that."
    )
    made_by = f"`{reproduction.command}`, {reproduction.date[:10]}, {reproduction.machine}; {reproduction.versions}."
    parts = [title, warning, summary, markdown_table(header, rows=rows), *remarks(reproduction), *worse, made_by]
    return "\n\n".join(part for part in parts if part) + "\n"


def _entry(result: Mapping[str, Any], *, variant: str) -> Mapping[str, Any]:
    """Return the entry of a variant among the results of a run."""
    entry: Mapping[str, Any] = next(entry for entry in result["results"] if entry["variant"] == variant)
    return entry


def _spread(values: Sequence[float], *, metric: MetricSpec) -> str:
    """Return the mean over the seeds with the lowest and the highest value, or the one value that all seeds share."""
    mean = metric.text(fmean(values), decimals=metric.decimals + 1 if metric.decimals < 4 else 4)
    if max(values) == min(values):
        return mean
    low, high = (f"{value:.{metric.decimals}f}" for value in (min(values), max(values)))
    return f"{mean} ({low} to {high})"


def _worse(variant: str, *, printed: float, scores: Sequence[float], metric: MetricSpec) -> str:
    """Return the sentence on a variant that does not reach the tutorial's printed score, and a possible reason."""
    gap = abs(fmean(scores) - printed)
    reached = any(not metric.better(printed, than=score) for score in scores)
    why = (
        "the printed figure is that of one run, and a seed of ours reaches it"
        if reached
        else f"the printed figure is that of one run, {len(scores)} of ours lie between {min(scores):.4f} and {max(scores):.4f}"
    )
    return f"`{variant}` is worse than printed, by {gap:.4f}: {why}."


def with_section(document: str, *, dataset: str, text: str) -> str:
    """Return the document with the section of a data set replaced, or added at its end.

    Two HTML comments, which a rendered page does not show, mark where the section begins and ends.
    """
    begin, end = f"<!-- reproduce {dataset} -->", f"<!-- end of reproduce {dataset} -->"
    block = f"{begin}\n\n{text}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(document):
        return pattern.sub(lambda _: block, document)
    return f"{document.rstrip()}\n\n{block}\n".lstrip()
