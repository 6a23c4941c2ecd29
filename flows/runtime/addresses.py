"""Addresses of servers: what a host is, how it stands in an URL, and what of an address is for whom."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit


def origin(address: str) -> str:
    """Return scheme, host and port of an address, by which a browser tells sites apart."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def is_wildcard(host: str) -> bool:
    """Tell whether a host stands for every address of this machine."""
    return host in {"0.0.0.0", "::", ""}  # noqa: S104  (compared, not listened on)


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """Return a host as it stands in an URL."""
    return f"[{host}]" if ":" in host else host


def addresses_of_this_machine() -> set[str]:
    """Return the addresses that the name of this machine has, as they stand in an URL."""
    with contextlib.suppress(OSError):
        return {in_url(str(entry[4][0])) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return set()
