"""Start, find and stop the service on one machine: Prefect, MLflow, the reports, and a worker for each pool."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from flows.runtime.addresses import addresses_of_this_machine, in_url, is_loopback, is_wildcard, origin
from flows.runtime.authentication import VARIABLE as AUTH_VARIABLE
from flows.runtime.authentication import Credentials, prepare_mlflow
from flows.runtime.automations import ask, check_access, deploy_automations
from flows.runtime.deployments import renew
from flows.runtime.new_database import names_prefect_database, new_database
from flows.runtime.notifications import renew_channels
from flows.runtime.ports import refuse_taken_ports
from flows.runtime.supervisor import CONFIGURATION, FOLDER_VARIABLE, control, end_orphans, programs
from flows.runtime.worker import HEARTBEAT_S, POOLS, requires_gpu
from storage.database import make_database, named_database, registry_database
from storage.environment import Environment, variable
from storage.errors import RetrainError, SettingError
from storage.io import read_json, write_json
from storage.layout import Store
from storage.library_variables import bypass_proxies
from storage.records import MODEL_PAGES
from storage.redaction import without_secrets
from storage.remote_store import require_reachable
from storage.temporary import shared_temporary_folder

EVENTS_AT_ONCE = "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE"
PREFECT_FILE = CONFIGURATION.with_name("prefect.yaml")
SERVERS = ("prefect", "mlflow", "docs")
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "docs": "/-/health"}
WAIT_S = 120

# Requests for a name that a server does not know are refused by MLflow, because a page of another site may have sent them.
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Service:
    """Where the service of one store listens and stores its own files.

    Attributes:
        host: Address on which its servers listen, such as 0.0.0.0 for every address of this machine.
        public_host: Name under which others reach them.
        folder: Logs, pid file and addresses.
        control: Unix socket of supervisord, in the temporary folder, because its path may have about 100 characters.
    """

    store: Store
    host: str
    public_host: str
    ports: Mapping[str, int]
    folder: Path
    control: Path

    @classmethod
    def from_environment(cls) -> Service:
        """Return the service that the environment describes.

        Raises:
            SettingError: A variable has a wrong value.
        """
        return cls.at(Store.from_environment())

    @classmethod
    def at(cls, store: Store) -> Service:
        """Return the service of a store, with the host and ports of the environment."""
        folder = store.service_folder
        mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        settings = Environment.read()
        ports = {"prefect": settings.prefect_port, "mlflow": settings.mlflow_port, "docs": settings.docs_port}
        control = Path(shared_temporary_folder(), f"retrain-{os.getuid()}-{mark}.sock")
        public_host = settings.public_host or (socket.gethostname() if is_wildcard(settings.host) else settings.host)
        return cls(store=store, host=settings.host, public_host=public_host, ports=ports, folder=folder, control=control)

    def address(self, name: str) -> str:
        """Return the base address at which processes of this machine reach one of its servers."""
        return f"http://{in_url(self._own_host)}:{self.ports[name]}"

    def public_address(self, name: str) -> str:
        """Return the base address at which people reach one of its servers: a named one, such as that of a proxy, or its own."""
        settings = Environment.read()
        named = {"prefect": settings.prefect_address, "mlflow": settings.mlflow_address, "docs": settings.docs_address}[name]
        if name == "mlflow" and not self.serves_mlflow:
            named = named or without_secrets(os.environ["MLFLOW_TRACKING_URI"])
        return (named or f"http://{in_url(self.public_host)}:{self.ports[name]}").rstrip("/")

    @property
    def serves_mlflow(self) -> bool:
        """Tell whether the service has an MLflow of its own; it has none if another tracking server is named."""
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        own = {
            f"http://{in_url(host)}:{self.ports['mlflow']}" for host in (self._own_host, self.host, self.public_host, "localhost")
        }
        named = Environment.read().mlflow_address
        return not tracking.startswith("http") or tracking in own or bool(named and tracking == named.rstrip("/"))

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers that the service starts."""
        return tuple(name for name in SERVERS if name != "mlflow" or self.serves_mlflow)

    def as_started(self) -> Service:
        """Return the service with the host and ports that it was started with, if it was; the environment may name others."""
        file = self.folder / "addresses.json"
        if not file.is_file():
            return self
        started = read_json(file)
        return replace(self, host=started["host"], public_host=started["public_host"], ports=started["ports"])

    @property
    def _own_host(self) -> str:
        if not is_wildcard(self.host):
            return self.host
        return "::1" if ":" in self.host else "127.0.0.1"

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes, but for its databases."""
        bypass_proxies(self._own_host, self.public_host)
        interface = f"{self.public_address('prefect')}/api"
        chosen = {
            # Without it a UI on another port looks for its server at port 4200 and stays empty.
            "PREFECT_SERVER_UI_API_URL": os.environ.get("PREFECT_UI_API_URL", interface),
            "PREFECT_UI_URL": self.public_address("prefect"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(self._names_of_mlflow()),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": origin(self.public_address("mlflow")),
        }
        prefix = urllib.parse.urlsplit(self.public_address("prefect")).path
        if prefix:
            # The pages are made for their prefix, and not in the folder of the package, which other services share.
            chosen |= {"PREFECT_UI_SERVE_BASE": prefix, "PREFECT_UI_STATIC_DIRECTORY": str(self.folder / "prefect-ui")}
        return {
            **chosen,
            **os.environ,
            "RETRAIN_HOME": str(self.store.root),
            FOLDER_VARIABLE: str(self.folder),
            "RETRAIN_SERVICE_SOCKET": str(self.control),
            "RETRAIN_PYTHON": shlex.quote(sys.executable),
            "RETRAIN_HOST": self.host,
            "RETRAIN_SERVES_MLFLOW": str(self.serves_mlflow).lower(),
            "RETRAIN_MLFLOW_APP": "--app-name basic-auth" if Environment.read().auth else "",
            "RETRAIN_MLFLOW_ADDRESS": self.public_address("mlflow"),
            "RETRAIN_DOCS_ADDRESS": self.public_address("docs"),
            **{variable(f"{name}_port"): str(port) for name, port in self.ports.items()},
            "PREFECT_HOME": str(self.store.prefect_folder),
            "PREFECT_API_URL": f"{self.address('prefect')}/api",
            "RETRAIN_REQUIRE_GPU": requires_gpu(),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
            # With Prefect's 20 at once, heartbeats on a busy SQLite were on record nine minutes late.
            EVENTS_AT_ONCE: os.environ.get(EVENTS_AT_ONCE, "1000"),
            # A script of Prefect that runs hooks lies beside a storage.py, which would be imported in the place of ours.
            "PYTHONSAFEPATH": "1",
            # Eight more processes, for features of MLflow that nothing here uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    def databases(self) -> dict[str, str]:
        """Return the variables that name the databases of its servers; on a command line others would see their passwords.

        Raises:
            SettingError: The store is remote and no database is named, or `RETRAIN_DATABASE_URL` cannot be used.
        """
        variables = {}
        database = named_database("prefect")
        if database and not names_prefect_database():
            variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        if self.serves_mlflow:
            variables["MLFLOW_BACKEND_STORE_URI"] = registry_database(self.store)
            variables["MLFLOW_ARTIFACTS_DESTINATION"] = str(self.store.root / "mlflow" / "artifacts")
        return variables

    def users(self) -> dict[str, str]:
        """Return the variables by which MLflow's server knows user and password, and write its settings of users.

        Raises:
            SettingError: `RETRAIN_AUTH` names no password.
        """
        credentials = Credentials.from_environment()
        return prepare_mlflow(credentials, folder=self.folder) if credentials and self.serves_mlflow else {}

    def _names_of_mlflow(self) -> list[str]:
        """Return the names, with and without a port, under which MLflow may be asked for."""
        names = {*_LOOPBACK_NAMES, in_url(self.host), in_url(self.public_host)}
        names |= {urllib.parse.urlsplit(self.public_address("mlflow")).hostname or ""}
        if not is_loopback(self.host):
            names |= {socket.gethostname(), socket.getfqdn(), *addresses_of_this_machine()}
        return sorted(form for name in names if name for form in (name, f"{name}:*"))


def up(service: Service, *, say: Callable[[str], None], reset_deployments: bool = False) -> None:
    """Start every part of the service that is not running, and wait until all are healthy.

    Args:
        service: The service.
        say: Tells a person what was done.
        reset_deployments: Whether what a person has set of the deployments in the UI is undone.

    Raises:
        SettingError: Another program listens on a port, a database cannot be used, or a package is missing.
        RetrainError: A part did not become healthy; the message names its log.
    """
    service.folder.mkdir(parents=True, exist_ok=True)
    if service.store.is_local:
        (Path(str(service.store.root)) / "reports").mkdir(exist_ok=True)
    if control(service, "pid").returncode == 0:
        other = _differences_from_start(service)
        service = service.as_started()
        check_access(_api(service))
        say("running already")
        if other:
            say(
                f"it was started with other values of {', '.join(other)}: those of now hold after `retrain down` and `retrain up`"
            )
        for name, (state, _) in programs(service).items():
            if (name in service.servers or name == "recovery") and state not in {"RUNNING", "STARTING"}:
                control(service, "start", name)
                say(f"{name} had ended ({state.lower()}) and is started again")
    else:
        if ended := end_orphans(service.folder):
            say(f"ended {ended} processes that an earlier service, which was killed, had left")
        refuse_taken_ports(service.host, {name: service.ports[name] for name in service.servers})
        _prepare_databases(service)
        say(f"starting supervisord, logs in {service.folder}")
        with new_database(service.store.prefect_folder):
            supervisord = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(CONFIGURATION)]
            _run(supervisord, service, more={**service.databases(), **service.users()})
            addresses = {name: service.address(name) for name in SERVERS}
            started = {
                "host": service.host,
                "public_host": service.public_host,
                "ports": dict(service.ports),
                "has_password": bool(Environment.read().auth),
                "variables": _variables_here(),
            }
            write_json(service.folder / "addresses.json", addresses | started)
            _wait_for_server("prefect", service)
    for name in SERVERS:
        if name in service.servers:
            _wait_for_server(name, service)
        say(f"{name:<8} {service.public_address(name)}")
    say(f"models   {service.public_address('mlflow')}/#/models{MODEL_PAGES}")
    for pool in POOLS:
        _run([sys.executable, "-m", "prefect", "work-pool", "create", pool, "--type", "process", "--overwrite"], service)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_FILE)]
    record = service.folder / "deployments.json"
    renew(_api(service), deploy=partial(_run, command, service), record=record, reset=reset_deployments, say=say)
    say("deployed prefect.yaml")
    deploy_automations(_api(service))
    renew_channels(_api(service))
    for pool in POOLS:
        control(service, "start", f"worker-{pool}")
    for pool in POOLS:
        _wait(lambda pool=pool: has_worker(_api(service), pool), what=f"worker-{pool}", service=service)  # type: ignore[misc]
        say(f"worker   pool {pool}")


def _prepare_databases(service: Service) -> None:
    """Make the databases that are not there, and make or migrate the registry's tables before two processes open it at once."""
    from storage.registry import Registry

    require_reachable(service.store)
    variables = service.databases()
    make_database(variables.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", ""))
    # MLflow's server uses boto3 where the project uses s3fs, and tells of a missing package only as it takes a first model.
    if service.serves_mlflow and service.store.root.protocol == "s3" and importlib.util.find_spec("boto3") is None:
        raise SettingError(f"{variable('home')} is on S3, but the package boto3 is not installed: pip install 'retrain[s3]'")
    Registry.open(service.store)


def down(service: Service, *, say: Callable[[str], None]) -> None:
    """Stop every process of the service; the store keeps its data."""
    answer = control(service, "pid")
    if answer.returncode != 0:
        say("not running")
        return
    pid = int(answer.stdout.strip())
    control(service, "shutdown")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        # supervisord removes its socket at once, but ends only after the last of its processes.
        if not _is_alive(pid):
            (service.folder / "addresses.json").unlink(missing_ok=True)
            say("stopped; `retrain up` finds everything again")
            return
        time.sleep(0.5)
    raise RetrainError(f"supervisord did not end within {WAIT_S} s: see {service.folder / 'supervisord.log'}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running_api(store: Store) -> str | None:
    """Return the Prefect API of the service that runs on a store, if any; two servers must not share one database."""
    addresses = store.service_folder / "addresses.json"
    if not addresses.is_file():
        return None
    base = str(read_json(addresses)["prefect"])
    return f"{base}/api" if is_healthy(base + HEALTH["prefect"]) else None


def _variables_here() -> dict[str, str]:
    """Return a digest of each variable of the project in this environment, without the secrets in it."""
    own = {name: without_secrets(value) for name, value in os.environ.items() if name.startswith("RETRAIN_")}
    return {name: hashlib.sha256(value.encode()).hexdigest() for name, value in sorted(own.items())}


def _differences_from_start(service: Service) -> list[str]:
    """Return the variables of this environment that do not hold, because the service was started with others.

    Raises:
        SettingError: A password is set here, and the service was started without one.
    """
    started = read_json(service.folder / "addresses.json")
    if Environment.read().auth and not started.get("has_password"):
        raise SettingError(
            f"the service was started without a password, and {AUTH_VARIABLE} is set: `retrain down`, then `retrain up`"
        )
    before, here = started.get("variables"), _variables_here()
    if before is None:
        return []
    return sorted(name for name in {**before, **here} if before.get(name) != here.get(name))


def _run(command: list[str], service: Service, *, more: Mapping[str, str] | None = None) -> None:
    environment = {**(more or {}), **service.environment()}
    done = subprocess.run(command, env=environment, cwd=service.folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = " ".join((done.stdout + done.stderr).split())[-600:]
        raise RetrainError(f"`{' '.join(command[1:])}` failed: {last}")


def _wait_for_server(name: str, service: Service) -> None:
    _wait(lambda: is_healthy(service.address(name) + HEALTH[name]), what=name, service=service)


def _wait(is_there: Callable[[], bool], *, what: str, service: Service) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_there():
        if time.monotonic() > deadline:
            raise RetrainError(f"{what} is not healthy after {WAIT_S} s: see {service.folder / f'{what}.log'}")
        time.sleep(0.5)


def is_healthy(url: str) -> bool:
    """Tell whether a URL answers with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  (an address of our own)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException):  # ValueError: it is no address
        return False


def _api(service: Service) -> str:
    return f"{service.address('prefect')}/api"


def has_worker(api: str, pool: str) -> bool:
    """Tell whether a worker serves a pool: whether one has been heard of lately."""
    try:
        workers = ask(api, f"/work_pools/{pool}/workers/filter", {})
    except (urllib.error.URLError, OSError):
        return False
    return any(worker["status"] == "ONLINE" for worker in workers)
