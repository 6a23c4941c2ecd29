"""Whether the ports of the service are free, before anything of it is started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from storage.environment import variable
from storage.errors import SettingError


def refuse_taken_ports(host: str, ports: Mapping[str, int]) -> None:
    """Try each port.

    Args:
        host: Address on which the service will listen.
        ports: By server.

    Raises:
        SettingError: The address is none of this machine, or something listens on a port.
    """
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError:
        raise _foreign_host(host) from None
    for name, port in ports.items():
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise _foreign_host(host) from None
                raise SettingError(
                    f"port {port} on {host} cannot be used for {name} ({error.strerror}): "
                    f"stop what listens there, or set {variable(f'{name}_port')}"
                ) from error


def _foreign_host(host: str) -> SettingError:
    return SettingError(
        f"{variable('host')} is {host!r}, expected an address of this machine, on which the service listens: "
        f"0.0.0.0 is every address; the name under which others reach it is {variable('public_host')}"
    )
