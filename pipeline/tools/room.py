"""How many bytes of pictures may be in memory at once: whoever is about to read some asks for room first.

As a cancel scope bounds the time of whatever runs inside it, a hold bounds the memory: the wall that reads an answer
claims room on behalf of the image it is read for, without being handed anything. Waiting for room is nobody's fault
outside: the time limits made here stand still meanwhile.
"""

import ctypes
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

import trio

ALLOWANCE = 48 << 20  # bytes that all holders together may have
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 4 << 20  # bytes


class Room:
    """A number of bytes, given out first come, first served; one who wants more than all of them goes alone."""

    def __init__(self, allowance: int = ALLOWANCE) -> None:
        self._allowance = allowance
        self._taken = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @contextmanager
    def hold(self) -> Iterator["Hold"]:
        """Open a hold for all that is called inside the block; what it holds is given back at the end."""
        hold = Hold(self)
        before = _present.set(hold)
        try:
            yield hold
        finally:
            _present.reset(before)
            hold.let_go()

    async def take(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and have it."""
        if not self._waiting and self._fits(size):
            self._taken += size
            return
        ticket = (size, trio.Event())
        self._waiting.append(ticket)
        try:
            with clocks_stopped():
                await ticket[1].wait()
        except trio.Cancelled:
            self._waiting.remove(ticket)
            self._admit()
            raise

    def give_back(self, size: int) -> None:
        """Let others have what was taken."""
        self._taken -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._allowance

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, admitted = self._waiting.popleft()
            self._taken += size
            admitted.set()


class Hold:
    """What one image has of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    async def claim(self, size: int) -> None:
        """Have `size` bytes instead of what was held so far.

        More of them may have to be waited for, and nobody waits while holding something: two who did would wait for
        each other for ever.
        """
        if size > self._size:
            self.let_go()
            await self._room.take(size)
            self._size = size
        else:
            self._shrink(size)

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._shrink(0)

    def _shrink(self, size: int) -> None:
        self._room.give_back(self._size - size)
        self._size = size


_present: ContextVar[Hold | None] = ContextVar("hold", default=None)
_limits: ContextVar[tuple[trio.CancelScope, ...]] = ContextVar("limits", default=())


async def claim(size: int) -> None:
    """Claim for the hold that this code runs in; outside of one nothing is counted."""
    hold = _present.get()
    if hold is not None:
        await hold.claim(size)


def let_go() -> None:
    """Let go of what the hold that this code runs in has: the bytes are not kept."""
    hold = _present.get()
    if hold is not None:
        hold.let_go()


class move_on_after:  # noqa: N801  # it stands where trio's function of that name would
    """Limit the time of a block (seconds) as trio does; waiting for room in it does not count."""

    def __init__(self, seconds: float) -> None:
        self._scope = trio.move_on_after(seconds)
        self._before: Token[tuple[trio.CancelScope, ...]] | None = None

    def __enter__(self) -> trio.CancelScope:
        self._scope.__enter__()
        self._before = _limits.set((*_limits.get(), self._scope))
        return self._scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._before is not None
        _limits.reset(self._before)
        return self._scope.__exit__(kind, error, trace)


class fail_after(move_on_after):  # noqa: N801  # likewise
    """Likewise.

    Raises:
        trio.TooSlowError: the time was over.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        caught = super().__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise trio.TooSlowError
        return caught


@contextmanager
def clocks_stopped() -> Iterator[None]:
    """Let the time limits made here stand still for as long as the block takes."""
    began = trio.current_time()
    deadlines = [(scope, scope.deadline) for scope in _limits.get()]
    for scope, _ in deadlines:
        scope.deadline = math.inf
    try:
        yield
    finally:
        for scope, deadline in deadlines:
            scope.deadline = deadline + trio.current_time() - began


def return_large_blocks() -> None:
    """Have the C library give large blocks back to the system as soon as they are free.

    By default glibc keeps blocks of the size of a picture once it has seen one, a set for each thread, with gaps in
    between that nothing fits: 60 MB at 24 pictures of 8 MB. Told not to, it would give back what smaller ones
    leave, too, from 128 KB on, and fetch it again for the next picture: 70 pages an image.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
