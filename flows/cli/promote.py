"""The command `retrain promote`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flows.cli.rollback import service_api, tell_the_service


def promote(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION to make champion.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Make a version champion by hand, after a load check. It can be an older version."""
    from storage.layout import Store
    from storage.registry import Registry
    from tasks.promotion.promote import promote_by_hand

    store = Store.from_environment()
    api = service_api(store)
    decision = promote_by_hand(model, registry=Registry.open(store), store=store)
    tell_the_service(decision, model=model.partition("@")[0], api=api)
    typer.echo(json.dumps({"outcome": decision.outcome, "reason": decision.reason}) if as_json else decision.reason)
