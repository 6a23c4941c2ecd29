"""Start, find and stop the service on one machine: Prefect, MLflow, the reports, and a worker for each pool."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.runtime.automations import ask, deploy_automations
from flows.runtime.new_database import new_database
from storage.environment import Environment, variable
from storage.errors import RetrainError, SettingError, unknown
from storage.io import read_json, write_json
from storage.layout import Store

ROOT = Path(__file__).resolve().parents[2]
POOLS = ("cpu", "gpu")
SERVERS = ("prefect", "mlflow", "docs")
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "docs": "/"}
WAIT_S = 120
# A run without three heartbeats in a row is marked as crashed: service/automations.yaml waits 90 s.
HEARTBEAT_S = 30
# How long a worker may take to end its runs before it is killed; service/supervisord.conf has the same value.
STOP_S = 30


@dataclass(frozen=True)
class Service:
    """Where the service of one store listens and stores its own files.

    Attributes:
        folder: Logs, pid file and addresses.
        control: Unix socket of supervisord, in the temporary folder, because its path may have about 100 characters.
    """

    store: Store
    host: str
    ports: Mapping[str, int]
    folder: Path
    control: Path

    @classmethod
    def from_environment(cls) -> Service:
        """Return the service that the environment describes.

        Raises:
            SettingError: The store is remote, or a variable has a wrong value.
        """
        return cls.at(Store.from_environment())

    @classmethod
    def at(cls, store: Store) -> Service:
        """Return the service of a store, with the host and ports of the environment."""
        folder = store.service_folder
        mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        settings = Environment.read()
        ports = {"prefect": settings.prefect_port, "mlflow": settings.mlflow_port, "docs": settings.docs_port}
        control = Path(tempfile.gettempdir(), f"retrain-{os.getuid()}-{mark}.sock")
        return cls(store=store, host=settings.host, ports=ports, folder=folder, control=control)

    def address(self, name: str) -> str:
        """Return the base address of one of its servers."""
        return f"http://{self.host}:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        api = f"{self.address('prefect')}/api"
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
        return {
            **os.environ,
            "RETRAIN_HOME": str(self.store.root),
            "RETRAIN_SERVICE_FOLDER": str(self.folder),
            "RETRAIN_SERVICE_SOCKET": str(self.control),
            "RETRAIN_PYTHON": sys.executable,
            "RETRAIN_HOST": self.host,
            "RETRAIN_MLFLOW_STORE": f"sqlite:///{self.store.mlflow_folder / 'mlflow.db'}",
            "RETRAIN_REPORTS": str(self.store.root / "reports"),
            "RETRAIN_MLFLOW_ADDRESS": tracking if tracking.startswith("http") else self.address("mlflow"),
            "RETRAIN_DOCS_ADDRESS": self.address("docs"),
            **{variable(f"{name}_port"): str(port) for name, port in self.ports.items()},
            "PREFECT_HOME": str(self.store.prefect_folder),
            "PREFECT_API_URL": api,
            # Without it a UI on another port looks for its server at port 4200 and stays empty.
            "PREFECT_SERVER_UI_API_URL": api,
            "RETRAIN_REQUIRE_GPU": _requires_gpu(),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
            # Eight more processes, for features of MLflow that nothing here uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }


def _requires_gpu() -> str:
    """Return what the variable says, or else whether this host has an NVIDIA driver."""
    required = Environment.read().require_gpu
    return str(bool(shutil.which("nvidia-smi")) if required is None else required).lower()


def up(service: Service, *, say: Callable[[str], None]) -> None:
    """Start every part of the service that is not running, and wait until all are healthy.

    Raises:
        SettingError: Another program listens on a port.
        RetrainError: A part did not become healthy; the message names its log.
    """
    service.folder.mkdir(parents=True, exist_ok=True)
    (Path(str(service.store.root)) / "reports").mkdir(exist_ok=True)
    if _control(service, "pid").returncode == 0:
        service = _as_started(service)
        say("running already")
    else:
        _refuse_taken_ports(service)
        from storage.registry import Registry

        Registry.open(service.store)  # makes or migrates the database before two processes open it at once
        say(f"starting supervisord, logs in {service.folder}")
        # The service makes rows of its own as it starts, so its database is not cached for other stores.
        with new_database(service.store.prefect_folder, cache=False):
            _run([sys.executable, "-m", "supervisor.supervisord", "--configuration", _configuration()], service)
            addresses = {name: service.address(name) for name in SERVERS}
            write_json(service.folder / "addresses.json", addresses | {"host": service.host, "ports": dict(service.ports)})
            _wait_for_server("prefect", service)
    for name in SERVERS:
        _wait_for_server(name, service)
        say(f"{name:<8} {service.address(name)}")
    for pool in POOLS:
        _run([sys.executable, "-m", "prefect", "work-pool", "create", pool, "--type", "process", "--overwrite"], service)
    _run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], service)
    say("deployed prefect.yaml")
    deploy_automations(_api(service))
    for pool in POOLS:
        _control(service, "start", f"worker-{pool}")
    for pool in POOLS:
        _wait(lambda pool=pool: _has_worker(service, pool), what=f"worker-{pool}", service=service)  # type: ignore[misc]
        say(f"worker   pool {pool}")


def down(service: Service, *, say: Callable[[str], None]) -> None:
    """Stop every process of the service; the store keeps its data."""
    answer = _control(service, "pid")
    if answer.returncode != 0:
        say("not running")
        return
    pid = int(answer.stdout.strip())
    _control(service, "shutdown")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        # supervisord removes its socket at once, but ends only after the last of its processes.
        if not _is_alive(pid):
            (service.folder / "addresses.json").unlink(missing_ok=True)
            say("stopped; `make up` finds everything again")
            return
        time.sleep(0.5)
    raise RetrainError(f"supervisord did not end within {WAIT_S} s: see {service.folder / 'supervisord.log'}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def run_worker(pool: str) -> None:
    """Run a worker for a pool of the server at `PREFECT_API_URL` until it is stopped; on a GPU host its trainings refuse a CPU.

    Raises:
        SettingError: There is no such pool, or no server is named.
    """
    if pool not in POOLS:
        raise unknown("pool", pool, where="worker", choices=POOLS)
    if not os.environ.get("PREFECT_API_URL"):
        raise SettingError("PREFECT_API_URL is not set: name the server that hands out the runs, such as http://host:4200/api")
    environment = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        **os.environ,
        # A worker runs each flow in another working folder, so a relative path would name another store.
        "RETRAIN_HOME": str(Store.from_environment().root),
        "RETRAIN_REQUIRE_GPU": _requires_gpu() if pool == "gpu" else str(bool(Environment.read().require_gpu)).lower(),
    }
    name = f"{pool}-{socket.gethostname()}-{os.getpid()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    raise SystemExit(wait_or_terminate(stopped, process=subprocess.Popen(command, env=environment, process_group=0)))


def wait_or_terminate(stopped: threading.Event, *, process: subprocess.Popen[bytes], grace_s: float = STOP_S) -> int:
    """Wait for the leader of a process group to end, or terminate the group once `stopped` is set; return the exit code.

    Prefect's worker has been seen to run for another minute after SIGTERM, so the group is killed after `grace_s` seconds.
    """
    while process.poll() is None and not stopped.wait(0.5):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
    return process.wait()


def running_api(store: Store) -> str | None:
    """Return the Prefect API of the service that runs on a store, if any; two servers must not share one database."""
    addresses = store.service_folder / "addresses.json" if store.is_local else None
    if addresses is None or not addresses.is_file():
        return None
    base = str(read_json(addresses)["prefect"])
    return f"{base}/api" if is_healthy(base + HEALTH["prefect"]) else None


def _as_started(service: Service) -> Service:
    """Return the service with the ports that it was started with, which may differ from those of the environment."""
    started = read_json(service.folder / "addresses.json")
    return Service(service.store, started["host"], started["ports"], service.folder, service.control)


def _refuse_taken_ports(service: Service) -> None:
    for name, port in service.ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((service.host, port))
            except OSError as error:
                raise SettingError(
                    f"port {port} on {service.host} cannot be used for {name} ({error.strerror}): "
                    f"stop what listens there, or set {variable(f'{name}_port')}"
                ) from error


def _configuration() -> str:
    return str(ROOT / "service" / "supervisord.conf")


def _control(service: Service, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "supervisor.supervisorctl", "--configuration", _configuration(), *command],
        env=service.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _run(command: list[str], service: Service) -> None:
    done = subprocess.run(command, env=service.environment(), cwd=ROOT, capture_output=True, text=True, check=False)
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
    except (urllib.error.URLError, OSError):
        return False


def _api(service: Service) -> str:
    return f"{service.address('prefect')}/api"


def _has_worker(service: Service, pool: str) -> bool:
    try:
        workers = ask(_api(service), f"/work_pools/{pool}/workers/filter", {})
    except (urllib.error.URLError, OSError):
        return False
    return any(worker["status"] == "ONLINE" for worker in workers)
