"""What to do while the disk is full or the index cannot be written: wait, say so once, and go on when it is over."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from pipeline.errors import IndexTrouble, SpoolTrouble
from pipeline.tools.brake import Brake
from pipeline.tools.pauses import Pauses

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Patience:
    """Repeats what failed for want of room; as long as anything does, nothing new is submitted."""

    def __init__(self, brake: Brake, *, draw: Callable[[], float] = random.random) -> None:
        self._brake = brake
        self._draw = draw
        self._stuck: dict[object, str] = {}

    @property
    def trouble(self) -> str | None:
        """What the longest-waiting operation was told; None: all is well."""
        return next(iter(self._stuck.values()), None)

    async def until_done(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something with `what` (as people call it), as often as it takes.

        Raises:
            SpoolTrouble: the file is lost; waiting would not bring it back.
        """
        me, pauses = object(), Pauses(longest=30.0, draw=self._draw)
        try:
            while True:
                try:
                    return await attempt()
                except (IndexTrouble, SpoolTrouble) as error:
                    if isinstance(error, SpoolTrouble) and error.lost:
                        raise
                    self._stuck[me] = f"{what} cannot be used: {error}"
                    self._tell()
                await trio.sleep(pauses.next())
        finally:
            if self._stuck.pop(me, None) is not None:
                self._tell()

    def _tell(self) -> None:
        self._brake.put("disk", self.trouble)
