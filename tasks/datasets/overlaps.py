"""Files of a series that overlap: of the rows that a trusted file has too, only those that contradict it are kept.

A file that a publisher replaces is stored in many states, most of whose rows are the same. Joined as they are, they would count
as thousands of repeated rows among which a real repeat is lost, and every further state would cost as much as all rows of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.datasets.repairs import Part, Readings, Seconds


def without_known_rows(
    parts: Sequence[Part], *, trusted: Sequence[Part], sentinel: float | None = None
) -> tuple[list[Part], int]:
    """Return parts without the rows that a part before them or a trusted one has, equal in every reading that is there.

    A row of another stamp is kept, so that a newer part which lost rows does not take them away; one of the same stamp with
    another reading is kept too, so that it is counted as a contradiction. A part that repeats its own rows keeps them.

    Args:
        parts: The one that is trusted most first.
        trusted: Parts that come before all of these.
        sentinel: Values up to this one stand for a missing reading.

    Returns:
        The parts that still have rows, and how many rows were left out.
    """
    known = _Known(sentinel)
    for part in trusted:
        known.add(part)
    cut: list[Part] = []
    left_out = 0
    for seconds, readings in parts:
        is_kept = ~known.has(seconds, readings)
        left_out += int((~is_kept).sum())
        if is_kept.any():
            cut.append((seconds[is_kept], {name: values[is_kept] for name, values in readings.items()}))
            known.add(cut[-1])
    return cut, left_out


class _Known:
    """The first row of every stamp so far, in the order of time."""

    def __init__(self, sentinel: float | None) -> None:
        self._sentinel = np.float32(-np.inf if sentinel is None else sentinel)
        self._seconds: Seconds = np.zeros(0, dtype=np.int64)
        self._readings: dict[str, npt.NDArray[np.float32]] = {}

    def add(self, part: Part) -> None:
        """Add the rows whose stamps are not known."""
        seconds, readings = part
        is_new = ~self._find(seconds)[1]
        joined = np.concatenate([self._seconds, seconds[is_new]])
        self._seconds, first = np.unique(joined, return_index=True)
        empty = np.zeros(0, dtype=np.float32)
        self._readings = {
            name: np.concatenate([self._readings.get(name, empty), values[is_new]])[first] for name, values in readings.items()
        }

    def has(self, seconds: Seconds, readings: Readings) -> npt.NDArray[np.bool_]:
        """Tell for each row whether it is known, with every reading of it that is not missing."""
        rows, is_known = self._find(seconds)
        found = np.flatnonzero(is_known)
        if not len(found):
            return is_known
        for name, values in readings.items():
            # What is not above the sentinel is missing, and so is NaN.
            is_known[found] &= (values[found] == self._readings[name][rows[found]]) | ~(values[found] > self._sentinel)
        return is_known

    def _find(self, seconds: Seconds) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Return the place of each stamp, and whether it is known."""
        places = np.searchsorted(self._seconds, seconds)
        is_known = np.zeros(len(seconds), dtype=np.bool_)
        inside = places < len(self._seconds)
        is_known[inside] = self._seconds[places[inside]] == seconds[inside]
        return places, is_known
