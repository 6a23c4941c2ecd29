"""What each command prints with `--json`: one model a command, from which `retrain schema` makes its JSON Schema.

A name that goes, or that changes its meaning, raises `VERSION`; a name that comes does not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from storage.references import TableRef
from tasks.promotion.rule import Outcome
from tasks.retention.report import PrunedRef
from tasks.verification.report import VerifiedRef

VERSION = 1


def _said(text: str) -> Any:
    return Field(description=text)


Stamp = Annotated[str, _said("ISO 8601, UTC.")]
Scores = Annotated[dict[str, float], _said("Scores by name; an error is in the unit of its data set.")]
Plain = dict[str, Any]


class Answer(BaseModel):
    """What a command prints, or a part of it."""

    model_config = ConfigDict(extra="forbid")


class VersionAnswer(Answer):
    """A version of a registered model."""

    name: str
    version: int
    variant: str
    run_id: Annotated[str, _said("Its run in MLflow.")]
    uri: str
    aliases: list[str]
    tags: dict[str, str]
    metrics: Scores
    created: Stamp


class ModelAnswer(VersionAnswer):
    """A version in the list of `retrain models`."""

    refused: Annotated[str | None, _said("Who took it out of use, and why; null if nobody did.")]


class ShowAnswer(VersionAnswer):
    """A version with all that is recorded of it."""

    manifest: Annotated[Plain, _said("Its manifest, as it is kept with the model.")]
    decisions: Annotated[list[Plain], _said("Lines of the log of decisions about it, the oldest first.")]
    scores_of: Annotated[str, _said("Version whose scores stand for it: of a refit its twin.")]
    scores: Scores
    validation: Scores


class TableAnswer(Answer):
    """A table in the list of `retrain tables`."""

    dataset: str
    version: str
    title: str
    simulated: bool
    source: str
    origin: Annotated[str, _said("upstream, mirror, own or sample.")]
    rows: Annotated[dict[str, int], _said("Number of rows by file.")]
    newest: Annotated[str, _said("Stamp of the newest reading of a series; empty for another data set.")]
    ingested: Annotated[str, _said("When it was ingested last, ISO 8601, UTC; empty if that is not recorded.")]
    accepted: Annotated[bool, _said("Whether a person accepted critical failures of it.")]


class ShowTableAnswer(Answer):
    """A table with all that is recorded of it."""

    manifest: Plain
    models: Annotated[list[str], _said("Versions that were trained on it.")]


class DecisionAnswer(Answer):
    """A decision of a person."""

    outcome: Outcome
    reason: str


class RunDecisionAnswer(DecisionAnswer):
    """The decision of a run."""

    candidate: Annotated[str, _said("Such as v5.")]
    champion: Annotated[str | None, _said("Champion before the run; null if there was none.")]
    refit: Annotated[str | None, _said("The candidate trained again on all rows; null if it was not.")]


class RunTableAnswer(Answer):
    """The table of a run."""

    version: str
    published: Annotated[bool, _said("False if it had been published before.")]
    rows: dict[str, int]


class RunAnswer(Answer):
    """What a run did with one data set."""

    dataset: str
    model: str
    simulated: bool
    source: str
    table: RunTableAnswer
    acceptance: Plain | None
    stale: bool
    repairs: list[Plain]
    decision: RunDecisionAnswer
    raw: Annotated[list[Plain], _said("The raw files: name, SHA-256 and size.")]
    versions: Annotated[str, _said("Versions of the libraries.")]
    results: Annotated[list[Plain], _said("Each version with its scores.")]
    naive: Scores
    champion_warning: Annotated[str, _said("That the champion does not beat the naive baseline; empty if it does.")]
    baseline_comparison: str
    refit: Plain | None
    intervals: list[Plain]
    calibration: Plain | None
    rows: Annotated[list[dict[str, str]], _said("The table of scores, as it is printed.")]
    links: dict[str, str]
    command: str


class PairedTestAnswer(Answer):
    """A paired test of the second version against the first."""

    method: str
    rows: int
    mean_gain: Annotated[float, _said("Mean loss of the first minus that of the second.")]
    relative_gain: float
    ci_low: float
    ci_high: float
    p_value: Annotated[float, _said("One-sided.")]
    blocks: int | None


class DifferenceAnswer(Answer):
    """A thing that was different when two versions were made."""

    part: Literal["data", "network", "settings", "code"]
    name: Annotated[str, _said("Its place in the manifests.")]
    first: Any
    second: Any


class BothScoresAnswer(Answer):
    """Scores of two versions on one test split."""

    first: Scores
    second: Scores


class CompareAnswer(Answer):
    """Two versions side by side."""

    first: str
    second: str
    table: str
    rows: Annotated[int, _said("Test rows that both forecast.")]
    fair_rows: Annotated[int, _said("Those that neither has seen, on which they are tested.")]
    scores: BothScoresAnswer
    test: Annotated[PairedTestAnswer | None, _said("Null if too few rows are fair.")]
    p_value: Annotated[float | None, _said("Two-sided.")]
    differences: list[DifferenceAnswer]


class HistoryAnswer(Answer):
    """A run in the list of `retrain runs`."""

    id: str
    name: str
    state: str
    message: str
    started: Stamp | None
    seconds: float
    deployment_id: str | None


class LogAnswer(Answer):
    """A line of the log of a run."""

    at: Stamp
    level: str
    run: str
    message: str


class FindingAnswer(Answer):
    """What was found of one thing."""

    check: str
    level: Literal["ok", "warning", "fault"]
    text: str
    remedy: str


class FindingsAnswer(Answer):
    """What `retrain doctor` or `retrain status` found."""

    faults: int
    warnings: int
    findings: list[FindingAnswer]


class MonitorAnswer(Answer):
    """What `retrain monitor` found."""

    model: str
    champion: int
    simulated: bool
    table: str
    title: str
    unit: str
    settings: Plain
    made_at: Stamp
    summary: str
    findings: list[Plain]
    watch: Plain
    folder: str


ANSWERS: dict[str, Any] = {
    "run": list[RunAnswer],
    "ingest": list[TableRef],
    "tables": list[TableAnswer],
    "models": list[ModelAnswer],
    "show": ShowAnswer,
    "show table": ShowTableAnswer,
    "compare": CompareAnswer,
    "promote": DecisionAnswer,
    "rollback": DecisionAnswer,
    "predict": list[Plain],
    "monitor": MonitorAnswer,
    "runs": list[HistoryAnswer],
    "logs": list[LogAnswer],
    "doctor": FindingsAnswer,
    "status": FindingsAnswer,
    "gc": PrunedRef,
    "verify": VerifiedRef,
}
"""By command, what it prints with `--json`."""


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints with `--json`; its `$id` holds the version."""
    schema = TypeAdapter(ANSWERS[command]).json_schema(mode="serialization")
    return {"$id": f"retrain/{command.replace(' ', '-')}/{VERSION}", **schema}
