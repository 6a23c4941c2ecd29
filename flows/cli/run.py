"""Starts the runs of a command, and stops them at Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.cli.console import begin_text, make_console, print_closing, print_result, show_progress
from storage.io import write_atomically
from storage.layout import Store
from storage.references import TableRef
from storage.remote_store import require_reachable


def run_all(plan: Sequence[Mapping[str, Any]], *, command: str, quiet: bool) -> list[dict[str, Any]]:
    """Run the flow `retrain` for each entry of a plan, print the results, and return the plain values of each report.

    Args:
        plan: Parameters of each run.
        command: The command line, for the results.
        quiet: Whether standard output is left free, for JSON.
    """
    store = Store.from_environment()
    require_reachable(store)
    console = make_console(stderr=quiet)
    # Prefect's lines on the console would break the progress bars. They are in the log of the run, which the UI shows.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    started = time.monotonic()
    console.print(begin_text(plan), highlight=False, soft_wrap=True)
    console.print(f"Store {escape(str(store.root))}; starting Prefect ...", style="dim")
    from flows.runtime.server import prefect_server

    results = []
    # For a store without tables the server must create its database first, and all imports fit into that time.
    is_new = not any(store.table_folder(parameters["dataset"], "any").parent.exists() for parameters in plan)
    with prefect_server(store, meanwhile=partial(_import_ahead, training=is_new)):
        from flows.retrain import retrain

        with kill_trainings_on_interrupt(), show_progress(console, store=store):
            for parameters in plan:
                console.print(f"[bold]{parameters['dataset']}[/bold]: {', '.join(parameters['variants'])}")
                results.append(retrain(**parameters) | {"command": command})
    if not quiet:
        for result in results:
            print_result(result, console=console)
        print_closing(results, seconds=time.monotonic() - started, console=console)
    return results


def ingest_all(plan: Sequence[Mapping[str, Any]], *, quiet: bool) -> list[TableRef]:
    """Run the flow `ingest` for each entry of a plan, print what it published, and return the references.

    Args:
        plan: Parameters of each run, as for `run_all`.
        quiet: Whether standard output is left free, for JSON.
    """
    store = Store.from_environment()
    require_reachable(store)
    console = make_console(stderr=quiet)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    console.print(f"Store {escape(str(store.root))}; starting Prefect ...", style="dim")
    from flows.runtime.server import prefect_server

    tables = []
    with prefect_server(store):
        from flows.ingest import ingest

        with show_progress(console, store=store):
            tables = [ingest(parameters["dataset"], parameters["data"]) for parameters in plan]
    for table in tables:
        state = "published" if table.published else "nothing new"
        rows = ", ".join(f"{name} {count:,}" for name, count in table.rows.items())
        newest = f", newest reading of {table.newest}" if table.newest else ""
        console.print(f"{table.dataset}: {state}, table {table.version}{newest}; rows: {rows}", highlight=False)
        console.print(f"  {escape(table.uri)}", style="dim", highlight=False, soft_wrap=True)
    return tables


def _import_ahead(*, training: bool) -> None:
    """Import what every run needs, and if a run will surely train, also what it needs for that. It takes seconds."""
    if training:
        from flows.runtime.process_pool import start_importing

        start_importing()
    import flows.retrain  # noqa: F401
    from storage.mlflow_compat import import_mlflow

    import_mlflow()
    if training:
        from tasks.ingestion.gx import import_great_expectations

        import_great_expectations()


def reproduce_all(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], *, usual_budget: bool, command: str, output: Path
) -> Iterator[str]:
    """Run the plans of every data set, write the section of each data set to a document, and yield a line on each.

    Args:
        runs: Parameters of the runs by data set, one run for each seed.
        usual_budget: Whether the runs have the tutorial's epochs and steps.
        command: The command line, for the document.
        output: The document.
    """
    from tasks.datasets import dataset_named
    from tasks.ingestion.fetching import today
    from tasks.models import problem_named
    from tasks.reporting.tutorial import Reproduction, differences, section, with_section

    all_results = iter(run_all([parameters for plan in runs.values() for parameters in plan], command=command, quiet=False))
    for dataset, plan in runs.items():
        spec = dataset_named(dataset)
        results = [next(all_results) for _ in plan]
        reproduction = Reproduction(
            dataset=dataset,
            scoring=problem_named(dataset).scoring,
            tutorial_rows=problem_named(dataset).tutorial_rows,
            results=results,
            seeds=tuple(parameters["training"].seed for parameters in plan),
            pinned={file.name: file.sha256 for file in spec.sources[spec.default_source].files({}, today()) if file.sha256},
            usual_budget=usual_budget,
            command=command,
            date=time.strftime("%Y-%m-%d"),
            machine=machine(),
            versions=results[0]["versions"],
        )
        document = output.read_text(encoding="utf-8") if output.is_file() else "# Results\n"
        write_atomically(output, with_section(document, dataset=dataset, text=section(reproduction)).encode())
        reasons = "; ".join(differences(reproduction))
        yield f"{dataset}: written to {output}" + (f"; NOT COMPARABLE with the tutorial: {reasons}" if reasons else "")


def machine() -> str:
    """Return the processor, its cores and the version of Python, one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


@contextmanager
def kill_trainings_on_interrupt() -> Iterator[None]:
    """Kill the training processes at Ctrl-C; Python would wait for their end. The next run resumes from their checkpoints."""

    def stop(*_: object) -> None:
        for process in multiprocessing.active_children():
            process.kill()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
