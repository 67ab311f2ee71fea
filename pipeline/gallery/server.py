"""Serves the gallery over HTTP: uvicorn's connections, with deadlines and a bound, and a log that keeps secrets.

uvicorn has no deadline for a request's head nor for a client that takes nothing, and takes any number of connections.
Here they end in time, and those beyond the bound wait at the door. The same server runs beside the daemon (`apart`) and
in a process of its own (`alone`).
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable
from typing import Protocol, cast

import structlog
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.gallery.listening import CHUNK, Deadlines, places
from pipeline.gallery.refusals import Refusal, bad_request, head_too_large, method_not_allowed

_log = structlog.get_logger("pipeline.gallery")
_LONGEST_HEAD = 64 * 1024  # bytes of a request line and headers; the parser itself would take any number
_LONGEST_PATH = 300  # characters of a path that a log line holds
_PAUSE = 0.5  # seconds until a client is let in again after one could not be: the system has no descriptors left, say
_OTHER_METHOD = re.compile(rb"(?!GET |HEAD )[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/1\.[01]\r?\n")


class Windows(Protocol):
    """What is served: an ASGI app that can be asked to let its held answers go."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def close(self) -> None: ...


class Server(uvicorn.Server):
    """Serves `app` on sockets that listen, until it is told to end; `listening` is told the port once clients can connect."""

    def __init__(self, app: Windows, *, deadlines: Deadlines, listening: Callable[[int], None]) -> None:
        super().__init__(
            uvicorn.Config(
                _Journal(app),
                http="httptools",
                ws="none",
                lifespan="off",
                proxy_headers=False,  # who asks for /metrics is whoever is connected
                server_header=False,
                access_log=False,
                log_config=None,
                log_level="critical",  # what clients do wrong is theirs, and what we do wrong `_Journal` tells
                timeout_keep_alive=cast("int", deadlines.idle),
                timeout_graceful_shutdown=cast("int", deadlines.grace),
            )
        )
        self._app = app
        self._deadlines = deadlines
        self._listening = listening
        self._places = asyncio.Semaphore(places())
        self._accepting: list[asyncio.Task[None]] = []
        self._trouble: str | None = None

    def end(self) -> None:
        """Let nobody in any more, held answers go, and those under way have their grace; a second time without it."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.close()

    def end_at_once(self) -> None:
        """End without grace."""
        self.end()
        self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the doors."""
        self.servers = []
        for door in sockets or []:
            self._accepting.append(asyncio.create_task(self._let_in(door)))
            self.started = True
            if len(self._accepting) == 1:
                self._listening(door.getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the doors, and in the end what did not take its answer within the grace."""
        for task in self._accepting:
            task.cancel()
        await asyncio.wait(self._accepting)
        await super().shutdown(sockets)
        for connection in self.server_state.connections:
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)  # they close their files

    async def _let_in(self, door: socket.socket) -> None:
        """Let clients in, as many as there are places; the others wait at the door, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            await loop.connect_accepted_socket(self._connection, await self._next(door))

    async def _next(self, door: socket.socket) -> socket.socket:
        while True:
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(door)
            except OSError as error:
                self._tell(error.strerror)
                await asyncio.sleep(_PAUSE)
            else:
                self._tell(None)
                return client

    def _connection(self) -> "_Connection":
        return _Connection(self, self._deadlines, left=self._places.release)

    def _tell(self, trouble: str | None) -> None:
        """Say once why nobody is let in, and once that it is over."""
        if trouble is not None and self._trouble is None:
            inside = len(self.server_state.connections)
            _log.error("gallery_lets_nobody_in", reason=trouble, open=inside, tried_again=_PAUSE)
        elif trouble is None and self._trouble is not None:
            _log.info("gallery_lets_in_again")
        self._trouble = trouble


class _Connection(HttpToolsProtocol):
    """A connection that ends where its client neither asks nor takes."""

    def __init__(self, server: Server, deadlines: Deadlines, *, left: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server.config, server.server_state, server.lifespan.state, loop)
        self._deadlines = deadlines
        self._leave = left
        self._head = b""  # as much as there is of one that is not complete
        self._left = 0  # bytes that were not taken when last looked at
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows asyncio's BaseTransport likewise
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self._deadlines.idle, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._taken()
        self._leave()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        deadline, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None  # any byte would put it off
        self._head += data
        super().data_received(data)
        if deadline is not None:
            if self.cycle is before and not self.transport.is_closing():
                self.timeout_keep_alive_task = deadline
            else:
                deadline.cancel()
        if self.scope is getattr(self.cycle, "scope", None):
            self._head = b""
        elif len(self._head) > _LONGEST_HEAD:
            if self._answering():
                self.transport.abort()
            else:
                self._refuse(head_too_large(_LONGEST_HEAD))

    def on_headers_complete(self) -> None:
        if self._is_long():
            raise ValueError("no such head is answered")  # the parser ends by it, in `send_400_response`
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; a method that the parser has never heard of is no more than not allowed."""
        if self._answering():  # between its parts, a refusal would be taken for more of it
            self.cycle.keep_alive = False
        elif self._is_long():
            self._refuse(head_too_large(_LONGEST_HEAD))
        elif _OTHER_METHOD.match(self._head):
            self._refuse(method_not_allowed())
        else:
            self._refuse(bad_request("This is no request that can be read as HTTP."))

    def _answering(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # None before the first

    def _is_long(self) -> bool:
        """Whether the head, as far as it is read, is more than is answered."""
        read = sum(
            len(name) + len(value) + 4 for name, value in self.headers or ()
        )  # 4: a colon, a space, a line's end
        return len(getattr(self, "url", b"")) + read > _LONGEST_HEAD

    def _refuse(self, refusal: Refusal) -> None:
        """Answer beneath the app, and close."""
        answer = refusal.response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[refusal.status], head, bytes(answer.body)))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._wait_for_taking()

    def timeout_keep_alive_handler(self) -> None:
        if self._taking is None:
            self.transport.abort()
        else:  # it still takes its last answer
            self.timeout_keep_alive_task = self.loop.call_later(self._deadlines.idle, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _wait_for_taking(self) -> None:
        self._taken()
        self._left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self._deadlines.send, self._look)

    def _look(self) -> None:
        if self._left - self.transport.get_write_buffer_size() < CHUNK:
            self.transport.abort()
        else:
            self._wait_for_taking()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


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
                path=scope["raw_path"][:_LONGEST_PATH].decode("ascii", "replace"),
                status=status,
                seconds=round(time.perf_counter() - started, 3),
                client=(scope.get("client") or (None,))[0],
            )
