"""supervisord of a service: what it runs, what it is told, and what it leaves behind when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.runtime.service import Service

FOLDER_VARIABLE = "RETRAIN_SERVICE_FOLDER"
CONFIGURATION = Path(__file__).with_name("configuration") / "supervisord.conf"
GRACE_S = 20


def control(service: Service, *command: str) -> subprocess.CompletedProcess[str]:
    """Give supervisord of a service a command, such as `start mlflow`; the return code says whether it runs and obeyed."""
    return subprocess.run(
        [sys.executable, "-m", "supervisor.supervisorctl", "--configuration", str(CONFIGURATION), *command],
        env=service.environment(),
        # A service that was never started has no folder.
        cwd=service.folder if service.folder.is_dir() else None,
        capture_output=True,
        text=True,
        check=False,
    )


def programs(service: Service) -> dict[str, tuple[str, str]]:
    """Return the state of each program, such as `RUNNING`, with what supervisord says of it; none if it does not run."""
    lines = control(service, "status").stdout.splitlines()
    parts = [line.split(maxsplit=2) for line in lines]
    # Without supervisord its client says so in a sentence, whose second word is in small letters.
    return {each[0]: (each[1], each[2] if len(each) > 2 else "") for each in parts if len(each) > 1 and each[1].isupper()}


def end_orphans(folder: Path) -> int:
    """End the processes that a killed supervisord of a service has left, and return how many.

    They hold the ports, and nobody would start them again. Trainings among them go on from their last epoch in another run.

    Args:
        folder: Folder of the service, which each of its processes has in its environment.
    """
    orphans = list(_processes_of(folder))
    for pid in orphans:
        _send(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + GRACE_S
    while any(_lives(pid) for pid in orphans) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    for pid in orphans:
        _send(pid, signal.SIGKILL)
    return len(orphans)


def _processes_of(folder: Path) -> Iterator[int]:
    """Yield the processes of a service, where the system tells of them (Linux), but for this one and those that it came from."""
    marked = f"{FOLDER_VARIABLE}={folder}".encode()
    own = set(_line_of_descent())
    for entry in Path("/proc").glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        try:
            variables = entry.read_bytes().split(b"\0")
        except OSError:  # of another user, or gone
            continue
        if pid not in own and marked in variables:
            yield pid


def _line_of_descent() -> Iterator[int]:
    pid = os.getpid()
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:
            return


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
