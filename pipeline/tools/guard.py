"""Connections to addresses that somebody else has named: public ones only, unless a host is expressly allowed.

The address is checked where it counts: each connection is made to an address that was looked up and judged here, not to
a name that may be looked up again.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import httpcore
import trio

FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, UnicodeError)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = (  # hold or held addresses of other networks, and no service of today
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("fec0::/10"),
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class PrivateAddress(Exception):
    """A host has private addresses alone, and is not among the allowed ones."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is a private address")
        self.host = host


async def resolve(host: str, port: int) -> Sequence[str]:
    """Look a host's addresses up.

    Raises:
        OSError: it has none.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public Internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if any(ip in network for network in _TUNNELS):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


class Guard(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses alone; TLS still checks the name.

    Args:
        allow_hosts: hosts (`host` or `host:port`) that may have private addresses.
        resolve: how names are looked up.
    """

    def __init__(self, allow_hosts: Collection[str] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = frozenset(host.lower() for host in allow_hosts)
        self._resolve = resolve
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first good address that answers.

        Raises:
            PrivateAddress: there is none but private ones.
        """
        trouble: Exception = httpcore.ConnectError("no address")
        for address in await self._addresses_of(host, port):
            try:
                return await self._trio.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                trouble = error
        raise trouble

    async def _addresses_of(self, host: str, port: int) -> Sequence[str]:
        addresses = await self._resolve(host, port)
        if self._allowed & {host.lower(), f"{host.lower()}:{port}"}:
            return addresses
        public = [address for address in addresses if is_public(address)]
        if addresses and not public:
            raise PrivateAddress(host)
        return public
