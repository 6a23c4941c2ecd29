"""Repairs that several series share, each by a written rule and counted: the order of rows, and holes in the readings.

Data with more repairs than a limit allows is not refused here. It is rejected where it is validated, so that a person sees
every fault at once and can accept them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tasks.datasets.request import QualityLimits
from tasks.datasets.spec import Repair

Seconds = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Readings = Mapping[str, Floats]
Part = tuple[Seconds, Readings]
"""The stamps and readings of one file, in its order."""


def counted_repair(name: str, *, rule: str, count: int, of: int, limit: float) -> Repair:
    """Return a repair with its share of `of` rows, or of `of` values."""
    return Repair(name=name, rule=rule, count=count, share=count / max(of, 1), limit=limit)


def repair_row_order(
    parts: Sequence[Part], *, limits: QualityLimits
) -> tuple[Seconds, dict[str, Floats], tuple[Repair, Repair, Repair]]:
    """Return the rows of all parts in the order of time, one for each stamp, with the three repairs that it took.

    Where two parts have a row of the same stamp, the row of the earlier part is kept; within a part the first one.

    Args:
        parts: At least one, the one that is trusted most first.
        limits: When the data is rejected.
    """
    late = sum(_late_rows(seconds) for seconds, _ in parts)
    seconds = np.concatenate([part_seconds for part_seconds, _ in parts])
    names = tuple(parts[0][1])
    readings = {name: np.concatenate([part[name] for _, part in parts]) for name in names}
    rows_read = len(seconds)
    order = np.argsort(seconds, kind="stable")
    in_order = seconds[order]
    is_repeat = np.zeros(rows_read, dtype=np.bool_)
    is_repeat[1:] = in_order[1:] == in_order[:-1]
    repeats, firsts = order[is_repeat], order[~is_repeat]
    # The row that is kept for the stamp of each repeated row.
    kept = firsts[np.cumsum(~is_repeat)[is_repeat] - 1]
    differs = np.zeros(len(repeats), dtype=np.bool_)
    for values in readings.values():
        one, other = values[kept], values[repeats]
        differs |= (one != other) & ~(np.isnan(one) & np.isnan(other))
    contradicted = len(np.unique(seconds[repeats[differs]]))
    repairs = (
        counted_repair(
            "repeated_rows",
            rule="a row that stands in the files again, equal in every reading, is dropped",
            count=int((~differs).sum()),
            of=rows_read,
            limit=1.0,
        ),
        counted_repair(
            "contradicting_rows",
            rule="of rows with the same time stamp and different readings the first is kept, of a finished file before that of "
            "a current one",
            count=contradicted,
            of=len(firsts),
            limit=limits.contradicting_rows,
        ),
        counted_repair(
            "out_of_order_rows",
            rule="rows earlier than a row before them in the same file are sorted to their place",
            count=late,
            of=rows_read,
            limit=limits.out_of_order_rows,
        ),
    )
    if not is_repeat.any() and bool((np.diff(seconds) > 0).all()):
        return seconds, readings, repairs
    return seconds[firsts], {name: values[firsts] for name, values in readings.items()}, repairs


def _late_rows(seconds: Seconds) -> int:
    """Return how many stamps of a part, each counted where it first stands, are earlier than one before them."""
    if bool((np.diff(seconds) > 0).all()):
        return 0
    _, first = np.unique(seconds, return_index=True)
    firsts = seconds[np.sort(first)]
    return int((firsts < np.maximum.accumulate(firsts)).sum())


def fill_holes(
    seconds: Seconds,
    *,
    readings: Readings,
    row_seconds: int,
    limits: QualityLimits,
    split_edges: Sequence[int] = (),
    circular: Sequence[str] = (),
    sentinel: float | None = None,
) -> tuple[Seconds, dict[str, Floats], tuple[Repair, Repair]]:
    """Return the rows without a missing reading, with the two repairs that it took.

    A reading is missing if it is not finite, or not above `sentinel`. It is interpolated linearly in time between the nearest
    readings of its column if at most `max_hole_rows` rows lie between these, and if both lie on the same side of every split
    edge: nothing of a later split reaches an earlier one. A row that still lacks a reading is dropped, which leaves a gap that
    no window crosses.

    Args:
        seconds: Stamps, rising.
        readings: Columns of as many rows.
        row_seconds: Regular spacing of the rows.
        limits: The longest hole that is filled, and when the data is rejected.
        split_edges: First stamp of each split but the first.
        circular: Columns in degrees, which are interpolated along the shorter arc.
        sentinel: Values up to this one stand for a missing reading.
    """
    filled: dict[str, Floats] = {}
    is_whole = np.ones(len(seconds), dtype=np.bool_)
    count = 0
    side = np.searchsorted(np.asarray(split_edges, dtype=np.int64), seconds, side="right")
    for name, values in readings.items():
        missing = ~np.isfinite(values)
        if sentinel is not None:
            missing |= values <= np.float32(sentinel)
        filled[name] = values
        if not missing.any():
            continue
        count += int(missing.sum())
        filled[name] = _interpolated(
            values,
            missing=missing,
            seconds=seconds,
            side=side,
            max_spacing_s=(limits.max_hole_rows + 1) * row_seconds,
            circular=name in circular,
        )
        is_whole &= np.isfinite(filled[name])
    dropped = int((~is_whole).sum())
    repairs = (
        counted_repair(
            "missing_values",
            rule="a missing reading (empty, overflow, or a sentinel of a sensor that is off) is interpolated linearly in time, "
            f"directions along the shorter arc, if at most {limits.max_hole_rows} rows are missing between the nearest readings "
            "and no edge of a split lies between them",
            count=count,
            of=len(seconds) * max(len(readings), 1),
            limit=limits.missing_values,
        ),
        counted_repair(
            "incomplete_rows",
            rule="a row of which a reading is still missing is dropped, so that no window crosses it",
            count=dropped,
            of=len(seconds),
            limit=limits.missing_rows,
        ),
    )
    if dropped:
        seconds, filled = seconds[is_whole], {name: values[is_whole] for name, values in filled.items()}
    return seconds, filled, repairs


def _interpolated(
    values: Floats,
    *,
    missing: npt.NDArray[np.bool_],
    seconds: Seconds,
    side: npt.NDArray[np.intp],
    max_spacing_s: int,
    circular: bool,
) -> Floats:
    """Return a column with its short holes filled, and NaN in the others."""
    holes, valid = np.flatnonzero(missing), np.flatnonzero(~missing)
    filled = values.copy()
    filled[holes] = np.nan
    after = np.searchsorted(valid, holes)
    inside = (after > 0) & (after < len(valid))
    holes, left, right = holes[inside], valid[after[inside] - 1], valid[after[inside]]
    # Measured in time, so that no value is invented across a gap of the series.
    near = (seconds[right] - seconds[left] <= max_spacing_s) & (side[right] == side[left])
    holes, left, right = holes[near], left[near], right[near]
    weight = (seconds[holes] - seconds[left]) / (seconds[right] - seconds[left])
    step = values[right].astype(np.float64) - values[left]
    if circular:
        step = (step + 180) % 360 - 180
    result = values[left] + weight * step
    filled[holes] = result % 360 if circular else result
    return filled
