"""How far apart orders go out: an image has its turn early, and looks things up before it really starts.

As with `room`, the wall that sends the order asks on behalf of the image it is for, without being handed anything.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar

import trio

from pipeline.tools import room


class Spacing:
    """Lets things go out at least `seconds` apart, in the order in which they ask."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = trio.Lock()
        self.free_at = float("-inf")  # on trio's clock

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the next may go out; the distance counts from the end of the block, and not where that fails."""
        async with self._lock:
            await trio.sleep_until(self.free_at)
            yield
            self.free_at = trio.current_time() + self._seconds


_present: ContextVar[tuple[Spacing, ...]] = ContextVar("spacings", default=())


@contextmanager
def kept(spacings: tuple[Spacing, ...]) -> Iterator[None]:
    """Have orders that are sent inside the block keep these distances, the widest first."""
    before = _present.set(spacings)
    try:
        yield
    finally:
        _present.reset(before)


async def departure() -> None:
    """Wait until an order may go out; the time limits of `room` stand still meanwhile."""
    spacings = _present.get()
    if not spacings:
        return
    async with AsyncExitStack() as stack:
        with room.clocks_stopped():
            for spacing in spacings:
                await stack.enter_async_context(spacing.turn())
