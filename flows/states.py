"""How a run is called and how it ends, in words that are read in a list of runs."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect.client.schemas import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from storage.errors import RejectedError, RetrainError
from storage.references import ModelRef, TableRef
from tasks.promotion.rule import Decision

P = ParamSpec("P")
R = TypeVar("R")

MAX_STARTS = 4
CADENCES = ("hourly", "daily", "weekly", "monthly")


def run_name() -> str:
    """Return a name such as `retrain-jena 2026-11-23 weekly`, or `... by hand` for a run that a person started."""
    name = deployment.name or f"retrain-{flow_run.parameters.get('dataset', 'all')}"
    tags = set(flow_run.tags)
    cadence = next((word for word in CADENCES if word in tags), "scheduled") if "auto-scheduled" in tags else "by hand"
    return f"{name} {flow_run.scheduled_start_time:%Y-%m-%d} {cadence}"


def fail_with_message(function: Callable[P, R]) -> Callable[P, R]:
    """End a flow in a failed state with the fault's own words, where its input or environment is at fault.

    The caller of the flow sees the same exception as ever; the run page shows one sentence instead of a traceback.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except RejectedError as error:
            return Failed(name="Rejected", message=str(error), data=error)
        except RetrainError as error:
            return Failed(message=str(error), data=error)

    return guarded


def limit_restarts() -> None:
    """End a run that has crashed again and again, which the server would otherwise schedule for ever.

    Raises:
        RetrainError: This is one start too many.
    """
    starts = int(flow_run.run_count or 0)
    if starts > MAX_STARTS:
        raise RetrainError(f"this run was started {starts} times, {MAX_STARTS} are allowed: see why it crashed, run it anew")


def outcome(decision: Decision, *, table: TableRef, models: Sequence[ModelRef], result: dict[str, Any]) -> State[Any]:
    """Return the final state of a retrain: what it decided, or that there was nothing to do."""
    if not table.published and not any(model.trained for model in models) and decision.outcome == "kept":
        return Completed(name="Skipped", message=f"Skipped: nothing changed since table {table.version}", data=result)
    return Completed(message=decision.reason, data=result)
