"""Compare a series with the table before it: the same stamps with other readings, and a level that no such season had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from storage.errors import DataError
from storage.layout import Store
from storage.tables import published_versions, read_manifest, read_table
from tasks.datasets.spec import SPLITS, DatasetSpec, Expectation

Floats = npt.NDArray[np.float64]

REWRITTEN, SHARE, LEVEL = "is_rewritten", "rewritten_share", "level_shift_of_month"
# Tables hold float32 in standard deviations.
_ROUNDING_OF_STD = 1e-4
# A mean of a month rests on so much of it, and the spread of a season on so many months of earlier years.
_MIN_DAYS, _MIN_MONTHS = 20, 9
# Of 351 months of columns of the reconstructed years 2012 to 2014 the largest deviation is 3.8.
_MAX_LEVEL_SHIFT = 6.0
_DAY_S = 86_400
# Unit of angles, whose arithmetic mean says nothing: that of 1 and 359 degrees is the opposite direction.
_ANGLE = "_deg"

EXPECTATIONS = (
    Expectation(
        "column_values_to_be_between",
        {"column": REWRITTEN, "min_value": 0, "max_value": 0},
        "warning",
        "readings are those that the table before had at the same stamps; otherwise they were corrected, or mixed up",
    ),
    Expectation(
        "column_values_to_be_between",
        {"column": SHARE, "min_value": 0, "max_value": 0.5},
        "critical",
        "most readings are those that the table before had at the same stamps; otherwise another series has taken its name",
        can_be_accepted=True,
    ),
    Expectation(
        "column_values_to_be_between",
        {"column": LEVEL, "min_value": 0, "max_value": _MAX_LEVEL_SHIFT},
        "warning",
        "the means of a new month are as those of its season in the table before; otherwise a sensor was moved or changed",
    ),
)


@dataclass(frozen=True)
class Series:
    """Readings by column at rising stamps.

    Attributes:
        seconds: Stamps, seconds since 1970, int64 `(rows,)`.
        readings: float64 `(rows,)` by column, in the unit of the column.
    """

    seconds: npt.NDArray[np.int64]
    readings: Mapping[str, Floats]


def series_of(table: pa.Table) -> Series:
    """Return the stamps and the readings of a table of a series."""
    timestamp = timestamp_of(table.schema)
    if timestamp is None:
        raise ValueError(f"no column holds time stamps: {', '.join(table.column_names)}")
    seconds = table[timestamp].to_numpy().astype("datetime64[s]").astype(np.int64)
    columns = [name for name in table.column_names if pa.types.is_floating(table.schema.field(name).type)]
    return Series(seconds, {name: table[name].to_numpy().astype(np.float64) for name in columns})


def timestamp_of(schema: pa.Schema) -> str | None:
    """Return the column of the time stamps of a series; None if rows have none."""
    return next((field.name for field in schema if pa.types.is_timestamp(field.type)), None)


def table_before(spec: DatasetSpec, *, version: str, source: str, store: Store) -> Series | None:
    """Return the readings of the newest other table from the same source, in their units; None if there is none."""
    if timestamp_of(spec.schema) is None:
        return None
    found: tuple[str, str] | None = None
    for other in published_versions(store, spec.name):
        try:
            manifest = read_manifest(store.table_folder(spec.name, other))
            is_alike = other != version and manifest["source"] == source and not manifest["simulated"]
            last = str(manifest["facts"]["last_stamp"])
        except (DataError, KeyError, TypeError):  # a damaged one is made again when it is needed
            continue
        if is_alike:
            found = max(found or ("", ""), (last, other))
    return _readings(spec, version=found[1], store=store) if found else None


def _readings(spec: DatasetSpec, *, version: str, store: Store) -> Series | None:
    folder = store.table_folder(spec.name, version)
    try:
        manifest = read_manifest(folder)
        names = [f"{split}.parquet" for split in SPLITS]
        parts = [read_table(folder / name, sha256=manifest["files"][name]["sha256"]) for name in names]
        mean, std = (manifest["normalisation"][name] for name in ("mean", "std"))
    except (DataError, KeyError):
        return None
    series = series_of(pa.concat_tables(parts))
    readings = {name: values * std[name] + mean[name] for name, values in series.readings.items() if name in mean}
    return Series(series.seconds, readings)


def continuity_frame(new: Series, *, before: Series) -> pd.DataFrame:
    """Return the stamps with what differs from the table before; NaN where there is nothing to compare with."""
    changed = rewritten(new, before=before)
    is_known = np.isfinite(changed)
    share = np.where(is_known, changed[is_known].mean() if is_known.any() else np.nan, np.nan)
    columns = {REWRITTEN: changed, SHARE: share, LEVEL: level_shifts(new, before=before)}
    return pd.DataFrame({"timestamp": new.seconds.astype("datetime64[s]"), **columns})


def expectations_about(frame: pd.DataFrame) -> tuple[Expectation, ...]:
    """Return what is expected of the columns of a continuity frame that have something to compare."""
    return tuple(each for each in EXPECTATIONS if frame[each.arguments["column"]].notna().any())


def rewritten(new: Series, *, before: Series) -> Floats:
    """Return for each row 1 if a reading differs from that of the same stamp before, else 0; NaN without such a stamp.

    Differences within the rounding of the table count as none.
    """
    found = np.full(len(new.seconds), np.nan)
    _, here, there = np.intersect1d(new.seconds, before.seconds, return_indices=True)
    changed = np.zeros(len(here), dtype=np.bool_)
    for name, values in before.readings.items():
        if name in new.readings and len(here):
            difference = np.abs(new.readings[name][here] - values[there])
            changed |= difference > _ROUNDING_OF_STD * max(float(values.std()), 1e-9)
    found[here] = changed
    return found


def level_shifts(new: Series, *, before: Series) -> Floats:
    """Return for each row after the table before by how much the mean of its month deviates, of the column that does most.

    The unit is the standard deviation of the monthly means of the same season, which is the month with its neighbours, in the
    table before. NaN for rows of its time, of months with too few rows, and of seasons that it holds too seldom.
    """
    found = np.full(len(new.seconds), np.nan)
    if not len(before.seconds):
        return found
    months, known = _months(new.seconds), _months(before.seconds)
    is_new = new.seconds > before.seconds[-1]
    spacing_s = int(np.median(np.diff(before.seconds))) if len(before.seconds) > 1 else _DAY_S
    min_rows = _MIN_DAYS * _DAY_S // max(spacing_s, 1)
    new_months, counts = np.unique(months[is_new], return_counts=True)
    whole = new_months[counts >= min_rows]
    if not whole.size:
        return found
    levels = {name: values for name, values in before.readings.items() if name in new.readings and not name.endswith(_ANGLE)}
    means = {name: _means(values, months=known, min_rows=min_rows) for name, values in levels.items()}
    for month in whole:
        rows = is_new & (months == month)
        deviations = [_deviation(new.readings[name][rows], month=int(month), means=means[name]) for name in levels]
        if np.isfinite(deviations).any():
            found[rows] = np.nanmax(deviations)
    return found


def _months(seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def _means(values: Floats, *, months: npt.NDArray[np.int64], min_rows: int) -> dict[int, float]:
    """Return the mean of each month that has enough rows, by months since 1970."""
    names, places, counts = np.unique(months, return_inverse=True, return_counts=True)
    sums = np.bincount(places, weights=values)
    return {int(name): float(total / count) for name, total, count in zip(names, sums, counts, strict=True) if count >= min_rows}


def _deviation(values: Floats, *, month: int, means: Mapping[int, float]) -> float:
    """Return the deviation of a month's mean from its season's, in standard deviations; NaN if the season is hardly known."""
    by_offset: dict[int, list[float]] = {}
    for known, mean in means.items():
        offset = (known - month + 6) % 12 - 6
        if abs(offset) <= 1:
            by_offset.setdefault(offset, []).append(mean)
    own = by_offset.get(0, [])
    spread = [value - float(np.mean(group)) for group in by_offset.values() for value in group]
    freedom = len(spread) - len(by_offset)
    if len(spread) < _MIN_MONTHS or len(own) < 2 or freedom < 1:
        return float("nan")
    std = float(np.sqrt(np.sum(np.square(spread)) / freedom))
    return float(abs(values.mean() - np.mean(own)) / std) if std > 0 else float("nan")
