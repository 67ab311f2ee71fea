"""One back end's gate: how many images at once, how far apart they start, and when to leave it alone.

All state is in memory: after a restart a lane learns again within seconds what the back end can take.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
import trio

from pipeline.backends.connecting import canonical
from pipeline.backends.pace import Pace
from pipeline.errors import AcceptanceUnknown, NotAccepted, Unavailable
from pipeline.model import LaneState
from pipeline.ports import Backend
from pipeline.tools.brake import FOREVER, Bell, Brake
from pipeline.tools.clock import Clock, now
from pipeline.tools.pauses import Pauses
from pipeline.tools.spacing import Spacing

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0  # an answer that takes longer is none
DOUBTED = 5.0  # seconds of the first pause after a submission that may have been bought and is lost


@dataclass(frozen=True, slots=True)
class Limits:
    """What one back end may be asked for, as the configuration says."""

    concurrency: int  # images in progress there at once
    timeout: float  # seconds one image may take there, queueing included
    stagger: float = 0.0  # least seconds between two starts, over all jobs
    attempts: int = 3  # accepted submissions that may fail before an image is given up


class Slot:
    """One of a lane's places; leaving the `with` block, or `release`, frees it once.

    `spacings` are what an order for its image keeps its distance from others by.
    """

    def __init__(self, lane: "Lane | None", spacings: tuple[Spacing, ...] = ()) -> None:
        self._lane = lane
        self.spacings = spacings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Free the place; a second time changes nothing."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.left()


class Lane:
    """The gate of one back end.

    Args:
        name: as the configuration calls it.
        backend: the service behind it.
        limits: of what it is asked for.
        brake: what holds all lanes at once.
        base_url: where it is now; None where the question does not arise.
        pace: knows its usual duration; shared with an adapter that polls.
        clock: wall-clock milliseconds, for what people are shown.
        draw: a random number in [0, 1), for jitter.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        limits: Limits,
        *,
        brake: Brake,
        base_url: str | None = None,
        pace: Pace | None = None,
        clock: Clock = now,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.backend = backend
        self.timeout = limits.timeout
        self.attempts = limits.attempts
        self.base_url = None if base_url is None else canonical(base_url)
        self.pace = pace or Pace(rate=20)
        self.bell = Bell()  # rung when an image might start: the lane's loop listens
        self.changed: Callable[[], None] = lambda: None  # told when the lane opens, closes, pauses: not at each image
        self.occupied = 0
        self._clock = clock
        self._brake = brake
        brake.listen(self.bell.ring)
        self._next_start = -FOREVER
        self._stagger = limits.stagger
        self._spacing = Spacing(limits.stagger)
        self._most = float(limits.concurrency)
        self._width = self._most  # what it seems to take at once: lowered by a refusal, raised by success
        self._held_until = -FOREVER
        self._refusal: str | None = None  # what it said to the last submission, if that was not accepted
        self._refusals = Pauses(draw=draw)
        self._doubts = Pauses(first=DOUBTED, draw=draw)
        self._doubted_until = -FOREVER
        self._outages = Pauses(draw=draw)
        self._down: str | None = None
        self._probe_at = FOREVER
        self._opened = trio.Event()
        self._closed = trio.Event()
        self._closed.set()
        self._paused: str | None = None
        self._translated = (-FOREVER, 0)  # the last moment that people were told, on trio's clock and on the wall

    def hindrance(self) -> float | None:
        """Tell for how many seconds nothing may start here, as far as is known now; None: go ahead."""
        if self._brake.reason or self._paused or self._down or self.occupied >= self.width:
            return FOREVER
        wait = max(self._next_start, self._held_until) - trio.current_time()
        return wait if wait > 0 else None

    @property
    def reason(self) -> str | None:
        """Why nothing starts here, in words, apart from being busy; None where nothing is wrong."""
        if self._paused:
            return self._paused
        if self._down:
            return f"back end {self.name} is down: {self._down}"
        if self._refusal:
            return f"back end {self.name} takes nothing more for now: {self._refusal}"
        return self._brake.reason

    @property
    def down(self) -> str | None:
        """What the back end said when its circuit opened; None while it is closed."""
        return self._down

    @property
    def takes(self) -> bool:
        """Whether the last submission was accepted, as far as is known: nothing is down, held or in doubt."""
        return self._down is None and self._refusal is None

    def state(self, *, waiting: int) -> LaneState:
        """Describe the lane for `status`; `waiting` counts the images that could start here."""
        present, next_try = trio.current_time(), None
        refusal = self._refusal if waiting or self.occupied or present < self._held_until else None
        again_at = self._probe_at if self._down else self._held_until if refusal else FOREVER
        if present < again_at < FOREVER:
            next_try = self._on_the_wall(again_at)
        return LaneState(
            name=self.name,
            state="paused" if self._paused else "down" if self._down else "held" if refusal else "ready",
            slots=self.width,
            busy=self.occupied,
            waiting=waiting,
            typical=self.pace.typical,
            reason=self._paused or self._down or refusal or self._brake.reason,
            next_try=next_try,
        )

    def _on_the_wall(self, moment: float) -> int:
        """Translate a moment from trio's clock, once: worked out anew it would differ by a millisecond now and then."""
        if self._translated[0] != moment:
            self._translated = (moment, self._clock() + round(1000 * (moment - trio.current_time())))
        return self._translated[1]

    @property
    def width(self) -> int:
        """How many images it may have at once just now."""
        return max(1, int(self._width))

    def start(self, *spacings: Spacing) -> Slot:
        """Take a place for a new image; the next start keeps its distance from this one, and so does its order."""
        self._next_start = trio.current_time() + self._stagger
        self.occupied += 1
        return Slot(self, (*spacings, self._spacing) if self._stagger else spacings)

    def resume(self) -> Slot:
        """Take a place for an image that is at the back end already, whether or not one is free."""
        self.occupied += 1
        return Slot(self)

    def left(self) -> None:
        """Take note that a place is free (called by `Slot`)."""
        self.occupied -= 1
        self.bell.ring()

    def pause(self, reason: str | None) -> None:
        """Start nothing here until it is called with None."""
        self._paused = reason
        self.changed()
        self.bell.ring()

    def accepted(self) -> None:
        """Learn from a success: the back end is well, and may take one more."""
        self._outages.reset()
        self._refusals.reset()
        self._doubts.reset()
        self._width = min(self._width + 1 / self._width, self._most)
        if self._refusal is not None:
            self._refusal = None
            self.changed()

    def refused(self, error: NotAccepted | AcceptanceUnknown) -> None:
        """Learn from a refused or unanswered submission: start less at once, or, where all is down, nothing."""
        if isinstance(error, Unavailable):
            self.troubled(error)
        elif trio.current_time() >= self._held_until:  # many answer alike at once: that is one refusal
            self._width = max(1.0, self._width / 2)
            pause = self._refusals.next(error.retry_after)
            self._hold(str(error), trio.current_time() + pause)
            log.info("backend_busy", backend=self.name, code=error.code, width=self.width, pause=round(pause, 3))

    def doubted(self, trouble: str) -> None:
        """Learn from an answer that was lost for good although the back end is there: each may have cost an image."""
        if trio.current_time() >= self._doubted_until:
            self._doubted_until = trio.current_time() + self._doubts.next()
            self._hold(self._refusal or trouble, max(self._held_until, self._doubted_until))

    def troubled(self, error: NotAccepted) -> None:
        """Learn from what any other request was told: where the back end is down as a whole, leave it alone."""
        if isinstance(error, Unavailable):
            self._open(str(error), error.retry_after)

    def moved(self, sent_to: str) -> bool:
        """Tell whether the back end has another address now than the one that something was sent to."""
        return self.base_url is not None and sent_to.rstrip("/") != self.base_url

    async def answers(self) -> bool:
        """Ask once whether the back end is there; its circuit opens where it is not."""
        trouble, retry_after = await self._probe()
        if trouble is not None:
            self._open(trouble, retry_after)
        return trouble is None

    async def there(self) -> bool:
        """Wait until the back end answers a probe; true where it does at once, so that this is no outage."""
        at_once = self._down is None and await self.answers()
        await self.up()
        return at_once

    async def up(self) -> None:
        """Wait until the circuit is closed."""
        await self._closed.wait()

    async def keep_watch(self) -> None:
        """Probe the back end whenever its circuit is open, until it answers; never returns."""
        while True:
            await self._opened.wait()
            await trio.sleep_until(self._probe_at)
            trouble, retry_after = await self._probe()
            if trouble is None:
                self._close()
            else:
                self._down = trouble
                self._probe_at = trio.current_time() + self._outages.next(retry_after)

    async def _probe(self) -> tuple[str | None, float | None]:
        with trio.move_on_after(PROBE_SECONDS):
            try:
                await self.backend.probe()
            except NotAccepted as error:
                return str(error), error.retry_after
            except Exception as error:
                log.exception("probe_broke", backend=self.name)
                return f"the probe broke with {type(error).__name__}", None
            return None, None
        return f"no answer to a probe within {PROBE_SECONDS:.0f} s", None

    def _hold(self, refusal: str, until: float) -> None:
        self._refusal, self._held_until = refusal, until
        self.changed()

    def _open(self, trouble: str, retry_after: float | None) -> None:
        if self._down is not None:
            return
        pause = self._outages.next(retry_after)
        self._down, self._probe_at = trouble, trio.current_time() + pause
        self._closed = trio.Event()
        self._opened.set()
        log.warning("backend_down", backend=self.name, reason=trouble, pause=round(pause, 3))
        self.changed()

    def _close(self) -> None:
        log.info("backend_up", backend=self.name)
        self._down, self._probe_at = None, FOREVER
        self._opened = trio.Event()
        self._closed.set()
        self.changed()
        self.bell.ring()
