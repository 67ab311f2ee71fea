"""The HTTP clients that adapters are handed: few, small, sharing one TLS context."""

import ipaddress
import logging
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import httpx
import trio

_SLOTS_PER_CLIENT = 8  # httpcore looks at every idle connection at each request: several small pools cost less


@cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context that all connections share; loading the certificates anew takes 20 ms each."""
    return httpx.create_ssl_context()


def quieten() -> None:
    """Keep httpx and httpcore from writing whole URLs and headers, presigned ones among them, into our logs."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


@asynccontextmanager
async def open_clients(url: str, *, slots: int) -> AsyncIterator[Sequence[httpx.AsyncClient]]:
    """Open the HTTP clients for a service where up to `slots` images are under way at once.

    A proxy named in the environment is used for public https addresses alone, where it sees no header of ours.
    """
    quieten()
    proxied = url.lower().startswith("https://") and not is_private(httpx.URL(url).host)
    limits = httpx.Limits(max_connections=4 * _SLOTS_PER_CLIENT, max_keepalive_connections=_SLOTS_PER_CLIENT)
    number = max(1, math.ceil(slots / _SLOTS_PER_CLIENT))
    clients = [httpx.AsyncClient(verify=tls(), trust_env=proxied, limits=limits) for _ in range(number)]
    try:
        yield clients
    finally:
        with trio.CancelScope(shield=True):
            for client in clients:
                await client.aclose()


def is_private(host: str) -> bool:
    """Tell whether a host name stands for this machine or a private network, without asking DNS."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
