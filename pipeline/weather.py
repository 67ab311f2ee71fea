"""What is known of the store as a whole; its outages are nobody's fault and stop the uploads together."""

import random
from collections.abc import Callable

import structlog
import trio

from pipeline.brake import FOREVER, Brake
from pipeline.errors import StoreUnavailable
from pipeline.pauses import Pauses
from pipeline.ports import Store

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0


class Weather:
    """What is known of the store as a whole: up, or down since when, why, and when to ask again."""

    def __init__(self, store: Store, brake: Brake, *, draw: Callable[[], float] = random.random) -> None:
        self._store = store
        self._brake = brake
        self._pauses = Pauses(draw=draw)
        self._up = trio.Event()
        self._up.set()
        self._down = trio.Event()
        self._ask_at = FOREVER
        self.reason: str | None = None
        self.since: float | None = None  # trio's clock

    async def fine(self) -> None:
        """Wait until the store takes uploads."""
        await self._up.wait()

    def went_well(self) -> None:
        """Learn from a success."""
        self._pauses.reset()

    def turned(self, error: StoreUnavailable) -> None:
        """Learn from a failure that is not the image's fault: nothing is uploaded until the store answers again."""
        if self.reason is None:
            self._up, self.since = trio.Event(), trio.current_time()
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

    async def _probe(self) -> StoreUnavailable | None:
        with trio.move_on_after(PROBE_SECONDS):
            try:
                await self._store.probe()
            except StoreUnavailable as error:
                return error
            except Exception as error:
                log.exception("probe_broke")
                return StoreUnavailable(f"the probe broke with {type(error).__name__}", code="unexpected")
            return None
        return StoreUnavailable(f"no answer to a probe within {PROBE_SECONDS:.0f} s", code="timed_out")

    def _next_pause(self, error: StoreUnavailable) -> float:
        pause = self._pauses.next(error.retry_after)
        self.reason = str(error)
        self._ask_at = trio.current_time() + pause
        held = f"the store refuses our credentials: {error}" if error.credentials else None
        self._brake.put("store", held)
        return pause

    def _clear(self) -> None:
        log.info("store_up")
        self.reason, self.since, self._ask_at = None, None, FOREVER
        self._brake.put("store", None)
        self._down = trio.Event()
        self._up.set()
