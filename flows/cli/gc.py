"""The command `retrain gc`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.retention.report import PrunedRef
    from tasks.retention.settings import RetentionSettings


def gc(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Remove it. Without it the command only tells what can go.")] = False,
    older_than: Annotated[
        str | None, typer.Option(help="Age of tables, reports, evaluations and runs that can go, such as 12w. Default: 90d.")
    ] = None,
    leftover: Annotated[
        str | None,
        typer.Option(help="Age of scratch files, checkpoints and failed or deleted trainings that can go. Default: 14d."),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Newest tables of each data set and runs of each deployment that stay. Default: 5.")
    ] = None,
    keep_versions: Annotated[
        int | None,
        typer.Option(help="Remove model versions too, but for so many of the newest of each model and what anything refers to."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell what is old and what nothing needs, and with --apply remove it. Nothing that anything refers to is touched."""
    from flows.cli.settings import settings_of
    from tasks.retention.settings import RetentionSettings

    typed = {
        "apply": apply,
        "older_than_days": older_than,
        "leftover_days": leftover,
        "keep": keep,
        "keep_versions": keep_versions,
    }
    options = {"older_than_days": "--older-than", "leftover_days": "--leftover"}
    result = _run(settings_of(RetentionSettings, typed, command="gc", options=options), quiet=as_json)
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False))


def _run(settings: RetentionSettings, *, quiet: bool) -> PrunedRef:
    """Run the flow, print what it found, and return it."""
    from flows.cli.console import make_console, print_rows
    from flows.runtime.server import prefect_server
    from storage.layout import Store

    store = Store.from_environment()
    console = make_console(stderr=quiet)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    with prefect_server(store):
        from flows.gc import gc as gc_flow
        from tasks.retention.report import rows_of, summary_of

        result = gc_flow(settings)
    if not quiet:
        print_rows(rows_of(result), console=console)
        for note in result.notes:
            console.print(note, highlight=False)
        console.print(f"{summary_of(result)}.", highlight=False)
    return result
