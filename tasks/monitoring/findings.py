"""What monitoring found, and the verdict: a fault of a sensor, unusual weather or a change of climate, or drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tasks.datasets.spec import FaultSign
from tasks.monitoring.faults import Fault
from tasks.monitoring.seasons import Distance, Thresholds

Kind = Literal["fault", "drift", "performance"]
Cause = Literal["fault", "weather", "drift"]

WEATHER = "unusual weather / change of climate"
DRIFT = "drift"
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was when the model was trained.

    Attributes:
        kind: What was watched: sensors, inputs and predictions, or errors.
        subject: Column, metric or part that it is about.
        cause: What is behind it; training on new data cures no fault.
        verdict: The cause for people, such as `fault of temperature_degc`.
        reason: Why, with numbers.
        numbers: The numbers by name.
        since: First day that shows it, such as `2026-03-01`; empty until it is compared with the last run, if only a window does.
        is_new: Whether the last run did not have it.
    """

    kind: Kind
    subject: str
    cause: Cause
    verdict: str
    reason: str
    numbers: Mapping[str, float]
    since: str = ""
    is_new: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same finding as one of another day."""
        return self.kind, self.subject

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-ready values."""
        return asdict(self)


def fault_finding(fault: Fault) -> Finding:
    """Return the finding of a fault."""
    return Finding(
        kind="fault",
        subject=fault.subject,
        cause="fault",
        verdict=f"fault of {fault.subject}",
        reason=f"{fault.subject}: {fault.reason}",
        numbers=dict(fault.numbers),
        since=fault.day,
    )


def drift_finding(
    column: str,
    *,
    distance: Distance,
    thresholds: Thresholds,
    faults: Sequence[Fault],
    signs: Sequence[FaultSign],
    window_days: int,
    is_prediction: bool = False,
) -> Finding:
    """Return the finding of a column that has drifted, with what it is put down to.

    A fault of the column within the window explains it. Otherwise, if laws tie the column to others and all of them hold, it
    is the weather that has changed, since a wrong value of one column would break them. A column that no law ties, and a
    prediction, have drifted for a reason that nothing here tells.

    Args:
        column: Column of the table; for predictions their target.
        distance: Distance of its window from the same weeks of the training years.
        thresholds: Thresholds of the column.
        faults: Faults within the window.
        signs: Signs of the data set.
        window_days: Length of the window.
        is_prediction: Whether the predictions of the column have drifted, and not its readings.
    """
    numbers = {
        "psi": distance.psi,
        "psi threshold": thresholds.psi,
        "wasserstein_std": distance.wasserstein_std,
        "wasserstein_std threshold": thresholds.wasserstein_std,
        "mean": distance.mean,
        "mean of the same weeks": distance.reference_mean,
        "years": float(distance.years),
    }
    subject = f"{PREDICTIONS} of {column}" if is_prediction else column
    compared = (
        f"{subject}: mean of the last {window_days} days {distance.mean:.4g}, of the same weeks of {_years(distance.years)} that "
        f"trained {distance.reference_mean:.4g}; PSI {distance.psi:.2f} (threshold {thresholds.psi:.2f}), Wasserstein distance "
        f"{distance.wasserstein_std:.2f} standard deviations (threshold {thresholds.wasserstein_std:.2f})"
    )
    own = [fault for fault in faults if column in fault.columns]
    tied = [sign for sign in signs if len(sign.readings) > 1 and column in sign.readings]
    if own:
        cause: Cause = "fault"
        verdict, because = f"fault of {own[0].subject}", f"since {own[0].day} {own[0].reason}"
    elif tied and not is_prediction:
        cause, verdict = "weather", WEATHER
        because = f"all {len(tied)} laws that tie it to other columns hold, so they have moved together"
    else:
        cause, verdict, because = "drift", DRIFT, "no law ties it to another column, so nothing tells why"
        if is_prediction:
            because = "the model forecasts other values than were measured in these weeks of the years that trained"
    return Finding("drift", subject, cause, verdict, f"{compared}; {because}", numbers)


def _years(count: int) -> str:
    return "1 year" if count == 1 else f"{count} years"


def performance_finding(subject: str, *, reason: str, numbers: Mapping[str, float], others: Sequence[Finding]) -> Finding:
    """Return the finding of errors that are too large, put down to a fault or to the weather if one of these was found."""
    for cause in ("fault", "weather"):
        behind = next((finding for finding in others if finding.cause == cause), None)
        if behind:
            return Finding("performance", subject, behind.cause, behind.verdict, f"{reason}; {behind.reason}", dict(numbers))
    return Finding("performance", subject, "drift", DRIFT, f"{reason}; no sensor and no input explains it", dict(numbers))


def since_last(findings: Iterable[Finding], *, last: Iterable[Mapping[str, Any]], day: str) -> tuple[Finding, ...]:
    """Return the findings with the day since which they stand; one that the last run had is not new.

    Args:
        findings: Findings of this run.
        last: Findings of the last run, as `Finding.as_dict` wrote them.
        day: Newest day that was watched.
    """
    known = {(entry["kind"], entry["subject"]): str(entry["since"]) for entry in last}
    return tuple(
        replace(finding, since=known.get(finding.key, finding.since or day), is_new=finding.key not in known)
        for finding in findings
    )


@dataclass(frozen=True)
class Watch:
    """What monitoring found of one model, in values.

    Attributes:
        findings: What is not as it was.
        notes: What could not be judged, and why.
        drift: One entry a day and column: `day`, `column`, `psi`, `wasserstein_std`, `excess`.
        errors: One entry a day, of `tasks.monitoring.performance.rolling`.
        seasons, hours: Scores by season and by hour of the target.
        thresholds: Thresholds by column.
        outcomes: Predictions whose outcome is known.
        predictions: Predictions whose target the version that issued them has not seen in training.
        day: Newest day that was watched; empty if none was.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    drift: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[Mapping[str, float], ...] = ()
    seasons: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hours: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    outcomes: int = 0
    predictions: int = 0
    day: str = ""
