"""Output at the terminal: log lines, progress bars of downloads and trainings, and tables of results."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from storage.layout import Store
from storage.progress import read_notes
from storage.records import ModelVersion
from tasks.models.spec import Problem

POLL_S = 0.5
# Columns of a file or a pipe, in which no table is shortened.
PIPE_WIDTH = 140


def make_console(*, stderr: bool = False) -> Console:
    """Return a console. In a file or a pipe its lines are wide enough for the tables."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


@contextmanager
def show_progress(console: Console, *, store: Store) -> Iterator[None]:
    """While the block runs, print the log lines of the steps and show a bar for every download and training."""
    handler = _LogLines(console)
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


class _LogLines(logging.Handler):
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
    """Show the progress files in the store: as bars at a terminal, elsewhere as a line for each epoch."""
    folder = store.progress("any").parent
    start = time.time()
    bars: dict[str, TaskID] = {}
    milestones: dict[str, int] = {}
    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        while not stop.wait(POLL_S):
            notes = read_notes(folder, since=start)
            for key in bars.keys() - notes.keys():
                progress.remove_task(bars.pop(key))
            for key, note in notes.items():
                if key not in bars:
                    bars[key] = progress.add_task(note.title, total=None if note.share is None else 1.0, text=note.text)
                progress.update(bars[key], completed=note.share or 0.0, text=note.text)
                if not console.is_terminal and note.milestone > milestones.get(key, 0):
                    milestones[key] = note.milestone
                    console.print(f"  {time.strftime('%H:%M:%S')} {note.title}: {note.text}", highlight=False)


def print_result(result: Mapping[str, Any], *, console: Console) -> None:
    """Print scores, decision and links of one run."""
    title = f"{result['model']} on table {result['table']['version']}"
    if result["simulated"]:
        title += "  (SAMPLE: simulated, not real data)"
    console.print(_table(result["rows"], title=title))
    style = "green" if result["decision"]["outcome"] == "promoted" else "yellow"
    console.print(result["decision"]["reason"], style=style, highlight=False)
    if result["refit"]:
        refit, candidate = result["refit"], result["decision"]["candidate"]
        text = f"v{refit['version']}: {candidate} trained again on all {refit['rows']:,} rows in {refit['seconds']:.0f} s"
        console.print(f"{text}; the scores above are those of {candidate}.", highlight=False)
    if result["champion_warning"]:
        console.print(f"{result['champion_warning']}.", style="bold yellow", highlight=False)
    if result["baseline_comparison"]:
        console.print(result["baseline_comparison"], highlight=False)
    for name, address in result["links"].items():
        console.print(f"  {name}: {escape(address)}", style="dim", highlight=False, soft_wrap=True)


def begin_text(plan: Sequence[Mapping[str, Any]]) -> str:
    """Return what the runs of a plan are about to do, and how long that takes."""
    what = ", ".join(f"{run['dataset']} ({', '.join(run['variants'])})" for run in plan)
    return (
        f"Fetches, validates and trains {what}. On two cores the sample takes 2 to 10 minutes, the real data longer; after "
        "Ctrl-C the next run goes on."
    )


def print_closing(results: Sequence[Mapping[str, Any]], *, seconds: float, console: Console) -> None:
    """Print the last lines of a command: who is champion now, where to look, and what to type next."""
    console.print(f"{'; '.join(map(_champion_text, results))}. Took {timedelta(seconds=round(seconds))}.", highlight=False)
    for result in results:
        address = result["links"]["report"]
        opened = address if "://" in address else Path(address).absolute().as_uri()
        console.print(f"Look at:   {escape(opened)}", highlight=False, soft_wrap=True)
    console.print(f"Type next: retrain show {results[0]['model']}, or retrain up for the service with its pages", highlight=False)


def _champion_text(result: Mapping[str, Any]) -> str:
    """Return which version is champion after a run."""
    model, decision = result["model"], result["decision"]
    if decision["outcome"] == "promoted":
        number = (decision["refit"] or decision["candidate"]).removeprefix("v")
        return f"{model}@{number} is champion now"
    if decision["outcome"] == "manual":
        number = (decision["refit"] or decision["candidate"]).removeprefix("v")
        return f"{model}@{number} waits for a person: retrain promote {model}@{number}"
    if decision["champion"]:
        return f"{model}@{decision['champion'].removeprefix('v')} is champion still"
    return f"{model} has no champion yet"


def _table(rows: Sequence[Mapping[str, str]], *, title: str = "") -> Table:
    """Return rows as a table, whose first column, which is what a person types next, is never cut; the others are folded."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(rows[0] if rows else ()):
        table.add_column(name, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def print_rows(rows: Sequence[Mapping[str, str]], *, console: Console) -> None:
    """Print rows with the same keys as a table; nothing where there is no row."""
    if rows:
        console.print(_table(rows))


def print_variants(problems: Sequence[Problem]) -> None:
    """Print a table with a row for each variant."""
    rows = [
        {
            "data set": problem.dataset,
            "variant": f"{variant.name} *" if variant.name in problem.default_variants else variant.name,
            "network": variant.summary,
            "epochs": "-" if variant.is_baseline else str(variant.epochs),
            "steps an epoch": "-" if variant.is_baseline else str(variant.steps_per_epoch or "one pass"),
            "batch size": "-" if variant.is_baseline else str(variant.batch_size),
        }
        for problem in problems
        for variant in problem.variants.values()
    ]
    make_console().print(_table(rows))


def print_models(versions: Sequence[ModelVersion], *, refusals: Mapping[str, str]) -> None:
    """Print a table with a row for each version, and below it each version that a person refused, with who did so and why."""
    console = make_console()
    if not versions:
        console.print("No model is registered yet: run `retrain run`.")
        return
    rows = [
        {
            "model": f"{version.name}@{version.version}",
            "aliases": ", ".join(version.aliases),
            "variant": version.variant,
            **_scores(version, versions=versions),
            "table": version.tags.get("table_version", ""),
            "created (UTC)": version.created[:16].replace("T", " "),
        }
        for version in versions
    ]
    console.print(_table(rows))
    for model, text in refusals.items():
        console.print(f"{model}: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _scores(version: ModelVersion, *, versions: Sequence[ModelVersion]) -> dict[str, str]:
    """Return the scores of a version as its problem names them; empty if its data set is no longer registered.

    A refit has none of its own: those of its twin are shown, and say so.
    """
    from tasks.models import PROBLEMS
    from tasks.training.identity import problem_answered_by
    from tasks.training.refit import evaluated_version

    # The name of a model begins with that of its data set.
    dataset = version.name.split("-")[0]
    same_name = [other for other in versions if other.name == version.name]
    evaluated = evaluated_version(version, versions=same_name)
    if dataset not in PROBLEMS or not evaluated.metrics:
        return {"validation": "", "test": "", "skill": ""}
    problem = problem_answered_by(version, dataset=dataset)
    primary, validation = problem.scoring.primary, problem.scoring.validation
    metrics = evaluated.metrics
    whose = "" if evaluated.version == version.version else f" (of @{evaluated.version})"
    return {
        "validation": f"{metrics[problem.validation_metric]:.4f} {validation.label}",
        "test": f"{metrics[primary.key]:.4f} {primary.unit} {primary.label}{whose}".replace("  ", " "),
        "skill": f"{metrics['skill']:.4f}",
    }


def print_version(
    version: ModelVersion,
    *,
    manifest: Mapping[str, Any],
    evaluated: ModelVersion,
    evaluated_manifest: Mapping[str, Any],
    decisions: Sequence[Mapping[str, Any]],
) -> None:
    """Print everything about one version, with the scores of the evaluated one: itself, or the twin of a refit."""
    console = make_console()
    whose = "" if evaluated.version == version.version else f" of @{evaluated.version}"
    console.print(f"[bold]{version.name}@{version.version}[/bold] {version.variant} {', '.join(version.aliases)}")
    training, table = manifest["training"], manifest["table"]
    rows = [
        ("created", version.created),
        *_refit_rows(version, training=training),
        ("table", f"{table['version']} from {table['source']}" + (" (SAMPLE, simulated)" if table["simulated"] else "")),
        ("epochs", f"best {training['best_epoch']} of {training['epochs_run']}, {training['seconds_per_epoch']:.1f} s each"),
        # Versions of release 0.1 do not tell of these.
        *((name.replace("_", " "), f"{training[name]:g}") for name in ("batch_size", "learning_rate") if name in training),
        ("task", ", ".join(f"{name} {value}" for name, value in training.get("task", {}).items())),
        ("parameters", str(training["parameters"])),
        *(("execution", note) for note in training.get("execution", {}).get("notes", ())),
        (f"validation{whose}", _metrics_text(evaluated_manifest["training"]["validation"])),
        (f"test{whose}", _metrics_text(evaluated_manifest["scores"])),
        ("uncertainty", _uncertainty_text(version)),
        ("code", manifest["code"]),
        ("libraries", ", ".join(f"{name} {number}" for name, number in manifest["libraries"].items())),
        ("uri", version.uri),
        *((f"decision {line['at'][:10]}", line["decision"]["reason"]) for line in decisions),
    ]
    for name, value in rows:
        console.print(f"  {name:<20} {escape(value)}", highlight=False, soft_wrap=True)


def _refit_rows(version: ModelVersion, *, training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what links a version with its twin or its refit."""
    from tasks.training.refit import REFIT_TAG, TWIN_TAG

    rows = []
    if TWIN_TAG in version.tags:
        cost = f"{training['fitted_rows']:,} rows, {training['seconds']:.0f} s"
        rows.append(("refit of", f"@{version.tags[TWIN_TAG]}, trained again on all rows ({cost}); it has no scores of its own"))
    if REFIT_TAG in version.tags:
        rows.append(("refitted as", f"@{version.tags[REFIT_TAG]}, trained on all rows"))
    return rows


def _uncertainty_text(version: ModelVersion) -> str:
    """Return what the version says of how sure its predictions are."""
    from tasks.training.uncertainty import UNCERTAINTY_FILE, UNCERTAINTY_TAG

    kind = version.tags.get(UNCERTAINTY_TAG)
    if kind:
        return f"{kind} ({UNCERTAINTY_FILE})"
    return "none: of several classes, or registered before versions kept it; a training under another --seed keeps it"


def _metrics_text(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
