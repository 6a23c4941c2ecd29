"""Faults of hosts and networks, in short; the rest is `make test-hosts`.

Each test is a process of its own, which enters the network of the hosts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from topology import PREFIX, remove_leftovers, why_not_here  # noqa: E402

from storage.temporary import shared_temporary_folder  # noqa: E402

REASON = why_not_here()
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no topology of hosts: {REASON}"),
]
# Minutes each, on a machine that has nothing else to do.
IN_FULL = pytest.mark.skipif("RETRAIN_TEST_HOSTS" not in os.environ, reason="runs in `make test-hosts`")


def script(name: str, *arguments: str) -> str:
    """Run a script of this folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments], cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    remove_leftovers()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


@IN_FULL
def test_a_host_that_is_cut_off_for_ever_and_a_hub_that_is_killed_lose_no_training() -> None:
    printed = script("faults.py", "hub-killed-then-unplugged")
    assert "1 of 1 faults survived" in printed


def test_hosts_are_cut_off_and_servers_killed_and_nothing_is_left() -> None:
    script("smoke.py")
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert PREFIX not in namespaces
    assert [path for path in shared_temporary_folder().glob(f"{PREFIX}*") if path.is_dir()] == []


@IN_FULL
def test_the_how_to_sets_a_team_up() -> None:
    assert "gru_baseline" in script("follow_how_to.py")
