"""When to look whether an image is done, for back ends that have to be asked.

A look that comes `gap` after the last one finds a finished image at most `gap` late. So the gap before and after
the usual duration is 5 % of the time gone by, but never under 250 ms: asking oftener would gain nothing that
anybody is promised. Around the usual duration it is much finer; where a back end tells how long an image waited for
its turn, that is counted from there. All images of a back end share one budget of looks per second; where it does not
suffice, those that may well be done go first.
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Self

import trio

from pipeline.tools.clock import Clock, now

SHARE = 0.05  # of an image's time: the delay that is always acceptable
SHORTEST = 0.25  # seconds: likewise, for quick images
REMEMBERED = 32  # durations that "usual" is judged by
MARGIN = (
    0.1  # by which the usual span is widened at its end; who is done before its beginning is met by the coarse looks
)
FINE_LOOKS = 20  # at most this many looks inside the usual span
FINEST = 0.05  # seconds between two looks at the same image
PATIENCE = 4  # gaps that a look outside the usual span yields to others
TOGETHER = 0.03  # seconds: looks that would be granted one by one in so short a time go out at once


@dataclass(frozen=True, slots=True)
class Usual:
    """The span of seconds of work in which images of a back end usually get done, and the gap between looks in it."""

    start: float
    end: float
    gap: float


class Pace:
    """What one back end's images know of each other: how long they take, and how often it may be asked."""

    def __init__(self, rate: float, *, clock: Clock = now) -> None:
        self._budget = _Budget(rate)
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=REMEMBERED)
        self._work: deque[float] = deque(maxlen=REMEMBERED)
        self._usual: Usual | None = None

    @property
    def typical(self) -> float | None:
        """The median of recent durations in seconds; None before the first."""
        return statistics.median(self._recent) if self._recent else None

    def learned(self, seconds: float, *, waited: float = 0.0) -> None:
        """Take note of how long an image took from acceptance to completion, and how much of it was waiting."""
        self._recent.append(max(seconds, 0.0))
        self._work.append(max(seconds - waited, 0.0))
        ranked = sorted(self._work)
        spare = len(ranked) // 10  # strays on either side, so that one hang does not blur the span
        shortest, longest = ranked[spare], ranked[-1 - spare]
        start, end = shortest, longest * (1 + MARGIN)
        self._usual = Usual(start, end, max((end - start) / FINE_LOOKS, FINEST))

    def looks(self, accepted_at: int) -> "Looks":
        """Iterate (`async for`) without end: each step returns when the next look at this image is due.

        `accepted_at` is a wall-clock moment in milliseconds; an image older than the shortest gap is looked at at once.
        """
        elapsed = max(self._clock() - accepted_at, 0) / 1000
        return Looks(self, self._budget, trio.current_time() - elapsed)

    def gap_after(self, elapsed: float, *, waited: float = 0.0) -> float:
        """Tell how many seconds after a look at `elapsed` seconds the next one should come."""
        coarse = max(SHARE * elapsed, SHORTEST)
        usual, work = self._usual, elapsed - waited
        if usual is None or work > usual.end:
            return coarse
        if work >= usual.start:
            return min(coarse, usual.gap)
        first = usual.start + usual.gap / 2  # a look just before the image is done would be for nothing
        return min(coarse, max(first - work, usual.gap))

    def likely_done(self, work: float) -> bool:
        """Tell whether an image may well be done after so many seconds of work: its look should not yield to others."""
        return self._usual is not None and self._usual.start <= work <= self._usual.end


class Looks:
    """The looks at one image. A class rather than a generator: leaving the loop early leaves nothing to close."""

    def __init__(self, pace: Pace, budget: "_Budget", began: float) -> None:
        self._pace = pace
        self._budget = budget
        self._began = began
        self._waited = 0.0
        self._looked: float | None = None

    def __aiter__(self) -> Self:
        return self

    def waited(self, seconds: float = math.inf) -> None:
        """Take note that the image waited so long for its turn; without `seconds`, that it still does."""
        self._waited = min(seconds, trio.current_time() - self._began)

    async def __anext__(self) -> None:
        since = trio.current_time() if self._looked is None else self._looked
        elapsed = since - self._began
        gap = self._pace.gap_after(elapsed, waited=self._waited)
        due = since + (max(SHORTEST - elapsed, 0.0) if self._looked is None else gap)
        await trio.sleep_until(due)
        likely = self._pace.likely_done(trio.current_time() - self._began - self._waited)
        await self._budget.take(due if likely else due + PATIENCE * gap)
        self._looked = trio.current_time()


@dataclass(order=True, slots=True)
class _Waiter:
    by: float
    seq: int
    wake: trio.Event


class _Budget:
    """At most `rate` grants in any second; among those who wait, the one most pressed for time goes first.

    Where they follow each other closely, a few are given at once: the processor is woken for all of them together.
    """

    def __init__(self, rate: float) -> None:
        self._at_once = max(1, int(rate * TOGETHER))
        groups = rate if self._at_once == 1 else rate // self._at_once - 1  # what is left of one may be used up late
        self._spacing = 1.0 / groups
        self._left = 0
        self._free_at = float("-inf")
        self._waiting: list[_Waiter] = []
        self._arrivals = count()

    async def take(self, by: float) -> None:
        me = _Waiter(by, next(self._arrivals), trio.Event())
        heappush(self._waiting, me)
        try:
            while self._waiting[0] is not me or not self._some_left():
                if self._waiting[0] is me:
                    await trio.sleep_until(self._free_at)
                else:
                    me.wake = trio.Event()
                    await me.wake.wait()
        except trio.Cancelled:
            self._waiting.remove(me)
            heapify(self._waiting)
            self._wake_first()
            raise
        heappop(self._waiting)
        self._left -= 1
        self._wake_first()

    def _some_left(self) -> bool:
        """Begin a new group where it is time for one, and tell whether the present one has a grant left."""
        if trio.current_time() >= self._free_at:
            self._left, self._free_at = self._at_once, trio.current_time() + self._spacing
        return self._left > 0

    def _wake_first(self) -> None:
        if self._waiting:
            self._waiting[0].wake.set()
