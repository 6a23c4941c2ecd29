"""What the flow tests share: the command in a process of its own, mirrors, a loopback host, and what a store holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from tasks.datasets.jena.sample import simulated_weather, write_csv_zip

ROOT = Path(__file__).parents[2]
STATION_FILE = "mpi_roof_2009a.zip"
STATION = ("--source", "station", "--from", "2009a", "--to", "2009a")
IMDB_FILE, WORDS_FILE = "imdb.npz", "imdb_word_index.json"
NETWORK = "gru_baseline"
"""The network of both data sets that most runs train."""
SAMPLE_BUDGET = ("--epochs", "2", "--steps", "40")
_OWN = ("RETRAIN_", "PREFECT_", "MLFLOW_")


@dataclass(frozen=True)
class Done:
    """What came of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Run:
    """One command, and what the registry held after it."""

    done: Done
    home: Path
    models: list[dict[str, Any]]

    def aliased(self, name: str, alias: str) -> int | None:
        """The version that an alias points to."""
        found = [entry["version"] for entry in self.models if entry["name"] == name and alias in entry["aliases"]]
        return found[0] if found else None

    def variants(self, name: str) -> set[str]:
        return {entry["variant"] for entry in self.models if entry["name"] == name}

    def versions(self, name: str) -> list[int]:
        return sorted(entry["version"] for entry in self.models if entry["name"] == name)


def environment(home: Path, **more: str) -> dict[str, str]:
    """The variables of a user's shell, without those that would lead a test to another store, server or mirror."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    quiet = {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "-1"}
    return inherited | quiet | {"RETRAIN_HOME": str(home)} | more


def python(*arguments: str, home: Path, timeout_s: float = 1100, before: Sequence[str] = (), **more: str) -> Done:
    """Run Python in a process of its own; where it stands does not matter to a user, so it stands in the store.

    The words in `before` are a program that starts it, such as one that takes rights away.
    """
    home.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [*before, sys.executable, *arguments],
        cwd=home,
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException:
        # Trainings and the server are processes of their own, and would outlive it.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Done(process.returncode, out, err)


def retrain(*arguments: str, home: Path, before: Sequence[str] = (), **more: str) -> Done:
    """Run the command as a user does."""
    return python("-m", "flows.cli.app", *arguments, home=home, before=before, **more)


class WarmCommand:
    """The command in one process that stays: its imports and its Prefect server are paid for once.

    What it prints goes to real files, so that nothing escapes the comparison, whoever prints it.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        """The store of its Prefect server, whose database knows every run of every store."""
        self._files = [(folder / name).open("w+b") for name in ("stdout", "stderr")]
        reading, writing = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_command.py")), str(writing)],
            cwd=folder,
            env=environment(self.home, PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL", PREFECT_LOGGING_LEVEL="INFO"),
            stdin=subprocess.PIPE,
            stdout=self._files[0],
            stderr=self._files[1],
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        self._replies = os.fdopen(reading)

    def __call__(
        self,
        *arguments: str,
        home: Path,
        mirror: Path | str | None = None,
        today: str | None = None,
        known_addresses: Sequence[str] | None = None,
    ) -> Done:
        """Run the command on a store, with a mirror or without one, on a simulated day, and with other hosts of the station."""
        variables = {"RETRAIN_HOME": str(home)} | ({"RETRAIN_MIRROR": str(mirror)} if mirror else {})
        variables |= {"RETRAIN_TODAY": today} if today else {}
        return self._ask({"arguments": arguments, "environment": variables, "known_addresses": known_addresses})

    def ingest(self, dataset: str, *, home: Path, mirror: Path | str | None = None, **data: Any) -> dict[str, Any]:
        """Run the flow `ingest` and return its table."""
        variables = {"RETRAIN_HOME": str(home)} | ({"RETRAIN_MIRROR": str(mirror)} if mirror else {})
        done = self._ask({"ingest": dataset, "data": data, "environment": variables})
        assert done.code == 0, done.err
        table: dict[str, Any] = json.loads(done.out)
        return table

    def flow(self, name: str, *, home: Path, today: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Run a flow and return the name and message of its final state, and its result."""
        variables = {"RETRAIN_HOME": str(home)} | ({"RETRAIN_TODAY": today} if today else {})
        done = self._ask({"flow": name, "parameters": parameters, "environment": variables})
        assert done.code == 0, done.err
        answer: dict[str, Any] = json.loads(done.out)
        return answer

    def _ask(self, request: Mapping[str, Any]) -> Done:
        starts = [os.fstat(file.fileno()).st_size for file in self._files]
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._replies.readline()
        printed = [os.pread(file.fileno(), 1 << 24, start).decode() for file, start in zip(self._files, starts, strict=True)]
        assert reply, f"the process is gone: {printed}"
        return Done(json.loads(reply), printed[0], printed[1])

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        finally:
            self._process.kill()
            self._process.wait()
            self._replies.close()
            for file in self._files:
                file.close()


def query(home: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask Prefect's own database, which the temporary server of a run leaves in the store."""
    with closing(sqlite3.connect(f"file:{home / 'prefect' / 'prefect.db'}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_mirror(folder: Path, files: Mapping[str, bytes], *, sums: Mapping[str, str] | None = None) -> Path:
    """Write files and their `SHA256SUMS`, or one that lists other digests."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    listed = {name: sha256(data) for name, data in files.items()} | dict(sums or {})
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in listed.items()))
    return folder


def station_zip(folder: Path, *, seed: int = 1, rows: int = 12_000) -> bytes:
    """A half-year file of simulated weather, just long enough for the suite."""
    weather = simulated_weather(rows, seed=seed, start="2009-01-01T00:10:00")
    return write_csv_zip(weather, folder / STATION_FILE).read_bytes()


def csv_lines(archive: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read(opened.namelist()[0]).decode("latin-1").splitlines()


def csv_zip(lines: Sequence[str]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mpi_roof_2009a.csv", ("\n".join(lines) + "\n").encode("latin-1"))
    return body.getvalue()


def imdb_files(*, reviews: Sequence[Any], labels: Sequence[int]) -> dict[str, bytes]:
    """An archive of the given training reviews and a word index of five words."""
    objects = np.empty(len(reviews), dtype=object)
    objects[:] = list(reviews)
    two = np.empty(2, dtype=object)
    two[:] = [[1, 2, 3], [3, 2]]
    arrays = {"x_train": objects, "y_train": np.array(labels), "x_test": two, "y_test": np.array([0, 1])}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, array in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, array, allow_pickle=True)
            opened.writestr(f"{name}.npy", body.getvalue())
    words = {"the": 1, "film": 2, "is": 3, "good": 4, "bad": 5}
    return {IMDB_FILE: archive.getvalue(), WORDS_FILE: json.dumps(words).encode()}


def contents(home: Path) -> dict[str, str]:
    """The digest of every file of a store; not of unfinished work and locks, which are no one's data."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    named = {path.relative_to(home).as_posix(): path for path in files}
    return {
        name: sha256(path.read_bytes())
        for name, path in named.items()
        if not name.startswith(".scratch/") and not (path.name.startswith(".") and path.name.endswith(".lock"))
    }


@contextmanager
def web_mirror(answers: Mapping[str, tuple[bytes, int]]) -> Iterator[str]:
    """Serve a mirror on loopback: for each name the bytes that are sent and the length that is promised."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            if name not in answers:
                self.send_error(404)
                return
            body, promised = answers[name]
            self.send_response(200)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
