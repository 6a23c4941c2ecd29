"""Repairs that several data sets share: each by a written rule, counted, and refused above its limit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from tasks.datasets.spec import Repair

Seconds = npt.NDArray[np.int64]
Readings = Mapping[str, npt.NDArray[np.float32]]


def counted_repair(name: str, *, dataset: str, rule: str, count: int, rows_read: int, limit: float) -> Repair:
    """Return a repair with the share of rows that it changed.

    Raises:
        DataError: The share is above the limit.
    """
    share = count / rows_read
    if share > limit:
        raise DataError(
            f"{dataset}: {name}: {count} of {rows_read} rows, a share of {share:.4f}, expected at most {limit:g}: "
            "check how the file was made, and fetch it again"
        )
    return Repair(name=name, rule=rule, count=count, share=share, limit=limit)


def repair_row_order(
    seconds: Seconds, *, readings: Readings, dataset: str, max_repeated: float = 0.005, max_out_of_order: float = 0.001
) -> tuple[Seconds, dict[str, npt.NDArray[np.float32]], tuple[Repair, Repair]]:
    """Return rows in the order of time, one for each stamp, with the two repairs that it took.

    Args:
        seconds: Stamp of every row as it was read, in seconds.
        readings: Columns of as many rows.
        dataset: Its name, for messages.
        max_repeated: Largest share of rows whose stamp has been there before.
        max_out_of_order: Largest share of rows that are earlier than a row before them.

    Raises:
        DataError: A share is above its limit.
    """
    rows_read = len(seconds)
    order = np.argsort(seconds, kind="stable")
    in_order = seconds[order]
    is_first = np.ones(rows_read, dtype=np.bool_)
    is_first[order[1:][in_order[1:] == in_order[:-1]]] = False
    firsts = seconds[is_first]
    is_late = firsts < np.maximum.accumulate(firsts)
    repairs = (
        counted_repair(
            "repeated_stamps",
            dataset=dataset,
            rule="of rows with the same time stamp the first in the file is kept",
            count=int(rows_read - is_first.sum()),
            rows_read=rows_read,
            limit=max_repeated,
        ),
        counted_repair(
            "out_of_order_rows",
            dataset=dataset,
            rule="rows earlier than a row before them are sorted to their place",
            count=int(is_late.sum()),
            rows_read=rows_read,
            limit=max_out_of_order,
        ),
    )
    if repairs[0].count == repairs[1].count == 0:
        return seconds, dict(readings), repairs
    rows = order[is_first[order]]
    return seconds[rows], {name: values[rows] for name, values in readings.items()}, repairs
