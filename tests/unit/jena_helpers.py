"""What the Jena tests share: the tutorial's rows, small files and frames, and the suite in a few lines of numpy."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasks.datasets.jena import spec as jena
from tasks.datasets.jena.physics import COLUMNS, LAYOUT
from tasks.datasets.jena.sample import SAMPLE_FILE, simulated_weather, write_csv_zip
from tasks.datasets.request import TableRequest
from tasks.datasets.spec import Parsed
from tasks.datasets.time_series import edge_facts, edges_in_shares

HEADERS = ("Date Time", *(column.header for column in LAYOUT))
HEADER = ",".join(f'"{name}"' for name in HEADERS)
# The rows that the tutorial prints first.
TUTORIAL = (
    "01.01.2009 00:10:00,996.52,-8.02,265.40,-8.90,93.30,3.33,3.11,0.22,1.94,3.12,1307.75,1.03,1.75,152.30",
    "01.01.2009 00:20:00,996.57,-8.41,265.01,-9.28,93.40,3.23,3.02,0.21,1.89,3.03,1309.80,0.72,1.50,136.10",
    "01.01.2009 00:30:00,996.53,-8.51,264.91,-9.31,93.90,3.21,3.01,0.20,1.88,3.02,1310.24,0.19,0.63,171.60",
    "01.01.2009 00:40:00,996.51,-8.31,265.12,-9.07,94.20,3.26,3.07,0.19,1.92,3.08,1309.19,0.34,0.50,198.00",
    "01.01.2009 00:50:00,996.51,-8.27,265.15,-9.04,94.10,3.27,3.08,0.19,1.92,3.09,1309.00,0.32,0.63,214.30",
)
DATA = Path(__file__).parents[2].parent / "shared" / "data"
MIRROR = Path(os.environ.get("RETRAIN_MIRROR") or DATA / "mirror")


def zipped(folder: Path, text: str | bytes, *, name: str = SAMPLE_FILE, member: str = "jena.csv") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text.encode("latin-1") if isinstance(text, str) else text)
    return path


def parse_text(folder: Path, *rows: str, header: str = HEADER, source: str = "sample") -> Parsed:
    return jena.SPEC.parse({SAMPLE_FILE: zipped(folder, "\n".join((header, *rows)) + "\n")}, TableRequest(source=source))


def weather(rows: int = 2000, *, start: str = "2009-05-01T00:00:00", seed: int = 5) -> pd.DataFrame:
    return simulated_weather(rows, seed=seed, start=start)


def parse_frame(folder: Path, frame: pd.DataFrame) -> Parsed:
    return jena.SPEC.parse({SAMPLE_FILE: write_csv_zip(frame, folder / SAMPLE_FILE)}, TableRequest(source="sample"))


def repairs(parsed: Parsed) -> dict[str, int]:
    return {repair.name: repair.count for repair in parsed.repairs}


def parsed_of(columns: Any, *, start: str = "2009-05-01T00:00:00", stamps: Any = None, rows_read: int | None = None) -> Parsed:
    """A `Parsed` from arrays by canonical name, as `parse` would return it."""
    rows = len(columns[COLUMNS[0]])
    if stamps is None:
        stamps = np.datetime64(start, "s") + np.arange(rows) * np.timedelta64(600, "s")
    edges = edges_in_shares(
        np.asarray(stamps).astype("datetime64[s]").astype(np.int64),
        rows_read=rows_read or rows,
        train=jena.TRAIN_ROWS,
        val=jena.VAL_ROWS,
        whole=jena.REFERENCE_ROWS,
    )
    arrays = [pa.array(stamps), *(pa.array(np.asarray(columns[name], dtype=np.float32), from_pandas=True) for name in COLUMNS)]
    return Parsed(table=pa.table(arrays, schema=jena.SPEC.schema), repairs=(), facts=edge_facts(edges))


def failures(frame: pd.DataFrame, severity: str = "critical") -> set[tuple[str, str]]:
    """The row-wise expectations of a severity that fail, as (kind, column), in plain numpy: hundreds of frames are tried."""
    failed = set()
    for expectation in jena.SPEC.expectations(TableRequest(source="sample")):
        arguments = expectation.arguments
        if expectation.kind == "column_values_to_not_be_null":
            good = frame[arguments["column"]].notna()
        elif expectation.kind == "column_values_to_be_between":
            values = frame[arguments["column"]].dropna()
            low, high = arguments["min_value"], arguments["max_value"]
            good = (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        else:
            continue
        if good.mean() < arguments.get("mostly", 1.0) and expectation.severity == severity:
            failed.add((expectation.kind, arguments["column"]))
    return failed


def random_readings(rows: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(10, 3, rows).astype(np.float32) for name in COLUMNS}


def real(folder: Path, names: list[str]) -> Parsed:
    files = {name: folder / name for name in names}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        pytest.skip(f"real data is not here: {', '.join(missing)} (name its folder in RETRAIN_MIRROR)")
    return jena.SPEC.parse(files, TableRequest(source="station"))
