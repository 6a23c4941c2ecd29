"""Watch a forecast of a time series: sensors, inputs, predictions and errors, day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.config import MonitorSettings
from tasks.datasets.spec import DatasetSpec, Parsed
from tasks.monitoring.faults import Fault, broken_hours_by_day, faults_of_days, jumps, largest_changes
from tasks.monitoring.findings import Finding, Watch, drift_finding, fault_finding, performance_finding
from tasks.monitoring.performance import (
    Outcomes,
    UsualErrors,
    by_hour,
    by_season,
    error_excess,
    join_outcomes,
    low_coverage,
    rolling,
)
from tasks.monitoring.seasons import (
    DAY,
    Hourly,
    SeasonalReference,
    Thresholds,
    Values,
    clock_threshold_hours,
    days_watched,
)

TIMESTAMP = "timestamp"
# A reading is judged as stuck with what came before the judged days.
STUCK_LOOKBACK_DAYS = 7


@dataclass(frozen=True)
class WatchedSeries:
    """What is known of a series and of a model that forecasts it.

    Attributes:
        spec: Its data set.
        stamp: datetime64[s] of every row of the newest table, rising.
        columns: float32 `(rows,)` by name, in their own units.
        row_seconds: Spacing of the rows.
        target: Column that is forecast.
        trained_until: Last stamp that trained the champion.
        issued: Predictions, schema `SERIES_SCHEMA`.
        usual: Errors of the champion on its test split, or None if they cannot be had.
    """

    spec: DatasetSpec
    stamp: npt.NDArray[np.datetime64]
    columns: Mapping[str, Values]
    row_seconds: int
    target: str
    trained_until: np.datetime64
    issued: pa.Table
    usual: UsualErrors | None

    def rows(self, first: np.datetime64, last: np.datetime64) -> slice:
        """Return the rows after the first stamp and not after the last."""
        start, stop = np.searchsorted(self.stamp, [first, last], side="right")
        return slice(int(start), int(stop))


def watch_series(watched: WatchedSeries, *, settings: MonitorSettings) -> Watch:
    """Return what is not as it was when the champion was trained.

    Sensors are judged on the newest days, inputs and predictions on the newest weeks after the training span, errors on every
    prediction whose target was measured.
    """
    newest = days_watched(watched.stamp, after=watched.stamp[0], at_most=1)
    if not newest:
        return Watch(notes=("The table holds no whole day.",), predictions=watched.issued.num_rows)
    end = newest[0]
    ends = days_watched(watched.stamp, after=watched.trained_until, at_most=settings.history_days)
    reference = SeasonalReference(
        Hourly.thinned(watched.stamp, columns=watched.columns, row_seconds=watched.row_seconds),
        last=watched.trained_until,
        window_days=settings.drift_days,
    )
    thresholds = reference.thresholds(settings)
    standing, within_window = sensor_faults(watched, end=end, settings=settings)
    clock = clock_fault(reference, column=watched.spec.sun_driven, end=end, settings=settings) if ends else None
    history = drift_history(reference, thresholds=thresholds, ends=ends)
    findings = [fault_finding(fault) for fault in (*standing, *([clock] if clock else ()))]
    findings += drifted_inputs(
        watched, reference=reference, thresholds=thresholds, faults=within_window, ends=ends, settings=settings
    )
    findings += drifted_predictions(watched, reference=reference, thresholds=thresholds, faults=within_window, settings=settings)
    outcomes = join_outcomes(watched.issued, stamp=watched.stamp, measured=watched.columns[watched.target])
    errors = rolling(outcomes, ends=_error_days(outcomes, newest=end, settings=settings), settings=settings)
    findings += late_errors(errors, usual=watched.usual, others=findings, settings=settings)
    return Watch(
        findings=tuple(findings),
        notes=tuple(_notes(watched, thresholds=thresholds, ends=ends, outcomes=outcomes, errors=errors, settings=settings)),
        drift=tuple(history),
        errors=tuple(errors),
        seasons=by_season(outcomes),
        hours=by_hour(outcomes),
        thresholds={column: asdict(limits) for column, limits in thresholds.items()},
        outcomes=len(outcomes.target),
        predictions=watched.issued.num_rows,
        day=_day_ending(end),
    )


def _day_ending(end: np.datetime64) -> str:
    return str(end.astype("datetime64[D]") - 1)


def sensor_faults(
    watched: WatchedSeries, *, end: np.datetime64, settings: MonitorSettings
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """Return the faults of the newest days, and those of the whole window in which inputs are compared.

    Each has the first day of the window that shows it.
    """
    signs = watched.spec.fault_signs
    window = max(settings.drift_days, settings.fault_days)
    rows = watched.rows(end - (window + STUCK_LOOKBACK_DAYS) * DAY, end)
    stamp = watched.stamp[rows]
    if not signs or not len(stamp):
        return (), ()
    table = pa.table({TIMESTAMP: stamp, **{name: values[rows] for name, values in watched.columns.items()}})
    frame = watched.spec.validation_frame(Parsed(table=table.cast(watched.spec.schema), repairs=(), facts={}))
    hours = broken_hours_by_day(frame, signs=signs, stamp=stamp, row_seconds=watched.row_seconds)
    first_of_window, first_of_newest = (_day_ending(end - (days - 1) * DAY) for days in (window, settings.fault_days))
    in_window = {day: value for day, value in hours.items() if day >= first_of_window}
    newest = {day: value for day, value in hours.items() if day >= first_of_newest}
    all_faults = faults_of_days(in_window, signs=signs, max_hours=settings.max_broken_hours)
    newest_columns = {fault.columns for fault in faults_of_days(newest, signs=signs, max_hours=settings.max_broken_hours)}
    standing = tuple(fault for fault in all_faults if fault.columns in newest_columns)
    named = {column for fault in standing for column in fault.columns}
    jumped = tuple(fault for fault in _newest_jumps(watched, end=end, settings=settings) if not named & set(fault.columns))
    return (*standing, *jumped), (*all_faults, *jumped)


def _newest_jumps(watched: WatchedSeries, *, end: np.datetime64, settings: MonitorSettings) -> tuple[Fault, ...]:
    """Return the measured columns that jump within the newest days as they never did in the rows that trained."""
    measured = dict.fromkeys(sign.readings[0] for sign in watched.spec.fault_signs if len(sign.readings) == 1)
    trained = watched.rows(watched.stamp[0], watched.trained_until)
    largest = largest_changes(
        {name: watched.columns[name][trained] for name in measured},
        stamp=watched.stamp[trained],
        row_seconds=watched.row_seconds,
    )
    first = max(end - settings.fault_days * DAY, watched.trained_until)
    rows = watched.rows(first, end)
    newest = {name: watched.columns[name][rows] for name in measured}
    return tuple(jumps(newest, stamp=watched.stamp[rows], row_seconds=watched.row_seconds, largest=largest))


def clock_fault(reference: SeasonalReference, *, column: str, end: np.datetime64, settings: MonitorSettings) -> Fault | None:
    """Return a fault of the clock, if the daily cycle of the column that follows the sun has shifted."""
    if not column:
        return None
    shift = reference.peak_shift_hours(column, end=end, days=settings.clock_days, min_years=settings.min_reference_years)
    sound = reference.sound_peak_shifts(column, days=settings.clock_days)
    threshold = clock_threshold_hours(sound, end=end, settings=settings)
    if shift is None or threshold is None or abs(shift) <= threshold:
        return None
    return Fault(
        columns=("the clock",),
        day=_day_ending(end),
        reason=f"in the last {settings.clock_days} days {column} was highest {abs(shift):.1f} h "
        f"{'later' if shift > 0 else 'earlier'} than in the same weeks of other years, at most {threshold:.1f} h is sound",
        numbers={"shift in hours": shift, "largest sound shift in hours": threshold},
    )


def drift_history(
    reference: SeasonalReference, *, thresholds: Mapping[str, Thresholds], ends: Sequence[np.datetime64]
) -> list[dict[str, Any]]:
    """Return how far each column lay from the same weeks of the training years, at the end of each day."""
    found = []
    for end in ends:
        for column, limits in thresholds.items():
            distance = reference.distance(column, end=end)
            if distance:
                values = {"psi": distance.psi, "wasserstein_std": distance.wasserstein_std, "excess": distance.excess(limits)}
                found.append({"day": _day_ending(end), "column": column, **values})
    return found


def drifted_inputs(
    watched: WatchedSeries,
    *,
    reference: SeasonalReference,
    thresholds: Mapping[str, Thresholds],
    faults: Sequence[Fault],
    ends: Sequence[np.datetime64],
    settings: MonitorSettings,
) -> list[Finding]:
    """Return the columns whose newest weeks lie too far from the same weeks of the training years."""
    findings = []
    for column, limits in thresholds.items() if ends else ():
        distance = reference.distance(column, end=ends[-1])
        if distance and distance.years >= settings.min_reference_years and distance.excess(limits) > 1:
            findings.append(
                drift_finding(
                    column,
                    distance=distance,
                    thresholds=limits,
                    faults=faults,
                    signs=watched.spec.fault_signs,
                    window_days=reference.window_days,
                )
            )
    return findings


def drifted_predictions(
    watched: WatchedSeries,
    *,
    reference: SeasonalReference,
    thresholds: Mapping[str, Thresholds],
    faults: Sequence[Fault],
    settings: MonitorSettings,
) -> list[Finding]:
    """Return whether the forecasts of the newest weeks lie too far from what was measured in these weeks of other years."""
    limits = thresholds.get(watched.target)
    target = watched.issued["target_time"].to_numpy().astype("datetime64[s]")
    if limits is None or not len(target):
        return []
    end = target.max().astype("datetime64[D]").astype("datetime64[s]")
    rows = (target > end - settings.drift_days * DAY) & (target <= end) & (target > watched.trained_until)
    if np.sum(rows) < settings.min_predictions:
        return []
    values = watched.issued["prediction"].to_numpy()[rows]
    distance = reference.distance(watched.target, end=end, values=values[np.isfinite(values)])
    if distance is None or distance.years < settings.min_reference_years or distance.excess(limits) <= 1:
        return []
    return [
        drift_finding(
            watched.target,
            distance=distance,
            thresholds=limits,
            faults=faults,
            signs=watched.spec.fault_signs,
            window_days=settings.drift_days,
            is_prediction=True,
        )
    ]


def _error_days(outcomes: Outcomes, *, newest: np.datetime64, settings: MonitorSettings) -> list[np.datetime64]:
    """Return the ends of the days from the first known outcome to the newest whole day."""
    if not len(outcomes.target):
        return []
    first = outcomes.target[0].astype("datetime64[D]")
    days = np.arange(first + 1, newest.astype("datetime64[D]") + 1).astype("datetime64[s]")
    return list(days[-settings.history_days :])


def late_errors(
    errors: Sequence[Mapping[str, float]],
    *,
    usual: UsualErrors | None,
    others: Sequence[Finding],
    settings: MonitorSettings,
) -> list[Finding]:
    """Return the findings of the newest rolling scores: errors that are too large, intervals that hold too seldom.

    Args:
        errors: Rolling scores, the newest last.
        usual: Errors of the test split.
        others: Findings of sensors and inputs, which may be behind it.
        settings: Thresholds.
    """
    if not errors:
        return []
    entry = errors[-1]
    findings = []
    if usual:
        end = (np.datetime64(int(entry["day"]) + 1, "D")).astype("datetime64[s]")
        usual_mae, usual_naive_mae = usual.usual(end, days=settings.error_days)
        excess, numbers = error_excess(entry, usual_mae=usual_mae, usual_naive_mae=usual_naive_mae, settings=settings)
        if excess > 1:
            reason = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
            reason = f"over the last {settings.error_days} days {reason}: more than {settings.max_error_ratio:g} times both"
            findings.append(performance_finding("mean absolute error", reason=reason, numbers=numbers, others=others))
    low = low_coverage(entry, settings=settings)
    if low:
        reason = ", ".join(
            f"{100 * value:.0f} % of the measurements lie in the {name[-2:]} % interval" for name, value in low.items()
        )
        findings.append(performance_finding("coverage", reason=reason, numbers=low, others=others))
    return findings


def _notes(
    watched: WatchedSeries,
    *,
    thresholds: Mapping[str, Thresholds],
    ends: Sequence[np.datetime64],
    outcomes: Outcomes,
    errors: Sequence[Mapping[str, float]],
    settings: MonitorSettings,
) -> list[str]:
    """Return what could not be judged, and why."""
    notes = []
    if not ends:
        notes.append(
            f"No whole day has passed since {watched.trained_until}, the newest reading that trained: inputs are not judged."
        )
    elif not thresholds:
        notes.append(
            "The training span has no two years with a week in common: drift of the inputs cannot be told from the season."
        )
    if not watched.spec.fault_signs:
        notes.append("The data set names no sign of a broken sensor: a fault cannot be told from weather.")
    if not watched.issued.num_rows:
        notes.append("Nothing to compare yet: no prediction was issued.")
    elif not len(outcomes.target):
        notes.append(f"Nothing to compare yet: the target of none of {watched.issued.num_rows:,} predictions has been measured.")
    elif not errors:
        notes.append(
            f"Nothing to compare yet: fewer than {settings.min_predictions} of the predictions within {settings.error_days} days "
            "have a measured target."
        )
    elif watched.usual is None:
        notes.append("The errors of the champion on its test split are not in the store: errors are shown and not judged.")
    return notes
