"""Serves the gallery on hypercorn's protocols inside the caller's nursery.

The accept loop is ours, not `hypercorn.trio.serve`: there a client that does not read its answer holds up every stop
(its sends are shielded from cancellation), and an error inside one connection ends the whole nursery, which here is
the one that generates. So every connection gets a stream with a deadline on each send, is closed by force when the
grace is over, and keeps its troubles to itself.
"""

import errno
from collections.abc import Mapping
from typing import Any, cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

from pipeline.gallery.listening import CHUNK, UNHURRIED, Patience, Windows, not_ours, places

_log = structlog.get_logger("pipeline.gallery")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.5  # seconds until a client is let in again after that
_LONGEST_PATH = 300  # characters of a path that a log line holds


async def serve(
    app: Windows,
    host: str,
    port: int,
    *,
    stop: trio.Event | None = None,
    patience: Patience = UNHURRIED,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `stop` is set or the caller is cancelled; reports the port once it listens.

    `stop` ends gracefully: no new connection, answers under way have the grace. A cancellation ends at once.

    Raises:
        PortTaken: another program listens there.
        ConfigError: the address is not one of this machine's, or not ours to listen on.
    """
    listeners = await _listen(host, port)
    house = _House(app, patience)
    async with trio.open_nursery() as handlers:
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(house.accept, listener, handlers)
                task_status.started(listeners[0].socket.getsockname()[1])
                await (trio.Event() if stop is None else stop).wait()
                accepting.cancel_scope.cancel()
            app.close()
            await house.empty()
        finally:
            house.close()
            handlers.cancel_scope.cancel()


class _House:
    """The connections that are open, and how they are all ended."""

    def __init__(self, app: Windows, patience: Patience) -> None:
        self._patience = patience
        self._app = wrap_app(cast("ASGIFramework", app), 0, "asgi")
        self._config = Config()
        self._config.logger_class = cast("Any", _Journal)
        self._config.keep_alive_timeout = patience.idle
        self._config.include_server_header = False
        self._context = WorkerContext(None)
        self._open: set[trio.SocketStream] = set()
        self._silent: set[trio.CancelScope] = set()  # of connections on which nothing was asked yet
        self._left = trio.Event()
        self._places = trio.Semaphore(places())
        self._trouble: str | None = None

    async def accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        """Let clients in, as many as there are places; the others wait at the door, for ever."""
        try:
            while True:
                await self._places.acquire()
                handlers.start_soon(self.serve, await self._next(listener))
        finally:
            listener.socket.close()

    async def _next(self, listener: trio.SocketListener) -> trio.SocketStream:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._tell(error.strerror)
                await trio.sleep(_PAUSE)
            else:
                self._tell(None)
                return stream

    def _tell(self, trouble: str | None) -> None:
        """Say once why nobody is let in, and once that it is over."""
        if trouble is not None and self._trouble is None:
            _log.error("gallery_lets_nobody_in", reason=trouble, open=len(self._open), tried_again=_PAUSE)
        elif trouble is None and self._trouble is not None:
            _log.info("gallery_lets_in_again")
        self._trouble = trouble

    async def serve(self, stream: trio.SocketStream) -> None:
        self._open.add(stream)
        try:
            if await self._speaks(stream):
                patient = cast("Any", _Patient(stream, self._patience.send))
                await TCPServer(self._app, self._config, self._context, ConnectionState({}), patient)
        except Exception as error:  # noqa: BLE001  what one client causes must not end the others, or the generating
            _log.warning("connection_broken", error=type(error).__name__)
        finally:
            stream.socket.close()
            self._open.discard(stream)
            self._places.release()
            self._left.set()

    async def _speaks(self, stream: trio.SocketStream) -> bool:
        """Whether something is asked in time. Until then a connection is one task: a protocol's four cost a crowd dearly."""
        with trio.move_on_after(self._patience.idle) as scope:
            self._silent.add(scope)
            try:
                await trio.lowlevel.wait_readable(stream.socket)
            finally:
                self._silent.discard(scope)
        return not scope.cancelled_caught

    async def empty(self) -> None:
        """Wait until every connection has ended by itself, as long as the grace allows."""
        await self._context.terminated.set()  # idle connections end now
        for scope in self._silent:
            scope.cancel()
        with trio.move_on_after(self._patience.grace):
            while self._open:
                self._left = trio.Event()
                await self._left.wait()

    def close(self) -> None:
        for stream in self._open:
            stream.socket.close()  # wakes a shielded send with an error


class _Patient:
    """A socket stream whose sends give up on a client that takes nothing; what `TCPServer` calls, no more."""

    def __init__(self, stream: trio.SocketStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self.socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            try:
                with trio.fail_after(self._seconds):
                    await self._stream.send_all(memoryview(data)[start : start + CHUNK])
            except trio.TooSlowError as error:
                self.socket.close()
                raise trio.BrokenResourceError("the client takes nothing any more") from error

    async def receive_some(self, most: int) -> bytes:
        data = bytes(await self._stream.receive_some(most))
        # HTTP/2 without TLS is for proxies that nobody puts here, and hypercorn sets its idle connections no end.
        return b"" if data.startswith(b"PRI * HTTP/2") else data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Journal:
    """hypercorn's log, as ours: the path as it was sent, never the query, since signatures stand there."""

    def __init__(self, config: Config) -> None:
        """Take what hypercorn hands in; nothing of it is needed."""

    async def access(self, request: Mapping[str, Any], response: Mapping[str, Any] | None, request_time: float) -> None:
        if response is None:  # hypercorn tells of a request that was closed early too, and again when it is answered
            return
        _log.info(
            "request",
            method=request["method"],
            path=request["raw_path"][:_LONGEST_PATH].decode("ascii", "replace"),
            status=response["status"],
            seconds=round(request_time, 3),
            client=(request.get("client") or (None,))[0],
        )

    async def exception(self, message: str, *args: object, **_: object) -> None:
        _log.exception("answer_failed", detail=message % args if args else message)

    async def error(self, message: str, *args: object, **_: object) -> None:
        _log.warning("server", detail=message % args if args else message)

    critical = warning = info = debug = error


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise not_ours(host, port, error) from error
    if port == 0:  # each family would get a port of its own; one address is what people are told
        for listener in listeners[1:]:
            listener.socket.close()
        return listeners[:1]
    return listeners
