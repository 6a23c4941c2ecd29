"""Variables that other libraries read, set for this process and those that it starts."""

from __future__ import annotations

import os

# Telemetry, pickles and output at the terminal are never wanted here.
_VALUES = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Two lines with the addresses of run and experiment, at the end of each run against a tracking server.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# A value that a person has set stays.
_DEFAULTS = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # An object store that is restarted is waited for: some two minutes, where the default gives up after seconds.
    "AWS_RETRY_MODE": "standard",
    "AWS_MAX_ATTEMPTS": "15",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def set_library_variables() -> None:
    """Set the variables; call it before one of the libraries is imported."""
    os.environ.update(_VALUES)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    bypass_proxies(*_LOOPBACK)


def bypass_proxies(*hosts: str) -> None:
    """Let no proxy take requests to these hosts, beside those that `NO_PROXY` names; a proxy knows another loopback."""
    # Libraries read one of the two names, and not all the same one.
    named = [host.strip() for name in ("NO_PROXY", "no_proxy") for host in os.environ.get(name, "").split(",")]
    listed = dict.fromkeys(host for host in [*named, *hosts] if host)
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(listed)
