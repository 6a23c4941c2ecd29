"""The flows: order, schedule and placement of the work. They compute nothing."""

from __future__ import annotations

import logging
import os

from storage.library_variables import set_library_variables
from storage.redaction import RedactingFilter

# Prefect reads its variables once, when it is first imported, so they are set here. Results are JSON, never pickles.
_PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # By default leases are in memory: a server that is killed forgets them, and their devices stay taken forever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "retrain",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Two minutes of 2, 4, 8 ... seconds; by default a run gives a server up that is away for one.
    "PREFECT_CLIENT_MAX_RETRIES": "6",
}
for _name, _value in _PREFECT_DEFAULTS.items():
    os.environ.setdefault(_name, _value)
set_library_variables()
_logger = logging.getLogger("retrain")
_logger.addFilter(RedactingFilter())
# Prefect adds its handler and no level: without one, only warnings would reach the page of a run.
_logger.setLevel(logging.INFO)
