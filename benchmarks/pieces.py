"""Pieces of a run by themselves, each timed once; a process prints what it found as JSON.

python -m benchmarks.pieces flow HOME JENA IMDB
python -m benchmarks.pieces pipeline HOME JENA IMDB
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Laps = dict[str, float]


def timed(laps: Laps, what: str, work: Callable[[], Any]) -> Any:
    """Do a piece of work and keep how long it took."""
    started = time.perf_counter()
    result = work()
    laps[what] = time.perf_counter() - started
    return result


def prefect_pieces(home: str) -> Laps:
    """Time a Prefect server of one's own, flows and tasks that do nothing, and its end."""
    laps: Laps = {}
    os.environ["RETRAIN_HOME"] = home
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    timed(laps, "import of the flows", lambda: __import__("flows.retrain"))
    from prefect import flow, task

    from flows.runtime.server import prefect_server
    from storage.layout import Store

    @task
    def nothing() -> None:
        """Do nothing."""

    @flow
    def empty(tasks: int) -> None:
        """Run so many tasks."""
        for _ in range(tasks):
            nothing()

    server = prefect_server(Store.at(home))
    timed(laps, "Prefect server, start", server.__enter__)
    timed(laps, "first flow, no task", lambda: empty(0))
    timed(laps, "second flow, no task", lambda: empty(0))
    timed(laps, "flow with 10 empty tasks", lambda: empty(10))
    timed(laps, "Prefect server, end", lambda: server.__exit__(None, None, None))
    return laps


def pipeline_pieces(home: str, tables: list[str]) -> Laps:
    """Time validation, training, scoring and registering, the second time beside the first."""
    laps: Laps = {}
    os.environ["RETRAIN_HOME"] = home
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.config import DataSettings, TrainSettings
    from tasks.ingestion import fetching, pipeline
    from tasks.training import fitting, registering, scoring

    store = Store.at(home)
    raw = fetching.fetch_raw("jena", settings=DataSettings(data="sample"), store=store, mirror=None)
    parsed = pipeline.parse_raw(raw, store=store)
    timed(laps, "import of Great Expectations", lambda: __import__("great_expectations"))
    for time_of in ("first", "second"):
        validation = timed(
            laps,
            f"validation of the sample, {time_of}",
            lambda: pipeline.validate_parsed(parsed, settings=DataSettings(), store=store),
        )
    pipeline.publish_parsed(parsed, validation=validation, store=store)
    timed(laps, "Data Docs of the sample", lambda: pipeline.write_missing_docs("jena", store=store))
    timed(laps, "import of TensorFlow and Keras", lambda: __import__("keras"))
    timed(laps, "import of MLflow", lambda: __import__("mlflow"))
    registry = timed(laps, "registry, opening", lambda: Registry.open(store))
    settings = TrainSettings(epochs=1, steps_per_epoch=2)
    for dataset, folder in zip(("jena", "imdb"), tables, strict=True):
        table = pipeline.table_ref(dataset, version=Path(folder).name, store=store, published=False)
        for time_of, variant in (("first", "gru_baseline"), ("second", "gru_dropout")):

            def fit(table: Any = table, variant: str = variant) -> Any:
                return fitting.fit_variant(table, variant=variant, settings=settings, store=store, on_progress=lambda _: None)

            fitted = timed(laps, f"{dataset}: training of 2 steps, {time_of}", fit)
            scored = timed(
                laps, f"{dataset}: scoring, {time_of}", lambda fitted=fitted: scoring.evaluate_fitted(fitted, store=store)
            )
            timed(
                laps,
                f"{dataset}: registering, {time_of}",
                lambda fitted=fitted, scored=scored: registering.register_fitted(
                    fitted, evaluation=scored, registry=registry, store=store, flow_run_id=""
                ),
            )
    return laps


def main() -> None:
    """Time the pieces that are asked for."""
    import flows  # noqa: F401  (sets what Prefect and MLflow read when they are imported)

    which, home, *tables = sys.argv[1:]
    laps = prefect_pieces(home) if which == "flow" else pipeline_pieces(home, tables)
    sys.stdout.write("\n" + json.dumps(laps) + "\n")


if __name__ == "__main__":
    main()
