"""What the parameters of a run leave open: its deployment says it, or the place where the run is.

Prefect replaces whole parameters. A run, or a schedule, that sets one field of a group loses what the deployment has set in the
others, and the UI's dialog of a schedule stores `null` for fields that nobody has touched. Without this module, a person who only
moves a schedule to another hour would train on another source, at another place, and promote where a person was to decide.
"""

import os
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, get_type_hints

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter, ValidationError

from flows.runtime.replaced import RUN_VARIABLE
from storage.errors import SettingError
from storage.retries import wait_while_away
from tasks.config import DataSettings, TrainSettings, mirror_address

_OF_SOURCE = ("source", "options")


def settings_of_run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the parameters that a flow is called with, and what they leave open filled in.

    Args:
        function: The function of the flow.
        args: Its parameters, as Prefect has read them.
        kwargs: Its parameters, as Prefect has read them.

    Raises:
        SettingError: What the run and its deployment say together cannot be.
    """
    called = signature(function).bind(*args, **kwargs)
    called.apply_defaults()
    parameters = dict(called.arguments)
    hints = get_type_hints(function)
    for name, value in filled_from_deployment().items():
        if name in parameters:
            try:
                parameters[name] = TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join([name, *(str(part) for part in first["loc"])])
                raise SettingError(
                    f"{place} is {first['input']!r} ({first['msg']}), as the run and its deployment say it together: correct it "
                    "in the form of the deployment, or of its schedule"
                ) from None
    on_worker = RUN_VARIABLE in os.environ
    return {name: placed(value, on_worker=on_worker, mirror=mirror_address()) for name, value in parameters.items()}


def placed(value: Any, *, on_worker: bool, mirror: str | None) -> Any:
    """Return a parameter with the choices made that follow from where the run is; other parameters are returned as they are.

    A run of the service never falls back to the sample, because nobody sees the warning, and trains on the pool `gpu`. A run of a
    command trains in processes of its own.

    Args:
        value: Parameter of a flow.
        on_worker: Whether a worker of the service has started the run.
        mirror: The mirror that the environment names, if any.
    """
    if isinstance(value, DataSettings) and value.data == "auto" and on_worker:
        return value.model_copy(update={"data": "mirror" if mirror else "upstream"})
    if isinstance(value, TrainSettings) and value.run_on is None:
        return value.model_copy(update={"run_on": "work_pool" if on_worker else "local"})
    return value


def merged(deployed: Mapping[str, Any], given: Mapping[str, Any], *, null_is_open: bool) -> dict[str, Any]:
    """Return what was given, and what that leaves open as the deployment has it, group by group.

    Options belong to their source: with another source, those of the deployment do not hold. On the sample neither its source nor
    its options do, also where the form of a run has sent them as the deployment has them: nobody has asked for them.

    Args:
        deployed: Parameters of the deployment, or one group of them.
        given: Parameters of the run, or the same group of them.
        null_is_open: Whether a null was left open too. It is what the dialog of a schedule stores; in the form of a run, a person
            who empties a field means none.
    """
    source = given.get("source") or deployed.get("source")
    if given.get("data") == "sample":
        as_deployed = {name for name in _OF_SOURCE if _said(given.get(name)) == _said(deployed.get(name))}
        given = {name: value for name, value in given.items() if name not in as_deployed}
    if given.get("data") == "sample" or source != deployed.get("source"):
        deployed = {name: value for name, value in deployed.items() if name not in _OF_SOURCE}
    result = dict(deployed)
    for name, value in given.items():
        own = deployed.get(name)
        if value is None and null_is_open:
            continue
        if isinstance(value, Mapping):
            result[name] = merged(own if isinstance(own, Mapping) else {}, value, null_is_open=null_is_open)
        else:
            result[name] = value
    return result


def _said(value: Any) -> Any:
    """Return a value without the nulls in it."""
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, Mapping) else value


def filled_from_deployment() -> dict[str, Any]:
    """Return the parameters of this process's run, filled from its deployment; none if no worker started it, or it has none."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or str(run.id) != os.environ.get(RUN_VARIABLE):
        return {}
    try:
        with get_client(sync_client=True) as client:
            deployed = wait_while_away(client.read_deployment)(run.deployment_id).parameters
    except ObjectNotFound:
        return {}
    if not deployed:
        return {}
    return merged(deployed, run.parameters, null_is_open=bool(run.auto_scheduled))
