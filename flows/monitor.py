"""The flow `monitor`: it watches the champion of a model at work."""

from typing import Any, cast

from prefect import flow

from flows.states import monitored_state, run_of_project
from tasks.config import MonitorSettings
from tasks.monitoring import steps as monitoring_steps


@flow(name="monitor", flow_run_name="monitor {model}")
@run_of_project
def monitor(model: str, settings: MonitorSettings = MonitorSettings()) -> dict[str, Any]:  # noqa: B008  (frozen)
    """Compare what a model was asked and what came of its predictions with its training, and tell what is not as it was.

    Args:
        model: Registered model, whose champion is watched.
        settings: Windows and thresholds.
    """
    monitored = monitoring_steps.watch(model, settings)
    result = monitoring_steps.show(monitored)
    monitoring_steps.tell(monitored)
    return cast("dict[str, Any]", monitored_state(monitored.summary, result=result, is_new=monitored.is_new))
