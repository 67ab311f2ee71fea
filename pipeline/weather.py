"""Whether the store as a whole is up: an outage stops all uploads together, and is no image's fault."""

import random
from collections.abc import Callable

import structlog
import trio

from pipeline.errors import StoreUnavailable
from pipeline.model import Trouble
from pipeline.ports import Store
from pipeline.tools.brake import FOREVER, Brake
from pipeline.tools.clock import Clock, now
from pipeline.tools.pauses import Pauses

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0
FIRST_SECONDS = 5.0  # at the start: images that can be made meanwhile should not wait longer


class Weather:
    """What is known of the store as a whole: up, or down, why, and when to ask again."""

    def __init__(
        self, store: Store, brake: Brake, *, draw: Callable[[], float] = random.random, clock: Clock = now
    ) -> None:
        self._store = store
        self._brake = brake
        self._clock = clock
        self._pauses = Pauses(draw=draw)
        self._up = trio.Event()
        self._up.set()
        self._down = trio.Event()
        self._ask_at = FOREVER
        self._next_try: int | None = None  # the same as a moment, for what people are shown
        self._refused = False  # an upload was refused our credentials: only an upload that is taken disproves it
        self.reason: str | None = None

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the store, for `status`; None: it is fine."""
        return None if self.reason is None else Trouble("store", self.reason, self._next_try)

    async def first_look(self) -> None:
        """Ask the store once before anything is bought: what it would refuse must not cost GPU time."""
        trouble = await self._probe(FIRST_SECONDS)
        if trouble is not None:
            self.turned(trouble)

    async def fine(self) -> None:
        """Wait until the store takes uploads."""
        await self._up.wait()

    def went_well(self) -> None:
        """Learn from a success."""
        self._pauses.reset()
        if self._refused:
            self._refused = False
            self._brake.put("store", None)

    def failed(self, error: StoreUnavailable) -> None:
        """Learn from an upload that was not taken, which is not the image's fault."""
        self._refused = self._refused or error.credentials
        self.turned(error)

    def turned(self, error: StoreUnavailable) -> None:
        """Upload nothing until the store answers again."""
        if self.reason is None:
            self._up = trio.Event()
            pause = self._next_pause(error)
            log.warning("store_down", reason=str(error), code=error.code, pause=round(pause, 3))
            self._down.set()

    async def keep_watch(self) -> None:
        """Probe the store whenever it is down, until it answers; never returns."""
        while True:
            await self._down.wait()
            await trio.sleep_until(self._ask_at)
            trouble = await self._probe()
            if trouble is None:
                self._clear()
            else:
                self._next_pause(trouble)

    async def _probe(self, seconds: float = PROBE_SECONDS) -> StoreUnavailable | None:
        with trio.move_on_after(seconds):
            try:
                await self._store.probe()
            except StoreUnavailable as error:
                return error
            except Exception as error:
                log.exception("probe_broke")
                return StoreUnavailable(f"the probe broke with {type(error).__name__}", code="unexpected")
            return None
        return StoreUnavailable(f"no answer to a probe within {seconds:.0f} s", code="timed_out")

    def _next_pause(self, error: StoreUnavailable) -> float:
        pause = self._pauses.next(error.retry_after)
        self.reason = str(error)
        self._ask_at = trio.current_time() + pause
        self._next_try = self._clock() + round(pause * 1000)
        if error.credentials:
            self._brake.put("store", f"the store refuses our credentials: {error}")
        elif not self._refused:
            self._brake.put("store", None)
        return pause

    def _clear(self) -> None:
        log.info("store_up")
        self.reason, self._ask_at = None, FOREVER
        if not self._refused:
            self._brake.put("store", None)
        self._down = trio.Event()
        self._up.set()
