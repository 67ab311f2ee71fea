"""How a service is reached: the wire, the proxy that the environment names, and the one TLS context."""

import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx
import trio

from pipeline.backends.wire import Wire

CONNECT = 10.0  # seconds for DNS, TCP and TLS together


@cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context that all connections share; loading the certificates anew takes 20 ms each."""
    return httpx.create_ssl_context()


def canonical(url: str) -> str:
    """Spell an address as the index does where it tells to which one a submission went."""
    return str(httpx.URL(url).copy_with(username=None, password=None, query=None, fragment=None)).rstrip("/")


def quieten() -> None:
    """Keep httpx and httpcore from writing whole URLs and headers, presigned ones among them, into our logs."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


@asynccontextmanager
async def open_transport(url: str, *, slots: int) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open what carries requests to a service where up to `slots` images are under way at once."""
    quieten()
    proxy = proxy_for(url)
    if url.startswith("https:"):
        tls()  # now: when it is used first, no file descriptor may be left
    transport = Wire(tls, idle=2 * slots) if proxy is None else httpx.AsyncHTTPTransport(verify=tls(), proxy=proxy)
    try:
        yield transport
    finally:
        with trio.CancelScope(shield=True):
            await transport.aclose()


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names, for public https addresses alone: there it sees no header of ours."""
    parsed = httpx.URL(url)
    if parsed.scheme != "https" or is_private(parsed.host) or proxy_bypass(parsed.host):
        return None
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def is_private(host: str) -> bool:
    """Tell whether a host name stands for this machine or a private network, without asking DNS."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
