"""The same readings, written in every form that a file of the station is known in."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.datasets.jena.physics import LAYOUT

HEADER_OF = {column.name: column.header for column in LAYOUT}
STAMP_FORMS = {
    "station": "%d.%m.%Y %H:%M:%S",
    "station without seconds": "%d.%m.%Y %H:%M",
    "ISO": "%Y-%m-%d %H:%M:%S",
    "ISO with T": "%Y-%m-%dT%H:%M:%S",
    "ISO without seconds": "%Y-%m-%d %H:%M",
    "year first": "%Y/%m/%d %H:%M",
}
# What a wrong decoding makes of the signs in the names of the columns that are not used.
LOST = {
    "as it is": {},
    "another micro": {"µ": "μ"},
    "UTF-8 read as latin-1": {"µ": "Âµ", "²": "Â²"},
    "Greek read as latin-1": {"µ": "Î¼", "²": "Â²"},
    "replaced": {"µ": "\ufffd", "²": "\ufffd"},
    "question mark": {"µ": "?", "²": "?"},
    "stars": {"²": "**2"},
}


@dataclass(frozen=True)
class Form:
    """How readings are written.

    Attributes:
        order: Columns (`timestamp`, canonical names, headers of further columns) in the order of the file.
        lost: Key of `LOST`.
    """

    order: tuple[str, ...]
    separator: str = ","
    decimal_mark: str = "."
    stamps: str = "station"
    stamp_header: str = "Date Time"
    quote_header: bool = False
    quote_values: bool = False
    padding: str = ""
    cut_zeros: bool = False
    encoding: str = "utf-8"
    lost: str = "as it is"
    line_end: str = "\n"
    ending: str = "\n"
    container: str = "csv"


def written(readings: Mapping[str, Any], *, seconds: Any, form: Form) -> bytes:
    """Return a file with these readings; a number has two decimals, a further column has 0 in each row."""
    stamps = pd.to_datetime(np.asarray(seconds), unit="s").strftime(STAMP_FORMS[form.stamps])

    def header(name: str) -> str:
        text = form.stamp_header if name == "timestamp" else HEADER_OF.get(name, name)
        for sign, instead in LOST[form.lost].items():
            text = text.replace(sign, instead)
        return f'"{text}"' if form.quote_header else text

    def cell(name: str, row: int) -> str:
        text = stamps[row] if name == "timestamp" else "0"
        if name in readings:
            text = f"{readings[name][row]:.2f}"
            if form.cut_zeros:
                text = text.rstrip("0").rstrip(".")
            text = text.replace(".", form.decimal_mark)
        text = f"{form.padding}{text}{form.padding}"
        return f'"{text}"' if form.quote_values else text

    lines = [form.separator.join(header(name) for name in form.order)]
    lines += [form.separator.join(cell(name, row) for name in form.order) for row in range(len(stamps))]
    body = (form.line_end.join(lines) + form.ending).encode(form.encoding)
    if form.container == "gz":
        return gzip.compress(body)
    if form.container == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("readings.csv", body)
        return stream.getvalue()
    return body


def file_of(folder: Path, content: str | bytes, *, name: str = "roof.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
