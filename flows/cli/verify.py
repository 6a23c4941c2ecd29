"""The command `retrain verify`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.verification.report import VerifiedRef


def verify(
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make again what can be made, and put damaged checkpoints and raw files aside.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compare every file of the store with the checksum that it was written with; code 1 if damage is left."""
    result = _run(repair=repair, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False))
    raise SystemExit(1 if result.left else 0)


def _run(*, repair: bool, quiet: bool) -> VerifiedRef:
    """Run the flow, print what it found, and return it."""
    from flows.cli.console import make_console, print_rows
    from flows.runtime.server import prefect_server
    from storage.layout import Store

    store = Store.from_environment()
    console = make_console(stderr=quiet)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    with prefect_server(store):
        from flows.verify import verify as verify_flow
        from tasks.verification.report import VerifiedRef, notes_of, rows_of, summary_of
        from tasks.verification.settings import VerificationSettings

        state = verify_flow(VerificationSettings(repair=repair), return_state=True)
        result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    found = VerifiedRef.model_validate(result)
    if not quiet:
        print_rows(rows_of(found), console=console)
        for note in notes_of(found):
            console.print(note, highlight=False)
        console.print(f"{summary_of(found)}.", highlight=False)
    return found
