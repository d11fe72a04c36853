"""The address of the web page: ``[HOST:]PORT``."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgelidError

DEFAULT_HOST = "127.0.0.1"
# There while the daemon of multicast DNS runs.
AVAHI = (Path("/run/avahi-daemon/socket"), Path("/var/run/avahi-daemon/socket"))
EXPECTED = 'a port, or host and port, such as "8080", "0.0.0.0:8080" or "[::]:8080"'


@dataclass(frozen=True)
class Address:
    """Host and port to listen on.

    Attributes
    ----------
    host : str
        Name or IP address, without brackets.
    port : int
        0 for any that is free.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this device reaches it."""
        address = _ip_address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def url_host(self) -> str:
        """The host as it stands in an address of the web: IPv6 in brackets."""
        return _in_brackets(self.host)

    def url(self) -> str:
        """Address of the page, as this device's neighbours would write it."""
        host = self.host
        address = _ip_address(host)
        if address is not None and address.is_unspecified:
            host = _name_for_others(address.version)
        return f"http://{_in_brackets(host)}:{self.port}/"


def parse_address(text: str) -> Address:
    """Read ``[HOST:]PORT``; IPv6 addresses stand in brackets.

    Raises
    ------
    EdgelidError
        If it is none.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if ":" in host or bare != host:
        fits = host == f"[{bare}]" and _ip_address(bare) is not None
    else:
        fits = (bool(host) or not colon) and _may_be_a_name(host)
    is_number = port.isascii() and port.isdecimal() and len(port) <= 5
    if not (fits and is_number and int(port) <= 65_535):
        raise EdgelidError(f"{text!r} is no place for a web page: give {EXPECTED}.")
    return Address(bare or DEFAULT_HOST, int(port))


def problem(text: str) -> str | None:
    """What a setting must be, if it is no address; "" is none, and all right."""
    try:
        if text:
            parse_address(text)
    except EdgelidError:
        return EXPECTED
    return None


def _may_be_a_name(host: str) -> bool:
    """Whether it can be looked up at all."""
    try:
        host.encode("idna")
    except UnicodeError:  # an empty label, or one that is too long
        return False
    return True


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name_for_others(version: int) -> str:
    """Of this device, as others in its network can ask for it.

    The name of the machine alone is known to few networks: its name in multicast DNS, where
    someone answers to that, or the address from which it would speak to the outside.
    """
    name = socket.gethostname()
    if any(path.exists() for path in AVAHI):
        return f"{name.partition('.')[0]}.local"
    # From documentation, and nowhere: choosing a route sends nothing.
    routes = [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]
    for family, elsewhere in routes if version == 6 else routes[:1]:
        with (
            contextlib.suppress(OSError),
            socket.socket(family, socket.SOCK_DGRAM) as unconnected,
        ):
            unconnected.connect((elsewhere, 9))
            return str(unconnected.getsockname()[0])
    return name


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
