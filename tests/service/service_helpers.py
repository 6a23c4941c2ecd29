"""What the tests of the service share: a running service as a user and a program see it, other hosts, and a webhook."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from service_settings import FINAL, OFTEN, variables

from flows.runtime.authentication import Credentials
from storage.layout import Store
from storage.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("RETRAIN_PREFECT_PORT", "RETRAIN_MLFLOW_PORT", "RETRAIN_DOCS_PORT")
SAMPLE = {"data": "sample"}
QUICK = {"epochs": 1, "steps_per_epoch": 20, "run_on": "work_pool"}
VARIANTS = ("gru_baseline", "gru_dropout")
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Live:
    """A running service, as a user and as a program sees it.

    Attributes:
        home: The store, a local folder but for a service whose store is remote.
        folder: Where its commands are given; None: beside the store.
    """

    home: Path
    environment: Mapping[str, str]
    folder: Path | None = None

    def address(self, port: str) -> str:
        return f"http://127.0.0.1:{self.environment[port]}"

    @property
    def store(self) -> Store:
        return Store.at(self.home)

    @property
    def auth(self) -> str | None:
        """User and password of the service, joined by a colon, if it has one."""
        named = self.environment.get("RETRAIN_AUTH")
        return Credentials.parse(named).basic if named else self.environment.get("PREFECT_SERVER_API_AUTH_STRING")

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        return fetch(f"{self.address(PORTS[0])}/api{path}", body, method=method, auth=self.auth)

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the service's environment, from a folder that is nobody's."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command,
            env={**self.environment, **more},
            cwd=self.folder or self.home.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def retrain(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.command("-m", "flows.cli.app", *arguments, **more)

    def press_run(self, deployment: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        variables = {"PREFECT_API_URL": f"{self.address(PORTS[0])}/api"} | (
            {"PREFECT_API_AUTH_STRING": self.auth} if self.auth else {}
        )
        return self.command("-m", "prefect", "deployment", "run", deployment, *given, **variables)

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run as `prefect deployment run` does, and return its id."""
        done = self.press_run(deployment, **parameters)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(line.split("UUID:")[1].strip() for line in done.stdout.splitlines() if "UUID:" in line)

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.ask(f"/flow_runs/{run_id}"))

    def runs(self, **flow_run_filter: Any) -> list[dict[str, Any]]:
        return list(self.ask("/flow_runs/filter", {"flow_runs": flow_run_filter, "sort": "EXPECTED_START_TIME_ASC"}))

    def trains(self, parent: str) -> list[dict[str, Any]]:
        """The runs that a retrain sent to the gpu pool."""
        return [run for run in self.runs(parent_flow_run_id={"any_": [parent]}) if run["work_pool_name"] == "gpu"]

    def ended(self, run_id: str, *, within_s: float = 300) -> dict[str, Any]:
        wait_for(lambda: self.run(run_id)["state_type"] in FINAL, within_s, lambda: self.told(run_id))
        return self.run(run_id)

    def told(self, run_id: str) -> str:
        logs = self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200})
        return "\n".join([str(self.run(run_id)["state"]), *(entry["message"] for entry in logs)])

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.ask("/deployments/filter", {})}

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        found = self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {entry["key"]: entry for entry in found if entry["key"]}

    def versions(self, name: str) -> dict[int, tuple[str, ...]]:
        return {version.version: version.aliases for version in Registry.open(self.store).versions(name)}

    def supervisor(self, *command: str) -> str:
        from flows.runtime.service import Service
        from flows.runtime.supervisor import control  # the service's own control; no second one beside it

        with variables(self.environment):
            return control(Service.from_environment(), *command).stdout.strip()

    def pid(self, program: str) -> int:
        return int(self.supervisor("pid", program))


def fetch(url: str, body: Any = None, *, method: str | None = None, auth: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if auth:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        content = answer.read()
    return json.loads(content) if content[:1] in (b"{", b"[") else content.decode()


def wait_for(is_so: Callable[[], bool], within_s: float, tell: Callable[[], object]) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {within_s} s: {tell()}"
        time.sleep(1)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def children(pid: int) -> list[int]:
    """Every process below one, the nearest first."""
    nearest = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if parent_of(path) == pid]
    return nearest + [below for child in nearest for below in children(child)]


def parent_of(stat: Path) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def variable_of(pid: int, name: str) -> str:
    """An environment variable of a process; empty when the process is gone."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next((entry.split("=", 1)[1] for entry in entries if entry.startswith(f"{name}=")), "")


def flow_run_of(pid: int) -> str:
    """The flow run that a process works for."""
    return variable_of(pid, "PREFECT__FLOW_RUN_ID")


def working_on(home: Path) -> list[int]:
    """The processes of a store."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if variable_of(pid, "RETRAIN_HOME") == str(home)]


@contextmanager
def other_host(live: Live, folder: Path, **more: str) -> Iterator[Path]:
    """A gpu worker with a folder of its own, sharing the server and the store alone, as `make worker POOL=gpu` starts it."""
    folder.mkdir()
    own = {"PREFECT_HOME": str(folder / "prefect"), "HOME": str(folder), "PREFECT_API_URL": f"{live.address(PORTS[0])}/api"}
    command = [sys.executable, "-m", "flows.cli.app", "worker", "gpu"]
    with (folder / "worker.log").open("w") as log:
        environment = {**live.environment, **own, **more}
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield folder
        finally:
            worker.terminate()
            worker.wait(60)


@contextmanager
def running_service(home: Path, *, folder: Path | None = None, **more: str) -> Iterator[Live]:
    """The whole service on a store of its own and on free ports; nothing of it outlives the block.

    Args:
        home: The store; the URL of a remote one, as text.
        folder: Where commands are given, for a remote store.
        more: Further variables of its environment.
    """
    # This process has named loopback in `no_proxy`, and what is tested is that the service does so by itself.
    own = ("RETRAIN_", "PREFECT_", "MLFLOW_", "no_proxy")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment = {
        **inherited,
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "RETRAIN_HOME": str(home),
        "RETRAIN_REQUIRE_GPU": "false",
        **OFTEN,
        **more,
    }
    service = Live(home, environment, folder)
    try:
        done = service.retrain("up")
        assert done.returncode == 0, done.stdout + done.stderr
        yield service
    finally:
        service.retrain("down")
        for pid in working_on(home):  # a killed worker's runs go on without it
            os.kill(pid, signal.SIGKILL)


def checkpoints(live: Live) -> list[Path]:
    return list((live.home / "checkpoints").glob("*/checkpoint-*.npz"))


class Listener(BaseHTTPRequestHandler):
    """A webhook that keeps what it is told."""

    told: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""
