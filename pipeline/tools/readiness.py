"""What a service manager is told (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names."""

import socket
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(state: str, environ: Mapping[str, str]) -> None:
    """Tell the service manager; without one, or with one that does not listen, nothing happens."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            # An abstract socket's name begins with a zero byte, which no environment can hold.
            channel.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError as error:
        log.warning("service_manager_not_told", state=state, reason=error.strerror)
