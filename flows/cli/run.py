"""Starts the runs of a command, and ends them at Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.cli.console import make_console, print_result, show_progress
from storage.io import write_atomically
from storage.layout import Store


def run_all(plan: Sequence[Mapping[str, Any]], *, command: str, quiet: bool) -> list[dict[str, Any]]:
    """Run the retrain flow for each entry of a plan and print what came of it.

    Returns:
        The plain values of each run's report.
    """
    store = Store.from_environment()
    console = make_console(stderr=quiet)
    # Prefect's own console lines would tear the bars; every one of them is in the run's log, for the UI.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    started = time.monotonic()
    console.print(f"Store {escape(str(store.root))}; starting Prefect ...", style="dim")
    from flows.runtime.server import prefect_server

    results = []
    # A store without tables has a new server too, which makes its database first: that takes longer than all imports.
    is_new = not any(store.table_folder(parameters["dataset"], "any").parent.exists() for parameters in plan)
    with prefect_server(store, meanwhile=partial(_import_what_runs_use, training=is_new)):
        from flows.retrain import retrain

        with stop_at_once(), show_progress(console, store=store):
            for parameters in plan:
                console.print(f"[bold]{parameters['dataset']}[/bold]: {', '.join(parameters['variants'])}")
                results.append(retrain(**parameters) | {"command": command})
    if not quiet:
        for result in results:
            print_result(result, console=console)
        console.print(
            f"Took {timedelta(seconds=round(time.monotonic() - started))}. More: `retrain models`, `retrain show MODEL`."
        )
    return results


def _import_what_runs_use(*, training: bool) -> None:
    """Import what every run needs, which takes seconds, and what validates and trains when it will surely be needed."""
    if training:
        from flows.runtime.process_pool import start_importing

        start_importing()
    import flows.retrain  # noqa: F401
    from storage.mlflow_compat import import_mlflow

    import_mlflow()
    if training:
        from tasks.ingestion.validation import import_great_expectations

        import_great_expectations()


def reproduce_all(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], *, usual_budget: bool, command: str, output: Path
) -> Iterator[str]:
    """Run every plan of every data set, one a seed, renew the sections of a document, and yield a line on each."""
    from tasks.datasets import dataset_named
    from tasks.models import problem_named
    from tasks.reporting.tutorial import Reproduction, differences, section, with_section

    done = iter(run_all([parameters for plan in runs.values() for parameters in plan], command=command, quiet=False))
    for dataset, plan in runs.items():
        spec = dataset_named(dataset)
        results = [next(done) for _ in plan]
        made = Reproduction(
            dataset=dataset,
            scoring=problem_named(dataset).scoring,
            tutorial_rows=problem_named(dataset).tutorial_rows,
            results=results,
            seeds=tuple(parameters["training"].seed for parameters in plan),
            pinned={file.name: file.sha256 for file in spec.sources[spec.default_source]({}) if file.sha256},
            usual_budget=usual_budget,
            command=command,
            date=time.strftime("%Y-%m-%d"),
            machine=machine(),
            versions=results[0]["versions"],
        )
        document = output.read_text(encoding="utf-8") if output.is_file() else "# Results\n"
        write_atomically(output, with_section(document, dataset=dataset, text=section(made)).encode())
        reasons = "; ".join(differences(made))
        yield f"{dataset}: written to {output}" + (f"; NOT COMPARABLE with the tutorial: {reasons}" if reasons else "")


def machine() -> str:
    """Return the processor and its cores, one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


@contextmanager
def stop_at_once() -> Iterator[None]:
    """End the trainings at Ctrl-C, which would otherwise be waited for; their checkpoints let the next run go on."""

    def stop(*_: object) -> None:
        for process in multiprocessing.active_children():
            process.kill()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
