"""The one way out of the cluster for URLs that stand in somebody's resource.

An owner of a model may name any URL, so the URL is not trusted: https only, hosts that the
installation allows, and no address that only this cluster or this machine can reach. The address
that was checked is the one that is connected to, so a name cannot change its meaning in between.
"""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from threading import Timer
from typing import Final
from urllib.parse import urlsplit

from headgate_api.errors import TerminalError, Unavailable

SILENCE: Final = 10.0  # s
PIECE: Final = 256 * 1024
TRANSLATED: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "2002::/16")))
"""IPv6 addresses that lead to an IPv4 address of somebody's choice."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def public(address: Address) -> bool:
    """Say whether anybody on the internet could reach it: no loopback, link-local or cluster's own.

    >>> [public(ipaddress.ip_address(a)) for a in ("93.184.215.14", "169.254.169.254", "10.0.0.1")]
    [True, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return public(address.ipv4_mapped)
        if any(address in network for network in TRANSLATED):
            return False
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int) -> list[str]:
    """Look a host up. It waits."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Egress:
    """Fetches files. All of it waits: use it in a thread.

    Args:
        hosts: that may be asked, each as it stands in the URL: with its port, if it is not 443.
        reachable: says whether an address may be connected to.
        look_up: finds the addresses of a host.
        tls: of the connection.
        seconds: for everything from the connection on.
    """

    hosts: Collection[str] = ()
    reachable: Callable[[Address], bool] = public
    look_up: Callable[[str, int], list[str]] = resolve
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    seconds: float = 60.0

    def fetch(self, url: str, most: int) -> bytes:
        """Return what is there, at most `most` bytes of it.

        Raises:
            TerminalError: it may not be fetched, or is not what it should be.
            Unavailable: not now.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 443
        except ValueError as error:
            raise TerminalError(f"it is no URL: {error}") from error
        if parts.scheme != "https" or host is None:
            raise TerminalError("only https:// is fetched")
        if parts.netloc.lower() not in self.hosts:
            raise TerminalError(f"{host} is not among the hosts that may be asked")
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        try:
            connection = _Connection(host, port, self._address(host, port), self.tls)
            watch = Timer(self.seconds, connection.cut)
            watch.start()
            try:
                return _read(connection, path, most)
            finally:
                watch.cancel()
                connection.close()
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{host}: {error}") from error

    def _address(self, host: str, port: int) -> str:
        found = self.look_up(host, port)
        for address in found:
            if not self.reachable(ipaddress.ip_address(address)):
                raise TerminalError(f"{host} leads to {address}, which is not public")
        return found[0]


class _Connection(HTTPSConnection):
    """Connects to an address, and knows the host only for its certificate."""

    def __init__(self, host: str, port: int, address: str, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=SILENCE, context=tls)
        self._address = address
        self._tls = tls

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        self.sock.do_handshake()

    def cut(self) -> None:
        """End it, whatever is waited for."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def _read(connection: _Connection, path: str, most: int) -> bytes:
    connection.request("GET", path, headers={"Accept-Encoding": "identity"})
    answer = connection.getresponse()
    if answer.status != 200:  # nothing is followed: the next place might be anywhere
        raise TerminalError(f"{connection.host} answers {answer.status}")
    found = bytearray()
    while piece := answer.read1(PIECE):
        found += piece
        if len(found) > most:
            raise TerminalError(f"it is longer than {most} bytes")
    if answer.length:
        raise Unavailable(f"{connection.host} broke off")
    return bytes(found)
