"""The files of the Jena station: which should exist on a day, where they may be, and which rows each promises.

The publisher offers half-year zips up to 2023b, from 2024 one zip a year, and a current file without a year in its name, which
holds the newest months and is replaced all the time. Its hosts have moved before: names and addresses are data here, tried in
order, and a person can add addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from storage.errors import SettingError
from tasks.datasets.spec import SourceFile, SourceOptions

FIRST_YEAR = 2004
FIRST_YEAR_OF_ONE_FILE = 2024
ADDRESSES = ("https://weather.bgc-jena.mpg.de/{name}", "https://www.bgc-jena.mpg.de/wetter/{name}")
CURRENT_FILES = ("mpi_roof.csv", "mpi_roof.zip")
LATEST = "latest"
USUAL_FIRST = "2009"
# A publisher needs some days to complete a half-year, and some weeks to put a whole year in the place of its parts.
GROWING_DAYS = 14
LATE_DAYS = 60
# The current file holds some months; what lies further back is in the file of its year.
CURRENT_REACHES_DAYS = 400

PERIOD = r"^\d{4}([ab]|-\d{2}(-\d{2})?)?$"
PERIOD_OR_LATEST = rf"{PERIOD}|^{LATEST}$"
_EXAMPLES = "a year, half-year, month or day such as 2009, 2009a, 2014-03 or 2014-03-15"

Address = Annotated[str, Field(pattern=r"^(https?|file)://\S*\{name\}\S*$")]


class StationOptions(SourceOptions):
    """Which of the station's readings are read, and where else its files may be."""

    model_config = ConfigDict(title="Options of station")

    from_period: str | None = Field(
        None,
        pattern=PERIOD,
        description=f"First period: {_EXAMPLES}. None: {USUAL_FIRST}.",
        json_schema_extra={"flag": "--from"},
    )
    to_period: str | None = Field(
        None,
        pattern=PERIOD_OR_LATEST,
        description=f"Last period, or {LATEST}: as far as there are readings. None: {LATEST}.",
        json_schema_extra={"flag": "--to"},
    )
    addresses: tuple[Address, ...] | None = Field(
        None,
        max_length=10,
        description="Addresses that are tried before the known ones, with {name} for the name of a file, such as "
        "https://example.org/jena/{name}.",
        json_schema_extra={"flag": "--address", "address": True},
    )


@dataclass(frozen=True)
class Period:
    """A span of whole days.

    Attributes:
        first: First day.
        end: Day after the last one; None: it goes on to now.
    """

    first: date
    end: date | None


def half_start(year: int, half: str) -> date:
    """Return the first day of a half-year; `a` is January to June."""
    return date(year, 7 if half == "b" else 1, 1)


def period_named(value: str, *, name: str) -> Period:
    """Return the span of a year, half-year, month or day.

    Raises:
        SettingError: There is no such period, or it is before the first year of the station.
    """
    if not re.fullmatch(PERIOD, str(value)):
        raise SettingError(f"{name} is {value!r}: give {_EXAMPLES}")
    year = int(value[:4])
    try:
        if value[4:] in ("a", "b"):
            end = date(year, 7, 1) if value[4:] == "a" else date(year + 1, 1, 1)
            period = Period(half_start(year, value[4:]), end)
        elif len(value) == 10:
            day = date.fromisoformat(value)
            period = Period(day, day + timedelta(days=1))
        elif len(value) == 7:
            month = date.fromisoformat(f"{value}-01")
            period = Period(month, (month + timedelta(days=31)).replace(day=1))
        else:
            period = Period(date(year, 1, 1), date(year + 1, 1, 1))
    except (ValueError, OverflowError):
        raise SettingError(f"{name} is {value!r}, which is no day: give {_EXAMPLES}") from None
    if year < FIRST_YEAR:
        raise SettingError(f"{name} is {value!r}: the station's files begin with {FIRST_YEAR}")
    return period


def period_asked(options: Mapping[str, Any], *, today: date) -> Period:
    """Return the span from the first to the last period of the options.

    Raises:
        SettingError: A period is malformed, before the first file or in the future, or the two are reversed.
    """
    asked_first, asked_last = options.get("from_period") or USUAL_FIRST, options.get("to_period") or LATEST
    first = period_named(asked_first, name="from_period")
    last = Period(first.first, None) if asked_last == LATEST else period_named(asked_last, name="to_period")
    for name, value, period in (("from_period", asked_first, first), ("to_period", asked_last, last)):
        if period.first > today:
            raise SettingError(f"{name} is {value!r}, which is in the future on {today}: give a period that has begun")
    if last.end is not None and last.end <= first.first:
        raise SettingError(f"periods {asked_first!r} to {asked_last!r} are reversed: give the earlier one as from_period")
    return Period(first.first, last.end)


def goes_on(options: Mapping[str, Any]) -> bool:
    """Tell whether the options ask for the readings up to now."""
    return (options.get("to_period") or LATEST) == LATEST


def period_of_file(name: str) -> Period | None:
    """Return the span that the name of a file promises, or None for a current file."""
    match = re.fullmatch(r"mpi_roof_(\d{4})([ab]?)\.\w+", name)
    return period_named(match[1] + match[2], name="file") if match else None


def station_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    """Return the files that should hold the readings of the period that the options name.

    Args:
        options: Values of `StationOptions`.
        today: The day from whose point of view a period has ended.

    Raises:
        SettingError: The period cannot be.
    """
    period = period_asked(options, today=today)
    addresses = (*(options.get("addresses") or ()), *ADDRESSES)
    last_day = today if period.end is None else min(today, period.end - timedelta(days=1))
    files: list[SourceFile] = []
    for year in range(period.first.year, last_day.year + 1):
        halves = [
            _period_file(f"mpi_roof_{year}{half}.zip", addresses=addresses, today=today)
            for half in "ab"
            if half_start(year, half) <= last_day and not (half == "a" and period.first >= half_start(year, "b"))
        ]
        whole = _period_file(f"mpi_roof_{year}.zip", addresses=addresses, today=today)
        if year >= FIRST_YEAR_OF_ONE_FILE:
            files.append(_with_instead(whole, halves))
        else:
            files += [_with_instead(half, [whole]) for half in halves]
    if period.end is None or period.end > today - timedelta(days=CURRENT_REACHES_DAYS):
        current = [_current_file(name, addresses=addresses) for name in CURRENT_FILES]
        files.append(_with_instead(current[0], current[1:]))
    return tuple(files)


def _period_file(name: str, *, addresses: Sequence[str], today: date) -> SourceFile:
    period = period_of_file(name)
    end = period.end if period and period.end else today
    return SourceFile(
        name=name,
        urls=tuple(address.replace("{name}", name) for address in addresses),
        max_bytes=32_000_000,
        magic=b"PK",
        growing=today < end + timedelta(days=GROWING_DAYS),
        optional=today < end + timedelta(days=LATE_DAYS),
    )


def _current_file(name: str, *, addresses: Sequence[str]) -> SourceFile:
    return SourceFile(
        name=name,
        urls=tuple(address.replace("{name}", name) for address in addresses),
        max_bytes=64_000_000,
        magic=b"PK" if name.endswith(".zip") else b"",
        growing=True,
        rolling=True,
        optional=True,
    )


def _with_instead(file: SourceFile, others: Sequence[SourceFile]) -> SourceFile:
    return SourceFile(**{**vars(file), "instead": tuple(others)})
