"""Downloads of images that an answer names by URL, from public addresses only.

The URL was chosen by whatever runs behind a back end, so the address is checked where it counts: each connection, after
each redirect too, is made to an address that was looked up and judged here, not to a name that may be looked up again.
No credentials are sent. The URL, which may be presigned, stands in no message: only its host does.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import httpcore
import httpx
import trio

from pipeline.backends.answers import read_at_most
from pipeline.backends.clients import quieten, tls
from pipeline.backends.transport import CONNECT, LARGE
from pipeline.errors import AttemptFailed, NotWorthRepeating, Unavailable

DOWNLOAD = 120.0  # seconds for one image, redirects included
_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = (  # hold or held addresses of other networks, and no service of today
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("fec0::/10"),
)
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, UnicodeError)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


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


class Fetcher:
    """Fetches images by URL; `allow_hosts` names hosts (`host` or `host:port`) that may have private addresses."""

    def __init__(self, allow_hosts: Collection[str] = (), *, resolve: Resolve = resolve, limit: int = LARGE) -> None:
        quieten()
        self._allowed = frozenset(host.lower() for host in allow_hosts)
        self._resolve = resolve
        self._limit = limit

    async def fetch(self, url: str, *, timeout: float = DOWNLOAD) -> bytes:
        """Return the bytes behind an `http` or `https` URL.

        Raises:
            NotWorthRepeating: it leads to a private address, or is no web address (code `forbidden_address`).
            AttemptFailed: it is gone (code `expired`) or larger than is taken (code `too_large`).
            Unavailable: passing weather; trying again may help.
        """
        place = _Place.of(url)
        try:
            with trio.fail_after(timeout):
                for _ in range(_REDIRECTS):
                    found = await self._get(place)
                    if isinstance(found, bytes):
                        return found
                    place = found
        except trio.TooSlowError:
            raise Unavailable(f"{place} gave no whole image in {timeout:g} s", code="image_host") from None
        raise AttemptFailed(f"{place} redirects without end", code="bad_image_url")

    async def _get(self, place: "_Place") -> "bytes | _Place":
        backend = _Guarded(self._addresses_of)
        seconds = {"connect": CONNECT, "read": DOWNLOAD, "write": CONNECT, "pool": CONNECT}
        try:
            async with (
                httpcore.AsyncConnectionPool(ssl_context=tls(), network_backend=backend) as pool,
                pool.stream(
                    "GET",
                    place.target,
                    headers=[(b"Host", place.url.netloc), (b"User-Agent", b"pipeline"), (b"Accept", b"image/*")],
                    extensions={"timeout": seconds},
                ) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers}
                if 300 <= response.status < 400 and b"location" in headers:
                    return place.moved_to(headers[b"location"].decode("latin-1"))
                if response.status != 200:
                    raise _refusal(place, response.status)
                return await self._whole(place, response, headers.get(b"content-length", b""))
        except _FAILURES:
            # Not chained: the cause may quote the URL.
            raise Unavailable(f"{place} broke off or could not be reached", code="image_host") from None

    async def _whole(self, place: "_Place", response: httpcore.Response, declared: bytes) -> bytes:
        declared_too_large = declared.isdigit() and int(declared) > self._limit
        body = None if declared_too_large else await read_at_most(self._limit, response.aiter_stream())
        if body is None:
            raise AttemptFailed(f"{place} sends more than {self._limit / 1e6:.0f} MB", code="too_large")
        return body

    async def _addresses_of(self, host: str, port: int) -> Sequence[str]:
        addresses = await self._resolve(host, port)
        if self._allowed & {host.lower(), f"{host.lower()}:{port}"}:
            return addresses
        public = [address for address in addresses if is_public(address)]
        if addresses and not public:
            raise NotWorthRepeating(
                f"the back end names an image at {host}, which is a private address: "
                "list that host in the back end's allow_hosts if it may be fetched from",
                code="forbidden_address",
            )
        return public


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses alone; TLS still checks the name."""

    def __init__(self, addresses_of: Resolve) -> None:
        self._addresses_of = addresses_of
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        trouble: Exception = httpcore.ConnectError("no address")
        for address in await self._addresses_of(host, port):
            try:
                return await self._trio.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                trouble = error
        raise trouble


class _Place:
    """Where an image lies; written as its host alone."""

    def __init__(self, url: httpx.URL) -> None:
        self.url = url

    @classmethod
    def of(cls, url: str) -> "_Place":
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 0) > 65535:
            raise NotWorthRepeating("the back end names an image by what is no web address", code="forbidden_address")
        return cls(parsed)

    def __str__(self) -> str:
        return f"the image's host {self.url.host}"

    @property
    def target(self) -> httpcore.URL:
        url = self.url
        return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)

    def moved_to(self, location: str) -> "_Place":
        try:
            return _Place.of(str(self.url.join(location)))
        except httpx.InvalidURL:
            raise AttemptFailed(f"{self} redirects to what is no address", code="bad_image_url") from None


def _refusal(place: _Place, status: int) -> Exception:
    if status in (408, 429) or status >= 500:
        return Unavailable(f"{place} answered {status}", code="image_host")
    return AttemptFailed(f"{place} no longer gives the image ({status})", code="expired")
