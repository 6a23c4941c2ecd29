"""The command `retrain predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.prediction.predict import Predictions

MAX_SHOWN = 10
_OPTION_OF_SETTING = {
    "at": "--at",
    "first": "--from",
    "last": "--to",
    "every_rows": "--every-rows",
    "path": "--input",
    "columns": "--columns",
    "stamp_column": "--stamp-column",
    "stamp_format": "--stamp-format",
    "texts": "TEXTS",
}


def predict(
    model: Annotated[str, typer.Argument(help="MODEL (its champion), MODEL@VERSION or MODEL@ALIAS.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    *,
    input_file: Annotated[
        str | None, typer.Option("--input", help="File of readings or texts in place of the newest table; - for standard input.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Forecast as of this stamp, such as 2024-06-01T12:00.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Forecast as of every stamp from this one on.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Up to this stamp.")] = None,
    every_rows: Annotated[
        int | None, typer.Option(help="Forecast as of earlier rows too, so many rows apart; 1 with --from.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of the file with other names: reading=column,reading=column.")
    ] = None,
    stamp_column: Annotated[str | None, typer.Option(help="Column of its time stamps.")] = None,
    stamp_format: Annotated[str | None, typer.Option(help="Form of its time stamps, such as '%d.%m.%Y %H:%M'.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the predictions to this file too: .parquet, .csv or .json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Predict with a registered model: forecasts from the newest readings, or labels of texts."""
    from flows.cli.console import make_console
    from flows.cli.settings import settings_of
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.config import PredictSettings
    from tasks.prediction.output import checked_output, picture_of, plain_rows, summary_of, write_output
    from tasks.prediction.predict import predict as predict_with

    settings = settings_of(
        PredictSettings,
        {
            "at": at,
            "first": first,
            "last": last,
            "every_rows": every_rows,
            "texts": tuple(texts or ()),
            "input": {
                "path": input_file,
                "columns": columns,
                "stamp_column": stamp_column,
                "stamp_format": stamp_format,
            },
        },
        command="predict",
        options=_OPTION_OF_SETTING,
    )
    file = None if output is None else checked_output(output)
    store = Store.from_environment()
    console = make_console(stderr=as_json)
    with _progress(console) as on_progress:
        predictions = predict_with(model, settings=settings, registry=Registry.open(store), store=store, on_progress=on_progress)
    if file:
        write_output(predictions.table, file)
        if picture := picture_of(predictions):
            file.with_suffix(".png").write_bytes(picture)
    if as_json:
        typer.echo(json.dumps(plain_rows(predictions.table), indent=1))
    else:
        _print_rows(predictions, console=console)
    console.print(summary_of(predictions), highlight=False, markup=False)
    for remark in predictions.remarks:
        console.print(remark, highlight=False, markup=False)
    console.print(_told(predictions, store=store, file=file), style="dim", highlight=False, markup=False, soft_wrap=True)


def _progress(console: Any) -> Any:
    """Show how many examples are done, from the first chunk on."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    @contextmanager
    def shown() -> Iterator[Callable[[int, int | None], None]]:
        columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("predicting", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return shown()


def _print_rows(predictions: Predictions, *, console: Any) -> None:
    """Print the last forecasts, or the first labels."""
    from rich.table import Table

    table = predictions.table
    digits = predictions.decimals
    shown = Table()
    if predictions.recent is None:
        for heading in ("text", "label", "probability", "unknown words"):
            shown.add_column(heading)
        for number, row in enumerate(table.slice(0, MAX_SHOWN).to_pylist(), start=1):
            shown.add_row(str(number), row["label"], f"{row['probability']:.3f}", f"{100 * row['unknown_share']:.0f} %")
    else:
        for heading in ("as of", "target", predictions.quantity, "80 %", "95 %"):
            shown.add_column(heading)
        for row in table.slice(max(0, table.num_rows - MAX_SHOWN)).to_pylist():
            spans = [
                "-"
                if row[f"lower_{level}"] is None
                else f"{row[f'lower_{level}']:.{digits}f} to {row[f'upper_{level}']:.{digits}f}"
                for level in (80, 95)
            ]
            shown.add_row(row["as_of"].isoformat(), row["target_time"].isoformat(), f"{row['prediction']:.{digits}f}", *spans)
    console.print(shown)


def _told(predictions: Predictions, *, store: Any, file: Path | None) -> str:
    """Return how many were kept, how fast they came, and where they are."""
    rows, seconds = predictions.table.num_rows, max(predictions.seconds, 1e-9)
    rate = f", {rows / seconds:,.0f} a second" if rows > MAX_SHOWN else ""
    written = f"; written to {file}" if file else ""
    kept = f"{predictions.kept:,} of {rows:,} kept" if predictions.kept else "issued before, none kept again"
    return f"{kept} in {store.predictions_folder(predictions.version.name)}{rate}{written}"
