"""Held answers (`?wait=`): thousands of callers wait, one of them looks.

Whoever waits first leads: it looks at the index's cheap version number ten times a second, and only when that has
moved does it ask for the revisions that are waited for, each once. When the leader leaves, one other takes over. So
nothing runs while nobody waits, and there is no task to be started or stopped.
"""

from collections.abc import Callable, Hashable

import anyio

_INTERVAL = 0.1  # seconds between two looks


class _Waiter:
    __slots__ = ("call", "changed", "key", "revision", "seen")

    def __init__(self, key: Hashable, revision: Callable[[], Hashable], seen: Hashable) -> None:
        self.key = key
        self.revision = revision
        self.seen = seen
        self.changed = False
        self.call = anyio.Event()


class Changes:
    """Wakes callers when what they look at has changed."""

    def __init__(self, version: Callable[[], Hashable], *, interval: float = _INTERVAL) -> None:
        """Take `version`: cheap, and different after any commit of the index."""
        self._version = version
        self._interval = interval
        self._waiting: dict[_Waiter, None] = {}
        self._leader: _Waiter | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many answers are held now."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether everybody was let go."""
        return self._closed

    def close(self) -> None:
        """Let everybody go, now and from now on: the server stops."""
        self._closed = True
        for waiter in self._waiting:
            waiter.call.set()

    async def wait(self, key: Hashable, revision: Callable[[], Hashable], seen: Hashable) -> None:
        """Return once `revision()` differs from `seen`; callers with equal `key` share one look."""
        waiter = _Waiter(key, revision, seen)
        self._waiting[waiter] = None
        try:
            while not (waiter.changed or self._closed):
                if self._leader is None or self._leader is waiter:
                    self._leader = waiter
                    await self._lead(waiter)
                else:
                    await waiter.call.wait()
                    waiter.call = anyio.Event()
        finally:
            del self._waiting[waiter]
            if self._leader is waiter:
                # Named here and now: were it to find out by itself, all who leave with the leader might be asked in vain.
                self._leader = next((other for other in self._waiting if not other.changed), None)
                if self._leader is not None:
                    self._leader.call.set()

    async def _lead(self, leader: _Waiter) -> None:
        known: Hashable = object()  # so that the first look compares every revision: one may have moved unseen
        while not (leader.changed or self._closed):
            version = self._version()
            if version != known:
                known = version
                self._look()
            if not leader.changed:
                with anyio.move_on_after(self._interval):
                    await leader.call.wait()

    def _look(self) -> None:
        now: dict[Hashable, Hashable] = {}
        for waiter in self._waiting:
            if waiter.key not in now:
                now[waiter.key] = waiter.revision()
            if now[waiter.key] != waiter.seen:
                waiter.changed = True
                waiter.call.set()
