"""The expectations that hold for every regular time series, and the frame that they judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.datasets.spec import Expectation

SPACING = "spacing_s"
# Share of rows that follow the one before at the regular spacing.
MOSTLY_REGULAR = 0.99


def series_frame(table: pa.Table, *, timestamp: str, row_seconds: int) -> pd.DataFrame:
    """Return a table as a frame, with the seconds from the row before in `spacing_s`; the first row counts as regular.

    The columns are those of the table itself, not copies.
    """
    seconds = table[timestamp].to_numpy().astype("datetime64[s]")
    data: dict[str, Any] = {timestamp: seconds}
    data.update((name, table[name].to_numpy()) for name in table.column_names if name != timestamp)
    spacing_s = np.full(len(seconds), row_seconds, dtype=np.int64)
    spacing_s[1:] = np.diff(seconds.astype(np.int64))
    return pd.DataFrame(data | {SPACING: spacing_s}, copy=False)


def series_expectations(
    ranges: Mapping[str, tuple[float, float]],
    *,
    timestamp: str,
    row_seconds: int,
    min_rows: int,
    max_missing_rows: float = 0.05,
    derived: Sequence[str] = (),
    where: str = "this series",
) -> tuple[Expectation, ...]:
    """Return the suite: columns and types, no empty cell, stamps that increase at the regular spacing, and plausible values.

    Args:
        ranges: Smallest and largest plausible value by column, in the order of the table.
        timestamp: Column of the time stamps, the first of the table.
        row_seconds: Regular spacing of the rows.
        min_rows: Rows that every split needs for its windows, together.
        max_missing_rows: Largest share of rows between the first and the last that may be missing in gaps.
        derived: Columns of the frame after `spacing_s`.
        where: Place of the series, for the words on its ranges.
    """
    minutes = row_seconds // 60
    return (
        Expectation(
            "table_columns_to_match_ordered_list",
            {"column_list": [timestamp, *ranges, SPACING, *derived]},
            "critical",
            "the canonical columns, in their order",
        ),
        Expectation(
            "table_row_count_to_be_between",
            {"min_value": min_rows, "max_value": None},
            "critical",
            f"at least {min_rows} rows, so that every split holds windows and their targets",
            is_about_training=True,
        ),
        Expectation("column_values_to_not_be_null", {"column": timestamp}, "critical", "every row has a time stamp"),
        Expectation("column_values_to_be_unique", {"column": timestamp}, "critical", "no time stamp occurs twice"),
        Expectation("column_values_to_be_between", between(SPACING, 1, None), "critical", "time stamps increase"),
        Expectation(
            "column_values_to_be_between",
            between(SPACING, row_seconds, row_seconds, mostly=MOSTLY_REGULAR),
            "critical",
            f"rows follow each other every {minutes} minutes, but for a few gaps",
            can_be_accepted=True,
        ),
        Expectation(
            "column_mean_to_be_between",
            # The spacings add up to the whole span, so their mean grows by the share of rows that are missing in it.
            between(SPACING, None, row_seconds / (1 - min(max_missing_rows, 0.999))),
            "critical",
            f"at most {100 * max_missing_rows:g} % of the rows are missing in gaps",
            can_be_accepted=True,
        ),
        Expectation(
            "column_max_to_be_between",
            between(SPACING, row_seconds, 7 * 86_400),
            "warning",
            "no gap is longer than a week",
        ),
        *(
            Expectation(
                "column_values_to_be_of_type", {"column": name, "type_": "float32"}, "critical", f"{name} is a 32-bit float"
            )
            for name in ranges
        ),
        *(
            Expectation("column_values_to_not_be_null", {"column": name}, "critical", f"no reading of {name} is missing")
            for name in ranges
        ),
        *(
            Expectation(
                "column_values_to_be_between",
                between(name, minimum, maximum),
                "critical",
                f"{name} lies between {minimum:g} and {maximum:g}, what {where} can have",
                can_be_accepted=True,
            )
            for name, (minimum, maximum) in ranges.items()
        ),
    )


def between(column: str, minimum: float | None, maximum: float | None, **more: Any) -> dict[str, Any]:
    """Return the arguments of an expectation that values lie between two bounds; None is no bound."""
    return {"column": column, "min_value": minimum, "max_value": maximum, **more}
