"""A PostgreSQL of the machine's own package, for as long as a test needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.temporary import shared_temporary_folder

START_S = 60
USER, PASSWORD = "retrain", "pass-of-a-test"


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs; the tests that need it are left out, and say so, where there are none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*folders, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")


@contextmanager
def running_postgres(
    folder: Path | None = None, *, host: str = "127.0.0.1", port: int | None = None, prefix: Sequence[str] = ()
) -> Iterator[str]:
    """Run a PostgreSQL with a user who may make databases, and yield its address without a database.

    Args:
        folder: Folder of its files, which an unprivileged user can reach, as PostgreSQL refuses root; an existing cluster in it
            is started again. None: one that is removed at the end.
        host: Address on which it listens.
        port: A free one if None.
        prefix: Command put in front, such as that of a network namespace.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(
            prefix="retrain-postgres-", dir=shared_temporary_folder(), ignore_cleanup_errors=True
        ) as made:
            Path(made).chmod(0o755)
            with running_postgres(Path(made, "cluster"), host=host, port=port, prefix=prefix) as address:
                yield address
        return
    programs = postgres_programs()
    port = port or _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    owner = _unprivileged(folder)
    password_file = folder / "password"
    if not (folder / "data").exists():
        password_file.write_text(PASSWORD + "\n", encoding="utf-8")
        if owner:
            shutil.chown(password_file, owner)
        made = [programs / "initdb", "--pgdata", folder / "data", "--username", USER, "--pwfile", password_file]
        _checked([*made, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"], owner=owner)
    options = ["-h", host, "-p", str(port), "-k", str(folder), "-c", "fsync=off", "-c", "max_connections=200"]
    log = (folder / "postgres.log").open("ab")
    server = subprocess.Popen(
        [*prefix, *as_owner(owner), str(programs / "postgres"), "-D", str(folder / "data"), *options],
        stdout=log,
        stderr=log,
        process_group=0,
    )
    try:
        deadline = time.monotonic() + START_S
        ready = [*prefix, str(programs / "pg_isready"), "-h", host, "-p", str(port), "-q"]
        while subprocess.run(ready, check=False).returncode != 0:
            assert server.poll() is None, (folder / "postgres.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.2)
        yield f"postgresql://{USER}:{PASSWORD}@{host}:{port}"
    finally:
        os.killpg(server.pid, signal.SIGINT)  # fast shutdown: it ends the sessions
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


def as_owner(owner: str | None) -> list[str]:
    """Return the command that runs another one as a user; PostgreSQL refuses root."""
    return ["setpriv", f"--reuid={owner}", "--regid", str(pwd.getpwnam(owner).pw_gid), "--clear-groups"] if owner else []


def _unprivileged(folder: Path) -> str | None:
    """Give a folder to another user if this one is root, and return who."""
    if os.getuid() != 0:
        return None
    for owner in ("postgres", "nobody"):
        try:
            pwd.getpwnam(owner)
        except KeyError:
            continue
        shutil.chown(folder, owner)
        return owner
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _checked(command: Sequence[str | Path], *, owner: str | None) -> None:
    done = subprocess.run([*as_owner(owner), *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
