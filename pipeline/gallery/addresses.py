"""Where the gallery listens, and what that exposes."""

import ipaddress
import socket

from pipeline.config import Config, own_address
from pipeline.errors import ConfigError
from pipeline.gallery.tokens import Tokens


def is_loopback(host: str) -> bool:
    """Tell whether an address can only be reached from this machine."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def listening_at(config: Config, *, host: str | None = None, port: int | None = None) -> Config:
    """Return the configuration with where the gallery will listen, as a command says it, and with a free port for 0.

    Addresses are made with it, unless `gallery.public_url` was set.
    """
    gallery = config.gallery
    host, port = host or gallery.host, gallery.port if port is None else port
    port = port or _free_port(host)
    changes: dict[str, object] = {"host": host, "port": port}
    if "public_url" not in gallery.model_fields_set:
        changes["public_url"] = own_address(host, port)
    return config.model_copy(update={"gallery": gallery.model_copy(update=changes)})


def _free_port(host: str) -> int:
    """Choose a port; 0 where nothing can listen, which is told when it is tried."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError:
        return 0


def check_exposure(host: str, tokens: Tokens, *, logins: bool) -> str:
    """Return what listening on `host` exposes, in a sentence to be shown at the start.

    Raises:
        ConfigError: it goes beyond this machine and nobody has a token yet.
    """
    if is_loopback(host):
        return f"The gallery listens on {host}: only programs on this machine reach it, and they need a token."
    count = len(tokens.records())
    if not count and not logins:
        raise ConfigError(
            f"gallery.host: {host} reaches beyond this machine and no token exists; "
            "create one first: pipeline token create OWNER"
        )
    holders = f"{count} token{'s' if count != 1 else ''}" + (" and signed logins" if logins else "")
    return (
        f"The gallery listens on {host}, beyond this machine, over plain HTTP: {holders} can read what they own; "
        "put a TLS proxy in front of it."
    )
