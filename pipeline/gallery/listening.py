"""Where the gallery listens, how many it lets in, and how long it waits for them."""

import errno
import resource
import socket
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the server waits for its clients, in seconds."""

    grace: float = 3.0  # for answers under way when a stop is asked for
    idle: float = 15.0  # a connection may stay without a complete request
    send: float = 20.0  # in which a client must take the next chunk of its answer


UNHURRIED = Deadlines()
MOST = 2000  # connections at once
CHUNK = 64 * 1024  # bytes: what `Deadlines.send` is about
_BACKLOG = 2048
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # a family that this machine lacks, beside one that it has


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


def listen(host: str, port: int) -> list[socket.socket]:
    """Open a socket for each address of `host`; with port 0 one alone, so that there is one port to tell people.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            try:
                opened.append(_bound(family, address))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            if opened and port == 0:
                break
        if missing is not None and not opened:
            raise missing
    except OSError as error:
        for each in opened:
            each.close()
        raise _not_ours(host, port, error) from error
    return opened


def _bound(family: int, address: Any) -> socket.socket:  # noqa: ANN401  # a family's own shape
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # an answer's head and body are two packets, of which the second would wait for the first to be acknowledged
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # else a system with large buffers tells of nothing taken before a third of them is empty
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * CHUNK)
        made.bind(address)
        made.listen(_BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _not_ours(host: str, port: int, error: OSError) -> ConfigError:
    """Return in words why there is no listening at this address."""
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"gallery.port: {host}:{port} is taken by another program, maybe another `pipeline run` or `demo`; end that, or set another port"
        )
    reason = error.strerror or str(error)
    return ConfigError(f"gallery.host: cannot listen on {host}:{port} ({reason}); see `gallery:`")
