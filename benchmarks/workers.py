"""Processes that take turns: one request a line in, one answer a line out; and processes that are timed whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
OPPONENTS = Path(__file__).resolve().parent / "opponents"
_ERROR_LINES = 15
# A run that is measured uses no server, registry or store of the person who measures.
_OTHER_SERVICES = {"PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "RETRAIN_HOME", "RETRAIN_MIRROR", "KERAS_BACKEND"}


class WorkerError(RuntimeError):
    """A measured process ended or answered other than it should; the message has the end of what it wrote."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a measured process: the project can be imported, and libraries are quiet."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    inherited = {name: value for name, value in os.environ.items() if name not in _OTHER_SERVICES}
    return {**inherited, **quiet, **(more or {})}


def _wait_for_end(errors: IO[bytes]) -> str:
    errors.seek(0)
    return "\n".join(errors.read().decode(errors="replace").splitlines()[-_ERROR_LINES:])


class Worker:
    """A process that stays alive between its turns.

    Args:
        command: Its command line.
        variables: Environment variables beside the usual ones.
    """

    def __init__(self, command: Sequence[str], *, variables: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: The process ended without one.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{' '.join(self._command[-4:])} gave no answer to {do!r}:\n{_wait_for_end(self._errors)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, which goes when its input does."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # a request that a dead process did not take
                self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


@dataclass(frozen=True)
class Finished:
    """A process that ran from start to end.

    Attributes:
        wall_s: From before its start to after its end.
        cpu_s: Time on processors, of itself and the processes that it waited for; other work stretches it less than wall_s.
        peak_bytes: The most memory that it, or a process that it waited for, held at a time: of the largest, not the sum.
        answer: The last line that it printed, as JSON, or an empty mapping.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    answer: dict[str, Any]


def finish_all(commands: Sequence[Sequence[str]], *, variables: Mapping[str, str] | None = None) -> list[Finished]:
    """Start processes side by side and wait for all of them.

    Raises:
        WorkerError: One of them failed.
    """
    results = []
    with ExitStack() as stack:
        running = []
        for command in commands:
            out, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            started = time.perf_counter()
            process = subprocess.Popen(
                list(command), cwd=ROOT, env=environment(variables), stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
            running.append((process, out, errors, started))
        finished = _wait_for({process.pid: started for process, _, _, started in running})
        for process, _, _, _ in running:
            process.returncode = finished[process.pid][0]
        for process, out, errors, _ in running:
            if process.returncode:
                raise WorkerError(f"a measured process ended with {process.returncode}:\n{_wait_for_end(errors)}")
            _, wall_s, usage = finished[process.pid]
            out.seek(0)
            lines = out.read().decode().splitlines()
            answer = _answer(lines[-1] if lines else "")
            results.append(Finished(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, answer))
    return results


def _wait_for(started: Mapping[int, float]) -> dict[int, tuple[int, float, Any]]:
    """Wait for processes by their ids; return exit status, wall seconds and resources of each."""
    finished: dict[int, tuple[int, float, Any]] = {}
    while len(finished) < len(started):
        for pid in started.keys() - finished.keys():
            # The last one is waited for without looking again and again, which would take a processor from it.
            found, status, usage = os.wait4(pid, 0 if len(finished) == len(started) - 1 else os.WNOHANG)
            if found:
                finished[pid] = (os.waitstatus_to_exitcode(status), time.perf_counter() - started[pid], usage)
        if len(finished) < len(started) - 1:
            time.sleep(0.01)
    return finished


def finish(command: Sequence[str], *, variables: Mapping[str, str] | None = None) -> Finished:
    """Run one process from start to end."""
    return finish_all([command], variables=variables)[0]


def _answer(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def own_module(name: str, *arguments: str) -> list[str]:
    """Return the command line of a module of this project, in the interpreter that runs now."""
    return [sys.executable, "-m", name, *arguments]
