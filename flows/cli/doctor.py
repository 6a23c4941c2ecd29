"""The command `retrain doctor`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storage.environment import Environment
    from tasks.diagnosis.doctor import Configured
    from tasks.diagnosis.finding import Finding


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Say what is wrong with this installation, and what cures it. It changes nothing; code 1 if something is at fault."""
    findings = _findings()
    faults = sum(finding.level == "fault" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        values = {"faults": faults, "warnings": warnings, "findings": [finding.as_dict() for finding in findings]}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        _print(findings)
        typer.echo(f"{faults} faults, {warnings} warnings" if faults or warnings else "Nothing is at fault.")
    raise SystemExit(1 if faults else 0)


def _print(findings: tuple[Finding, ...]) -> None:
    from flows.cli.console import make_console, print_rows

    console = make_console()
    rows = [
        {
            "check": finding.check,
            "": finding.level,
            "finding": finding.text,
            "remedy": finding.remedy,
        }
        for finding in findings
    ]
    print_rows(rows, console=console)


def _findings() -> tuple[Finding, ...]:
    from storage.environment import Environment
    from storage.errors import SettingError
    from tasks.diagnosis.doctor import checks_of, limits_of, secrets_of
    from tasks.diagnosis.finding import Finding, run_checks
    from tasks.diagnosis.installation import check_libraries

    secrets = secrets_of(os.environ)
    try:
        configured = configured_here(Environment.read(), variables=os.environ, secrets=secrets)
    except SettingError as error:
        first = Finding("settings", "fault", str(error))
        return (*run_checks({"settings": lambda: [first]}, limit_s={"settings": 1.0}, secrets=secrets), *check_libraries())
    checks = checks_of(configured)
    return run_checks(checks, limit_s=limits_of(checks), secrets=secrets)


def configured_here(environment: Environment, *, variables: Mapping[str, str], secrets: tuple[str, ...]) -> Configured:
    """Return what the environment configures; nothing is made or opened."""
    from flows.runtime.new_database import DATABASE, DATABASE_VARIABLES
    from storage.layout import cache_folder
    from tasks.diagnosis.doctor import Configured
    from tasks.diagnosis.network import Server

    is_local = "://" not in environment.home or environment.home.startswith("file://")
    root = Path(environment.home.removeprefix("file://")).expanduser().absolute()
    headers: dict[str, str] = {}
    started = _started(root) if is_local else {}
    tracking = variables.get("MLFLOW_TRACKING_URI", "")
    databases = {}
    if tracking.startswith(("sqlite:", "postgresql")):
        databases["mlflow"] = tracking
    elif not tracking and is_local:
        databases["mlflow"] = f"sqlite:///{root / 'mlflow' / 'mlflow.db'}"
    named = next((variables[name] for name in DATABASE_VARIABLES if variables.get(name)), None)
    home = variables.get("PREFECT_HOME")
    if named:
        databases["prefect"] = named
    elif home or is_local:
        databases["prefect"] = f"sqlite:///{Path(home) / DATABASE if home else root / 'prefect' / DATABASE}"
    api = variables.get("PREFECT_API_URL") or (f"{started['prefect']}/api" if started else "")
    servers = []
    if api:
        servers.append(Server("Prefect", api, "/health", "make up, or correct PREFECT_API_URL", headers))
    mlflow = tracking if tracking.startswith("http") else started.get("mlflow", "")
    if mlflow:
        servers.append(Server("MLflow", mlflow, "/health", "make up, or correct MLFLOW_TRACKING_URI", headers))
    docs = environment.docs_address or started.get("docs", "")
    if docs:
        servers.append(Server("the report server", docs, "/", "make up, or correct RETRAIN_DOCS_ADDRESS", headers))
    return Configured(
        store=environment.home if not is_local else str(root),
        databases=databases,
        servers=tuple(servers),
        folders={**({"the store": root} if is_local else {}), "the cache": cache_folder()},
        mirror=environment.mirror,
        object_store=variables.get("AWS_ENDPOINT_URL") or None,
        host=str(started.get("host", environment.host)),
        ports=dict(started.get("ports", {}))
        or {"prefect": environment.prefect_port, "mlflow": environment.mlflow_port, "docs": environment.docs_port},
        is_running=bool(started),
        require_gpu=environment.require_gpu,
        secrets=secrets,
    )


def _started(root: Path) -> dict[str, Any]:
    """Return the addresses of the service of a local store that was started and not ended; empty if there is none."""
    file = root / "service" / "addresses.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
