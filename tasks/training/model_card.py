"""The model card of a version: what it was trained on and how it scored, for whoever meets it in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.datasets import dataset_named
from tasks.metrics import FloatVector
from tasks.scoring import Scoring

# MLflow's database holds so many characters of a description.
MAX_CHARACTERS = 5000
MAX_REPAIRS = 8


@dataclass(frozen=True)
class ScoreInterval:
    """The 95 % interval of the primary score on the test split.

    Attributes:
        method: How it was computed, for people.
    """

    low: float
    high: float
    method: str


def score_interval(losses: FloatVector, *, scoring: Scoring) -> ScoreInterval:
    """Return the interval of the primary score, from the losses of the test rows in their order.

    It is the interval of the paired test against a model without errors: the moving-block bootstrap for a series, else the Wald
    interval of a share. A score where less is better is taken for the mean loss, another one for 1 minus it.
    """
    test = scoring.paired_test(reference_loss=losses, candidate_loss=np.zeros_like(losses), seed=0)
    method = test.method if test.blocks else "Wald interval of a share"
    if scoring.primary.lower_is_better:
        return ScoreInterval(test.ci_low, test.ci_high, method)
    return ScoreInterval(1 - test.ci_high, 1 - test.ci_low, method)


def model_card(
    *,
    variant: str,
    summary: str,
    table: Mapping[str, Any],
    training: Mapping[str, Any],
    scores: Mapping[str, float],
    interval: ScoreInterval | None,
    scoring: Scoring,
    twin: int | None,
) -> str:
    """Return the card as Markdown, short enough for MLflow.

    Args:
        variant: Name of the network or linear baseline.
        summary: What it is.
        table: Manifest of the table that it was trained on.
        training: What is recorded of the training.
        scores: Scores on the test split, with those of the naive baseline; of a refit those of its twin.
        interval: Interval of the primary score; None: not known.
        scoring: What the scores mean.
        twin: Version whose scores stand for a refit; None: the version was scored itself.
    """
    spec = dataset_named(table["dataset"])
    parts = [f"## {variant}: {table['title']}", f"{summary[:1].upper()}{summary[1:]}."]
    if table["simulated"]:
        parts.append("**Trained on a simulation.** Its scores say nothing of real data, and it is of no use there.")
    parts += [
        f"**Intended use.** {spec.intended_use}",
        f"**Data.** Source `{table['source']}`, table `{table['version']}`: {_spans(table['bounds'])}.",
        f"**Licence and origin.** {table['licence']}.",
        f"**Repairs.** {_repairs(table['repairs'])}",
    ]
    if table.get("acceptance"):
        accepted = table["acceptance"]
        parts.append(f"**The quality of this data was rejected,** and accepted by {accepted['by']}: {accepted['reason']}")
    parts += [
        _score_table(scores, interval=interval, scoring=scoring, whose="this version" if twin is None else f"its twin v{twin}"),
        f"**Training.** {_training(training, twin=twin)}",
        "**Limits.**\n" + "\n".join(f"- {limit}" for limit in _limits(spec.limits_of_use, training=training, twin=twin)),
    ]
    return _cut("\n\n".join(parts))


def _spans(bounds: Mapping[str, Mapping[str, Any]]) -> str:
    """Return of each split its rows and, for a series, its first and last stamp."""
    texts = []
    for split, bound in bounds.items():
        span = f" from {bound['first_stamp'][:16]} to {bound['last_stamp'][:16]}" if "first_stamp" in bound else ""
        texts.append(f"{split} {bound['rows']:,} rows{span}")
    return "; ".join(texts)


def _repairs(repairs: list[Mapping[str, Any]]) -> str:
    found = sorted((repair for repair in repairs if repair["count"]), key=lambda repair: -repair["count"])
    if not found:
        return "None was needed."
    texts = [f"{repair['name']} {repair['count']:,} ({100 * repair['share']:.2g} %)" for repair in found[:MAX_REPAIRS]]
    more = f", and {len(found) - MAX_REPAIRS} more" if len(found) > MAX_REPAIRS else ""
    return f"{', '.join(texts)}{more}; the rules are in the manifest."


def _score_table(scores: Mapping[str, float], *, interval: ScoreInterval | None, scoring: Scoring, whose: str) -> str:
    metric = scoring.primary
    if metric.key not in scores:
        return "**Scores.** None is recorded."
    text = metric.text(scores[metric.key])
    if interval:
        text += f" (95 % interval {metric.text(interval.low)} to {metric.text(interval.high)})"
    naive = metric.text(scores[metric.naive_key]) if metric.naive_key in scores else "-"
    rows = [f"| score on the test split | {whose} | naive baseline: {metric.naive_label} |", "|---|---|---|"]
    rows.append(f"| {metric.label} | {text} | {naive} |")
    if "skill" in scores:
        rows.append(f"| skill over the naive baseline | {100 * scores['skill']:+.1f} % | 0 % |")
    rows += [
        f"| {further.heading} | {scores[further.key]:{'+' if further.signed else ''}.{further.decimals}f} | - |"
        for further in scoring.further
        if further.key in scores
    ]
    return "\n".join(rows) + (f"\n\nInterval: {interval.method}." if interval else "")


def _training(training: Mapping[str, Any], *, twin: int | None) -> str:
    seed = training["settings"].get("seed", 0)
    if not training["epochs_run"]:
        text = f"{training['parameters']:,} parameters, solved in closed form."
    else:
        text = f"{training['parameters']:,} parameters, epoch {training['best_epoch']} of {training['epochs_run']}, seed {seed}."
    if twin is None:
        chosen = "; the validation rows chose the epoch" if training["epochs_run"] else ""
        return f"{text} Trained on the train rows alone{chosen}."
    return f"{text} A refit: v{twin} trained again on the rows of every split, validation and test among them."


def _limits(own: tuple[str, ...], *, training: Mapping[str, Any], twin: int | None) -> list[str]:
    seed = ["One seed: another one gives somewhat other scores."] if training["epochs_run"] else []
    if twin is None:
        scored = "The test split was also used by decisions on promotion, so its scores are a little too good."
    else:
        scored = "Nobody has measured this version on rows that it has not seen: that it is as good as its twin is assumed."
    return [*own, *seed, scored]


def _cut(text: str) -> str:
    """Return a text that fits the registry; a cut one says so."""
    if len(text) <= MAX_CHARACTERS:
        return text
    end = "\n\n(Shortened: the whole is in manifest.json of the run.)"
    return text[: MAX_CHARACTERS - len(end)] + end
