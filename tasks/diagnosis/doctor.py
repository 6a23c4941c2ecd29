"""All checks of an installation, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tasks.diagnosis.databases import check_database, check_locations
from tasks.diagnosis.finding import Check, Finding
from tasks.diagnosis.installation import DRIVER_S, TENSORFLOW_S, check_gpu, check_libraries
from tasks.diagnosis.network import Server, check_mirror, check_object_store, check_ports, check_server
from tasks.diagnosis.store import check_space, check_store

LIMIT_S = 10.0
# Starting TensorFlow takes longer than everything else, and is only done where there is a driver.
GPU_LIMIT_S = DRIVER_S + TENSORFLOW_S + 1.0


@dataclass(frozen=True)
class Configured:
    """What is configured on this host.

    Attributes:
        store: Address of the store.
        databases: Address of each database that this host opens itself, by library; a server looks after its own.
        servers: Servers that are asked.
        mirror: Mirror of the raw files, or None.
        object_store: Address by which an object store is reached, where AWS_ENDPOINT_URL names one.
        folders: Local folders that need space, by what is kept there.
        host: Address on which the service listens.
        ports: Of the service, by name of the server; empty where this host runs no service.
        is_running: Whether the service of this store runs here.
        require_gpu: `RETRAIN_REQUIRE_GPU`.
        has_registry: False for a remote store without a registry that every host reaches.
        secrets: Values that are told to nobody.
    """

    store: str
    databases: Mapping[str, str]
    servers: tuple[Server, ...]
    folders: Mapping[str, Path]
    mirror: str | None = None
    object_store: str | None = None
    host: str = "127.0.0.1"
    ports: Mapping[str, int] = field(default_factory=dict)
    is_running: bool = False
    require_gpu: bool | None = None
    has_registry: bool = True
    secrets: tuple[str, ...] = ()


def checks_of(configured: Configured) -> dict[str, Check]:
    """Return the checks by name, in the order in which they are told."""
    checks: dict[str, Check] = {
        "versions": check_libraries,
        "store": partial(check_store, configured.store),
        "space": partial(check_space, configured.folders),
        "databases": partial(_check_databases, configured),
        "ports": partial(check_ports, configured.host, configured.ports, is_running=configured.is_running),
        "gpu": partial(check_gpu, required=configured.require_gpu),
    }
    checks |= {f"reachable {server.name}": partial(check_server, server) for server in configured.servers}
    if configured.mirror:
        checks["reachable mirror"] = partial(check_mirror, configured.mirror)
    if "://" in configured.store:
        checks["reachable store"] = partial(check_object_store, configured.store, endpoint=configured.object_store)
    return checks


def limits_of(checks: Mapping[str, Check]) -> dict[str, float]:
    """Return the seconds that each check may take."""
    return {name: GPU_LIMIT_S if name == "gpu" else LIMIT_S for name in checks}


def _check_databases(configured: Configured) -> Iterator[Finding]:
    databases = configured.databases
    if not configured.has_registry:
        remedy = "set RETRAIN_DATABASE_URL or MLFLOW_TRACKING_URI"
        yield Finding("databases", "fault", "a remote store has no registry of its own, and none is named", remedy)
    for library, address in databases.items():
        yield from check_database("mlflow" if library == "mlflow" else "prefect", address)
    if "mlflow" in databases:
        yield from check_locations(databases["mlflow"])


def secrets_of(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values that are told to nobody: passwords in addresses, and what is called a key, token or password."""
    secrets = set()
    for name, value in variables.items():
        if any(word in name for word in ("SECRET", "TOKEN", "PASSWORD", "AUTH_STRING", "API_KEY", "ACCESS_KEY_ID")):
            secrets.update({value, value.partition(":")[2]})
        if "://" in value:
            try:
                secrets.add(urlsplit(value).password or "")
            except ValueError:
                continue
    # A short one is no secret, and would be replaced in the middle of words.
    return tuple(sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True))
