"""MLflow's server as one process, so that whoever ends it, or finds it dead, has to do with nothing beside it.

python -m flows.runtime.mlflow_server server --host HOST --port PORT

MLflow's own command starts the server as a child and waits. If the child is killed, the command ends with code 0, as if it was
told to; if the command is killed, the child goes on and holds the port.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn


def _become(command: list[str], *, extra_env: dict[str, str] | None = None, **_: Any) -> NoReturn:
    """Replace this process by a command, where MLflow would start it as a child."""
    os.execvpe(command[0], command, {**os.environ, **(extra_env or {})})  # noqa: S606  (MLflow's own words)


def main() -> None:
    """Run a command of MLflow; `make up` starts its server this way."""
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = _become
    cli(prog_name="mlflow")


if __name__ == "__main__":
    main()
