"""The command `retrain monitor`."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer


def monitor(
    model: Annotated[str, typer.Argument(help="Registered model whose champion is watched.")],
    *,
    drift_days: Annotated[int | None, typer.Option(help="Days of inputs that are compared. Default: 30.")] = None,
    error_days: Annotated[int | None, typer.Option(help="Days over which errors are averaged. Default: 28.")] = None,
    drift_factor: Annotated[
        float | None, typer.Option(help="Times the distance of a sound year from which inputs have drifted. Default: 1.25.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Watch the champion at work: errors beside persistence, drift of the inputs, and broken sensors."""
    from flows.cli.settings import settings_of
    from tasks.config import MonitorSettings

    typed = {"drift_days": drift_days, "error_days": error_days, "drift_factor": drift_factor}
    settings = settings_of(MonitorSettings, typed, command="monitor")
    result = _run(model, settings=settings, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))


def _run(model: str, *, settings: Any, quiet: bool) -> dict[str, Any]:
    """Run the flow, print what it found, and return it as plain values."""
    from flows.cli.console import make_console, print_rows, show_progress
    from flows.runtime.server import prefect_server
    from storage.layout import Store

    store = Store.from_environment()
    console = make_console(stderr=quiet)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    with prefect_server(store):
        from flows.monitor import monitor as monitor_flow
        from tasks.monitoring.report import MonitorReport, finding_rows, score_rows

        with show_progress(console, store=store):
            result = monitor_flow(model, settings)
    if quiet:
        return result
    report = MonitorReport.from_dict(result)
    if report.simulated:
        console.print("SAMPLE: simulated, not real data", style="bold yellow")
    print_rows(score_rows(report), console=console)
    print_rows(
        [{name: row[name] for name in ("what", "verdict", "since")} for row in finding_rows(report.findings)], console=console
    )
    for note in report.watch.notes:
        console.print(note, highlight=False)
    console.print(report.summary, style="yellow" if report.findings else "green", highlight=False)
    console.print(f"  report: {result['folder']}/report.md", style="dim", highlight=False, soft_wrap=True)
    return result
