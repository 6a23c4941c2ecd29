"""A whole run on disks of every size: one too small is one line, and nothing half published; with room the next completes it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow_helpers import Done, retrain

ROOM_MB = 400
RUN = ("run", "jena", "--data", "sample", "--variants", "ridge", "--allow-baselines", "--no-refit")


@contextmanager
def disk(size_mb: int) -> Iterator[Path]:
    """Yield a folder on a disk of so many megabytes of its own; only root can mount one."""
    folder = Path(tempfile.mkdtemp(prefix="disk"))
    try:
        subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["/bin/umount", "-l", str(folder)], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_room(folder: Path) -> None:
    """Make the disk large."""
    subprocess.run(["/bin/mount", "-o", f"remount,size={ROOM_MB}m", str(folder)], check=True)


def fault_on(size_mb: int) -> str:
    """Return what was not as promised on a disk of one size; empty if all was."""
    with disk(size_mb) as folder:
        home = folder / "var"
        fault = _fault_of_full(retrain(*RUN, home=home)) if home_can_be_made(home) else ""
        give_room(folder)
        after = retrain(*RUN, home=home)
        if not fault and after.code != 0:
            fault = f"with room it ended with code {after.code}: {_last(after)}"
        if not fault:
            verified = retrain("verify", home=home)
            fault = "" if verified.code == 0 else f"then verify ended with code {verified.code}: {_last(verified)}"
    return fault


def home_can_be_made(home: Path) -> bool:
    """Make the folder of the store, which the command's process works in."""
    try:
        home.mkdir()
    except OSError:
        return False
    return True


def _fault_of_full(done: Done) -> str:
    if "Traceback" in done.err or "Traceback" in done.out:
        return f"a traceback: {_last(done)}"
    if done.code == 0:
        return ""
    lines = [line for line in done.err.splitlines() if line.startswith("retrain:")]
    if done.code not in (2, 3) or len(lines) != 1:
        return f"code {done.code}, {len(lines)} lines: {_last(done)}"
    return "" if "free" in lines[0] else f"no word of room: {lines[0]}"


def _last(done: Done) -> str:
    return (done.err.strip().splitlines() or ["nothing said"])[-1][:300]
