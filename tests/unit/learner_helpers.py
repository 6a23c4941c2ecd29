"""Learners that run as a test says, whatever would be fastest on this machine."""

from __future__ import annotations

from typing import Any

from tasks.models.device import Device
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.engine.execution import Execution

CPU = Device(kind="cpu", count=1, backend="tensorflow")
PLAIN = Execution(use_cudnn=False, jit_compile=False)


def learner_with(
    problem: Any, splits: Any, normalisation: Any, *, variant: Any, seed: int = 0, execution: Execution | None = PLAIN
) -> Any:
    """Return a learner of a variant; an execution of None chooses the fastest on a processor."""
    accelerated = accelerate_for_training(variant, device=CPU, seed=seed, execution=execution)
    return problem.learner(splits, normalisation, variant, accelerated)
