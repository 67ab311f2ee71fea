"""From the configuration to the parts that the stages work with, for the daemon and for a command that works alone."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.backends.opening import open_backend
from pipeline.backends.pace import Pace
from pipeline.catalogue import Catalogue
from pipeline.config import BackendConfig, Config, NotifyConfig
from pipeline.config.adapters import cores
from pipeline.ending.webhook import Poster
from pipeline.ledger import Ledger, open_ledger
from pipeline.making.lane import Lane, Limits
from pipeline.ports import Backend, Store
from pipeline.spool import Spool
from pipeline.stages import Parts
from pipeline.stores.opening import open_store
from pipeline.tools.brake import Brake
from pipeline.tools.clock import Clock, now
from pipeline.tools.threads import Threads


@dataclass(frozen=True, slots=True)
class Openers:
    """How the outside is reached; one value, so that a test can compose a world with a fault in it."""

    ledger: Callable[[Path], AbstractAsyncContextManager[Ledger]] = open_ledger
    store: Callable[..., Store] = open_store
    backend: Callable[..., AbstractAsyncContextManager[Backend]] = open_backend
    clock: Clock = now


@asynccontextmanager
async def opened(config: Config, openers: Openers) -> AsyncIterator[Parts]:
    """Open what the stages work with; closed in the opposite order."""
    run_sync = Threads(cores()).run_sync  # more would only wait for each other
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(openers.ledger(config.index))
        catalogue = stack.enter_context(closing(Catalogue(config.index, images=config.images)))
        spool = Spool(config.state / "spool", config.state / "kept", limit=config.spool_limit, run_sync=run_sync)
        store = openers.store(config.store, public_url=config.gallery.public_url)
        brake = Brake()
        lanes = {
            name: await stack.enter_async_context(_lane(name, settings, brake, openers))
            for name, settings in config.backends.items()
        }
        yield Parts(
            ledger=ledger,
            catalogue=catalogue,
            spool=spool,
            store=store,
            lanes=lanes,
            brake=brake,
            jobs=config.jobs,
            clock=openers.clock,
            run_sync=run_sync,
            uploads=config.store.concurrency,
            post=_poster(config.notify).post,
            keep_done=config.keep_done,
        )


@asynccontextmanager
async def _lane(name: str, settings: BackendConfig, brake: Brake, openers: Openers) -> AsyncIterator[Lane]:
    pace = Pace(settings.poll_rate)
    limits = Limits(settings.concurrency, settings.timeout, settings.stagger, settings.attempts)
    async with openers.backend(settings, pace) as backend:
        yield Lane(name, backend, limits, brake=brake, base_url=settings.base_url, pace=pace)


def _poster(notify: NotifyConfig | None) -> Poster:
    return Poster() if notify is None else Poster(notify.key, notify.allow_hosts)
