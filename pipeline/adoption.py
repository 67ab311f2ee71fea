"""Before an owner's first job is numbered, the store is asked what it holds under the owner's folder already.

Numbers go on after what is found there, so nothing may be numbered before. While the store cannot be listed the
owner's jobs say so and wait; owners who were listed before go on.
"""

import random
from collections.abc import Callable

import structlog
import trio

from pipeline.errors import IllegalStep, IndexTrouble, StoreError
from pipeline.ledger import Ledger
from pipeline.model import Asset
from pipeline.ports import Store
from pipeline.tools.brake import Bell
from pipeline.tools.pauses import Pauses

log = structlog.get_logger(__name__)

AT_ONCE = 4  # listings under way


class Adoption:
    """The stage: asks the index for owners never listed, lists each, and has their jobs numbered.

    Args:
        numbered: told of each owner whose jobs have numbers now.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        *,
        numbered: Callable[[str], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._numbered = numbered
        self._draw = draw
        self._places = trio.Semaphore(AT_ONCE)
        self._retries: dict[str, tuple[float, Pauses]] = {}  # owner: when to try again
        self.bell = Bell()
        self.reason: str | None = None

    async def run(self) -> None:
        """Adopt who is due, for ever."""
        pauses = Pauses(longest=30.0)
        while True:
            try:
                await self.pass_over()
            except IndexTrouble as error:
                self.reason = str(error)
                log.warning("adoption_stuck", reason=self.reason)
                await trio.sleep(pauses.next())
                continue
            pauses.reset()
            await self.bell.wait(self._rest())

    async def pass_over(self) -> None:
        """Try every owner who is due once.

        Raises:
            IndexTrouble: the index cannot be read or written.
        """
        due = self._ledger.owners_to_adopt()
        names = {owner.owner for owner in due}
        self._retries = {owner: when for owner, when in self._retries.items() if owner in names}
        failures: list[IndexTrouble] = []
        families: dict[str, list[str]] = {}
        for owner in due:
            when, _ = self._retries.get(owner.owner, (0.0, None))
            if when <= trio.current_time():
                families.setdefault(owner.slug, []).append(owner.owner)
        async with trio.open_nursery() as nursery:
            for family in families.values():
                await self._places.acquire()
                nursery.start_soon(self._in_turn, family, failures)
        if not self._retries:
            self.reason = None
        if failures:
            raise failures[0]

    def _rest(self) -> float:
        soonest = min((when for when, _ in self._retries.values()), default=float("inf"))
        return max(soonest - trio.current_time(), 0.0)

    async def _in_turn(self, family: list[str], failures: list[IndexTrouble]) -> None:
        """Adopt those who would have the same folder: the first to arrive gets it."""
        try:
            for owner in family:
                await self._one(owner, failures)
        finally:
            self._places.release()

    async def _one(self, owner: str, failures: list[IndexTrouble]) -> None:
        try:
            await self.adopt(owner)
        except IndexTrouble as error:
            failures.append(error)
        except StoreError as error:
            await self._postpone(owner, str(error), error.retry_after)
        except IllegalStep:  # adopted by an order meanwhile
            self._retries.pop(owner, None)
        except Exception as error:  # a defect of the adapter must not keep other owners waiting
            log.exception("listing_broke", owner=owner)
            await self._postpone(owner, f"the listing broke with {type(error).__name__}", None)
        else:
            self._retries.pop(owner, None)

    async def adopt(self, owner: str) -> None:
        """List what the store holds for an owner, and fix the owner's folder.

        Raises:
            StoreUnavailable: the store cannot be listed.
            IllegalStep: the owner has a folder already.
        """
        for slug in self._ledger.folder_choices(owner):
            assets = [asset async for asset in self._store.listing(slug)]
            if not any(_is_anothers(asset, owner) for asset in assets):
                try:
                    await self._ledger.adopt(owner, slug, assets)
                except IllegalStep:
                    if self._ledger.owner_slug_taken(slug):  # given away since we chose it
                        continue
                    raise
                log.info("owner_adopted", owner=owner, folder=slug, found=len(assets))
                self._numbered(owner)
                return

    async def _postpone(self, owner: str, trouble: str, retry_after: float | None) -> None:
        _, pauses = self._retries.get(owner, (0.0, Pauses(draw=self._draw)))
        self._retries[owner] = (trio.current_time() + pauses.next(retry_after), pauses)
        if self.reason is None:
            log.warning("listing_failed", owner=owner, reason=trouble)
        self.reason = f"the store cannot be listed for what it holds already: {trouble}"
        try:
            await self._ledger.notes.jobs(self._ledger.unnumbered(owner), self.reason)
        except IndexTrouble as error:
            log.warning("reason_not_noted", owner=owner, reason=str(error))


def _is_anothers(asset: Asset, owner: str) -> bool:
    return asset.owner is not None and asset.owner != owner
