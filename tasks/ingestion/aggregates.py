"""Judges the expectations that follow from a few aggregates of a column: nulls, least, greatest, number of rows outside.

Great Expectations evaluates every expectation for itself, on pandas columns, through a graph of metrics. Here each column
is read once for all its expectations, as the numpy array that it is. The results have the fields and the numbers of Great
Expectations' own, which the tests hold against a run of it for every expectation of every data set. Whatever is not
certain to be the same (another kind, argument or type of column) is not judged here but left to Great Expectations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.datasets.spec import Expectation
from tasks.ingestion.outcomes import Judgement

Number = int | float
# Beyond this not every integer is a float64, and a comparison of both depends on which is converted.
_MAX_EXACT_INT = 2**53
_NUMERIC_TYPE = re.compile(r"(u?int(8|16|32|64)|float(32|64))")


class _Column:
    """A column and its aggregates, each computed when first asked for."""

    def __init__(self, series: pd.Series) -> None:
        self.series = series

    @cached_property
    def is_numeric(self) -> bool:
        """Whether the column holds integers or floats of numpy that float64 holds exactly."""
        dtype = self.series.dtype
        if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
            return False
        return dtype.kind == "f" or all(value is None or _is_exact_int(value) for value in (self.minimum, self.maximum))

    @cached_property
    def _nan(self) -> npt.NDArray[np.bool_]:
        nan: npt.NDArray[np.bool_] = np.isnan(np.asarray(self.series))
        return nan

    @cached_property
    def null_count(self) -> int:
        """How many values are missing."""
        dtype = self.series.dtype
        if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
            return int(self.series.isnull().sum())
        # One missing number makes the least one missing: the quick way to see that there is none.
        if dtype.kind != "f" or not len(self.series) or not np.isnan(np.asarray(self.series).min()):
            return 0
        return int(np.count_nonzero(self._nan))

    @cached_property
    def values(self) -> npt.NDArray[Any]:
        """The numbers that are not null, in the type of the column."""
        values = np.asarray(self.series)
        return values[~self._nan] if self.null_count else values

    @cached_property
    def minimum(self) -> Number | None:
        """The least number, or None if there is none."""
        return self.values.min().item() if len(self.values) else None

    @cached_property
    def maximum(self) -> Number | None:
        """The greatest number, or None if there is none."""
        return self.values.max().item() if len(self.values) else None

    @property
    def wide(self) -> npt.NDArray[Any]:
        """The numbers that are not null with 64 bits, as Great Expectations compares them with a bound."""
        return self.values.astype(wide_type(self.values.dtype), copy=False)

    def count_outside(self, low: Number | None, high: Number | None) -> int:
        """Return how many numbers are below `low` or above `high`; None is no bound."""
        if self.minimum is None or self.maximum is None:
            return 0
        if (low is None or self.minimum >= low) and (high is None or self.maximum <= high):
            return 0
        wide = self.wide
        inside = np.ones(len(wide), dtype=np.bool_)
        if low is not None:
            inside &= wide >= low
        if high is not None:
            inside &= wide <= high
        return int(np.count_nonzero(~inside))

    @cached_property
    def repeated_count(self) -> int:
        """How many values that are not null occur elsewhere in the column too."""
        series = self.series.dropna() if self.null_count else self.series
        values = series.to_numpy()
        if len(values) < 2 or bool((values[1:] > values[:-1]).all()):
            return 0
        return int(series.duplicated(keep=False).sum())


def wide_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the 64-bit type in which numbers of a type are compared with bounds."""
    is_float = dtype.kind == "f" or dtype == np.dtype(np.uint64)
    return np.dtype(np.float64 if is_float else np.int64)


def judge(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[Judgement | None]:
    """Return a judgement for each expectation, in order; None where Great Expectations has to judge."""
    columns: dict[str, _Column] = {}

    def column(name: Any) -> _Column | None:
        if not isinstance(name, str) or name not in frame.columns or not isinstance(frame[name], pd.Series):
            return None
        if name not in columns:
            columns[name] = _Column(frame[name])
        return columns[name]

    judgements: list[Judgement | None] = []
    for expectation in expectations:
        arguments = dict(expectation.arguments)
        table_kind, column_kind = _TABLE_KINDS.get(expectation.kind), _COLUMN_KINDS.get(expectation.kind)
        if table_kind:
            judgements.append(table_kind(frame, **arguments) if set(arguments) <= _names_of(table_kind) else None)
            continue
        judged = column(arguments.pop("column", None)) if column_kind else None
        if column_kind is None or judged is None or not set(arguments) <= _names_of(column_kind):
            judgements.append(None)
        else:
            judgements.append(column_kind(judged, **arguments))
    return judgements


def _names_of(function: Callable[..., Any]) -> set[str]:
    return set(function.__kwdefaults__ or {})


# Every function takes arguments of Great Expectations by their names, and returns None for those that it does not judge.


def _values_between(column: _Column, *, min_value: Any = None, max_value: Any = None, mostly: Any = 1.0) -> Judgement | None:
    if not column.is_numeric or not _are_bounds(min_value, max_value) or not _is_share(mostly):
        return None
    return _of_rows(
        rows=len(column.series),
        nonnull=len(column.series) - column.null_count,
        unexpected=column.count_outside(min_value, max_value),
        mostly=mostly,
    )


def _values_in_set(column: _Column, *, value_set: Any = None, mostly: Any = 1.0) -> Judgement | None:
    is_plain = isinstance(value_set, list) and all(type(value) in (str, int, float) for value in value_set)
    if not is_plain or not _is_share(mostly) or not (column.is_numeric or isinstance(column.series.dtype, pd.StringDtype)):
        return None
    present = pd.Series(column.wide) if column.is_numeric else column.series.dropna()
    return _of_rows(
        rows=len(column.series), nonnull=len(present), unexpected=int((~present.isin(value_set)).sum()), mostly=mostly
    )


def _values_unique(column: _Column, *, mostly: Any = 1.0) -> Judgement | None:
    is_stamp = isinstance(column.series.dtype, np.dtype) and column.series.dtype.kind == "M"
    if not (column.is_numeric or is_stamp) or not _is_share(mostly):
        return None
    nonnull = len(column.series) - column.null_count
    return _of_rows(rows=len(column.series), nonnull=nonnull, unexpected=column.repeated_count, mostly=mostly)


def _values_not_null(column: _Column, *, mostly: Any = 1.0) -> Judgement | None:
    if not _is_share(mostly):
        return None
    # The number of rows that are not null does not stand in the result of this kind, because it is what is asked.
    return _of_rows(rows=len(column.series), nonnull=None, unexpected=column.null_count, mostly=mostly)


def _values_of_type(column: _Column, *, type_: Any = None) -> Judgement | None:
    dtype = column.series.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind == "O":
        return None
    if not isinstance(type_, str) or not _NUMERIC_TYPE.fullmatch(type_):
        return None
    return Judgement(dtype.type is np.dtype(type_).type, {"observed_value": dtype.type.__name__})


def _min_between(column: _Column, *, min_value: Any = None, max_value: Any = None) -> Judgement | None:
    if not column.is_numeric or not _are_bounds(min_value, max_value):
        return None
    return _of_aggregate(column.minimum, low=min_value, high=max_value)


def _max_between(column: _Column, *, min_value: Any = None, max_value: Any = None) -> Judgement | None:
    if not column.is_numeric or not _are_bounds(min_value, max_value):
        return None
    return _of_aggregate(column.maximum, low=min_value, high=max_value)


def _mean_between(column: _Column, *, min_value: Any = None, max_value: Any = None) -> Judgement | None:
    if not column.is_numeric or not _are_bounds(min_value, max_value):
        return None
    # pandas leaves nulls out in another order of summation than a mean of the rest, and Great Expectations asks pandas.
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        mean = float(column.series.astype(wide_type(column.series.dtype)).mean())
    return _of_aggregate(None if math.isnan(mean) else mean, low=min_value, high=max_value)


def _row_count_between(frame: pd.DataFrame, *, min_value: Any = None, max_value: Any = None) -> Judgement | None:
    if not _are_bounds(min_value, max_value):
        return None
    return _of_aggregate(len(frame), low=min_value, high=max_value)


def _columns_match(frame: pd.DataFrame, *, column_list: Any = None) -> Judgement | None:
    # Great Expectations says what is out of place.
    columns = list(frame.columns)
    return (
        Judgement(success=True, details={"observed_value": columns})
        if isinstance(column_list, list) and columns == column_list
        else None
    )


def _compound_unique(frame: pd.DataFrame, *, column_list: Any = None, mostly: Any = 1.0) -> Judgement | None:
    is_list = isinstance(column_list, list) and len(column_list) > 1 and all(name in frame.columns for name in column_list)
    if not is_list or not _is_share(mostly) or frame[column_list].isnull().to_numpy().any():
        return None
    repeated = int(frame[column_list].duplicated(keep=False).sum())
    return _of_rows(rows=len(frame), nonnull=len(frame), unexpected=repeated, mostly=mostly)


_COLUMN_KINDS: Mapping[str, Callable[..., Judgement | None]] = {
    "column_values_to_be_between": _values_between,
    "column_values_to_be_in_set": _values_in_set,
    "column_values_to_be_unique": _values_unique,
    "column_values_to_not_be_null": _values_not_null,
    "column_values_to_be_of_type": _values_of_type,
    "column_min_to_be_between": _min_between,
    "column_max_to_be_between": _max_between,
    "column_mean_to_be_between": _mean_between,
}
_TABLE_KINDS: Mapping[str, Callable[..., Judgement | None]] = {
    "table_row_count_to_be_between": _row_count_between,
    "table_columns_to_match_ordered_list": _columns_match,
    "compound_columns_to_be_unique": _compound_unique,
}
KINDS = frozenset((*_COLUMN_KINDS, *_TABLE_KINDS))
"""The kinds of expectations that are judged here."""


def _are_bounds(low: Any, high: Any) -> bool:
    """Tell whether there is a bound, every bound is a number, and some number lies between them."""
    bounds = [bound for bound in (low, high) if bound is not None]
    are_numbers = all((type(bound) is float and not math.isnan(bound)) or _is_exact_int(bound) for bound in bounds)
    return bool(bounds) and are_numbers and (len(bounds) < 2 or low <= high)


def _is_exact_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MAX_EXACT_INT


def _is_share(mostly: Any) -> bool:
    return type(mostly) in (int, float) and 0 <= mostly <= 1


def _of_aggregate(value: Number | None, *, low: Number | None, high: Number | None) -> Judgement:
    inside = value is not None and (low is None or value >= low) and (high is None or value <= high)
    return Judgement(inside, {"observed_value": value})


def _of_rows(*, rows: int, nonnull: int | None, unexpected: int, mostly: float) -> Judgement:
    """Return the judgement on single rows: their share that is as expected must be `mostly` at least.

    Args:
        rows: Rows of the frame.
        nonnull: Those that are judged, or None if nulls are judged too.
        unexpected: Those that are not as expected.
        mostly: The share.
    """
    judged = rows if nonnull is None else nonnull
    percent_of_judged = unexpected / judged * 100 if judged else None
    details: dict[str, Any] = {
        "element_count": rows,
        "unexpected_count": unexpected,
        "unexpected_percent": percent_of_judged,
        "partial_unexpected_list": [],
    }
    if nonnull is not None:
        details["missing_count"] = rows - nonnull
        details["missing_percent"] = (rows - nonnull) / rows * 100 if rows else None
        details["unexpected_percent_total"] = unexpected / rows * 100 if rows else None
        details["unexpected_percent_nonmissing"] = percent_of_judged
    return Judgement(judged == 0 or (judged - unexpected) / judged >= mostly, details)
