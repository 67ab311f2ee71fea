"""One job's images at back ends, in a nursery of their own that lives as long as there are any."""

import math
from collections.abc import Awaitable, Callable

import trio

from pipeline.making.lane import Lane, Slot
from pipeline.model import Image, State

Start = tuple[Image, Lane | None, Slot]


class Crew:
    """Carries what it is handed; once its last image is let go it takes no more, and `work` ends.

    Args:
        carry: carries one image, and lets it go in the end.
    """

    def __init__(self, carry: Callable[["Crew", Image, Lane | None, Slot], Awaitable[None]]) -> None:
        self._carry = carry
        self._send, self._receive = trio.open_memory_channel[Start](math.inf)
        self.under_way = 0
        self.unrecorded: set[int] = set()  # rows that were taken, but the index does not say so yet
        self.last_place = -1  # the farthest place in the job that was taken
        self.scope = trio.CancelScope()
        self.gone = trio.Event()

    async def work(self) -> None:
        """Carry until the last image is let go, or `scope` is cancelled."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                async for image, lane, slot in self._receive:
                    nursery.start_soon(self._carry, self, image, lane, slot)
        while self._receive.statistics().current_buffer_used:  # handed over, but cancelled before they began
            _, _, slot = self._receive.receive_nowait()
            slot.release()
        self.gone.set()

    def hand_over(self, image: Image, lane: Lane | None, slot: Slot) -> None:
        """Give the crew one more image, with the place it holds; never waits."""
        self.under_way += 1
        if image.state is State.PLANNED:
            self.unrecorded.add(image.row)
            self.last_place = max(self.last_place, image.place)
        self._send.send_nowait((image, lane, slot))

    def let_go(self, image: Image) -> bool:
        """Take note that an image is carried no more; true where it was the last."""
        self.unrecorded.discard(image.row)
        self.under_way -= 1
        if not self.under_way:
            self._send.close()
        return not self.under_way
