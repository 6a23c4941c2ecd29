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
    from storage.layout import Store
    from tasks.diagnosis.doctor import Configured
    from tasks.diagnosis.finding import Finding
    from tasks.diagnosis.network import Server


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Say what is wrong with this installation, and what cures it. It changes nothing; code 1 if something is at fault."""
    from flows.cli.findings import tell

    tell(_findings(), as_json=as_json, well="Nothing is at fault.")


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
    """Return what the environment configures; nothing is made or opened.

    Raises:
        SettingError: A variable has a wrong value.
    """
    from upath import UPath

    from storage.layout import Store, cache_folder
    from tasks.diagnosis.doctor import Configured

    is_local = "://" not in environment.home or environment.home.startswith("file://")
    root = Path(environment.home.removeprefix("file://")).expanduser().absolute()
    # Not `Store.at`, which makes the folder.
    store = Store(root=UPath(root) if is_local else UPath(environment.home))
    started = _started(store)
    ports = {"prefect": environment.prefect_port, "mlflow": environment.mlflow_port, "docs": environment.docs_port}
    return Configured(
        store=str(root) if is_local else environment.home,
        databases=_databases(store, variables=variables),
        servers=_servers(environment, started=started, variables=variables),
        folders={"the store" if is_local else "what this host keeps": store.host_folder, "the cache": cache_folder()},
        mirror=environment.mirror,
        object_store=variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or None,
        host=str(started.get("host", environment.host)),
        ports=dict(started.get("ports", ports)),
        is_running=bool(started),
        require_gpu=environment.require_gpu,
        has_registry=is_local or bool(variables.get("MLFLOW_TRACKING_URI") or environment.database_url),
        secrets=secrets,
    )


def _databases(store: Store, *, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the address of each database that this host opens itself."""
    from flows.runtime.new_database import DATABASE, shared_database
    from storage.database import named_database

    tracking = variables.get("MLFLOW_TRACKING_URI", "")
    databases = {}
    if not tracking.startswith(("http://", "https://")):
        own = f"sqlite:///{store.host_folder / 'mlflow' / 'mlflow.db'}" if store.is_local else ""
        databases["mlflow"] = tracking or named_database("mlflow") or own
    home = Path(variables.get("PREFECT_HOME") or store.prefect_folder)
    if not variables.get("PREFECT_API_URL") or shared_database():
        databases["prefect"] = shared_database() or f"sqlite:///{home / DATABASE}"
    return {library: address for library, address in databases.items() if address}


def _servers(environment: Environment, *, started: Mapping[str, Any], variables: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the servers that are configured, or that the running service has."""
    from flows.runtime.authentication import authorization
    from tasks.diagnosis.network import Server

    headers = authorization()
    tracking = variables.get("MLFLOW_TRACKING_URI", "")
    api = variables.get("PREFECT_API_URL") or (f"{started['prefect']}/api" if started else "")
    mlflow = tracking if tracking.startswith("http") else started.get("mlflow", "")
    named = (
        ("Prefect", api, "/admin/version", "make up, or correct PREFECT_API_URL"),
        ("MLflow", mlflow, "/api/2.0/mlflow/experiments/search?max_results=1", "make up, or correct MLFLOW_TRACKING_URI"),
        ("the report server", started.get("docs", ""), "/", "make up, and see docs.log"),
        ("Prefect for people", environment.prefect_address, "/", "start the proxy, or correct RETRAIN_PREFECT_ADDRESS"),
        ("MLflow for people", environment.mlflow_address, "/", "start the proxy, or correct RETRAIN_MLFLOW_ADDRESS"),
        ("reports for people", environment.docs_address, "/", "start the proxy, or correct RETRAIN_DOCS_ADDRESS"),
    )
    return tuple(Server(name, address, path, remedy, headers) for name, address, path, remedy in named if address)


def _started(store: Store) -> dict[str, Any]:
    """Return the addresses of the service of a store that was started on this host and not ended; empty if there is none."""
    file = store.service_folder / "addresses.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
