"""Variables that other libraries read, set for this process and those that it starts."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit, urlunsplit

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
    _take_credentials("MLFLOW_TRACKING_URI", user="MLFLOW_TRACKING_USERNAME", password="MLFLOW_TRACKING_PASSWORD")  # noqa: S106
    _take_credentials("PREFECT_API_URL", both="PREFECT_API_AUTH_STRING")


def _take_credentials(name: str, *, user: str = "", password: str = "", both: str = "") -> None:
    """Move user and password from an address, which is shown and stored, to the variables that its client reads."""
    address = os.environ.get(name, "")
    try:
        parts = urlsplit(address)
    except ValueError:
        return  # this is called when the project is imported; `require_sound_addresses` tells of it once a command runs
    if parts.scheme not in ("http", "https") or not parts.username:
        return
    values = unquote(parts.username), unquote(parts.password or "")
    for variable, value in ((user, values[0]), (password, values[1]), (both, ":".join(values))):
        if variable:
            os.environ.setdefault(variable, value)
    os.environ[name] = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], *parts[2:]))


def bypass_proxies(*hosts: str) -> None:
    """Let no proxy take requests to these hosts, beside those that `NO_PROXY` names; a proxy knows another loopback."""
    # Libraries read one of the two names, and not all the same one.
    named = [host.strip() for name in ("NO_PROXY", "no_proxy") for host in os.environ.get(name, "").split(",")]
    listed = dict.fromkeys(host for host in [*named, *hosts] if host)
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(listed)
