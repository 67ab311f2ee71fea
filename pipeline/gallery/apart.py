"""Serves the gallery beside the daemon in a thread of its own: a loop that is full of generating lets nobody wait.

In one loop an answer would wait, at each of its many steps, for whatever dozens of images have to do just then. Two
loops are given turns by the interpreter instead, which is told here to hand them out more often.
"""

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from pipeline.errors import ConfigError
from pipeline.gallery.listening import UNHURRIED, Patience, Windows
from pipeline.gallery.server import serve

_TURN = (
    0.0005  # seconds that one thread runs on where another wants to: Python's own 5 ms, ten times over, are an answer
)


async def serve_apart(
    app: Windows,
    host: str,
    port: int,
    *,
    stop: trio.Event,
    patience: Patience = UNHURRIED,
    leaving: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve as `server.serve` does, from another thread, in which `leaving` is called at the end.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """
    there = _There(trio.lowlevel.current_trio_token(), trio.lowlevel.current_clock())
    trouble: ConfigError | None = None

    async def tell() -> None:
        try:
            task_status.started(await there.listens())
            await stop.wait()
            there.end()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await there.runs.wait()
            there.cancel()
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(
                    there.run,
                    partial(serve, app, host, port, patience=patience),
                    leaving,
                    limiter=trio.CapacityLimiter(1),
                )
            except ConfigError as error:
                trouble = error
        nursery.cancel_scope.cancel()
    if trouble is not None:
        raise trouble


class _There:
    """The other thread's loop, as it is seen from here."""

    def __init__(self, here: trio.lowlevel.TrioToken, clock: trio.abc.Clock) -> None:
        self.runs = trio.Event()
        self._here = here
        self._clock = clock  # what the app asks of the daemon compares moments of its loop
        self._listening = trio.Event()
        self._port = 0

    async def listens(self) -> int:
        """Wait until clients can connect, and return the port."""
        await self._listening.wait()
        return self._port

    def end(self) -> None:
        """Let it end in an orderly way."""
        self._tell(self._stop.set)

    def cancel(self) -> None:
        """Let it end at once."""
        self._tell(self._scope.cancel)

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):  # it has ended already
            self._token.run_sync_soon(what)

    # -- what runs in the other thread

    def run(self, serving: Callable[..., Awaitable[None]], leaving: Callable[[], None]) -> None:
        """Serve until the end."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        try:
            trio.run(self._serve, serving, clock=self._clock)
        finally:
            sys.setswitchinterval(usual)
            leaving()

    async def _serve(self, serving: Callable[..., Awaitable[None]]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        with trio.CancelScope() as self._scope:
            self._here.run_sync_soon(self.runs.set)
            await serving(stop=self._stop, task_status=self)

    def started(self, port: int) -> None:
        """Pass on what the server reports."""
        self._port = port
        self._here.run_sync_soon(self._listening.set)
