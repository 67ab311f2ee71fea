"""Serves the gallery beside the daemon in a thread of its own, so that no reader waits for a loop busy with images.

In one loop an answer would wait, at each of its many steps, for whatever dozens of images have to do just then. Two
loops are given turns by the interpreter instead, which is told here to hand them out more often.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

import anyio
import trio

from pipeline.gallery.listening import UNHURRIED, Deadlines, listen
from pipeline.gallery.server import Server, Windows

_TURN = (
    0.0005  # seconds that one thread runs on where another wants to: Python's own 5 ms, ten times over, are an answer
)


async def serve_apart(
    app: Windows,
    host: str,
    port: int,
    *,
    stop: trio.Event,
    deadlines: Deadlines = UNHURRIED,
    leaving: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` in another thread until `stop` is set or the caller is cancelled; reports the port once it listens.

    `stop` ends gracefully: no new connection, answers under way have the grace. A cancellation ends at once. At the end
    `leaving` is called in the thread.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """
    with ExitStack() as opened:
        sockets = [opened.enter_context(each) for each in await trio.to_thread.run_sync(listen, host, port)]
        there = _There(app, sockets, deadlines, leaving)

        async def tell() -> None:
            try:
                await there.listens.wait()
                task_status.started(there.port)
                await stop.wait()
                there.end()
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await there.listens.wait()
                there.end_at_once()
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(there.run, limiter=trio.CapacityLimiter(1))
            nursery.cancel_scope.cancel()


class _There:
    """The other thread's loop and server, as they are seen from here."""

    def __init__(
        self, app: Windows, sockets: list[socket.socket], deadlines: Deadlines, leaving: Callable[[], None]
    ) -> None:
        self.listens = trio.Event()  # clients can connect
        self.port = 0
        self._app = app
        self._sockets = sockets
        self._deadlines = deadlines
        self._leaving = leaving
        self._here = trio.lowlevel.current_trio_token()
        self._server: Server | None = None

    def end(self) -> None:
        """Let it end in an orderly way."""
        self._tell(Server.end)

    def end_at_once(self) -> None:
        """Let it end without waiting for anybody."""
        self._tell(Server.end_at_once)

    def _tell(self, what: Callable[[Server], None]) -> None:
        if self._server is not None:
            with suppress(RuntimeError):  # its loop is closed: it has ended already
                self._loop.call_soon_threadsafe(what, self._server)

    # -- what runs in the other thread

    def run(self) -> None:
        """Serve until the end."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        try:
            anyio.run(self._serve, backend="asyncio")
        finally:
            sys.setswitchinterval(usual)
            self._leaving()
            self._here.run_sync_soon(self.listens.set)  # whatever has become of it, nobody waits for it

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = Server(self._app, deadlines=self._deadlines, listening=self._listening)
        await self._server.serve(self._sockets)

    def _listening(self, port: int) -> None:
        self.port = port
        self._here.run_sync_soon(self.listens.set)
