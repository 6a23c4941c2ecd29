"""The readings that the simulated station publishes: simulated weather, or real readings moved to the simulated years."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tasks.datasets.jena.layout import STATION_EXTRAS
from tasks.datasets.jena.physics import LAYOUT, ROW_SECONDS, STAMP_HEADER
from tasks.datasets.jena.sample import simulated_weather

HEADERS = (STAMP_HEADER, *(column.header for column in LAYOUT))
ROWS_PER_DAY = 86_400 // ROW_SECONDS
FIRST_DAY, END_DAY = date(2021, 1, 1), date(2026, 7, 1)
SEED = 1


@dataclass(frozen=True)
class _Span:
    """Real readings that are moved by whole days, so that they end where the next span begins.

    Attributes:
        files: Paths under the folder of the real data.
        days: By how many days the stamps are moved.
        until: Last stamp that is taken, after the move.
    """

    files: tuple[str, ...]
    days: int
    until: str


def _halves(*names: str) -> tuple[str, ...]:
    return tuple(f"reconstructed/mpi_roof_{name}.zip" for name in names)


# Twelve years are 4,383 days, four are 1,461: leap days stay where they are, and seasons and hours too.
_REAL_SPANS = (
    _Span(_halves("2009a", "2009b", "2010a", "2010b", "2011a", "2011b"), 4_383, "2024-01-01T00:00:00"),
    _Span(("mirror/mpi_roof_2020a.zip", "mirror/mpi_roof_2020b.zip"), 1_461, "2025-01-01T00:00:00"),
    _Span(_halves("2013a"), 4_383, "2025-06-09T11:30:00"),
    _Span(("current/mpi_roof.csv",), 365, "2025-10-20T08:10:00"),
    _Span(_halves("2013b", "2014a"), 4_383, "2026-07-01T00:00:00"),
)


def simulated_readings(*, first: date = FIRST_DAY, end: date = END_DAY, seed: int = SEED) -> pd.DataFrame:
    """Return simulated readings of whole days without any fault: 144 a day, the first ten minutes after a midnight."""
    rows = (end - first).days * ROWS_PER_DAY
    return simulated_weather(rows, seed=seed, start=f"{first}T00:10:00")


def real_readings(folder: Path) -> pd.DataFrame | None:
    """Return real readings from 2021 to July 2026, moved there from other years; None: a file is not there.

    The year 2024 is the station's 2020, June to October 2025 are those months of 2024, and the rest is reconstructed.
    """
    if not all((folder / name).is_file() for span in _REAL_SPANS for name in span.files):
        return None
    parts = []
    after = np.datetime64(FIRST_DAY, "s")
    for span in _REAL_SPANS:
        frame = pd.concat([_read(folder / name) for name in span.files], ignore_index=True)
        frame[STAMP_HEADER] += pd.Timedelta(days=span.days)
        until = np.datetime64(span.until)
        parts.append(frame[(frame[STAMP_HEADER] > after) & (frame[STAMP_HEADER] <= until)])
        after = until
    return pd.concat(parts, ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, encoding="latin-1", usecols=list(HEADERS))
    frame[STAMP_HEADER] = pd.to_datetime(frame[STAMP_HEADER], format="%d.%m.%Y %H:%M:%S").astype("datetime64[s]")
    return frame


def csv_bytes(readings: pd.DataFrame, *, quoted: bool = True, end: str = "\n") -> bytes:
    """Return readings as the station writes them: latin-1, with the seven columns that nobody here uses.

    Args:
        readings: Stamp and readings under the upstream names.
        quoted: Whether the names of the header are quoted, as in the half-year files.
        end: End of a line; the current file has that of Windows.
    """
    rows = len(readings)
    stamps = pc.strftime(pa.array(readings[STAMP_HEADER].to_numpy().astype("datetime64[s]")), format="%d.%m.%Y %H:%M:%S")
    numbers = [
        pc.cast(pc.round(pa.array(readings[name].to_numpy(), from_pandas=True), ndigits=2), pa.decimal128(12, 2))
        for name in HEADERS[1:]
    ]
    zeros = pa.array(np.zeros(rows, dtype=np.int8))
    names = (*HEADERS, *STATION_EXTRAS)
    body = io.BytesIO()
    body.write((",".join(f'"{name}"' if quoted else name for name in names) + "\n").encode("latin-1"))
    table = pa.table([stamps, *numbers, *[zeros] * len(STATION_EXTRAS)], names=list(names))
    pa_csv.write_csv(table, body, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    return body.getvalue() if end == "\n" else body.getvalue().replace(b"\n", end.encode())


def zip_bytes(name: str, body: bytes) -> bytes:
    """Return a zip with one csv of the same name; equal bodies give equal bytes."""
    member = zipfile.ZipInfo(f"{Path(name).stem}.csv", date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr, member.compress_type = 3, 0o644 << 16, zipfile.ZIP_DEFLATED
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(member, body, compresslevel=3)
    return archive.getvalue()
