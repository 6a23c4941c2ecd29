"""The processes that trainings run in."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

from prefect.task_runners import ProcessPoolTaskRunner

# A process with CUDA cannot be forked, and nobody has tried one that has merely imported it: there each imports for itself.
GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
PRELOADED = "flows.runtime.preload"


class TrainingPool(ProcessPoolTaskRunner):
    """Prefect's process pool, whose processes come from one that has imported all that a training needs.

    Prefect starts each as a new Python, which would import Keras, MLflow and Prefect again: some eight seconds of a core.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        if can_fork() and self._executor is not None:
            # Prefect names the way to start processes itself; the first of them starts with the first task.
            executor: Any = self._executor
            executor._mp_context = _context()
        return self


def can_fork() -> bool:
    """Tell whether processes of this host may come from one that has imported Keras."""
    return "forkserver" in multiprocessing.get_all_start_methods() and not any(driver.exists() for driver in GPU_DRIVERS)


def start_importing() -> None:
    """Start the process that the trainings of this run will come from: it imports meanwhile what they need."""
    if can_fork():
        _context()
        forkserver.ensure_running()


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context
