"""A team's installation on the hosts of the topology: the service on the hub, workers elsewhere, and how a client sees it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script it has this folder alone

from service_settings import FINAL, OFTEN, variables
from topology import Database, Host, ObjectStore, Topology, topology

from storage.layout import Store
from storage.registry import Registry

PREFECT_PORT, MLFLOW_PORT = 4200, 5000
SAMPLE = {"data": "sample"}
MODEL = "jena-sample"
# Epochs of one to three seconds, so that a training lasts while faults come and go.
LONG = {"epochs": 24, "steps_per_epoch": 40, "patience_epochs": 24, "run_on": "work_pool"}
QUICK = {"epochs": 1, "steps_per_epoch": 1, "run_on": "work_pool"}
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"


@dataclass(frozen=True)
class Team:
    """A running installation.

    Attributes:
        database: None where the hub's databases are SQLite files.
    """

    topology: Topology
    database: Database | None
    objects: ObjectStore

    @property
    def hub(self) -> Host:
        return self.topology.hub

    @property
    def workers(self) -> tuple[Host, Host]:
        return self.topology.workers

    @property
    def api(self) -> str:
        return f"http://{self.hub.address}:{PREFECT_PORT}/api"

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}{path}", data=data, headers=headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content = answer.read()
        return json.loads(content) if content else None

    def all_of(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return every entry of a list that the API gives in pages."""
        entries: list[dict[str, Any]] = []
        while page := self.ask(path, {**body, "limit": 200, "offset": len(entries)}):
            entries += page
        return entries

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment, and return its id."""
        known = self.ask(f"/deployments/name/{deployment}")
        body = {"parameters": known["parameters"] | parameters, "state": {"type": "SCHEDULED", "name": "Scheduled"}}
        return str(self.ask(f"/deployments/{known['id']}/create_flow_run", body)["id"])

    def retrain(self, *, seed: int, training: Mapping[str, Any], refit: bool = False) -> str:
        """Start a retrain of one network on the sample, and return the run's id."""
        return self.start(
            "retrain/retrain-jena",
            data=SAMPLE,
            variants=["gru_baseline"],
            training={**training, "seed": seed},
            promotion={"refit": refit},
        )

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.ask(f"/flow_runs/{run_id}"))

    def runs(self, **flow_run_filter: Any) -> list[dict[str, Any]]:
        return self.all_of("/flow_runs/filter", {"flow_runs": flow_run_filter, "sort": "EXPECTED_START_TIME_ASC"})

    def trains(self, parent: str) -> list[dict[str, Any]]:
        """The runs that a retrain sent to the gpu pool, in the order in which they were sent."""
        runs = self.runs(parent_flow_run_id={"any_": [parent]})
        return sorted((run for run in runs if run["work_pool_name"] == "gpu"), key=lambda run: str(run["created"]))

    def told(self, run_id: str) -> str:
        logs = self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200, "sort": "TIMESTAMP_DESC"})
        return "\n".join([str(self.run(run_id)["state"]), *(entry["message"] for entry in logs[:40])])

    def ended(self, run_id: str, *, within_s: float) -> dict[str, Any]:
        """Wait for the end of a run, while its server may be away."""
        wait_for(lambda: self.run(run_id)["state_type"] in FINAL, within_s, lambda: self.told(run_id))
        return self.run(run_id)

    def host_of(self, run_id: str) -> Host | None:
        """The host on which a process works for a run; None if there is none."""
        for host in self.topology.hosts.values():
            if any(variable_of(pid, RUN_VARIABLE) == run_id for pid in host.pids()):
                return host
        return None

    def epochs(self, run_id: str) -> int:
        """The epochs that a training has told of, by its progress artifact."""
        artifacts = self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        told = [entry["description"] or "" for entry in artifacts if str(entry["key"]).startswith("progress-")]
        return max((int(text.split("epoch ")[1].split()[0]) for text in told if "epoch " in text), default=0)

    def training(self, parent: str, *, epochs: int = 3, within_s: float = 600) -> tuple[str, Host]:
        """Wait until a training of a retrain has some epochs behind it, and return its run and its host."""

        def running() -> tuple[str, Host] | None:
            for run in self.trains(parent):
                host = self.host_of(run["id"]) if run["state_type"] == "RUNNING" else None
                if host and self.epochs(run["id"]) >= epochs:
                    return run["id"], host
            return None

        wait_for(lambda: running() is not None, within_s, lambda: self.told(parent))
        found = running()
        assert found
        return found

    @property
    def store(self) -> Store:
        """The store as the client sees it; this process has the client's variables."""
        return Store.from_environment()

    @property
    def registry(self) -> Registry:
        return Registry.open(self.store)

    def supervisor(self, *command: str) -> str:
        """Command the hub's supervisord."""
        script = "import sys; from flows.runtime.service import *; from flows.runtime.supervisor import control as c\n"
        script += "print(c(Service.from_environment(), *sys.argv[1:]).stdout)"
        done = self.hub.python("-c", script, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def without(self, program: str) -> Iterator[None]:
        """Kill one of the hub's servers, and let supervisord start it again after the block."""
        pid = int(self.supervisor("pid", program))
        # It would be back within a second, so it is told to stay away as well.
        os.kill(pid, signal.SIGKILL)
        self.supervisor("stop", program)
        try:
            yield
        finally:
            self.supervisor("start", program)


def wait_for(is_so: Callable[[], bool], within_s: float, tell: Callable[[], object]) -> None:
    """Wait for something, while the server may be away."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            if is_so():
                return
        except OSError:  # the server is away
            pass
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not so within {within_s} s: {tell()}")
        time.sleep(1)


def variable_of(pid: int, name: str) -> str:
    """An environment variable of a process; empty when the process is gone."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next((entry.split("=", 1)[1] for entry in entries if entry.startswith(f"{name}=")), "")


@contextmanager
def team(*, on_postgresql: bool = True, workers: bool = True) -> Iterator[Team]:
    """Set up everything as `docs/how-to/run-for-a-team.md` says, and enter the client."""
    with topology() as hosts:
        hub = hosts.hub
        objects, database = ObjectStore(hub), Database(hub)
        objects.make()
        database.make()
        hub.variables |= {"RETRAIN_DATABASE_URL": database.url, "RETRAIN_HOST": "0.0.0.0", "RETRAIN_PUBLIC_HOST": hub.address}  # noqa: S104
        hub.variables |= OFTEN
        if not on_postgresql:
            hub.variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{hub.folder / 'prefect.db'}"
        done = hub.retrain("up")
        assert done.returncode == 0, done.stdout + done.stderr
        servers = {
            "PREFECT_API_URL": f"http://{hub.address}:{PREFECT_PORT}/api",
            "MLFLOW_TRACKING_URI": f"http://{hub.address}:{MLFLOW_PORT}",
        }
        here = Team(hosts, database if on_postgresql else None, objects)
        for name, host in hosts.hosts.items():
            if name != "hub":
                host.variables |= servers | OFTEN
        if workers:
            here.supervisor("stop", "worker-gpu")  # trainings are the workers'
            for host in hosts.workers:
                host.start_worker("gpu")
        with variables(hosts.hosts["client"].variables):
            yield here
