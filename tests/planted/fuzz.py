"""Files with random damage, read by the project's own readers: nothing but its own errors may come out.

    python -m planted.fuzz --seconds 600          (in tests/, with the project on the path)

The damage is that of fuzzers for binary formats: flipped bits, cut ends, parts doubled, moved or replaced by numbers at the
edges of their types. Every example follows from its number, so a failure is named by format and number.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from upath import UPath

from storage.attempts import begin_attempt
from storage.errors import RetrainError
from storage.journal import Journal, SharedValue
from storage.pickles import load_npz_arrays
from storage.raw_files import mirror_file
from storage.tables import read_manifest, read_table, write_table
from tasks.datasets.imdb.keras_files import read_words
from tasks.datasets.imdb.text_files import read_texts
from tasks.datasets.jena.parse import read_file
from tasks.training.fitting import Checkpoints

Rng = np.random.Generator

CSV = (
    '"Date Time","p (mbar)","T (degC)","Tpot (K)","Tdew (degC)","rh (%)","VPmax (mbar)","VPact (mbar)","VPdef (mbar)",'
    '"sh (g/kg)","H2OC (mmol/mol)","rho (g/m**3)","wv (m/s)","max. wv (m/s)","wd (deg)"\n'
    "01.01.2009 00:10:00,996.52,-8.02,265.40,-8.90,93.30,3.33,3.11,0.22,1.94,3.12,1307.75,1.03,1.75,152.30\n"
    "01.01.2009 00:20:00,996.57,-8.41,265.01,-9.28,93.40,3.23,3.02,0.21,1.89,3.03,1309.80,0.72,1.50,136.10\n"
    "01.01.2009 00:30:00,996.53,-8.51,264.91,-9.31,93.90,3.21,3.01,0.20,1.88,3.02,1310.24,0.19,0.63,171.60\n"
).encode("latin-1")
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
TOKENS = (
    b"\r",
    b"\n",
    b"\x00",
    b'"',
    b",",
    b";",
    b"NaN",
    b"1e999",
    b"-9999",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"{",
    b"[[[[",
    b"null",
)


def zipped(body: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("jena.csv", body)
    return stream.getvalue()


def npz() -> bytes:
    reviews = np.empty(3, dtype=object)
    for place, review in enumerate(([1, 2, 300], [5], [70_000, 1])):
        reviews[place] = review
    stream = io.BytesIO()
    np.savez(stream, x=reviews, y=np.array([0, 1, 1]))
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, variable_0=np.ones((3, 2), dtype=np.float32), state=np.frombuffer(b'{"epoch": 1}', dtype=np.uint8))
    return stream.getvalue()


def parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_table(pa.table({"x": [1, 2, 3], "name": ["a", "b", "c"]}), Path(folder, "x.parquet"), checksums=True)
        return Path(folder, "x.parquet").read_bytes()


def _read_checkpoint(path: Path) -> object:
    folder = UPath(path.parent)
    attempt = begin_attempt(folder)
    path.rename(path.with_name("checkpoint-1.npz"))
    return Checkpoints(folder, attempt=attempt).load()


def _read_journal(path: Path) -> object:
    path.rename(path.with_name("00000001.json"))
    return Journal(UPath(path.parent)).entries()


def _read_shared(path: Path) -> object:
    path.rename(path.with_name("00000001.json"))
    return SharedValue(UPath(path.parent)).read()


def _read_sums(path: Path) -> object:
    path.rename(path.with_name("SHA256SUMS"))
    return mirror_file(str(path.parent), "a.zip")


def _read_manifest(path: Path) -> object:
    path.rename(path.with_name("manifest.json"))
    return read_manifest(path.parent)


FORMATS: Mapping[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "zip": ("mpi_roof_2009a.zip", lambda: zipped(CSV), lambda path: read_file(path.name, path=path)),
    "zip, lzma": (
        "mpi_roof_2009a.zip",
        lambda: zipped(CSV, method=zipfile.ZIP_LZMA),
        lambda path: read_file(path.name, path=path),
    ),
    "csv": ("mpi_roof.csv", lambda: CSV, lambda path: read_file(path.name, path=path)),
    "parquet of readings": ("own.parquet", parquet, lambda path: read_file(path.name, path=path)),
    "parquet table": ("train.parquet", parquet, read_table),
    "npz": ("imdb.npz", npz, lambda path: load_npz_arrays(path, names=["x", "y"])),
    "word index": ("imdb_word_index.json", lambda: json.dumps({"the": 1, "film": 2, "caf\u00e9": 3}).encode(), read_words),
    "texts": (
        "reviews.csv",
        lambda: b'review,label\nA good film,1\n"Bad, bad",0\n',
        lambda path: list(read_texts(str(path), {})),
    ),
    "SHA256SUMS": ("sums", lambda: b"0" * 64 + b"  a.zip\n" + b"f" * 64 + b" *b.zip\n", _read_sums),
    "manifest": (
        "m",
        lambda: json.dumps({"files": {"a.parquet": {"sha256": "0", "rows": 1}}, "facts": {}}).encode(),
        _read_manifest,
    ),
    "checkpoint": ("c", arrays, _read_checkpoint),
    "promotions log": (
        "p",
        lambda: json.dumps({"at": "2026", "key": "k", "candidate": 1, "id": "x"}).encode() + b"\n",
        _read_journal,
    ),
    "locks": ("l", lambda: json.dumps({"station:a.zip": {"sha256": "0", "size_bytes": 1}}).encode() + b"\n", _read_shared),
}
"""By what is read: file name, sound content, and reader."""


def damaged(sound: bytes, *, rng: Rng) -> bytes:
    """Return content with one to four kinds of damage."""
    data = bytearray(sound)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 9))
        kind = int(rng.integers(0, 8))
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            data[place:place] = data[place : place + 8 * length]
        elif kind == 4:
            number = EDGES[int(rng.integers(0, len(EDGES)))]
            width = (1, 2, 4, 8)[int(rng.integers(0, 4))]
            data[place : place + width] = (number % 256**width).to_bytes(width, "little")
        elif kind == 5:
            data[place:place] = TOKENS[int(rng.integers(0, len(TOKENS)))]
        elif kind == 6:
            data[place : place + length] = rng.bytes(length)
        else:
            other = int(rng.integers(0, len(data) + 1))
            data[place:place] = data[other : other + 16 * length]
    return bytes(data)


def try_one(name: str, number: int) -> Exception | None:
    """Read one damaged file, and return what came out that is no error of the project; None: all is well."""
    _, make, _ = FORMATS[name]
    return fault_of(name, damaged(make(), rng=np.random.default_rng([number, *name.encode()])))


def fault_of(name: str, content: bytes) -> Exception | None:
    """Read content as a format, and return what came out that is no error of the project; None: all is well."""
    file_name, _, read = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f", file_name)
        path.parent.mkdir()
        path.write_bytes(content)
        try:
            read(path)
        except RetrainError:
            return None
        except Exception as error:
            return error
    return None


def main() -> None:
    """Fuzz every format for so many seconds each, and print how many examples were tried and what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="for each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first example")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    failed = False
    for name in FORMATS:
        started, number = time.monotonic(), asked.first
        errors: dict[str, int] = {}
        while time.monotonic() - started < asked.seconds:
            error = try_one(name, number)
            if error is not None:
                errors.setdefault(f"{type(error).__name__}: {str(error)[:120]}", number)
            number += 1
        failed = failed or bool(errors)
        sys.stdout.write(
            f"{name}: {number - asked.first:,} tried in {time.monotonic() - started:.0f} s, {len(errors)} kinds of errors\n"
        )
        for text, example in errors.items():
            sys.stdout.write(f"  {example}: {text}\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
