"""A first look at the service: a run of each retrain on the sample, with a budget of minutes."""

from __future__ import annotations

from flows.runtime.automations import ask
from flows.runtime.service import Service

FLOW = "retrain"
# Enough for models that beat their baselines on the sample, in minutes on two cores.
BUDGET = {"epochs": 3, "steps_per_epoch": 40}


def press_run(service: Service) -> dict[str, str]:
    """Start a run of each deployment of the flow `retrain` on the sample, and return its page by the name of the deployment."""
    api = f"{service.address('prefect')}/api"
    deployments = ask(api, "/deployments/filter", {"flows": {"name": {"any_": [FLOW]}}})
    pages = {}
    for deployment in sorted(deployments, key=lambda entry: str(entry["name"])):
        parameters = {"data": {"data": "sample"}, "training": BUDGET}
        run = ask(api, f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        pages[str(deployment["name"])] = f"{service.public_address('prefect')}/v2/runs/flow-run/{run['id']}"
    return pages
