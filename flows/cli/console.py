"""What a person sees at the terminal: steps as they happen, training bars, and tables of results."""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from storage.layout import Store
from storage.progress import read_notes
from storage.raw_files import write_atomically
from storage.records import ModelVersion

POLL_S = 0.5
NARROWEST_PIPE = 140


def run_all(plan: Sequence[Mapping[str, Any]], *, command: str, quiet: bool) -> list[dict[str, Any]]:
    """Run the retrain flow for each entry of a plan and print what came of it.

    Returns:
        The plain values of each run's report.
    """
    store = Store.from_environment()
    console = _console(stderr=quiet)
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

        with _stopped_at_once(), _shown(console, store=store):
            for parameters in plan:
                console.print(f"[bold]{parameters['dataset']}[/bold]: {', '.join(parameters['variants'])}")
                results.append(retrain(**parameters) | {"command": command})
    if not quiet:
        for result in results:
            _print_result(result, console=console)
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
    from tasks.models import view_named
    from tasks.reporting.tutorial import Reproduction, differences, section, with_section

    done = iter(run_all([parameters for plan in runs.values() for parameters in plan], command=command, quiet=False))
    for dataset, plan in runs.items():
        spec = dataset_named(dataset)
        results = [next(done) for _ in plan]
        made = Reproduction(
            dataset=dataset,
            kind=view_named(dataset).kind,
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
def _stopped_at_once() -> Iterator[None]:
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


def _console(*, stderr: bool = False) -> Console:
    """Return a console; a file or a pipe gets lines wide enough for the tables."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=NARROWEST_PIPE)


@contextmanager
def _shown(console: Console, *, store: Store) -> Iterator[None]:
    """Show the log lines of the steps and a bar for every training while the block runs."""
    handler = _Lines(console)
    logger = logging.getLogger("retrain")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    stop = threading.Event()
    watch = threading.Thread(target=_watch, args=(console, store, stop), daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join()
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Print log records on a console that also draws bars."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        style = "bold yellow" if record.levelno >= logging.WARNING else ""
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        self._console.print(f"  {stamp} {escape(record.getMessage())}", style=style, highlight=False)


def _watch(console: Console, store: Store, stop: threading.Event) -> None:
    """Follow the progress files that the training processes write: bars at a terminal, a line an epoch elsewhere."""
    folder = store.progress("any").parent
    began = time.time()
    bars: dict[str, TaskID] = {}
    milestones: dict[str, int] = {}
    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        while not stop.wait(POLL_S):
            notes = read_notes(folder, since=began)
            for key in bars.keys() - notes.keys():
                progress.remove_task(bars.pop(key))
            for key, note in notes.items():
                if key not in bars:
                    bars[key] = progress.add_task(note.title, total=1.0, text=note.text)
                progress.update(bars[key], completed=note.share, text=note.text)
                if not console.is_terminal and note.milestone > milestones.get(key, 0):
                    milestones[key] = note.milestone
                    console.print(f"  {time.strftime('%H:%M:%S')} {note.title}: {note.text}", highlight=False)


def _print_result(result: Mapping[str, Any], *, console: Console) -> None:
    title = f"{result['model']} on table {result['table']['version']}"
    if result["simulated"]:
        title += "  (SAMPLE: simulated, not real data)"
    console.print(_table(result["rows"], title=title))
    style = "green" if result["decision"]["outcome"] == "promoted" else "yellow"
    console.print(result["decision"]["reason"], style=style, highlight=False)
    if result["beside_reference"]:
        console.print(result["beside_reference"], highlight=False)
    for name, address in result["links"].items():
        console.print(f"  {name}: {escape(address)}", style="dim", highlight=False, soft_wrap=True)


def _table(rows: Sequence[Mapping[str, str]], *, title: str = "") -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def print_models(versions: Sequence[ModelVersion]) -> None:
    """Print one row a version."""
    console = _console()
    if not versions:
        console.print("No model is registered yet: run `retrain run`.")
        return
    rows = [
        {
            "model": f"{version.name}@{version.version}",
            "aliases": ", ".join(version.aliases),
            "variant": version.variant,
            "validation": _first(version.metrics, "val_accuracy", "val_loss"),
            "test": _first(version.metrics, "accuracy", "mae_degc"),
            "skill": _first(version.metrics, "skill"),
            "table": version.tags.get("table_version", ""),
            "created (UTC)": version.created[:16].replace("T", " "),
        }
        for version in versions
    ]
    console.print(_table(rows))


_UNITS = {"val_accuracy": "accuracy", "accuracy": "accuracy", "val_loss": "MAE (normalised)", "mae_degc": "°C MAE", "skill": ""}


def _first(metrics: Mapping[str, float], *names: str) -> str:
    """Return the first of these figures that a version has, with what it is."""
    return next((f"{metrics[name]:.4f} {_UNITS[name]}".strip() for name in names if name in metrics), "")


def print_version(version: ModelVersion, *, manifest: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]]) -> None:
    """Print one version at length."""
    console = _console()
    console.print(f"[bold]{version.name}@{version.version}[/bold] {version.variant} {', '.join(version.aliases)}")
    training, table = manifest["training"], manifest["table"]
    rows = [
        ("created", version.created),
        ("table", f"{table['version']} from {table['source']}" + (" (SAMPLE, simulated)" if table["simulated"] else "")),
        ("epochs", f"best {training['best_epoch']} of {training['epochs_run']}, {training['seconds_per_epoch']:.1f} s each"),
        ("parameters", str(training["parameters"])),
        ("validation", _figures(training["validation"])),
        ("test", _figures(manifest["scores"])),
        ("code", manifest["code"]),
        ("libraries", ", ".join(f"{name} {number}" for name, number in manifest["libraries"].items())),
        ("uri", version.uri),
        *((f"decision {line['at'][:10]}", line["decision"]["reason"]) for line in decisions),
    ]
    for name, value in rows:
        console.print(f"  {name:<20} {escape(value)}", highlight=False, soft_wrap=True)


def _figures(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
