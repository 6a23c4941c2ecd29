"""The command `retrain schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="Command that takes --json, such as models.")],
) -> None:
    """Print the JSON Schema of what a command prints with --json; its $id ends with the version."""
    from flows.cli.answers import ANSWERS, schema_of
    from storage.errors import unknown

    name = " ".join(command)
    if name not in ANSWERS:
        raise unknown("command", name, where="retrain schema", choices=ANSWERS)
    typer.echo(json.dumps(schema_of(name), indent=2, ensure_ascii=False))
