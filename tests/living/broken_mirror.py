"""Make a mirror of the station's files in a store, in which one sensor is broken from a day on.

    python tests/living/broken_mirror.py STORE FOLDER --column "T (degC)" --add 3 --from 2014-03-24

`RETRAIN_MIRROR=FOLDER` then shows what a run and the monitor make of it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path

_STAMP_FORM = "%d.%m.%Y %H:%M:%S"
_ENCODING = "latin-1"


def broken(body: bytes, *, column: str, add: float, first: date) -> tuple[bytes, int]:
    """Return a csv of the station with so much added to a column from a day on, and how many rows that changed."""
    header, *lines = body.decode(_ENCODING).splitlines()
    names = [name.strip().strip('"') for name in header.split(",")]
    place, changed = names.index(column), 0
    for number, line in enumerate(lines):
        cells = line.split(",")
        if datetime.strptime(cells[0].strip('"'), _STAMP_FORM).date() >= first:  # noqa: DTZ007  (the station's own clock)
            cells[place] = f"{float(cells[place]) + add:.2f}"
            lines[number] = ",".join(cells)
            changed += 1
    return ("\n".join([header, *lines]) + "\n").encode(_ENCODING), changed


def files_of(store: Path) -> dict[str, Path]:
    """Return the station's files in a store by name, of several with one name the one that was fetched last."""
    paths = sorted(store.glob("raw/jena/*/mpi_roof*.zip"), key=lambda path: path.stat().st_mtime)
    return {path.name: path for path in paths}


def main() -> None:
    """Write the mirror and say what is broken in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--column", required=True, help="heading of the column in the station's files")
    parser.add_argument("--add", type=float, required=True, help="what the broken sensor adds, in the unit of the column")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first day of the fault")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    rows, sums = 0, []
    for name, path in files_of(asked.store).items():
        with zipfile.ZipFile(path) as archive:
            member = archive.namelist()[0]
            body, changed = broken(archive.read(member), column=asked.column, add=asked.add, first=asked.first)
        content = path.read_bytes()
        if changed:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(member, body)
            content = stream.getvalue()
        (asked.folder / name).write_bytes(content)
        sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        rows += changed
    (asked.folder / "SHA256SUMS").write_text("".join(sums))
    sys.stdout.write(f"{asked.column} reads {asked.add:+g} in {rows:,} rows from {asked.first} on\n")


if __name__ == "__main__":
    main()
