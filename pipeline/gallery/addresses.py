"""What an address of this machine exposes."""

import ipaddress

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
