"""What both of the gallery's servers have in common: what they serve, whom they wait for, where they listen."""

import errno
import resource
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Receive, Scope, Send

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients are waited for, in seconds."""

    grace: float = 3.0  # for answers under way when a stop is asked for
    idle: float = 15.0  # a connection may stay silent, and then be without a complete request
    send: float = 20.0  # in which a client must take the next chunk of its answer


UNHURRIED = Patience()
MOST = 2000  # connections at once
CHUNK = 64 * 1024  # bytes: what `Patience.send` is about


class Windows(Protocol):
    """What is served: an ASGI app that can be asked to let its held answers go."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def close(self) -> None: ...


class PortTaken(ConfigError):
    """Another program listens at this address."""


def places() -> int:
    """How many connections may be open at once: whoever opens many must leave descriptors for index, spool and uploads.

    Systems allow 1,024 of them at first, and more to a program that asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST if hard == resource.RLIM_INFINITY else min(2 * MOST, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // 2))


def not_ours(host: str, port: int, error: OSError) -> ConfigError:
    """Return in words why there is no listening at this address."""
    if error.errno == errno.EADDRINUSE or isinstance(error.__cause__, BaseExceptionGroup):
        return PortTaken(f"gallery.port: {host}:{port} is taken by another program; choose another port")
    reason = error.strerror or str(error)
    return ConfigError(f"gallery.host: cannot listen on {host}:{port} ({reason}); see `gallery:`")
