"""Where and when something was measured: processor, load, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.workers import ROOT

LIBRARIES = ("tensorflow", "keras", "numpy", "pandas", "pyarrow", "great-expectations", "mlflow", "prefect")


def circumstances(command: str) -> dict[str, Any]:
    """Return what a figure cannot be read without; call it before anything is measured."""
    return {
        "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "command": f"`{command}`",
        "code": _commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load at the start": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "versions": {"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}},
    }


def _processor() -> str:
    """Return the processor's name and the widest vectors that it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = named.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no avx")
    return f"{named.get('model name', platform.machine())} ({vectors})"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
