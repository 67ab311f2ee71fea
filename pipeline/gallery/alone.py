"""Serves the gallery in a process of its own, which a signal ends."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import anyio

from pipeline.gallery.listening import UNHURRIED, Deadlines, listen
from pipeline.gallery.server import Server, Windows

_ENDING = (signal.SIGINT, signal.SIGTERM)


def serve_alone(
    app: Windows,
    host: str,
    port: int,
    *,
    listening: Callable[[int], None],
    deadlines: Deadlines = UNHURRIED,
) -> None:
    """Serve `app` until SIGINT or SIGTERM, from the main thread; `listening` is told the port once clients can connect.

    Held answers are let go at once, answers under way have the grace; a second signal ends it without.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """

    async def serve() -> None:
        await _Server(app, deadlines=deadlines, listening=listening).serve(sockets)

    with ExitStack() as opened:
        sockets = [opened.enter_context(each) for each in listen(host, port)]
        anyio.run(serve, backend="asyncio")


class _Server(Server):
    """A server that a signal ends without an error: uvicorn raises it once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in _ENDING:
                loop.remove_signal_handler(number)
