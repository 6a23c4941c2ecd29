"""What the report of a run says, in values: the versions with their scores, the decision, and what was done to the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.promotion.rule import Decision
from tasks.scoring import Scoring


@dataclass(frozen=True)
class VariantResult:
    """One registered version with its scores, in JSON-ready values.

    Attributes:
        trained: False when an equal training was registered before this run.
        validation: Scores of the best epoch on the validation split, under the keys of the test scores.
        scores: Scores on the test split.
        curves: `loss`, `val_loss`, and for classifiers `accuracy`, `val_accuracy`: one value an epoch. A training that was
            resumed may hold its last epochs only; a linear baseline holds none.
        epochs_run: Number of epochs; 0 for a linear baseline.
        best_epoch: Epoch whose weights the version has, counted from 1.
        parameters: Number of trainable parameters.
        tutorial_best: The best validation score that the tutorial prints for this variant, or None.
        is_baseline: Whether it is a linear baseline, not a network.
        execution: How each part of the network ran in training, and what would make it faster.
        seen_note: How many of the scored test rows it has seen, such as `has seen 9 of the 90 test rows`; empty if none. Its
            scores are then too good.
    """

    variant: str
    version: int
    trained: bool
    validation: dict[str, float]
    scores: dict[str, float]
    curves: dict[str, list[float]]
    epochs_run: int
    best_epoch: int
    seconds_per_epoch: float
    parameters: int
    tutorial_best: float | None
    is_baseline: bool
    execution: tuple[str, ...] = ()
    seen_note: str = ""


@dataclass(frozen=True)
class RefitResult:
    """The candidate trained again on the rows of every split, and what that cost. Its scores are those of the candidate.

    Attributes:
        rows: Rows of all splits together.
        epochs: As many as validation chose for the candidate; 0 for a linear baseline.
        seconds: Of its training.
    """

    version: int
    rows: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class IntervalResult:
    """How the candidate's intervals of one level held in one part of the test split.

    Attributes:
        level: In percent.
        part: A season by the first letters of its months, or the whole split.
        coverage: Share of the rows whose truth lay within the interval.
        width: Mean width, in the unit of the target.
        plain_coverage: Coverage of plain split conformal intervals, which have one width and are not adapted.
        plain_width: Their width.
    """

    level: int
    part: str
    rows: int
    coverage: float
    width: float
    plain_coverage: float
    plain_width: float


@dataclass(frozen=True)
class CalibrationResult:
    """What temperature scaling did to the candidate's probabilities of the test split.

    Attributes:
        temperature: Fitted on the validation split.
        error_before: Expected calibration error of the network's own probabilities.
        error_after: The same after scaling.
    """

    temperature: float
    error_before: float
    error_after: float


@dataclass(frozen=True)
class WrongReview:
    """A review of the test split that the candidate labels wrongly, decoded.

    Attributes:
        label: 1 for a positive review, else 0.
        probability: The candidate's probability that the review is positive.
    """

    label: int
    probability: float
    text: str


@dataclass(frozen=True)
class RunReport:
    """Everything that the report of one run says, in JSON-ready values.

    Attributes:
        scoring: Names and formats the scores.
        model_name: Registered name, which ends in `-sample` for a simulation.
        table_published: False when this version of the table was published before this run.
        rows: Number of rows by split.
        repairs: `Repair` values as dictionaries.
        facts: Counts from parsing.
        validation: `ValidationReport` as a dictionary.
        champion: The champion before this run, scored on the test split of this run's table, or None. A refit is represented by
            its twin, which was fitted on the train rows alone.
        refit: The candidate trained again on all rows, or None if it was not.
        champion_warning: That the champion, which stays, does not beat the naive baseline on these test rows; empty if it does.
        naive: Scores of the naive baseline on the test split, under the keys of the models' scores.
        baseline_comparison: How the candidate compares with the best linear baseline, one sentence; empty if there is none.
        most_wrong: Test reviews that the candidate is most wrong about; none for a forecast.
        links: Address by name.
        versions: Library versions, one line.
        split: How the rows were divided, in words.
        acceptance: Who accepted which critical failures of the data, when and why, or None.
        stale: True if the source should have brought newer rows by now.
        intervals: How the candidate's intervals held; none if it is no forecast.
        calibration: What temperature scaling did to the candidate's probabilities; None if it is no classifier of two classes.
        findings: PNGs of expectations that failed, by the name of the picture in `validation`.
        missing_uncertainty: Why the candidate has neither, although models of the problem have; else empty.
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
    decision: Decision
    baseline_comparison: str
    most_wrong: tuple[WrongReview, ...]
    links: dict[str, str]
    versions: str
    date: str
    champion_warning: str = ""
    split: str = ""
    acceptance: dict[str, Any] | None = None
    stale: bool = False
    refit: RefitResult | None = None
    intervals: tuple[IntervalResult, ...] = ()
    calibration: CalibrationResult | None = None
    findings: Mapping[str, bytes] = field(default_factory=dict)
    missing_uncertainty: str = ""
