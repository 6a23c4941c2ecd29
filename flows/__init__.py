"""Order, schedule and placement of the work; no computation."""

from __future__ import annotations

import os

# Every part is silent towards its makers unless a person says otherwise, and results are JSON, never pickles.
# Prefect reads its variables once, when it is first imported, so they stand here.
_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # In memory, as by default, a server that is killed forgets the leases and keeps their devices taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "retrain",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
