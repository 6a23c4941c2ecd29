"""How often monitoring cries wolf on years in which nothing was wrong, and how soon it finds planted faults.

The first years of a series are taken as those that trained; every later day is watched with the default thresholds, as the
flow `monitor` does. Run it as `python -m benchmarks.monitoring --help`; it takes some minutes and is no part of CI.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.config import MonitorSettings
from tasks.datasets import dataset_named
from tasks.datasets.jena import physics
from tasks.datasets.request import TableRequest
from tasks.datasets.time_series import split_by_time
from tasks.intervals import LEVELS
from tasks.monitoring.findings import Finding, fault_finding
from tasks.monitoring.performance import UsualErrors, join_outcomes, rolling
from tasks.monitoring.seasons import DAY, Hourly, SeasonalReference, days_watched
from tasks.monitoring.series import WatchedSeries, clock_fault, drifted_inputs, late_errors, sensor_faults
from tasks.prediction.issued import SERIES_SCHEMA, TABLE

DATASET, TARGET = "jena", "temperature_degc"
# Columns of the reconstructed years whose hours are real.
HOURLY_COLUMNS = (
    "pressure_mbar",
    TARGET,
    "dew_point_degc",
    "relative_humidity_percent",
    "saturation_vapor_pressure_mbar",
    "wind_speed_m_per_s",
)
Columns = dict[str, np.ndarray]
Plant = Callable[[np.ndarray, Columns, np.datetime64], tuple[np.ndarray, Columns]]


def read_series(folder: Path) -> tuple[np.ndarray, Columns]:
    """Return stamps and readings of all files of the station in a folder."""
    files = {path.name: path for path in sorted(folder.glob("mpi_roof*"))}
    table = dataset_named(DATASET).parse(files, TableRequest(source="station")).table
    columns = {name: table[name].to_numpy() for name in physics.COLUMNS}
    return table[physics.TIMESTAMP].to_numpy().astype("datetime64[s]"), columns


def watched_series(stamp: np.ndarray, columns: Columns, *, trained_until: np.datetime64) -> WatchedSeries:
    """Return a series without predictions."""
    return WatchedSeries(
        spec=dataset_named(DATASET),
        stamp=stamp,
        columns=columns,
        row_seconds=physics.ROW_SECONDS,
        target=TARGET,
        trained_until=trained_until,
        issued=SERIES_SCHEMA.empty_table(),
        usual=None,
    )


class Watcher:
    """The findings of each day, with thresholds that are computed once."""

    def __init__(self, watched: WatchedSeries, *, settings: MonitorSettings) -> None:
        self.watched, self.settings = watched, settings
        self.reference = self._reference(watched)
        self.thresholds = self.reference.thresholds(settings)

    def _reference(self, watched: WatchedSeries) -> SeasonalReference:
        hourly = Hourly.thinned(watched.stamp, columns=watched.columns, row_seconds=watched.row_seconds)
        return SeasonalReference(hourly, last=watched.trained_until, window_days=self.settings.drift_days)

    def with_series(self, stamp: np.ndarray, columns: Columns) -> Watcher:
        """Return a watcher of other rows after the same training span."""
        other = object.__new__(Watcher)
        other.watched, other.settings = replace(self.watched, stamp=stamp, columns=columns), self.settings
        other.reference, other.thresholds = self._reference(other.watched), self.thresholds
        other.reference.take_sound_shifts(self.reference)
        return other

    def findings(self, end: np.datetime64) -> list[Finding]:
        """Return what is found at the end of a day."""
        standing, within = sensor_faults(self.watched, end=end, settings=self.settings)
        column = self.watched.spec.sun_driven
        clock = clock_fault(self.reference, column=column, end=end, settings=self.settings)
        found = [fault_finding(fault) for fault in (*standing, *([clock] if clock else ()))]
        drifted = drifted_inputs(
            self.watched, reference=self.reference, thresholds=self.thresholds, faults=within, ends=[end], settings=self.settings
        )
        return found + drifted


def alarms(findings_by_day: Iterable[Sequence[Finding]]) -> dict[str, int]:
    """Return on how many days something new was told, by the cause: what a person would have been told of."""
    counts: dict[str, int] = {}
    before: set[tuple[str, str]] = set()
    for findings in findings_by_day:
        new = {finding.kind: finding for finding in findings if finding.key not in before}
        for kind in new:
            counts[kind] = counts.get(kind, 0) + 1
        before = {finding.key for finding in findings}
    return counts


def false_alarms(watcher: Watcher, *, say: Callable[[str], None]) -> None:
    """Tell of every finding on days in which nothing was planted."""
    stamp, until = watcher.watched.stamp, watcher.watched.trained_until
    ends = days_watched(stamp, after=until, at_most=100_000)
    findings = [watcher.findings(end) for end in ends]
    counts = alarms(findings)
    years = len(ends) / 365.25
    total = {kind: f"{count} ({count / years:.2f} a year)" for kind, count in counts.items()}
    say(f"trained until {until}, {len(ends)} days watched ({years:.2f} years): days with a new finding {total or 'none'}")
    tell_new(findings, ends=ends, say=say)


def tell_new(findings: Sequence[Sequence[Finding]], *, ends: Sequence[np.datetime64], say: Callable[[str], None]) -> None:
    """Tell of each finding on the day before which it did not stand."""
    before: set[tuple[str, str]] = set()
    for end, today in zip(ends, findings, strict=True):
        for finding in today:
            if finding.key not in before:
                say(f"  {end.astype('datetime64[D]')} {finding.verdict}: {finding.reason}")
        before = {finding.key for finding in today}


def drift_in_a_later_year(
    stamp: np.ndarray, columns: Columns, *, folder: Path, settings: MonitorSettings, say: Callable[[str], None]
) -> None:
    """Tell of drift in a later year of which the columns in `HOURLY_COLUMNS` are known, compared with all of the series."""
    later_stamp, later = read_series(folder)
    joined = {name: np.concatenate([columns[name], later[name]]) for name in HOURLY_COLUMNS}
    watched = watched_series(np.concatenate([stamp, later_stamp]), joined, trained_until=stamp[-1])
    hourly = Hourly.thinned(watched.stamp, columns=joined, row_seconds=watched.row_seconds)
    reference = SeasonalReference(hourly, last=stamp[-1], window_days=settings.drift_days)
    thresholds = reference.thresholds(settings)
    ends = days_watched(later_stamp, after=later_stamp[0] + settings.drift_days * DAY, at_most=100_000)
    findings = [
        drifted_inputs(watched, reference=reference, thresholds=thresholds, faults=(), ends=[end], settings=settings)
        for end in ends
    ]
    say(f"{len(ends)} days from {ends[0].astype('datetime64[D]')}: days with a new finding {alarms(findings) or 'none'}")
    tell_new(findings, ends=ends, say=say)


def _after(stamp: np.ndarray, start: np.datetime64) -> np.ndarray:
    return np.asarray(stamp > start)


def changed(column: str, change: Callable[[np.ndarray], Any]) -> Plant:
    """Return the plant that changes one column from a stamp on, and leaves the columns that follow from it as they are."""

    def plant(stamp: np.ndarray, columns: Columns, start: np.datetime64) -> tuple[np.ndarray, Columns]:
        later = _after(stamp, start)
        values = columns[column].copy()
        values[later] = change(values[later])
        return stamp, columns | {column: values}

    return plant


def stuck(column: str) -> Plant:
    """Return the plant of a sensor that repeats its last reading."""
    return changed(column, lambda values: values[0])


def clock_ahead(stamp: np.ndarray, columns: Columns, start: np.datetime64) -> tuple[np.ndarray, Columns]:
    """Set the clock an hour ahead."""
    return np.where(_after(stamp, start), stamp + np.timedelta64(3600, "s"), stamp), columns


def warmer(shift_degc: float, *, ramp_days: float) -> Plant:
    """Return the plant of warmer air of the same relative humidity: every column that follows from temperature moves with it.

    Weather comes within days. An offset at the sensor itself, from which the logger computes the other columns, comes at once and
    leaves the same readings otherwise.
    """

    def plant(stamp: np.ndarray, columns: Columns, start: np.datetime64) -> tuple[np.ndarray, Columns]:
        later = _after(stamp, start)
        rising = np.clip((stamp[later] - start) / (ramp_days * DAY), 0, 1) if ramp_days else 1.0
        temperature = columns[TARGET][later] + shift_degc * rising
        pressure, humidity = columns["pressure_mbar"][later], columns["relative_humidity_percent"][later]
        saturation = physics.saturation_vapor_pressure_mbar(temperature)
        vapor = saturation * humidity / 100
        follows = {
            TARGET: temperature,
            "potential_temperature_k": physics.potential_temperature_k(temperature, pressure_mbar=pressure),
            "dew_point_degc": physics.dew_point_degc(vapor),
            "saturation_vapor_pressure_mbar": saturation,
            "vapor_pressure_mbar": vapor,
            "vapor_pressure_deficit_mbar": saturation - vapor,
            "specific_humidity_g_per_kg": physics.specific_humidity_g_per_kg(vapor, pressure_mbar=pressure),
            "water_vapor_concentration_mmol_per_mol": physics.water_vapor_concentration_mmol_per_mol(
                vapor, pressure_mbar=pressure
            ),
            "air_density_g_per_m3": physics.air_density_g_per_m3(temperature, pressure_mbar=pressure, vapor_pressure_mbar=vapor),
        }
        moved = dict(columns)
        for name, values in follows.items():
            moved[name] = columns[name].copy()
            moved[name][later] = values
        return stamp, moved

    return plant


PLANTS: Mapping[str, tuple[str, Plant, int]] = {
    "temperature +1 °C": (TARGET, changed(TARGET, lambda values: values + 1), 14),
    "temperature +3 °C": (TARGET, changed(TARGET, lambda values: values + 3), 14),
    "temperature stuck": (TARGET, stuck(TARGET), 14),
    "temperature in Fahrenheit": (TARGET, changed(TARGET, lambda values: values * 1.8 + 32), 14),
    "humidity x 0.9": ("relative_humidity_percent", changed("relative_humidity_percent", lambda values: values * 0.9), 14),
    "wind stuck": ("wind_speed_m_per_s", stuck("wind_speed_m_per_s"), 14),
    "clock +1 h": ("the clock", clock_ahead, 60),
    "warm spell, +3 °C within 3 days": (TARGET, warmer(3.0, ramp_days=3), 60),
    "warm spell, +8 °C within 3 days": (TARGET, warmer(8.0, ramp_days=3), 60),
    "sensor +3 °C, the logger follows": (TARGET, warmer(3.0, ramp_days=0), 60),
    "sensor +8 °C, the logger follows": (TARGET, warmer(8.0, ramp_days=0), 60),
}


def days_until_found(
    watcher: Watcher, *, plant: Plant, subject: str, start: np.datetime64, days: int
) -> tuple[float, float, set[str]]:
    """Return after how many days a fault of the subject, and any finding that was not there without it, is told of.

    Returns:
        Days until a fault of the subject is named; days until anything is; every verdict. Infinite for what is not found.
    """
    stamp, columns = plant(watcher.watched.stamp, watcher.watched.columns, start)
    planted = watcher.with_series(stamp, columns)
    first = start.astype("datetime64[D]").astype("datetime64[s]")
    verdicts: set[str] = set()
    named = anything = np.inf
    for day in range(1, days + 1):
        end = first + day * DAY
        usual = {finding.key for finding in watcher.findings(end)}
        new = [finding for finding in planted.findings(end) if finding.key not in usual]
        verdicts |= {finding.verdict for finding in new}
        took = float((end - start) / DAY)
        if new and anything == np.inf:
            anything = took
        if any(finding.kind == "fault" and subject in finding.subject for finding in new):
            named = took
            break
    return named, anything, verdicts


def planted_faults(
    watcher: Watcher, *, plants: Sequence[str], starts: Sequence[np.datetime64], say: Callable[[str], None]
) -> None:
    """Tell how many days pass until each planted fault is named, from several starts."""
    for name in plants:
        subject, plant, days = PLANTS[name]
        took = [days_until_found(watcher, plant=plant, subject=subject, start=start, days=days) for start in starts]
        named = sorted(one[0] for one in took)
        found = [value for value in named if np.isfinite(value)]
        some = sorted(one[1] for one in took if np.isfinite(one[1]))
        verdicts = sorted({verdict for one in took for verdict in one[2]})
        text = f"after {np.median(found):.1f} days at the median, {found[-1]:.1f} at most" if found else "never"
        any_text = f"{len(some)}, after {np.median(some):.1f} days at the median" if some else "0"
        say(
            f"{name}: named in {len(found)} of {len(named)} starts within {days} days, {text}; any finding in {any_text}; "
            f"{verdicts}"
        )


def ridge_forecasts(stamp: np.ndarray, columns: Columns, *, edges: tuple[int, int]) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Return hourly forecasts of the project's ridge regression after the second edge, as an issued table.

    It is fitted before the first edge. The intervals are those of split conformal prediction: quantiles of the absolute error
    between the edges.
    """
    from tasks.models import build_learner, problem_named
    from tasks.models.device import prepare_device

    table = pa.table({physics.TIMESTAMP: stamp, **columns}).cast(dataset_named(DATASET).schema)
    splits = split_by_time(
        table, dataset=DATASET, timestamp=physics.TIMESTAMP, columns=physics.COLUMNS, row_seconds=physics.ROW_SECONDS, edges=edges
    )
    problem = problem_named(DATASET)
    variant = problem.variants["ridge"]
    device = prepare_device(2, require_gpu=False)
    learner: Any = build_learner(
        splits.tables, normalisation=splits.normalisation, problem=problem, variant=variant, device=device, seed=0
    )
    assert variant.fit_closed_form
    variant.fit_closed_form(learner)
    horizon = learner.task.horizon_rows

    def errors(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rows = learner.rows[split][::6]
        predicted = learner.in_target_unit(learner.predict_rows(rows))
        truth, naive = (
            learner.in_target_unit(learner.targets_of_rows(rows)),
            learner.in_target_unit(np.asarray(learner.table[rows, learner.task.target_index])),
        )
        return rows, predicted, truth, naive

    _, predicted, truth, _ = errors("val")
    quantiles = {level: float(np.quantile(np.abs(predicted - truth), level / 100)) for level in LEVELS}
    rows, predicted, truth, naive = errors("test")
    bounds = {
        f"{side}_{level}": predicted + sign * quantiles[level] for level in LEVELS for side, sign in (("lower", -1), ("upper", 1))
    }
    count = len(rows)
    issued = {
        "model": [DATASET] * count,
        "model_version": np.ones(count, dtype=np.int32),
        "input_digest": [""] * count,
        "issued_at": stamp[rows],
        "origin": [TABLE] * count,
        "as_of": stamp[rows],
        "target_time": stamp[rows + horizon],
        "prediction": predicted,
        **bounds,
        "persistence": naive,
    }
    arrays = [pa.array(issued[field.name]).cast(field.type) for field in SERIES_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SERIES_SCHEMA), {"target": stamp[rows + horizon], "truth": truth}


def performance_alarms(
    stamp: np.ndarray, columns: Columns, *, trained_until: np.datetime64, settings: MonitorSettings, say: Callable[[str], None]
) -> None:
    """Tell of every finding on the errors of a ridge regression, whose first year after validation says what is usual."""
    edges = tuple(int((trained_until + days * DAY).astype(np.int64)) for days in (0, 365))
    issued, _ = ridge_forecasts(stamp, columns, edges=(edges[0], edges[1]))
    outcomes = join_outcomes(issued, stamp=stamp, measured=columns[TARGET])
    first_year = trained_until + 730 * DAY
    known = outcomes.target <= first_year
    usual = UsualErrors(
        target=outcomes.target[known], error=np.abs(outcomes.error[known]), naive_error=np.abs(outcomes.naive_error[known])
    )
    hour = outcomes.target.astype("datetime64[h]").astype(int) % 24
    for name, chosen in (("hourly", np.ones(len(known), dtype=bool)), ("daily at noon", hour == 12)):
        watched = replace(
            outcomes,
            target=outcomes.target[chosen],
            error=outcomes.error[chosen],
            naive_error=outcomes.naive_error[chosen],
            covered={level: values[chosen] for level, values in outcomes.covered.items()},
            version=outcomes.version[chosen],
        )
        ends = days_watched(stamp, after=first_year, at_most=100_000)
        errors = rolling(watched, ends=ends, settings=settings)
        findings = [late_errors([entry], usual=usual, others=(), settings=settings) for entry in errors]
        years = len(errors) / 365.25
        counts = {kind: f"{count} ({count / years:.2f} a year)" for kind, count in alarms(findings).items()}
        worst = max(entry["mae"] for entry in errors)
        lowest = {level: min(entry[f"coverage_{level}"] for entry in errors) for level in LEVELS}
        say(
            f"errors of ridge, issued {name}, {len(errors)} days watched: days with a new finding {counts or 'none'}; "
            f"largest rolling MAE {worst:.2f}, smallest coverage "
            f"of the 95 % interval {lowest[95]:.2f}, of the 80 % {lowest[80]:.2f}"
        )
        for entry, found in zip(errors, findings, strict=True):
            for finding in found:
                say(f"  day {np.datetime64(int(entry['day']), 'D')}: {finding.reason}")
                break


def main() -> None:
    """Measure what is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Folder with files of the station.")
    parser.add_argument("--trained-days", type=int, nargs="+", default=[1096], help="Days from the start that count as trained.")
    parser.add_argument("--starts", type=int, default=8, help="Starts of planted faults, evenly over the watched days; 0: none.")
    parser.add_argument("--plants", nargs="*", default=list(PLANTS), help="Faults to plant.")
    parser.add_argument("--errors", action="store_true", help="Watch the errors of a ridge regression too.")
    parser.add_argument(
        "--later", type=Path, help="Folder with a later year: only drift in it is told, of columns with real hours."
    )
    parser.add_argument("--drift-factor", type=float, default=None)
    asked = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    settings = MonitorSettings(**({"drift_factor": asked.drift_factor} if asked.drift_factor else {}))
    stamp, columns = read_series(asked.folder)
    if asked.later:
        drift_in_a_later_year(stamp, columns, folder=asked.later, settings=settings, say=say)
        return
    for days in asked.trained_days:
        until = (stamp[0].astype("datetime64[D]") + days).astype("datetime64[s]")
        watcher = Watcher(watched_series(stamp, columns, trained_until=until), settings=settings)
        false_alarms(watcher, say=say)
    if asked.starts:
        last = int((stamp[-1] - until) / DAY) - 61
        starts = [until + int(day) * DAY + np.timedelta64(9 * 3600, "s") for day in np.linspace(1, max(last, 1), asked.starts)]
        planted_faults(watcher, plants=asked.plants, starts=starts, say=say)
    if asked.errors:
        performance_alarms(stamp, columns, trained_until=until, settings=settings, say=say)


if __name__ == "__main__":
    main()
