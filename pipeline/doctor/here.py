"""What can be told without asking anybody: folders, file systems, the index, the port, tokens."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import trio

from pipeline.catalogue import Catalogue
from pipeline.config import Config
from pipeline.doctor.findings import Finding, World
from pipeline.errors import ConfigError, IndexTrouble
from pipeline.gallery.addresses import check_exposure
from pipeline.gallery.logins import Logins
from pipeline.gallery.tokens import Tokens
from pipeline.tools import sizes
from pipeline.tools.clock import rfc3339
from pipeline.tools.locks import Holder, holder
from pipeline.tools.mounts import mount_of
from pipeline.tools.state_folder import refuse_shared

LEAST_FREE = 500_000_000  # bytes; below that a few images fill the disk
EARLIEST = 1_735_689_600_000  # 2025-01-01: no clock that is right tells an earlier moment


def folders(config: Config, world: World) -> Iterator[Finding]:
    """Look at every folder that is written to, and at the file systems they lie on."""
    yield _folder("jobs folder", config.jobs, world)
    yield _state(config, world)
    if config.images is not None:
        yield _folder("images folder", config.images, world)


def index(config: Config) -> Finding:
    """Ask the index for its sums."""
    path = config.index
    if not path.exists():
        return Finding("index", True, f"{path}: none yet; `pipeline run` makes it")
    try:
        with closing(Catalogue(path)) as catalogue:
            summary = catalogue.summary()
    except IndexTrouble as error:
        return Finding("index", False, str(error))
    images = sum(summary.images.values())
    told = f"{images:,} {'image' if images == 1 else 'images'}"
    return Finding("index", True, f"{path}: {told}; `pipeline verify` checks them")


def own_clock(world: World) -> Finding | None:
    """Find a clock that cannot be right, whoever is asked."""
    present = world.clock()
    if present >= EARLIEST:
        return None
    told = f"this machine's clock says {rfc3339(present)}; set it right (for example: timedatectl set-ntp true)"
    return Finding("clock", False, told)


def running(config: Config) -> Holder | None:
    """Tell which daemon is at work in this workspace."""
    return holder(config.state) if config.state.is_dir() else None


async def port(config: Config, daemon: Holder | None) -> Finding:
    """Try to listen where the gallery will."""
    gallery = config.gallery
    at = f"{gallery.host}:{gallery.port}"
    if not gallery.enabled:
        return Finding("port", True, "the gallery is switched off")
    if daemon is not None:
        return Finding("port", True, f"{at} is left to process {daemon.pid} ({daemon.process}), which runs here")
    try:
        listeners = await trio.open_tcp_listeners(gallery.port, host=gallery.host)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("port", False, f"{at} cannot be listened on ({reason}); choose another gallery.port or host")
    for listener in listeners:
        await listener.aclose()
    return Finding("port", True, f"{at} is free")


def tokens(config: Config) -> Finding:
    """Tell who may look, and refuse what `run` would refuse."""
    if not config.gallery.enabled:
        return Finding("tokens", True, "not needed: the gallery is switched off")
    jwt = config.gallery.jwt
    try:
        if jwt is not None:
            Logins(jwt)
        told = check_exposure(config.gallery.host, Tokens(config.state / "tokens"), logins=jwt is not None)
    except ConfigError as error:
        return Finding("tokens", False, str(error))
    return Finding("tokens", True, told)


def _state(config: Config, world: World) -> Finding:
    try:
        refuse_shared(config.state, mountinfo=world.mountinfo)
    except ConfigError as error:
        return Finding("state folder", False, str(error))
    found = _folder("state folder", config.state, world)
    free = world.free_bytes(_existing(config.state))
    if found.ok and free < config.spool_limit:
        more = f"; while the store is down the spool may take {sizes.in_words(config.spool_limit)}: make room, or lower spool_limit"
        return Finding(found.name, True, found.message + more)
    return found


def _folder(name: str, folder: Path, world: World) -> Finding:
    there = _existing(folder)
    if not there.is_dir():
        return Finding(name, False, f"{folder}: {there} is no folder; move it away, or name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, False, f"{folder}: {there} cannot be written by this user; change its owner or its mode")
    mount, free = mount_of(there, mountinfo=world.mountinfo), world.free_bytes(there)
    if free < LEAST_FREE:
        return Finding(name, False, f"{folder}: only {sizes.in_words(free)} free on its disk; make room")
    kind = f", {mount.type}" if mount is not None else ""
    told = f"{folder}: {'writable' if there == folder else 'will be made'}{kind}, {sizes.in_words(free)} free"
    if mount is not None and mount.shared:
        told += "; changes by other machines are found by scanning, within scan_interval"
    return Finding(name, True, told)


def _existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest of its parents that exists."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
