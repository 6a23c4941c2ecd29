"""`retrain serve` beside `mlflow models serve` of the same model: clients that ask over HTTP as fast as they are answered."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.measuring import Part, Table, interleaved, ratio_goal, spread_of
from benchmarks.workers import environment, finish, own_module
from flows.runtime.service import is_healthy

OURS, MLFLOW = "retrain serve", "mlflow models serve"
VARIANT = "gru_baseline"
START_S = 300
AIM = 2.0
# Data set, rows of a request, clients.
CASES = (("jena", 1, 1), ("jena", 1, 4), ("jena", 32, 4), ("imdb", 1, 1), ("imdb", 1, 4), ("imdb", 32, 4))
TEXT_WORDS = 230  # the median of a real review is 178, its mean 234


@dataclass(frozen=True)
class Server:
    """One server of one model.

    Attributes:
        port: On loopback.
        path: Where it predicts.
        field: Field of its requests that holds the rows.
    """

    port: int
    path: str
    field: str

    def body(self, dataset: str, rows: int) -> bytes:
        """Return a request of some rows, as JSON."""
        values: list[Any] = _windows(rows) if dataset == "jena" else _texts(rows)
        if dataset == "imdb" and self.field == "inputs":
            values = [[text] for text in values]
        return json.dumps({self.field: values}).encode()


def measure(bench: Bench) -> Part:
    """Train both data sets for a moment, serve each model in both ways, and put load on them in turns."""
    home = bench.folder / "serve"
    variables = {"RETRAIN_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"}
    bench.say("serve: training ...")
    options = ("--data", "sample", "--variants", VARIANT, "--epochs", "1", "--steps", "2", "--no-refit")
    finish(own_module("flows.cli.app", "run", "all", *options), variables={"RETRAIN_HOME": str(home)})
    turns: dict[tuple[str, int, int], dict[str, list[dict[str, float]]]] = {}
    for dataset in dict.fromkeys(name for name, _, _ in CASES):
        number = _version(f"{dataset}-sample", variables=variables)
        with ExitStack() as stack:
            servers = {
                OURS: stack.enter_context(_retrain(f"{dataset}-sample@{number}", folder=bench.folder, variables=variables)),
                MLFLOW: stack.enter_context(
                    _mlflow(f"models:/{dataset}-sample/{number}", folder=bench.folder, variables=variables)
                ),
            }
            for case in (case for case in CASES if case[0] == dataset):
                bench.say(f"serve: {_told(case)}")
                bodies = {name: server.body(dataset, case[1]) for name, server in servers.items()}
                take = partial(_turn, servers=servers, bodies=bodies, clients=case[2], seconds=bench.sizes.serve_seconds)
                turns[case] = interleaved(list(servers), rounds=bench.sizes.serve_rounds, take=take)
    rows, goals = [], []
    for case, taken in turns.items():
        rates = {name: spread_of([turn["requests_per_s"] for turn in of_server]) for name, of_server in taken.items()}
        ratio = rates[OURS].median / rates[MLFLOW].median
        for name, of_server in taken.items():
            p50, p95 = (spread_of([turn[key] for turn in of_server], scale=1000).text(digits=1) for key in ("p50_s", "p95_s"))
            told = f"{ratio:.2f}x" if name == OURS else ""
            rows.append((_told(case), name, p50, p95, rates[name].text(digits=1), told))
        goals.append(ratio_goal(f"{_told(case)}: requests a second", against=MLFLOW, ratio=ratio, at_least=AIM))
    columns = ("requests", "server", "p50 in ms", "p95 in ms", "requests a second", "ours by MLflow's")
    notes = (
        f"{VARIANT} of the samples, its weights hardly trained; both servers are one process each on the same machine as the "
        "clients, which send the same rows again and again and wait for each answer",
        f"a window is {len(json.dumps(_windows(1))):,} bytes of JSON, a text has {TEXT_WORDS} words; MLflow serves with "
        "--env-manager local and its own settings",
    )
    values = {_told(case): taken for case, taken in turns.items()}
    return Part("serve", tuple(goals), (Table("Load over HTTP", columns, tuple(rows), notes),), values)


def _told(case: tuple[str, int, int]) -> str:
    dataset, rows, clients = case
    what = {"jena": "window", "imdb": "text"}[dataset] + ("s" if rows > 1 else "")
    return f"{dataset}: {rows} {what} a request, {clients} client{'s' if clients > 1 else ''}"


def _windows(rows: int) -> list[Any]:
    """Return windows of readings with two digits behind the point, as the station publishes them."""
    readings = np.random.default_rng(0).normal(10.0, 5.0, size=(rows, 1440, 14)).round(2)
    return list(readings.tolist())


def _texts(rows: int) -> list[Any]:
    """Return texts of frequent words of the sample."""
    rng = np.random.default_rng(0)
    words = ("the", "movie", "was", "wonderful", "and", "terrible", "film", "as", "it", "is", "boring", "but", "excellent")
    return [" ".join(words[i] for i in rng.integers(0, len(words), TEXT_WORDS)) for _ in range(rows)]


def _version(model: str, *, variables: dict[str, str]) -> int:
    """Return the number of the version that was trained."""
    found = subprocess.run(
        own_module("flows.cli.app", "models", model, "--json"), env=environment(variables), capture_output=True, check=True
    )
    return next(int(entry["version"]) for entry in json.loads(found.stdout) if entry["variant"] == VARIANT)


@contextmanager
def _retrain(reference: str, *, folder: Path, variables: dict[str, str]) -> Iterator[Server]:
    command = own_module("flows.cli.app", "serve", reference, "--port", "0")
    with (folder / "retrain-serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment(variables), stdout=subprocess.PIPE, stderr=log, text=True)
    with _ended(process):
        assert process.stdout is not None
        found = re.search(r"http://\S+?:(\d+)", process.stdout.readline())
        assert found, (folder / "retrain-serve.log").read_text()
        yield Server(int(found.group(1)), "/predict", "windows" if reference.startswith("jena") else "texts")


@contextmanager
def _mlflow(uri: str, *, folder: Path, variables: dict[str, str]) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-m", uri, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    # MLflow starts the uvicorn of the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with (folder / "mlflow-serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", *options],
            env=environment({**variables, "PATH": path}),
            stdout=log,
            stderr=log,
            process_group=0,
        )
    with _ended(process, group=True):
        deadline = time.monotonic() + START_S
        while not is_healthy(f"http://127.0.0.1:{port}/health"):
            has_time = process.poll() is None and time.monotonic() < deadline
            assert has_time, (folder / "mlflow-serve.log").read_text()
            time.sleep(0.2)
        yield Server(port, "/invocations", "inputs")


@contextmanager
def _ended(process: subprocess.Popen[Any], *, group: bool = False) -> Iterator[None]:
    """End a process after the block, with those that it started if it has a group of its own."""
    try:
        yield
    finally:
        if process.poll() is None:
            if group:
                os.killpg(process.pid, signal.SIGTERM)
            else:
                process.terminate()
            process.wait(60)


def _turn(name: str, *, servers: dict[str, Server], bodies: dict[str, bytes], clients: int, seconds: float) -> dict[str, float]:
    """Let clients ask one server for a while, after some requests that do not count."""
    server, body = servers[name], bodies[name]
    latencies: list[list[float]] = [[] for _ in range(clients)]
    ready = threading.Barrier(clients + 1)
    end = 0.0

    def ask(place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for _ in range(3):
            _post(connection, server=server, body=body)
        ready.wait()
        ready.wait()  # the end is set
        while time.perf_counter() < end:
            latencies[place].append(_post(connection, server=server, body=body))
        connection.close()

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.perf_counter()
    end = started + seconds
    ready.wait()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - started
    taken = sorted(latency for of_client in latencies for latency in of_client)
    p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
    return {"requests": len(taken), "requests_per_s": len(taken) / wall_s, "p50_s": statistics.median(taken), "p95_s": p95}


def _post(connection: http.client.HTTPConnection, *, server: Server, body: bytes) -> float:
    """Send one request and return the seconds until its whole answer was there."""
    started = time.perf_counter()
    connection.request("POST", server.path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, answer[:500]
    return time.perf_counter() - started
