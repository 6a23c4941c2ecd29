"""Measure `retrain predict` on many rows beside the exported Keras model alone: rows a second and peak memory.

    python -m benchmarks.predictions STORE --readings FILE.parquet --reviews FILE.parquet

Each way runs in a process of its own, in turns. The exported model takes the same windows and texts, gathered by numpy in the
same number of rows a batch, as somebody would who has nothing but the model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 512
WAYS = ("ours", "keras")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--readings", type=Path, help="own file of readings; every window of it is forecast")
    parser.add_argument("--reviews", type=Path, help="Parquet file with a column text")
    parser.add_argument("--series-model", default="jena")
    parser.add_argument("--review-model", default="imdb")
    parser.add_argument("--keras-rows", type=int, default=20_000, help="rows that the exported model alone gets")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(_one(*asked.one, asked=asked)))
        return
    for kind, path in (("windows", asked.readings), ("reviews", asked.reviews)):
        for way in WAYS if path else ():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.predictions", *sys.argv[1:], "--one", kind, way],
                env={**os.environ, "RETRAIN_HOME": str(asked.store)},
                capture_output=True,
                text=True,
                check=True,
            )
            result = json.loads(done.stdout.splitlines()[-1])
            rate = result["rows"] / result["seconds"]
            print(
                f"{kind} {way}: {result['rows']:,} in {result['seconds']:.1f} s, {rate:,.0f} a second, {result['peak_gb']:.2f} GB"
            )


def _one(kind: str, way: str, *, asked: Any) -> dict[str, float]:
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.config import InputSettings, PredictSettings
    from tasks.models.device import prepare_device
    from tasks.models.serialization import register_layers
    from tasks.prediction.predict import predict

    store = Store.from_environment()
    registry = Registry.open(store)
    model = asked.series_model if kind == "windows" else asked.review_model
    path = asked.readings if kind == "windows" else asked.reviews
    if way == "ours":
        settings = PredictSettings(input=InputSettings(path=str(path)), **({"every_rows": 1} if kind == "windows" else {}))
        done = predict(model, settings=settings, registry=registry, store=store)
        rows, seconds = done.table.num_rows, done.seconds
    else:
        prepare_device(1, require_gpu=False)
        register_layers()
        exported = registry.load_model(registry.resolve(model))
        batches = _windows(path, rows=asked.keras_rows) if kind == "windows" else _texts(path, rows=asked.keras_rows)
        rows, started_s = 0, time.monotonic()
        for batch in batches:
            exported.predict_on_batch(batch)
            rows += len(batch)
        seconds = time.monotonic() - started_s
    return {"rows": rows, "seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def _windows(path: Path, *, rows: int) -> Any:
    """Yield windows of the file as the exported model takes them."""
    from tasks.datasets import dataset_named
    from tasks.datasets.jena.physics import COLUMNS

    read_input = dataset_named("jena").read_input
    assert read_input is not None
    table = read_input(path, {}, until=None).table
    values = np.column_stack([table[name].to_numpy() for name in COLUMNS])
    ends = np.arange(1440, min(len(values), 1440 + rows))
    for start in range(0, len(ends), BATCH):
        chunk = ends[start : start + BATCH]
        yield values[chunk[:, None] + np.arange(-1440, 0)]


def _texts(path: Path, *, rows: int) -> Any:
    """Yield texts of the file as the exported model takes them."""
    from tasks.datasets.imdb.text_files import read_texts

    texts = [text for part in read_texts(str(path), {}) for text in part][:rows]
    for start in range(0, len(texts), BATCH):
        yield np.array(texts[start : start + BATCH], dtype=object)[:, None]


if __name__ == "__main__":
    main()
