"""Where each command stands in `retrain --help`, and an example of it for its own help."""

from __future__ import annotations

from typing import Any, NamedTuple

START, DATA, MODELS, SERVICE, CARE = "Begin here", "Data", "Models", "Service", "Care"


class Shown(NamedTuple):
    """The panel of a command, and its example."""

    panel: str
    example: str


COMMANDS = {
    "run": Shown(START, "retrain run --data sample"),
    "models": Shown(START, "retrain models"),
    "show": Shown(START, "retrain show MODEL@champion"),
    "ingest": Shown(DATA, "retrain ingest --data mirror"),
    "tables": Shown(DATA, "retrain tables DATASET"),
    "variants": Shown(MODELS, "retrain variants DATASET"),
    "compare": Shown(MODELS, "retrain compare MODEL@3 MODEL@5"),
    "promote": Shown(MODELS, "retrain promote MODEL@3"),
    "rollback": Shown(MODELS, 'retrain rollback MODEL --reason "Forecasts are 3 °C too warm since Monday."'),
    "predict": Shown(MODELS, "retrain predict MODEL --at 2024-06-01T12:00"),
    "serve": Shown(MODELS, "retrain serve MODEL@champion --port 5002"),
    "monitor": Shown(MODELS, "retrain monitor MODEL"),
    "reproduce": Shown(MODELS, "retrain reproduce --data upstream --seeds 3"),
    "demo": Shown(START, "retrain demo"),
    "up": Shown(SERVICE, "retrain up"),
    "status": Shown(SERVICE, "retrain status --json"),
    "down": Shown(SERVICE, "retrain down"),
    "worker": Shown(SERVICE, "retrain worker gpu"),
    "runs": Shown(SERVICE, "retrain runs --limit 5"),
    "logs": Shown(SERVICE, "retrain logs 0f3c --warnings"),
    "notify": Shown(SERVICE, "retrain notify list"),
    "notify add": Shown(SERVICE, "retrain notify add slack --url-from-env SLACK_ADDRESS"),
    "notify list": Shown(SERVICE, "retrain notify list"),
    "notify test": Shown(SERVICE, "retrain notify test slack"),
    "notify remove": Shown(SERVICE, "retrain notify remove slack"),
    "doctor": Shown(CARE, "retrain doctor --json"),
    "verify": Shown(CARE, "retrain verify --repair"),
    "gc": Shown(CARE, "retrain gc --older-than 30d"),
    "schema": Shown(CARE, "retrain schema models"),
}


def help_of(name: str) -> dict[str, Any]:
    """Return the arguments of Typer's `command` that place a command in the help and give its example."""
    panel, example = COMMANDS[name]
    return {"rich_help_panel": panel, "epilog": f"Example: {example}"}
