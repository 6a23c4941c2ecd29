"""The tutorial's figures beside ours: what several seeds gave, as a section of docs/results.md."""

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
    """What the runs of several seeds gave on one table.

    Attributes:
        scoring: How the problem is scored.
        tutorial_rows: What the tutorial's own files hold, readings or reviews; None where it has no such data set.
        results: The plain values of each run's report, one a seed.
        pinned: SHA-256 by name of the files that the publisher has, where it is known.
        usual_budget: Whether every variant had the tutorial's epochs and steps.
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


def differences(made: Reproduction) -> list[str]:
    """Return why figures cannot be compared with the tutorial's, one reason an entry; none where they can."""
    first = made.results[0]
    rows = sum(first["table"]["rows"].values())
    expected = made.tutorial_rows
    found = []
    if first["simulated"]:
        found.append("the data is the sample, a simulation")
    elif expected is None:
        found.append("the tutorial has no such data set")
    elif abs(rows - expected) > 0.01 * expected:  # repairs may drop a few rows
        found.append(f"the table has {rows:,} rows, another span than the tutorial's {expected:,}")
    if not made.usual_budget:
        found.append("epochs or steps are not the tutorial's")
    return found


def remarks(made: Reproduction) -> list[str]:
    """Return what a reader should know although the figures are comparable."""
    files = {file["name"]: file["sha256"] for file in made.results[0]["raw"]}
    other = [name for name, digest in made.pinned.items() if name in files and files[name] != digest]
    return [f"`{name}` is not the publisher's own file: the splits may hold other examples." for name in other]


def section(made: Reproduction) -> str:
    """Return the section of one data set."""
    first, spec, validation = made.results[0], made.scoring.primary, made.scoring.validation
    reasons = differences(made)
    mark = " (not comparable)" if reasons else ""
    naive = spec.text(next(iter(first["results"]))["scores"][spec.naive_key])
    rows = []
    worse = []
    for variant in [entry["variant"] for entry in first["results"]]:
        entries = [_entry(result, variant=variant) for result in made.results]
        seen = [entry["validation"][validation.key] for entry in entries]
        printed = entries[0]["tutorial_best"]
        rows.append(
            (
                f"`{variant}`" + (" (simple reference)" if entries[0]["is_reference"] else ""),
                NONE if printed is None else f"{printed}{mark}",
                _spread(seen, spec=validation),
                _spread([entry["scores"][spec.key] for entry in entries], spec=spec),
                naive,
                f"{entries[0]['parameters']:,}",
                f"{fmean(entry['seconds_per_epoch'] for entry in entries):.1f}",
                NONE if entries[0]["is_reference"] else " / ".join(f"{e['best_epoch']} of {e['epochs_run']}" for e in entries),
            )
        )
        if printed is not None and not reasons and not validation.better(fmean(seen), than=printed):
            worse.append(_worse(variant, printed=printed, seen=seen, spec=validation))
    header = (
        "variant",
        f"tutorial's best validation {validation.label}",
        f"our best validation {validation.label}",
        f"test {spec.label}",
        "naive, test",
        "parameters",
        "seconds an epoch",
        "best epoch, a seed",
    )
    title = f"## {made.dataset}: every variant"
    warning = f"> **Not comparable with the tutorial's figures:** {'; '.join(reasons)}." if reasons else ""
    seeds = f"seeds {', '.join(map(str, made.seeds))}" if len(made.seeds) > 1 else f"one seed ({made.seeds[0]})"
    spread = " Each cell: mean (lowest to highest)." if len(made.seeds) > 1 else ""
    told = (
        f"Table `{first['table']['version']}` from source `{first['source']}`, "
        + ", ".join(f"{name} {count:,}" for name, count in first["table"]["rows"].items())
        + f" rows; {seeds}.{spread} The validation figure is that of the best epoch, as the tutorial's; the test split is "
        "scored once, after that."
    )
    made_by = f"`{made.command}`, {made.date[:10]}, {made.machine}; {made.versions}."
    parts = [title, warning, told, markdown_table(header, rows=rows), *remarks(made), *worse, made_by]
    return "\n\n".join(part for part in parts if part) + "\n"


def _entry(result: Mapping[str, Any], *, variant: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(entry for entry in result["results"] if entry["variant"] == variant)
    return found


def _spread(values: Sequence[float], *, spec: MetricSpec) -> str:
    """Return the mean of the seeds with the lowest and the highest, or the one value that all of them gave."""
    mean = spec.text(fmean(values), decimals=spec.decimals + 1 if spec.decimals < 4 else 4)
    if max(values) == min(values):
        return mean
    low, high = (f"{value:.{spec.decimals}f}" for value in (min(values), max(values)))
    return f"{mean} ({low} to {high})"


def _worse(variant: str, *, printed: float, seen: Sequence[float], spec: MetricSpec) -> str:
    """Say that a variant did not reach the printed figure, and what that may come from."""
    gap = abs(fmean(seen) - printed)
    reached = any(not spec.better(printed, than=value) for value in seen)
    why = (
        "the printed figure is that of one run, and a seed of ours reaches it"
        if reached
        else f"the printed figure is that of one run, {len(seen)} of ours lie between {min(seen):.4f} and {max(seen):.4f}"
    )
    return f"`{variant}` is worse than printed, by {gap:.4f}: {why}."


def with_section(document: str, *, dataset: str, text: str) -> str:
    """Return a document in which the section of a data set is this one; the rest stays as it is.

    A section stands between two comments that a reader does not see. Where there are none it is added at the end.
    """
    begin, end = f"<!-- reproduce {dataset} -->", f"<!-- end of reproduce {dataset} -->"
    block = f"{begin}\n\n{text}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(document):
        return pattern.sub(lambda _: block, document)
    return f"{document.rstrip()}\n\n{block}\n".lstrip()
