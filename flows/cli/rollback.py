"""The command `retrain rollback`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storage.layout import Store
    from tasks.promotion.rule import Decision


def rollback(
    model: Annotated[str, typer.Argument(help="Registered model, such as a data set, or with -sample its simulation.")],
    *,
    reason: Annotated[str, typer.Option(help="Why the champion is taken out of use.")],
    person: Annotated[str | None, typer.Option(help="Who says so; the user of this shell if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Make the champion before the present one champion again, after a load check. What is rolled back stays out of use."""
    from flows.cli.settings import settings_of
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.config import RollbackSettings
    from tasks.promotion.log import current_person
    from tasks.promotion.rollback import roll_back

    typed = {"model": model, "reason": reason, "person": person or current_person()}
    settings = settings_of(RollbackSettings, typed, command="rollback", options={"model": "MODEL"})
    store = Store.from_environment()
    api = service_api(store)
    decision = roll_back(settings, registry=Registry.open(store), store=store)
    tell_the_service(decision, model=model, api=api)
    typer.echo(json.dumps({"outcome": decision.outcome, "reason": decision.reason}) if as_json else decision.reason)


def service_api(store: Store) -> str | None:
    """Return the API of the Prefect server that runs, if one does.

    Raises:
        SettingError: It wants another user or password; told before anything is decided of which it must hear.
    """
    from flows.runtime.automations import check_access
    from flows.runtime.service import is_healthy, running_api

    api = os.environ.get("PREFECT_API_URL") or running_api(store)
    if api is None or not is_healthy(f"{api}/health"):
        return None
    check_access(api)
    return api


def tell_the_service(decision: Decision, *, model: str, api: str | None) -> None:
    """Emit the event of a new champion on the Prefect server that runs, if one does; nobody else listens."""
    if api is None:
        return
    os.environ["PREFECT_API_URL"] = api
    from flows.runtime.server import flush_logs_and_events
    from tasks.promotion.steps import tell_of_champion

    tell_of_champion(decision, model=model)
    flush_logs_and_events()
