"""The commands `retrain notify`: who is told what happens on the service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows.cli.examples import help_of

notify = typer.Typer(help="Tell people by Slack, Teams, e-mail or a webhook what happens on the service.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the channel: see retrain notify list.")]


@notify.command(epilog=help_of("notify add")["epilog"])
def add(
    service: Annotated[str, typer.Argument(help="slack, teams, email or webhook.")],
    *,
    url_from_env: Annotated[
        str, typer.Option(help="Variable of the environment that holds the address; never the address itself.")
    ],
    on: Annotated[str | None, typer.Option(help="What the channel is told of, separated by commas, or all.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the channel; that of the service if not given.")] = None,
) -> None:
    """Send a test message to an address, and tell it from now on what happens."""
    from flows.runtime.notifications import USUAL_KINDS, add_channel, message_kinds
    from storage.errors import SettingError

    address = os.environ.get(url_from_env, "")
    if not address:
        raise SettingError(
            f"variable {url_from_env!r} is empty or not set: put the address into it, and name it by --url-from-env"
        )
    kinds = USUAL_KINDS if on is None else tuple(message_kinds()) if on == "all" else tuple(dict.fromkeys(on.split(",")))
    channel = add_channel(_api(), service=service, name=name or service, address=address.strip(), kinds=kinds)
    typer.echo(f"{channel.name}: test message sent; is told of {', '.join(channel.kinds)}")


@notify.command(name="list", epilog=help_of("notify list")["epilog"])
def list_all() -> None:
    """List the channels, and what each is told of."""
    from flows.runtime.notifications import list_channels, message_kinds

    channels = list_channels(_api())
    for channel in channels:
        typer.echo(f"{channel.name} ({channel.service}): {', '.join(channel.kinds) or 'nothing'}")
    if not channels:
        typer.echo("No channel yet: retrain notify add slack --url-from-env VARIABLE. What it can be told of:")
        for kind, template in message_kinds().items():
            typer.echo(f"  {kind:<12} {template['description']}")


@notify.command(epilog=help_of("notify test")["epilog"])
def test(name: NameArgument) -> None:
    """Send a test message to a channel."""
    from flows.runtime.notifications import send_test

    send_test(_api(), name)
    typer.echo(f"{name}: test message sent")


@notify.command(epilog=help_of("notify remove")["epilog"])
def remove(name: NameArgument) -> None:
    """Remove a channel and its address."""
    from flows.runtime.notifications import remove_channel

    remove_channel(_api(), name)
    typer.echo(f"{name}: removed")


def _api() -> str:
    """Return the API of the Prefect server that runs, and let Prefect use it.

    Raises:
        SettingError: None runs, or it wants another user or password.
    """
    from flows.runtime.automations import check_access
    from flows.runtime.service import is_healthy, running_api
    from storage.errors import SettingError
    from storage.layout import Store

    api = os.environ.get("PREFECT_API_URL") or running_api(Store.from_environment())
    if api:
        check_access(api)
    if api is None or not is_healthy(f"{api}/health"):
        raise SettingError(
            f"no Prefect server answers at {api or 'the service of this store'}: start it (retrain up), or set PREFECT_API_URL"
        )
    os.environ["PREFECT_API_URL"] = api
    return api
