"""Names and final states of runs, as people read them in the list of runs."""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect.client.schemas import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.runtime.replaced import end_if_replaced
from flows.runtime.run_settings import filled_from_deployment, settings_of_run
from storage.environment import Environment
from storage.errors import RejectedError, ReplacedError, RetrainError
from storage.references import ModelRef, PredictionRef, Reference, TableRef
from storage.remote_store import known_error
from storage.temporary import use_own_temporary_folder
from tasks.promotion.rule import Decision

P = ParamSpec("P")
R = TypeVar("R")

# Of one run, each Retry of a person among them; runs that crash again and again are stopped by `flows.runtime.recovery`.
MAX_STARTS = 20
CADENCES = ("hourly", "daily", "weekly", "monthly")


# What Prefect calls a run that nobody has named: an adjective and an animal, such as `old-fashioned-guinea pig`.
_GENERATED_NAME = re.compile(r"[a-z]+(-[a-z]+)+( [a-z]+)?", re.IGNORECASE)


def run_name() -> str:
    """Return a name such as `retrain-<data set> 2026-11-23 weekly`; a name that a person gave stays.

    A person's name of words with hyphens alone, such as `friday-test`, cannot be told from those that Prefect makes up.

    Of a run that a person started, the name has the minute and ends in `by hand`. `SAMPLE` stands in the name of a run on the
    simulation.
    """
    given = str(flow_run.name or "")
    # A run of a deployment that was started before has this name already.
    if given and not _GENERATED_NAME.fullmatch(given):
        return given
    parameters = filled_from_deployment() or flow_run.parameters
    name = deployment.name or f"retrain-{parameters.get('dataset', 'all')}"
    tags = set(flow_run.tags)
    started = flow_run.scheduled_start_time
    data = parameters.get("data")
    origin = data.get("data") if isinstance(data, dict) else getattr(data, "data", None)
    end = " SAMPLE" if origin == "sample" else ""
    if "auto-scheduled" in tags:
        cadence = next((word for word in CADENCES if word in tags), "scheduled")
        return f"{name} {started:%Y-%m-%d} {cadence}{end}"
    return f"{name} {started:%Y-%m-%d %H:%M} by hand{end}"


def run_of_project(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a flow with what every run of the project needs.

    What the parameters leave open is filled in, see `flows.runtime.run_settings`. A `RetrainError` ends the run in a failed state
    with the message of the error: the page of the run then shows one sentence and no traceback. The caller of the flow still gets
    the exception. The process of a run that was replaced ends without any state.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        use_own_temporary_folder()
        with end_if_replaced():
            try:
                return cast("Any", function)(**settings_of_run(function, *args, **kwargs))
            except RejectedError as error:
                return Failed(name="Rejected", message=str(error), data=error)
            except ReplacedError as error:
                return Failed(name="Replaced", message=str(error), data=error)
            except RetrainError as error:
                return Failed(message=str(error), data=error)
            except Exception as error:
                known = known_error(error, home=Environment.read().home)
                if known is None:
                    raise
                return Failed(message=str(known), data=known)

    return guarded


def limit_restarts() -> None:
    """Fail a run that was started too often.

    Raises:
        RetrainError: The run was started more than `MAX_STARTS` times.
    """
    starts = int(flow_run.run_count or 0)
    if starts > MAX_STARTS:
        raise RetrainError(
            f"this run was started {starts} times, at most {MAX_STARTS} are allowed: find out why, then start a new run"
        )


def _stale_message(table: TableRef) -> str:
    return f"Stale: the newest reading is of {table.newest}, and nothing newer has come for longer than expected"


def ingested_state(table: TableRef) -> State[Any]:
    """Return the final state of an ingest: `Stale`, `Skipped` if nothing was published, or completed."""
    name = "Stale" if table.stale else "Completed" if table.published else "Skipped"
    return Completed(name=name, message=ingested_message(table), data=table)


def ingested_message(table: TableRef) -> str:
    """Return what came of an ingest, in a sentence."""
    if table.stale:
        return _stale_message(table)
    if not table.published:
        return _skipped_message(table)
    newest = f", newest reading of {table.newest}" if table.newest else ""
    return f"Published table {table.version}{newest}"


def _skipped_message(table: TableRef) -> str:
    newest = f": the newest reading is of {table.newest}" if table.newest else ""
    return f"Skipped: nothing changed since table {table.version}{newest}"


def predicted_state(issued: PredictionRef) -> State[Any]:
    """Return the final state of a prediction: `Skipped` if the same was issued before."""
    if not issued.kept:
        return Completed(name="Skipped", message=f"Issued before: {issued.summary}", data=issued)
    return Completed(message=issued.summary, data=issued)


# A candidate that did not pass leaves the champion as it was. `Rejected` is data that did not pass.
_STATE_OF_OUTCOME = {"promoted": "Promoted", "kept": "Kept", "rejected": "Kept", "manual": "Waiting"}


def final_state(decision: Decision, *, table: TableRef, models: Sequence[ModelRef], result: dict[str, Any]) -> State[Any]:
    """Return the final state of a retrain, whose name says in the list of runs what happened.

    `Stale` is a source that has brought nothing for longer than expected, and `Skipped` a run to which nothing was new. Else it
    is the decision: `Promoted`, `Kept` (the champion stays), or `Waiting` for a person.
    """
    # A run that was started again may find everything made by its first start, which was no run to skip.
    is_first_start = int(flow_run.run_count or 1) <= 1
    nothing_new = not table.published and not any(model.trained for model in models)
    if table.stale:
        name, message = "Stale", f"{_stale_message(table)}. {decision.reason}"
    elif nothing_new and decision.outcome == "kept" and is_first_start:
        name, message = "Skipped", _skipped_message(table)
    else:
        name, message = _STATE_OF_OUTCOME[decision.outcome], decision.reason
    if result.get("champion_warning"):
        message = f"{message}. {result['champion_warning']}"
    return Completed(name=name, message=f"SAMPLE: {message}" if table.simulated else message, data=result)


def monitored_state(summary: str, *, result: dict[str, Any], is_new: bool) -> State[Any]:
    """Return the final state of a run of monitoring: what it found, or `Skipped` if nothing came since an equal run."""
    if is_new:
        return Completed(message=summary, data=result)
    return Completed(name="Skipped", message=f"Skipped: nothing came since the last run. {summary}", data=result)


def verified_state(summary: str, *, result: Reference, is_whole: bool) -> State[Any]:
    """Return the final state of a verification: `Damaged`, which is a failure, if damage is left."""
    if is_whole:
        return Completed(message=summary, data=result)
    return Failed(name="Damaged", message=f"{summary}: see the artifact verification", data=result)
