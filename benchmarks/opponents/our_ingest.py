"""The project's own ingestion of a Jena file, from the file to a published table: fetch, parse, validate, publish; then docs.

python -m benchmarks.opponents.our_ingest
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.opponents.turns import answer_requests
from storage.layout import Store
from storage.raw_files import fetch
from storage.references import RawRef
from tasks.config import DataSettings
from tasks.datasets import dataset_named
from tasks.ingestion import pipeline
from tasks.ingestion.gx import import_great_expectations

MAX_BYTES = 1 << 30


def ingest(dataset: str, *, files: list[Path], home: Path) -> dict[str, Any]:
    """Ingest files into an empty store and return the seconds of each step to the published table, and the rows of each split."""
    dataset_named(dataset)
    store = Store.at(home)
    laps: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        laps[name] = time.perf_counter() - started
        started = time.perf_counter()

    fetched = tuple(
        fetch(file.name, urls=(str(file),), store=store, dataset=dataset, origin="benchmark", max_bytes=MAX_BYTES)
        for file in files
    )
    # The source `sample` may have any number of rows.
    raw = RawRef(dataset=dataset, source="sample", origin="sample", simulated=True, files=fetched)
    lap("fetch")
    parsed = pipeline.parse_raw(raw, store=store)
    lap("parse")
    validation = pipeline.validate_parsed(parsed, settings=DataSettings(), store=store)
    lap("validate")
    table = pipeline.publish_parsed(parsed, validation=validation, store=store)
    lap("publish")
    return {"laps": laps, "seconds": sum(laps.values()), "rows": table.rows, "checks": validation.passed}


def train(file: str) -> dict[str, Any]:
    """Take one turn in a store that goes with it, and write the Data Docs of its table."""
    with tempfile.TemporaryDirectory() as home:
        done = ingest("jena", files=[Path(file)], home=Path(home))
        started = time.perf_counter()
        pipeline.write_missing_docs("jena", store=Store.at(home))
        done["docs_s"] = time.perf_counter() - started
    return done | {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


if __name__ == "__main__":
    import_great_expectations()  # an import is no part of ingestion
    answer_requests({"train": train})
