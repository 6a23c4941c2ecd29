"""Environments of their own for the peers, made once in `.bench/`, which git ignores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.workers import ROOT

FOLDER = ROOT / ".bench"
# What the project's layers need without TensorFlow stands with Keras on JAX, so that they can be run there too.
# The smaller build of torch for processors is taken where pip finds it, else whatever pip takes.
FIRST_CHOICE = {"torch": ("torch==2.13.0+cpu", "numpy")}
PACKAGES = {
    "torch": ("torch", "numpy"),
    "jax": (
        "jax",
        "keras>=3.15,<3.16",
        "numpy",
        "pyarrow>=25,<26",
        "pandas>=3.1,<3.2",
        "universal-pathlib>=0.3",
        "pydantic>=2.12",
        "httpx>=0.28",
        "tenacity>=9",
        "filelock>=3.20",
    ),
}
_TIMEOUT_S = 1800


def python_of(name: str) -> Path | None:
    """Return the interpreter of a peer's environment, or None where it was not made."""
    python = FOLDER / name / "bin" / "python"
    return python if (FOLDER / name / ".ready").is_file() and python.is_file() else None


def make(name: str) -> tuple[Path | None, str]:
    """Return the interpreter of a peer's environment, making it where it is missing, or None and the reason in one line."""
    standing = python_of(name)
    if standing:
        return standing, ""
    sys.stderr.write(f"making the environment of {name} (once) ...\n")
    folder = FOLDER / name
    fault = _run([sys.executable, "-m", "venv", str(folder)])
    for packages in (FIRST_CHOICE.get(name), PACKAGES[name]):
        if packages and (not fault or packages is PACKAGES[name]):
            install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            fault = _run([*install, *packages])
            if not fault:
                break
    if fault:
        return None, f"{name} is skipped, its environment cannot be made: {fault}"
    (folder / ".ready").touch()
    return python_of(name), ""


def _run(command: list[str]) -> str:
    """Run a command and return why it failed in one line, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
