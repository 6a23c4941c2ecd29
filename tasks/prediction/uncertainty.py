"""How sure a prediction is: intervals that go on adapting to what happened, and calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from storage.layout import Store
from storage.records import ModelVersion
from tasks.calibration import Temperature
from tasks.intervals import Bounds, ConformalIntervals, Times, walk_through
from tasks.models.spec import Floats
from tasks.prediction.issued import SERIES_SCHEMA, read_issued
from tasks.prediction.readings import Readings


def bounds_of(
    intervals: ConformalIntervals,
    prediction: Floats,
    *,
    as_of: Times,
    target_time: Times,
    earlier: tuple[Floats, Times],
    readings: Readings,
    target: int,
) -> Bounds:
    """Return the bounds of forecasts by level, each from what had happened when it was issued.

    Args:
        intervals: The state with which the version was registered.
        prediction: Forecasts, rising with `as_of`.
        as_of: Stamp of the newest reading of each.
        target_time: Stamp of each target.
        earlier: Forecasts that were issued before, and their targets.
        readings: What was measured.
        target: Column of the target.
    """
    centre = np.concatenate([earlier[0], prediction])
    times = np.concatenate([earlier[1], target_time])
    # A forecast that is issued again counts once.
    times, first = np.unique(times, return_index=True)
    centre = centre[first]
    truth = truth_at(times, readings=readings, target=target)
    known = np.isfinite(truth)
    bounds: Bounds = {
        level: (np.empty(len(prediction), np.float32), np.empty(len(prediction), np.float32)) for level in intervals.levels
    }
    happened = np.isfinite(truth_at(target_time, readings=readings, target=target))
    past = (centre[known], times[known], truth[known])
    walked: Bounds = {}
    if known.any():
        walked, _ = walk_through(intervals, past[0], target_time=past[1], truth=past[2])
        places = np.searchsorted(past[1], target_time[happened])
        for level, sides in walked.items():
            for side in (0, 1):
                bounds[level][side][happened] = sides[side][places]
    state, first_row = intervals, 0
    for stamp in np.unique(as_of[~happened]):
        # What has happened since the stamp before, with the bounds of its issue: no outcome is walked through twice.
        last_row = int(np.searchsorted(past[1], stamp, side="right"))
        new = slice(first_row, last_row)
        if last_row > first_row:
            issued = {level: (sides[0][new], sides[1][new]) for level, sides in walked.items()}
            state = state.adapted(past[0][new], past[1][new], past[2][new], bounds=issued)
            first_row = last_row
        rows = ~happened & (as_of == stamp)
        for level, sides in state.bounds(prediction[rows], target_time[rows]).items():
            for side in (0, 1):
                bounds[level][side][rows] = sides[side]
    return bounds


def truth_at(times: Times, *, readings: Readings, target: int) -> Floats:
    """Return what was measured at each stamp, NaN where nothing was."""
    place = np.minimum(np.searchsorted(readings.stamp, times), len(readings.stamp) - 1)
    measured = readings.values[place, target]
    return np.where(readings.stamp[place] == times, measured, np.float32(np.nan))


def issued_before(
    version: ModelVersion, *, intervals: ConformalIntervals, store: Store, first: np.datetime64
) -> tuple[Floats, Times]:
    """Return the forecasts of a version that were issued as of stamps before `first`, and their targets.

    Those whose targets the intervals have learnt from already are not read: they change nothing.
    """
    learnt = np.datetime64(intervals.last_outcome_s - intervals.delay_s, "s")
    issued = read_issued(version.name, store=store, schema=SERIES_SCHEMA, since=learnt)
    issued = issued.filter(pc.equal(issued["model_version"], version.version))
    is_before = issued["as_of"].to_numpy().astype("datetime64[s]") < first
    prediction = issued["prediction"].to_numpy()[is_before].astype(np.float32)
    return prediction, issued["target_time"].to_numpy()[is_before].astype("datetime64[s]")


def calibrated(temperature: Temperature | None, probability: Floats) -> Floats:
    """Return calibrated probabilities; those of the model where nothing is known of their calibration."""
    return probability if temperature is None else temperature.calibrated(probability).astype(np.float32)
