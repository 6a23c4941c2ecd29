"""What the tests of one host's service and those of several hosts share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

OFTEN = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
}
"""How often server and workers look for what is due: Prefect's own 5 to 60 s would be most of what a test waits for."""
DIALOG: dict[str, Any] = {
    "data": {
        "source": None,
        "accept_reason": None,
        "accepted_by": None,
        "options": {"continue_to": None},
        "split": {"rule": None},
    },
    "training": {"epochs": None, "run_on": None, "forecast": {"target": None}},
    "promotion": {"margin": None},
}
"""What the dialog of a schedule stores when a person changes its hour alone; `test_ui.py` looks at a real one."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
