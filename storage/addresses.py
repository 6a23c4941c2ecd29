"""Where a file comes from: a web address, a `file://` URL or a path."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit


def is_web_address(address: str) -> bool:
    """Tell whether an address is fetched over HTTP."""
    return address.lower().startswith(("http://", "https://"))


def host_of(address: str) -> str:
    """Return what to call an address in a message: its host, or the path; never its credentials or query."""
    if not is_web_address(address):
        return str(local_source(address))
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def local_source(address: str) -> Path:
    """Return the path that a `file://` URL or a plain path names."""
    if address.lower().startswith("file://"):
        return Path(unquote(urlsplit(address).path))
    return Path(address).expanduser()
