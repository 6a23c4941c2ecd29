"""Answer commands from standard input, one JSON object a line, beside one Prefect server; exit codes go to the given pipe."""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

from storage.layout import Store
from tasks.datasets.jena.station import ADDRESSES as KNOWN_ADDRESSES


def run_flow(name: str, parameters: dict[str, Any]) -> int:
    """Run a flow and print its final state, its message and its result."""
    flow = getattr(import_module(f"flows.{name}"), name)
    state = flow(**parameters, return_state=True)
    result = state.result(raise_on_failure=False)
    plain = result.model_dump(mode="json") if hasattr(result, "model_dump") else str(result)
    sys.stdout.write(json.dumps({"state": state.name, "message": state.message, "result": plain}))
    return 0


def answer(request: dict[str, Any]) -> int:
    from flows.cli.app import main
    from tasks.datasets.jena import station

    for name in ("RETRAIN_MIRROR", "RETRAIN_TODAY"):
        os.environ.pop(name, None)
    os.environ.update(request["environment"])
    # A test that plays the station must reach no real host, whatever network it runs on.
    station.ADDRESSES = tuple(request.get("known_addresses") or KNOWN_ADDRESSES)
    try:
        if "flow" in request:
            return run_flow(request["flow"], request["parameters"])
        if "ingest" in request:
            from flows.ingest import ingest
            from tasks.config import DataSettings

            sys.stdout.write(ingest(request["ingest"], DataSettings(**request["data"])).model_dump_json())
            return 0
        sys.argv = ["retrain", *request["arguments"]]
        main(request["arguments"])
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    from flows.runtime.server import prefect_server

    with os.fdopen(int(sys.argv[1]), "w") as replies, prefect_server(Store.from_environment()):
        for line in sys.stdin:
            code = answer(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            replies.write(f"{code}\n")
            replies.flush()


if __name__ == "__main__":
    serve()
