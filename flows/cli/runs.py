"""The commands `retrain runs` and `retrain logs`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def runs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most runs that are listed.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest runs: what each did, when, and how it ended."""
    from flows.cli.console import make_console, print_rows

    with _server():
        from flows.runtime.run_history import newest_runs

        lines = newest_runs(limit=limit)
    if as_json:
        typer.echo(json.dumps([line.as_dict() for line in lines], indent=2, ensure_ascii=False))
        return
    if not lines:
        typer.echo("Nothing has run yet: `retrain run` starts a run.")
    rows = [
        {
            "run": line.name,
            "id": line.id[:8],
            "started (UTC)": (line.started or "")[:16].replace("T", " "),
            "took": f"{line.seconds:,.0f} s",
            "state": line.state,
            "what it says": line.message,
        }
        for line in lines
    ]
    print_rows(rows, console=make_console())


def logs(
    run: Annotated[str, typer.Argument(help="Name or id of a run, of which four digits are enough: see retrain runs.")],
    *,
    warnings: Annotated[bool, typer.Option("--warnings", help="Warnings and errors alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the log of a run, and of every run that it started."""
    with _server():
        from flows.runtime.run_history import log_of

        lines = log_of(run, at_least=logging.WARNING if warnings else logging.INFO)
    if as_json:
        typer.echo(json.dumps([line.as_dict() for line in lines], indent=2, ensure_ascii=False))
        return
    for line in lines:
        typer.echo(f"{line.at[:19].replace('T', ' ')} {line.level:<7} {line.run}: {line.message}")
    if not lines:
        typer.echo("The run has no log of this kind.")


@contextmanager
def _server() -> Iterator[None]:
    """Ask the server that runs, or start one on the store for as long as the block runs."""
    from flows.runtime.server import prefect_server
    from storage.layout import Store

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    with prefect_server(Store.from_environment()):
        yield
