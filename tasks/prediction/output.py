"""Predictions as people and programs take them: files, rows of plain values, and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from storage.errors import SettingError
from storage.io import write_atomically
from storage.tables import write_table
from tasks.intervals import LEVELS
from tasks.prediction.predict import Predictions
from tasks.reporting.figures.predictions import prediction_png

FORMS = (".parquet", ".csv", ".json")


def checked_output(path: Path) -> Path:
    """Return a path that predictions can be written to.

    Raises:
        SettingError: Its ending is none of the forms, or its folder is not there.
    """
    if path.suffix not in FORMS:
        raise SettingError(f"--output is {str(path)!r}: end the name with {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise SettingError(f"--output is {str(path)!r}, but there is no folder {str(path.parent)!r}: make it first")
    return path


def write_output(table: pa.Table, path: Path) -> None:
    """Write predictions as Parquet, csv or JSON, as the ending of the path says."""
    if path.suffix == ".parquet":
        write_table(table, path)
    elif path.suffix == ".csv":
        sink = pa.BufferOutputStream()
        pa_csv.write_csv(table, sink)
        write_atomically(path, sink.getvalue().to_pybytes())
    else:
        write_atomically(path, (json.dumps(plain_rows(table), indent=1) + "\n").encode())


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows of JSON-ready values: stamps as ISO text, numbers with the digits of 32-bit floats."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return value.isoformat() if hasattr(value, "isoformat") else value


def picture_of(predictions: Predictions) -> bytes | None:
    """Return the picture of a forecast; None: texts were classified."""
    if predictions.recent is None:
        return None
    table = predictions.table
    has_bounds = table[f"lower_{LEVELS[0]}"].null_count == 0
    bounds = {level: (table[f"lower_{level}"].to_numpy(), table[f"upper_{level}"].to_numpy()) for level in LEVELS if has_bounds}
    return prediction_png(
        predictions.recent,
        target_time=table["target_time"].to_numpy(),
        prediction=table["prediction"].to_numpy(),
        bounds=bounds,
        label=predictions.quantity,
        model=f"{predictions.version.name}@{predictions.version.version}",
    )


def summary_of(predictions: Predictions) -> str:
    """Return in one sentence what was predicted."""
    table, version = predictions.table, predictions.version
    name = f"{version.name}@{version.version}"
    if predictions.recent is None:
        positive = table["label"].to_pylist().count("positive")
        return f"{name}: {positive:,} of {table.num_rows:,} texts are positive"
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    digits, unit = predictions.decimals, predictions.quantity.rpartition("(")[2].rstrip(")")
    sure = ""
    if last[f"lower_{LEVELS[0]}"] is not None:
        low, high = last[f"lower_{LEVELS[0]}"], last[f"upper_{LEVELS[0]}"]
        sure = f" ({LEVELS[0]} %: {low:.{digits}f} to {high:.{digits}f})"
    more = f", the last of {table.num_rows:,} forecasts" if table.num_rows > 1 else ""
    return (
        f"{name} as of {last['as_of'].isoformat()}: {last['prediction']:.{digits}f} {unit} at {last['target_time'].isoformat()}"
        f"{sure}{more}"
    )
