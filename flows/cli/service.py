"""The commands of the service on this host: `up`, `down`, `status`, `demo` and `worker`."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def up(
    *,
    reset_deployments: Annotated[
        bool, typer.Option("--reset-deployments", help="Undo what was set of the deployments in the UI.")
    ] = False,
) -> None:
    """Start what does not run of the service: Prefect and its UI, MLflow, the reports, a worker for each pool."""
    from flows.runtime.service import Service
    from flows.runtime.service import up as start

    start(Service.from_environment(), say=typer.echo, reset_deployments=reset_deployments)


def down() -> None:
    """End the service. The store keeps everything."""
    from flows.runtime.service import Service
    from flows.runtime.service import down as stop

    stop(Service.from_environment(), say=typer.echo)


def status(*, as_json: JsonOption = False) -> None:
    """Say of each part of the service and of each queue whether it is well; code 1 if something is at fault."""
    from flows.cli.findings import tell
    from flows.runtime.service import Service
    from flows.runtime.service_status import status_of

    service = Service.from_environment()
    tell(status_of(service.as_started()), as_json=as_json, well="Everything is well.")


def demo() -> None:
    """Start the service, let it retrain on the sample, and say where to look while it does."""
    from flows.runtime.demo import BUDGET, press_run
    from flows.runtime.service import Service
    from flows.runtime.service import up as start

    service = Service.from_environment()
    start(service, say=typer.echo)
    for deployment, page in press_run(service.as_started()).items():
        typer.echo(f"{deployment} trains on the sample now: {page}")
    typer.echo(
        f"Each trains for {BUDGET['epochs']} epochs, to end in minutes, and is Promoted or Kept (a better champion stays). "
        "How a run goes is on its page; its report is the artifact at its end: `retrain runs` lists them here."
    )
    typer.echo("To end the service: retrain down. The store keeps everything.")


def worker(pool: Annotated[str, typer.Argument(help="cpu or gpu.")]) -> None:
    """Serve one pool of the server that PREFECT_API_URL names, on this host, until it is stopped."""
    from flows.runtime.worker import run_worker

    run_worker(pool)
