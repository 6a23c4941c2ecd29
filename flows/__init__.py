"""The flows: order, schedule and placement of the work. They compute nothing."""

from __future__ import annotations

import os

# Telemetry is off unless a person turns it on, and results are JSON, never pickles. The defaults are set here because
# Prefect reads its variables only once, when it is first imported.
_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # By default leases are in memory: a server that is killed would forget them, and their devices would stay reserved forever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "retrain",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
