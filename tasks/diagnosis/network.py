"""Check what is reached over the network: servers, their clocks, and the ports of the service. Each question is short."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from storage.environment import variable
from storage.redaction import without_secrets
from tasks.diagnosis.finding import Finding, Level

ANSWER_S = 3.0
# Leases of devices last 90 s and heartbeats are missed after 90 s; the header `Date` has whole seconds.
LATE_S, WRONG_S = 5.0, 60.0
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Server:
    """A server that is asked.

    Attributes:
        name: As people call it.
        address: Base address.
        path: What is asked for, such as `/health`.
        remedy: What to do if it does not answer.
        headers: Such as those of a password; never told.
    """

    name: str
    address: str
    path: str
    remedy: str
    headers: Mapping[str, str]


def ask(url: str, *, headers: Mapping[str, str] | None = None, method: str = "GET") -> httpx.Response:
    """Ask a server once; loopback is never asked by way of a proxy.

    Raises:
        httpx.HTTPError: It does not answer.
    """
    with httpx.Client(timeout=ANSWER_S, trust_env=not is_loopback(url), follow_redirects=True) as client:
        return client.request(method, url, headers=dict(headers or {}))


def is_loopback(url: str) -> bool:
    """Tell whether an address is of this host by its name or number."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_server(server: Server) -> Iterator[Finding]:
    """Ask a server whether it is there and lets this host in, and compare its clock with that of this host."""
    where = f"{server.name} at {without_secrets(server.address)}"
    try:
        answer = ask(server.address.rstrip("/") + server.path, headers=server.headers)
    except httpx.HTTPError as error:
        yield Finding("reachable", "fault", f"{where} does not answer ({type(error).__name__})", server.remedy)
        return
    if answer.status_code in (401, 403):
        host = "a password, or the name of the host, is refused"
        remedy = "set RETRAIN_AUTH as on the server; a server of MLflow must name this host among its allowed hosts"
        yield Finding("reachable", "fault", f"{where} answers {answer.status_code}: {host}", remedy)
    elif answer.status_code >= 400:
        yield Finding("reachable", "fault", f"{where} answers {answer.status_code}", "see its log, or correct the address")
    else:
        yield Finding("reachable", "ok", f"{where} answers")
    yield from clock_findings(answer.headers.get("date"), whose=server.name)


def clock_findings(
    date: str | None, *, whose: str, now: Callable[[], datetime] = lambda: datetime.now(tz=UTC)
) -> Iterator[Finding]:
    """Compare the time that a server sent with that of this host."""
    if not date:
        return
    try:
        apart_s = (parsedate_to_datetime(date) - now()).total_seconds()
    except (TypeError, ValueError):
        return
    text = f"the clock of {whose} and that of this host are {abs(apart_s):.0f} s apart"
    if abs(apart_s) < LATE_S:
        yield Finding("clocks", "ok", text)
    else:
        level: Level = "fault" if abs(apart_s) >= WRONG_S else "warning"
        yield Finding("clocks", level, text, "set both by NTP: leases and heartbeats end after 90 s")


def check_object_store(address: str, *, endpoint: str | None) -> Iterator[Finding]:
    """Ask the host of an object store for the time; anybody may, and whether the keys are right is told by the check `store`."""
    url = endpoint or ("https://s3.amazonaws.com" if address.startswith("s3://") else None)
    if url is None:
        return
    try:
        answer = ask(url, method="HEAD")
    except httpx.HTTPError as error:
        remedy = "start it, or correct AWS_ENDPOINT_URL"
        yield Finding(
            "reachable", "fault", f"the object store at {without_secrets(url)} does not answer ({type(error).__name__})", remedy
        )
        return
    yield Finding("reachable", "ok", f"the object store at {without_secrets(url)} answers")
    yield from clock_findings(answer.headers.get("date"), whose="the object store")


def check_mirror(mirror: str) -> Iterator[Finding]:
    """Look whether a mirror has its list of digests."""
    remedy = "correct RETRAIN_MIRROR, or make the list there with sha256sum"
    if not mirror.startswith(("http://", "https://")):
        folder = Path(mirror.removeprefix("file://")).expanduser()
        if (folder / SUMS).is_file():
            yield Finding("reachable", "ok", f"the mirror {folder} has {SUMS}")
        else:
            yield Finding("reachable", "fault", f"the mirror {folder} has no {SUMS}", remedy)
        return
    try:
        status = ask(f"{mirror.rstrip('/')}/{SUMS}", method="HEAD").status_code
    except httpx.HTTPError as error:
        yield Finding(
            "reachable", "fault", f"the mirror {without_secrets(mirror)} does not answer ({type(error).__name__})", remedy
        )
        return
    if status == 200:
        yield Finding("reachable", "ok", f"the mirror {without_secrets(mirror)} has {SUMS}")
    else:
        yield Finding("reachable", "fault", f"the mirror {without_secrets(mirror)} answers {status} for {SUMS}", remedy)


def check_ports(host: str, ports: Mapping[str, int], *, is_running: bool) -> Iterator[Finding]:
    """Tell which ports of the service are free, or held by the service itself.

    Args:
        host: Address on which the service listens.
        ports: By the name of the server.
        is_running: Whether the service of this store runs, which then holds them.
    """
    for name, port in ports.items():
        taken = _taken(host, port)
        if taken and is_running:
            yield Finding("ports", "ok", f"{port} is held by {name} of this service")
        elif taken:
            remedy = f"stop what listens there, or set {variable(f'{name}_port')}"
            yield Finding("ports", "fault", f"{port} on {host} cannot be used for {name} ({taken})", remedy)
        elif is_running:
            yield Finding(
                "ports", "fault", f"nothing listens on {port} for {name}, and the service runs", "make down, then make up"
            )
        else:
            yield Finding("ports", "ok", f"{port} is free for {name}")


def _taken(host: str, port: int) -> str:
    """Return why a port cannot be bound; empty if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or type(error).__name__
    return ""
