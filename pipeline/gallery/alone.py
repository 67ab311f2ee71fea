"""Serves the gallery in a process of its own, on uvicorn: its parser is compiled, and no nursery here has other work.

uvicorn has no deadline for a request's head nor for a client that takes nothing, and raises the signal that ended it
once more. So the connections get the deadlines that they have beside the daemon, and a stop ends well.
"""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, cast

import anyio
import structlog
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.gallery.listening import CHUNK, UNHURRIED, Patience, Windows, not_ours, places

_log = structlog.get_logger("pipeline.gallery")
_BACKLOG = 2048
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # a family that this machine lacks, beside one that it has
_LONGEST_HEAD = 64 * 1024  # bytes of a request line and headers; the parser itself would take any number


def serve_alone(
    app: Windows,
    host: str,
    port: int,
    *,
    listening: Callable[[int], None],
    patience: Patience = UNHURRIED,
) -> None:
    """Serve `app` until SIGINT or SIGTERM, from the main thread; `listening` is told the port once clients can connect.

    Held answers are let go at once, answers under way have the grace; a second signal ends it without.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """
    places()  # with its descriptors; who waits beyond them waits at the door
    with ExitStack() as opened:
        sockets = [opened.enter_context(each) for each in _listen(host, port)]
        config = uvicorn.Config(
            _Journal(app),
            http=_impatient(patience),
            ws="none",
            lifespan="off",
            proxy_headers=False,  # who asks for /metrics is whoever is connected
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="critical",  # what clients do wrong is theirs, and what we do wrong `_Journal` tells
            timeout_keep_alive=cast("int", patience.idle),
            timeout_graceful_shutdown=cast("int", patience.grace),
        )
        server = _Server(config, app, lambda: listening(sockets[0].getsockname()[1]))
        anyio.run(server.serve, sockets, backend="asyncio")


class _Server(uvicorn.Server):
    """A server that a signal ends without an error."""

    def __init__(self, config: uvicorn.Config, app: Windows, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in self.server_state.connections:
            connection.transport.abort()  # it did not take its answer within the grace
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)  # they close their files

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.close()


class _Impatient(HttpToolsProtocol):
    """A connection that ends where its client neither asks nor takes."""

    patience: ClassVar[Patience]
    _head = 0  # bytes of a head that is not complete
    _left = 0  # bytes that were not taken when last looked at
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows asyncio's BaseTransport likewise
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.patience.idle, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._taken()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        deadline, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None  # any byte would put it off
        super().data_received(data)
        if deadline is not None:
            if self.cycle is before and not self.transport.is_closing():
                self.timeout_keep_alive_task = deadline
            else:
                deadline.cancel()
        in_head = self.scope is not getattr(self.cycle, "scope", None)
        self._head = self._head + len(data) if in_head else 0
        if self._head > _LONGEST_HEAD:
            self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._wait_for_taking()

    def timeout_keep_alive_handler(self) -> None:
        if self._taking is None:
            self.transport.abort()
        else:  # it still takes its last answer
            self.timeout_keep_alive_task = self.loop.call_later(self.patience.idle, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _wait_for_taking(self) -> None:
        self._taken()
        self._left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.patience.send, self._look)

    def _look(self) -> None:
        if self._left - self.transport.get_write_buffer_size() < CHUNK:
            self.transport.abort()
        else:
            self._wait_for_taking()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def _impatient(given: Patience) -> type[asyncio.Protocol]:
    class Connection(_Impatient):
        patience = given

    return Connection


class _Journal:
    """Tells of every answer: the path as it was sent, never the query, since signatures stand there."""

    def __init__(self, app: Windows) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if status is None:
                status = message.get("status")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001  what it was the app has told; uvicorn would print it raw
            _log.warning("connection_broken", error=type(error).__name__)
        finally:
            _log.info(
                "request",
                method=scope["method"],
                path=scope["raw_path"].decode("ascii", "replace"),
                status=status,
                seconds=round(time.perf_counter() - started, 3),
                client=(scope.get("client") or (None,))[0],
            )


def _listen(host: str, port: int) -> list[socket.socket]:
    """Open a socket for each address of `host`; with port 0 one alone, so that there is one port to tell people."""
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in found:
            try:
                opened.append(_bound(family, address))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            if opened and port == 0:
                break
        if missing is not None and not opened:
            raise missing
    except OSError as error:
        for each in opened:
            each.close()
        raise not_ours(host, port, error) from error
    return opened


def _bound(family: int, address: Any) -> socket.socket:  # noqa: ANN401  # a family's own shape
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # else a system with large buffers tells of nothing taken before a third of them is empty
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * CHUNK)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made
