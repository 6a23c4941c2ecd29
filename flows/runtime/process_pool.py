"""The process pool that trainings run in."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

from prefect.task_runners import ProcessPoolTaskRunner

# A process that uses CUDA cannot be forked, and forking one that has only imported TensorFlow is untested beside a GPU. On such
# a host each training process imports everything itself.
GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
PRELOADED = "flows.runtime.preload"


class TrainingPool(ProcessPoolTaskRunner):
    """Prefect's process pool, with processes forked from one that has imported everything a training needs.

    Prefect itself starts each as a new Python, which imports Keras, MLflow and Prefect again: about eight seconds of a core.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        if can_fork() and self._executor is not None:
            # Prefect sets the start method itself and takes no other. No process runs yet: the first starts with the first task.
            executor: Any = self._executor
            executor._mp_context = _context()
        return self


def can_fork() -> bool:
    """Tell whether this host may fork a process that has imported Keras."""
    return "forkserver" in multiprocessing.get_all_start_methods() and not any(driver.exists() for driver in GPU_DRIVERS)


def start_importing() -> None:
    """Start the fork server of this run's training processes, which imports what they need in the background."""
    if can_fork():
        _context()
        forkserver.ensure_running()


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context
