"""Follow `docs/how-to/run-for-a-team.md` on the hosts of the topology: each block of commands on the host that its section names.

python tests/hosts/follow_how_to.py
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topology import ROOT, Database, ObjectStore, Topology, topology

HOW_TO = ROOT / "docs" / "how-to" / "run-for-a-team.md"
HOST_OF_SECTION = {"On the hub": ("hub",), "On every host that trains": ("worker1", "worker2"), "At your desk": ("client",)}
BASH = shutil.which("bash") or "bash"
# What a reader has on the path, who has done `make`.
COMMANDS = {"retrain": "-m flows.cli.app", "prefect": "-m prefect", "python": ""}
# How often things are looked for is no part of the document.
OFTEN = {"PREFECT_WORKER_QUERY_SECONDS": "2"}


def blocks() -> list[tuple[str, str]]:
    """Return the title of the section and the commands of every block of the document, in their order."""
    found = []
    for section in re.split(r"^## ", HOW_TO.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        found += [(title, commands) for commands in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]
    return found


@contextmanager
def _reader(hosts: Topology) -> Iterator[Path]:
    """Put the commands on the path of every host, whose environment says nothing of the project; the hub has its servers."""
    commands = hosts.folder / "bin"
    commands.mkdir()
    for name, arguments in COMMANDS.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (commands / name).chmod(0o755)
    for host in hosts.hosts.values():
        for variable in [name for name in host.variables if name.startswith(("RETRAIN_HOME", "AWS_"))]:
            if host is not hosts.hub:
                del host.variables[variable]
        host.variables |= OFTEN | {"PATH": f"{commands}:{host.variables['PATH']}"}
    yield commands


def follow(hosts: Topology) -> str:
    """Run every block, and return what the last one printed.

    Raises:
        AssertionError: A command failed.
    """
    printed = ""
    for title, commands in blocks():
        for name in HOST_OF_SECTION.get(title, ()):
            host = hosts.hosts[name]
            if "retrain worker" in commands:  # it goes on until it is stopped
                host.start("worker-gpu", BASH, "-ec", commands)
                continue
            done = host.run(BASH, "-ec", commands)
            printed = done.stdout
            sys.stdout.write(f"== {title}, on {name}\n{done.stdout}{done.stderr}")
            sys.stdout.flush()
            assert done.returncode == 0, f"a command of {title!r} failed with code {done.returncode}"
    return printed


def main() -> int:
    """Follow the document; the last thing that it shows are the versions that a run has made on a worker."""
    untold = [title for title in HOST_OF_SECTION if title not in {title for title, _ in blocks()}]
    assert not untold, f"the document has no section {untold}"
    with topology() as hosts, _reader(hosts):
        ObjectStore(hosts.hub).make()
        Database(hosts.hub).make()
        for name in [name for name in hosts.hub.variables if name.startswith(("RETRAIN_HOME", "AWS_"))]:
            del hosts.hub.variables[name]
        printed = follow(hosts)
        assert "champion" in printed, printed
        assert "gru_baseline" in printed, printed
        for host in hosts.workers:
            assert "started!" in host.log("worker-gpu"), host.log("worker-gpu")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
