"""Check the interpreter, the libraries and the GPU of this host."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tasks.diagnosis.finding import Finding, Level

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
DRIVER_S, TENSORFLOW_S = 5, 20
_REMEDY = "make the environment anew: make clean, then make run"
_COUNT_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


def check_libraries(requirements: Sequence[str] | None = None, *, lock: Path = LOCK) -> Iterator[Finding]:
    """Compare the installed libraries with the ranges of the project, and with the versions that were tested together."""
    yield Finding("versions", "ok", f"Python {sys.version.split()[0]}")
    installed = _requirements() if requirements is None else [Requirement(line) for line in requirements]
    for requirement in installed:
        version = _version(requirement.name)
        if version is None:
            yield Finding("versions", "fault", f"{requirement.name} is not installed, expected {requirement.specifier}", _REMEDY)
        elif not requirement.specifier.contains(version, prereleases=True):
            text = f"{requirement.name} is {version}, expected {requirement.specifier}"
            yield Finding("versions", "fault", text, _REMEDY)
    pins = _pins(lock)
    others = {name: pin for name, pin in pins.items() if (version := _version(name)) and version not in pin}
    if others:
        listed = ", ".join(f"{name} {_version(name)} ({' or '.join(sorted(pin))})" for name, pin in sorted(others.items())[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        yield Finding("versions", "warning", f"not as in {lock.name}: {listed}{more}", _REMEDY)
    elif pins:
        yield Finding("versions", "ok", f"the libraries are those of {lock.name}")


def _requirements() -> list[Requirement]:
    """Return what the project needs on this host, without extras."""
    listed = [Requirement(line) for line in importlib.metadata.requires("retrain") or ()]
    return [each for each in listed if each.marker is None or each.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pins(lock: Path) -> dict[str, set[str]]:
    """Return the pinned versions by name; a lock for several interpreters may pin more than one."""
    pins: dict[str, set[str]] = {}
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


def check_gpu(*, required: bool | None) -> Iterator[Finding]:
    """Ask the driver and TensorFlow for GPUs; TensorFlow is started, in a process of its own, only where a driver is.

    Args:
        required: `RETRAIN_REQUIRE_GPU`; None where it is not set.
    """
    driver = shutil.which("nvidia-smi")
    if driver is None and required:
        remedy = "install the driver, or set RETRAIN_REQUIRE_GPU=false"
        yield Finding("gpu", "fault", "RETRAIN_REQUIRE_GPU is true, and there is no NVIDIA driver", remedy)
        return
    if driver is None:
        yield Finding("gpu", "ok", "no NVIDIA driver: trainings run on the CPU")
        return
    names = _output([driver, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], timeout_s=DRIVER_S)
    if names is None:
        yield Finding("gpu", "fault", "nvidia-smi gives no answer", "reload the driver, or restart the host")
        return
    for line in names.splitlines():
        yield Finding("gpu", "ok", line.strip())
    count = _output([sys.executable, "-c", _COUNT_GPUS], timeout_s=TENSORFLOW_S)
    seen = count.strip().splitlines()[-1] if count and count.strip() else None
    if seen is None:
        yield Finding(
            "gpu", "warning", f"TensorFlow did not say within {TENSORFLOW_S} s what it sees", "look again when the host is idle"
        )
    elif seen == "0":
        remedy = "install the CUDA build (make clean, make run), or set RETRAIN_REQUIRE_GPU=false"
        level: Level = "warning" if required is False else "fault"
        yield Finding("gpu", level, "there is a driver, and TensorFlow sees no GPU: a service refuses to train here", remedy)
    else:
        yield Finding("gpu", "ok", f"TensorFlow sees {seen}")


def _output(command: Sequence[str], *, timeout_s: float) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
