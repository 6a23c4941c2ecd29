"""Answer commands from standard input, one JSON object a line, beside one Prefect server; exit codes go to the given pipe."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from storage.layout import Store
from tasks.datasets.jena.station import ADDRESSES as KNOWN_ADDRESSES


def answer(request: dict[str, Any]) -> int:
    from flows.cli.app import main
    from tasks.datasets.jena import station

    for name in ("RETRAIN_MIRROR", "RETRAIN_TODAY"):
        os.environ.pop(name, None)
    os.environ.update(request["environment"])
    # A test that plays the station must reach no real host, whatever network it runs on.
    station.ADDRESSES = tuple(request.get("known_addresses") or KNOWN_ADDRESSES)
    try:
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
