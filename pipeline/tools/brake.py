"""How loops are woken, and what holds all of them at once."""

from collections.abc import Callable

import structlog
import trio

log = structlog.get_logger(__name__)

FOREVER = float("inf")


class Bell:
    """Wakes one loop; a ring that comes while nobody listens is heard at the next `wait`."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake the loop, or let its next `wait` return at once."""
        self._rung.set()

    async def wait(self, seconds: float = FOREVER) -> None:
        """Sleep until the bell is rung, at most `seconds`."""
        with trio.move_on_after(seconds):
            await self._rung.wait()
        self._rung = trio.Event()


class Brake:
    """What keeps every lane from starting anything new (collecting goes on), each cause with its reason in words."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def reason(self) -> str | None:
        """The first reason that still holds; None: go."""
        return next(iter(self._reasons.values()), None)

    def held_by(self, cause: str) -> str | None:
        """Why `cause` holds; None where it does not."""
        return self._reasons.get(cause)

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever the reasons change."""
        self._listeners.append(changed)

    def put(self, cause: str, reason: str | None) -> None:
        """Hold or, with no reason, release what `cause` held."""
        if self._reasons.get(cause) == reason:
            return
        if reason is None:
            del self._reasons[cause]
            log.info("brake_released", cause=cause)
        else:
            self._reasons[cause] = reason
            log.warning("brake_held", cause=cause, reason=reason)
        for changed in self._listeners:
            changed()
