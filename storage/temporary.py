"""A temporary folder of a process's own, so that nothing of it is left where libraries leave files when a process is killed.

TensorFlow writes a Python file for each function that it translates and removes it at the exit of the interpreter, which the
processes of a pool never come to.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.layout import Store

_PREFIX = f"retrain-run-{os.getuid()}-"
# The name that `staging_name` gives, and what is made beside it.
_STAGING = re.compile(r".+-(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]+)(-table)?")
# The path of a Unix socket may have about 100 characters, and Python makes some below the temporary folder.
_MAX_BASE_CHARACTERS = 30


def use_own_temporary_folder() -> Path:
    """Let this process, and those that it starts, keep their temporary files in a folder that is removed at its exit.

    Folders of processes that were killed are removed first. A process whose parent has such a folder keeps to that. Where the
    path of the shared temporary folder is long, it is used itself.
    """
    base = shared_temporary_folder()
    _remove_of_dead(base)
    current = Path(tempfile.gettempdir())
    if current != base and current.is_dir():
        return current
    if len(str(base)) > _MAX_BASE_CHARACTERS:
        return base
    from multiprocessing.util import Finalize  # only runs and servers come here

    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    # After multiprocessing has removed its folder in this one, at priority -100: it complains of a folder that is gone.
    Finalize(None, shutil.rmtree, args=[folder], kwargs={"ignore_errors": True}, exitpriority=-200)
    return folder


def shared_temporary_folder() -> Path:
    """Return the temporary folder that all processes of this user share."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.name.startswith(_PREFIX) else folder


def staging_name(key: str) -> str:
    """Return the name of a folder in which this process builds something, by which others know whether it is still at it."""
    return f"{key}-{_host_mark()}-{os.getpid()}"


def remove_staging_of_dead(store: Store) -> None:
    """Remove the folders in which processes of this host were building something when they were killed."""
    for folder in (store.scratch / "staging").glob("*/*"):
        match = _STAGING.fullmatch(folder.name)
        if match and match["host"] == _host_mark() and not _is_alive(int(match["pid"])):
            shutil.rmtree(folder, ignore_errors=True)


def _host_mark() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _remove_of_dead(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
