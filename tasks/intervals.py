"""Central prediction intervals of a forecast: conformal, scaled by month and hour, adapted as outcomes become known.

A score is |truth - prediction| divided by the error that validation had at the same time of year and day. Split conformal
prediction takes the score that a share of the validation rows did not exceed (Lei et al. 2018, with normalised residuals). Rows
of a series are not exchangeable, so that share is adapted over time (Gibbs and Candes 2021): a miss makes the next intervals
wider, a hit makes them slightly narrower. An outcome is known only `delay_s` after its forecast was issued, and the adaptation
uses no outcome before that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics import FloatVector, finite_vectors

# Shares of the outcomes, in percent, that the intervals are made for.
LEVELS = (80, 95)
MONTHS, HOURS = 12, 24
# By the first letters of their months.
SEASONS = ("DJF", "MAM", "JJA", "SON")
# An hour of outcomes changes the miscoverage by this many standard deviations of one outcome, times its surprise. Chosen on the
# naive forecast of rows before the test split: of 0.004 to 0.02, those from 0.008 on came within 1.7 points of nominal in
# every season of two spans, and a faster adaptation makes intervals wider.
RATE_PER_HOUR = 0.01
# Outcomes further apart than this count as if they were so far apart, so that no single one empties the miscoverage.
MAX_STEP_HOURS = 3.0
# Standard deviations of the weights with which neighbouring months and hours share their rows.
MONTH_SPREAD, HOUR_SPREAD = 2.0, 1.5
# A cell counts as if it held further rows with the mean error of all, by this share of what a cell holds on average.
PRIOR_SHARE = 0.05
# Order statistics that are kept of many scores: evenly spread ones, and more of the largest.
EVEN_RANKS, TAIL_RANKS = 400, 100
TAIL_SHARE = 0.05
# An error below this share of the mean one would make scores of it infinite.
MIN_SCALE = 1e-6

Times = npt.NDArray[np.datetime64]
Bound = npt.NDArray[np.float32]
Bounds = dict[int, tuple[Bound, Bound]]


@dataclass(frozen=True)
class ConformalIntervals:
    """What is kept of a calibration, and how far it has been adapted.

    Attributes:
        scale: 12 rows of 24: error to expect by month and hour of the target, in its unit.
        ranks: Ranks of the kept scores among those of the calibration, rising, from 1; the last one is the largest score.
        scores: The kept scores, rising.
        calibrated_rows: Rows of the calibration.
        miscoverage: By level, the share of scores that the next interval leaves out; nominally 1 - level / 100.
        last_outcome_s: Time of the last target that was used, seconds since 1970.
        delay_s: Seconds from the last reading that a forecast is issued with to its target.
        rate_per_hour: Speed of the adaptation; 0: none.
    """

    scale: tuple[tuple[float, ...], ...]
    ranks: tuple[int, ...]
    scores: tuple[float, ...]
    calibrated_rows: int
    miscoverage: Mapping[int, float]
    last_outcome_s: int
    delay_s: int
    rate_per_hour: float = RATE_PER_HOUR

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in percent, rising."""
        return tuple(sorted(self.miscoverage))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ConformalIntervals:
        """Return the intervals of `as_json`."""
        return cls(
            **{
                **values,
                "scale": tuple(tuple(row) for row in values["scale"]),
                "ranks": tuple(values["ranks"]),
                "scores": tuple(values["scores"]),
                "miscoverage": {int(level): share for level, share in values["miscoverage"].items()},
            }
        )

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready values: some hundred numbers, whatever the number of rows."""
        return asdict(self) | {"miscoverage": {str(level): share for level, share in self.miscoverage.items()}}

    def bounds(self, prediction: npt.ArrayLike, target_time: Times) -> Bounds:
        """Return lower and upper bound by level, float32 `(n,)` each, in the target's unit, as of the last outcome.

        An interval of a higher level contains that of a lower one.

        Args:
            prediction: Forecasts, `(n,)`.
            target_time: Stamp of each target, datetime64 `(n,)`.
        """
        centre = np.asarray(prediction, dtype=np.float64)
        scale = self.scale_at(target_time)
        scores = {level: self._score_at(np.full(len(centre), share)) for level, share in self.miscoverage.items()}
        return _bounds(centre, half_widths={level: scores[level] * scale for level in scores})

    def adapted(
        self,
        prediction: npt.ArrayLike,
        target_time: Times,
        truth: npt.ArrayLike,
        *,
        bounds: Mapping[int, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    ) -> ConformalIntervals:
        """Return the intervals after further outcomes, in the order of their targets.

        Outcomes that are not later than the last one that was used change nothing, and a truth that is not finite is no
        outcome. So it does no harm to give all again.

        Args:
            prediction: Issued forecasts, `(n,)`.
            target_time: Stamp of each target.
            truth: What was measured, `(n,)`.
            bounds: By level the bounds that were issued; None: those that these intervals would have issued.
        """
        centre, measured = (np.asarray(values, dtype=np.float64) for values in (prediction, truth))
        known = np.isfinite(centre) & np.isfinite(measured)
        if not known.any():
            return self
        if bounds is None:
            return walk_through(self, centre[known], target_time=target_time[known], truth=measured[known])[1]
        order = np.flatnonzero(known)[np.argsort(target_time[known], kind="stable")]
        seconds = _seconds(target_time[order])
        steps = self._steps_h(seconds)
        miscoverage = {}
        for level in self.levels:
            lower, upper = (np.asarray(side, dtype=np.float64)[order] for side in bounds[level])
            # A forecast that was issued without an interval tells nothing about intervals.
            steps_of_level = np.where(np.isfinite(lower) & np.isfinite(upper), steps, 0.0)
            misses = (measured[order] < lower) | (measured[order] > upper)
            miscoverage[level] = self._states(self.miscoverage[level], misses, steps_of_level, level=level)[-1]
        return replace(self, miscoverage=miscoverage, last_outcome_s=max(self.last_outcome_s, int(seconds[-1])))

    def scale_at(self, target_time: Times) -> FloatVector:
        """Return the error to expect at each target, float64 `(n,)`, in its unit."""
        scale: FloatVector = np.asarray(self.scale)[month_and_hour(target_time)]
        return scale

    def _score_at(self, miscoverage: FloatVector) -> FloatVector:
        """Return the score of rank ceil((n + 1) (1 - miscoverage)), interpolated where that one is not kept.

        There is none above the largest, so an interval is never infinite.
        """
        # 10 * (1 - 0.2) must be 8: rounding errors are no reason for the next rank.
        rank = np.ceil((self.calibrated_rows + 1) * (1 - miscoverage) - 1e-9)
        return np.asarray(np.interp(rank, self.ranks, self.scores))

    def _steps_h(self, seconds: npt.NDArray[np.int64]) -> FloatVector:
        """Return the hours that each outcome, in order of time, counts for: those since the one before, within limits."""
        clock = np.maximum(np.concatenate([[self.last_outcome_s], seconds]), self.last_outcome_s)
        return np.asarray(np.minimum(np.diff(clock) / 3600, MAX_STEP_HOURS))

    def _states(self, first: float, misses: npt.NDArray[np.bool_], steps_h: FloatVector, *, level: int) -> list[float]:
        """Return the miscoverage before and after each of some outcomes in order of time."""
        nominal = _nominal(level)
        # A rare miss moves a narrow share: in proportion to the standard deviation of a miss, levels adapt about as fast.
        rate = self.rate_per_hour * math.sqrt(nominal * (1 - nominal))
        changes = rate * steps_h * (nominal - misses)
        states = [first]
        for change in changes.tolist():
            states.append(min(max(states[-1] + change, 0.0), 1.0))
        return states


def walk_through(
    intervals: ConformalIntervals, prediction: npt.ArrayLike, *, target_time: Times, truth: npt.ArrayLike
) -> tuple[Bounds, ConformalIntervals]:
    """Return the bounds with which each forecast would have been issued, and the intervals after all outcomes.

    A forecast is issued `delay_s` before its target. Its bounds follow from the outcomes whose time had come by then, and
    from no later one.

    Args:
        intervals: The state before the first row.
        prediction: Forecasts, `(n,)`.
        target_time: Stamp of each target, in any order.
        truth: What was measured, `(n,)`.

    Raises:
        ScoreError: Shapes differ, or a value is not finite.
    """
    centre, measured = finite_vectors(prediction=prediction, truth=truth)
    order = np.argsort(target_time, kind="stable")
    seconds = _seconds(target_time[order])
    scale = intervals.scale_at(target_time[order])
    score = np.abs(measured - centre)[order] / scale
    steps = intervals._steps_h(seconds)
    # Outcomes that are known when each row is issued. They never reach the row itself, because the delay is positive.
    outcomes = np.searchsorted(seconds, seconds - intervals.delay_s, side="right")
    half_widths, miscoverage = {}, {}
    for level in intervals.levels:
        states = np.empty(len(score) + 1)
        states[0] = intervals.miscoverage[level]
        issued = np.empty(len(score))
        first = 0
        while first < len(score):
            # All rows that were issued before the outcome of row `first` was known.
            last = int(np.searchsorted(outcomes, first, side="right"))
            rows = slice(first, last)
            issued[rows] = intervals._score_at(states[outcomes[rows]])
            after = intervals._states(states[first], score[rows] > issued[rows], steps[rows], level=level)
            states[first : last + 1] = after
            first = last
        half_widths[level] = np.empty(len(score))
        half_widths[level][order] = issued * scale
        miscoverage[level] = float(states[-1])
    end = max(intervals.last_outcome_s, int(seconds[-1]))
    return _bounds(centre, half_widths=half_widths), replace(intervals, miscoverage=miscoverage, last_outcome_s=end)


def calibrate_intervals(
    prediction: npt.ArrayLike,
    *,
    target_time: Times,
    truth: npt.ArrayLike,
    delay_s: int,
    levels: tuple[int, ...] = LEVELS,
    rate_per_hour: float = RATE_PER_HOUR,
    is_scaled: bool = True,
) -> ConformalIntervals:
    """Return intervals from forecasts that the model was not fitted on, and what was measured.

    Args:
        prediction: Forecasts, `(n,)`.
        target_time: Stamp of each target.
        truth: What was measured, `(n,)`, in the unit of the intervals.
        delay_s: Seconds from the last reading that a forecast is issued with to its target, above 0.
        levels: Levels in percent.
        rate_per_hour: Speed of the adaptation.
        is_scaled: False gives every month and hour the mean error; with a rate of 0 that is plain split conformal prediction.

    Raises:
        ScoreError: Shapes differ, or a value is not finite.
    """
    centre, measured = finite_vectors(prediction=prediction, truth=truth)
    error = np.abs(measured - centre)
    scale = expected_error(error, target_time=target_time) if is_scaled else np.full((MONTHS, HOURS), _mean_error(error))
    scores = np.sort(error / scale[month_and_hour(target_time)])
    ranks = kept_ranks(len(scores))
    return ConformalIntervals(
        scale=tuple(tuple(row) for row in scale.tolist()),
        ranks=tuple(ranks.tolist()),
        scores=tuple(scores[ranks - 1].tolist()),
        calibrated_rows=len(scores),
        miscoverage={level: _nominal(level) for level in levels},
        last_outcome_s=int(_seconds(target_time).max()),
        delay_s=delay_s,
        rate_per_hour=rate_per_hour,
    )


@dataclass(frozen=True)
class Coverage:
    """How often an interval held, and how wide it was.

    Attributes:
        rows: Number of rows.
        share: Share of the rows whose truth lies within the bounds.
        width: Mean width, in the unit of the target.
    """

    rows: int
    share: float
    width: float


def coverage_of(lower: npt.ArrayLike, upper: npt.ArrayLike, *, truth: npt.ArrayLike) -> Coverage:
    """Return how often the truth lay within its bounds, which are part of the interval.

    Raises:
        ScoreError: Shapes differ, or a value is not finite.
    """
    low, high, measured = finite_vectors(lower=lower, upper=upper, truth=truth)
    held = (low <= measured) & (measured <= high)
    return Coverage(rows=measured.size, share=float(held.mean()), width=float((high - low).mean()))


def rows_by_season(target_time: Times) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which rows have their target in each meteorological season; a season without rows is left out."""
    # December is the first month of the season that ends with February.
    season = (month_and_hour(target_time)[0] + 1) % MONTHS // 3
    rows = {name: season == number for number, name in enumerate(SEASONS)}
    return {name: flags for name, flags in rows.items() if flags.any()}


def expected_error(error: FloatVector, *, target_time: Times) -> FloatVector:
    """Return the mean error by month and hour, float64 `(12, 24)`, in which neighbouring cells share their rows.

    The weights are Gaussian on the circles of the year and of the day, and each cell is drawn a little to the mean of all. A
    month that validation does not hold takes what its neighbours and the mean say.
    """
    month, hour = month_and_hour(target_time)
    cell = HOURS * month + hour
    rows = np.bincount(cell, minlength=MONTHS * HOURS).reshape(MONTHS, HOURS)
    total = np.bincount(cell, weights=error, minlength=MONTHS * HOURS).reshape(MONTHS, HOURS)
    months, hours = _circular_weights(MONTHS, spread=MONTH_SPREAD), _circular_weights(HOURS, spread=HOUR_SPREAD)
    mean, shared_rows = _mean_error(error), months @ rows @ hours
    prior_rows = PRIOR_SHARE * shared_rows.mean()
    smooth = (months @ total @ hours + prior_rows * mean) / (shared_rows + prior_rows)
    return np.asarray(np.maximum(smooth, MIN_SCALE * mean))


def month_and_hour(target_time: Times) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the month, 0 for January, and the hour of each stamp, on the clock of the series."""
    month = target_time.astype("datetime64[M]").astype(np.int64) % MONTHS
    hour = (target_time.astype("datetime64[h]") - target_time.astype("datetime64[D]")).astype(np.int64)
    return month, hour


def kept_ranks(rows: int) -> npt.NDArray[np.int64]:
    """Return which ranks are kept of so many sorted scores: all of a few hundred, else some, with more of the largest."""
    if rows <= EVEN_RANKS + TAIL_RANKS:
        return np.arange(1, rows + 1)
    even = np.linspace(1, rows, EVEN_RANKS)
    tail = rows + 1 - np.geomspace(1, TAIL_SHARE * rows, TAIL_RANKS)
    return np.unique(np.ceil(np.concatenate([even, tail])).astype(np.int64))


def _mean_error(error: FloatVector) -> float:
    """Return the mean error, or 1 where every forecast was right."""
    return float(error.mean()) or 1.0


def _circular_weights(size: int, *, spread: float) -> FloatVector:
    """Return the weights of every cell of a circle for every other, `(size, size)`."""
    distance = np.abs(np.arange(size)[:, None] - np.arange(size)[None, :])
    distance = np.minimum(distance, size - distance)
    weights: FloatVector = np.exp(-0.5 * (distance / spread) ** 2)
    return weights


def _bounds(centre: FloatVector, *, half_widths: Mapping[int, FloatVector]) -> Bounds:
    """Return the bounds by level; each half width is at least that of the levels below."""
    bounds: Bounds = {}
    widest = np.zeros(len(centre))
    for level in sorted(half_widths):
        widest = np.maximum(widest, half_widths[level])
        bounds[level] = ((centre - widest).astype(np.float32), (centre + widest).astype(np.float32))
    return bounds


def _nominal(level: int) -> float:
    return (100 - level) / 100


def _seconds(stamps: Times) -> npt.NDArray[np.int64]:
    return stamps.astype("datetime64[s]").astype(np.int64)
