"""Under which names a file has the station's readings: the publisher's layout, and any other that a person describes.

Columns are found by name. What is not certain is refused: a needed column that is missing, two that could be the same one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from storage.errors import DataError
from tasks.datasets.jena.physics import LAYOUT, STAMP_HEADER, TIMESTAMP

AUTO = "auto"
STATION_EXTRAS = (
    "rain (mm)",
    "raining (s)",
    "SWDR (W/m²)",
    "PAR (µmol/m²/s)",
    "max. PAR (µmol/m²/s)",
    "Tlog (degC)",
    "CO2 (ppm)",
)
_MAX_LISTED, _MAX_MISSING = 40, 4


@dataclass(frozen=True)
class Layout:
    """How the columns, the stamps and the missing values of a file are written.

    Attributes:
        columns: Accepted headers of each reading, by canonical name; `header_key` says which spellings are the same.
        stamp_columns: Accepted headers of the time stamp.
        stamp_format: Directives of strptime (`%Y %m %d %H %M %S`), or `auto`: told from the stamps, and refused where they
            could be read in two ways.
        missing: Words for a missing value. An empty field and a run of `*` (an overflow) are missing in any case.
    """

    columns: Mapping[str, tuple[str, ...]]
    stamp_columns: tuple[str, ...]
    stamp_format: str = AUTO
    missing: tuple[str, ...] = ("NaN", "nan", "NAN", "NA", "null", "NULL")


STATION_LAYOUT = Layout(
    columns=MappingProxyType({column.name: (column.header, column.name) for column in LAYOUT}),
    # `date` is the stamp of the benchmark file `weather.csv`, which has the station's columns of 2020.
    stamp_columns=(STAMP_HEADER, "date", TIMESTAMP),
)


@dataclass(frozen=True)
class ColumnPositions:
    """Where the columns of a file are, counted from 0.

    Attributes:
        stamp: Position of the time stamp.
        readings: Position of each reading, by canonical name.
        headers: Names in the file, by canonical name and `timestamp`.
        unused: Names of the other columns, those of the station in its own spelling.
    """

    stamp: int
    readings: Mapping[str, int]
    headers: Mapping[str, str]
    unused: tuple[str, ...]


def header_key(header: str) -> str:
    """Return what equal headers have in common: `?` stands for a degree, a micro sign or a power, in whatever way it is written.

    Those signs are the ones that a wrong decoding loses, and no two columns of the station differ in them alone.
    """
    text = re.sub(r"\s+", " ", header.strip(" \t\r\n\"'")).replace("℃", "°C")
    text = re.sub(r"deg ?(?=C?\))", "°", text)
    text = re.sub(r"(?:\*\*|\^|(?<=/m))[23]", "²", text)
    # Â, Î and ï¿½ are the first bytes of these signs in UTF-8, read as latin-1.
    return re.sub(r"(?:[ÂÎ](?=[°µ²³¼])|ï¿½|[°ºµμ²³¼\ufffd?])+", "?", text)


_EXTRA_OF_KEY = {header_key(name): name for name in STATION_EXTRAS}


def find_columns(header: Sequence[str], *, layout: Layout, where: str) -> ColumnPositions:
    """Return where the stamp and the readings of a layout are.

    Args:
        header: Names of the columns in the order of the file.
        layout: The names that are accepted.
        where: File and line, for messages.

    Raises:
        DataError: A name occurs twice, a needed column is missing, or one column would be two readings.
    """
    keys = [header_key(name) for name in header]
    first_of: dict[str, int] = {}
    for position, key in enumerate(keys):
        if key and first_of.setdefault(key, position) < position:
            raise DataError(
                f"{where}: {header[position].strip()!r} is the name of columns number {first_of[key] + 1} and {position + 1}, "
                "expected each name once: remove or rename one of them"
            )
    stamps = _positions(keys, accepted=layout.stamp_columns)
    positions = {name: _positions(keys, accepted=accepted) for name, accepted in layout.columns.items()}
    missing = [name for name, found in positions.items() if not found]
    if missing or not stamps:
        _raise_missing(header, missing=missing, has_stamp=bool(stamps), layout=layout, where=where)
    names_of: dict[int, list[str]] = {}
    for name, found in {TIMESTAMP: stamps, **positions}.items():
        if len(found) > 1:
            listed = " and ".join(repr(header[position].strip()) for position in found)
            raise DataError(f"{where}: {listed} could both be {name}, expected one: remove or rename one of them")
        names_of.setdefault(found[0], []).append(name)
    for position, names in names_of.items():
        if len(names) > 1:
            raise DataError(
                f"{where}: {header[position].strip()!r} is named for {' and '.join(names)}, expected a column for each: "
                "correct --stamp-column and --columns"
            )
    return ColumnPositions(
        stamp=stamps[0],
        readings={name: found[0] for name, found in positions.items()},
        headers={names[0]: header[position].strip() for position, names in names_of.items()},
        unused=tuple(
            _EXTRA_OF_KEY.get(key) or header[position].strip() or f"column {position + 1}"
            for position, key in enumerate(keys)
            if position not in names_of
        ),
    )


def _positions(keys: Sequence[str], *, accepted: Sequence[str]) -> list[int]:
    names = {header_key(name) for name in accepted}
    return [position for position, key in enumerate(keys) if key in names]


def _raise_missing(header: Sequence[str], *, missing: Sequence[str], has_stamp: bool, layout: Layout, where: str) -> NoReturn:
    names = [f"{layout.columns[name][0]!r} ({name})" for name in missing]
    if not has_stamp:
        names.insert(0, f"{layout.stamp_columns[0]!r} ({TIMESTAMP})")
    if len(names) > _MAX_MISSING:
        names[_MAX_MISSING:] = [f"and {len(names) - _MAX_MISSING} more"]
    present = ", ".join(repr(name.strip()[:_MAX_LISTED]) for name in header[:_MAX_LISTED])
    options = [*([] if has_stamp else ["--stamp-column NAME"]), *([f"--columns {missing[0]}=NAME"] if missing else [])]
    raise DataError(
        f"{where}: no column is named {', '.join(names)}; the file has {present}: restore the publisher's header, or read it as "
        f"a file of your own with --source file --input FILE {' '.join(options)}"
    )
