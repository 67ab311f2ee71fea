"""HTTP/1.1 over trio's own streams, read by the compiled parser that `pipeline serve` uses as well.

An image costs some four requests, and httpcore with its parser in Python took a third of all the processor time that an
image cost; this takes a fifth of that. It knows just what back ends need: GET and POST with a body in one piece, answers
of any length, connections kept for a while. Whatever goes through a proxy is httpx's own transport's business.
"""

import ssl
from collections import deque
from collections.abc import Callable
from typing import Self

import httptools
import httpx
import trio

from pipeline.backends.line import PIECE, Line

KEPT = 5.0  # seconds that an idle connection is used again: no server in use closes one sooner
_LARGEST_HEAD = 64 << 10  # bytes before the body of an answer

_PORTS = {"http": 80, "https": 443}

_Origin = tuple[str, str, int]


class Wire(httpx.AsyncBaseTransport):
    """Carries requests to any origin; `idle` connections at most wait to be used again, `tls` is asked for where needed."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], *, idle: int) -> None:
        self._tls = tls
        self._most_idle = idle
        self._idle: deque[_Connection] = deque()  # the one used last stands last

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the head of its answer.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: nothing went out.
            httpx.NetworkError, httpx.RemoteProtocolError: the connection broke off, or what came is no answer.
        """
        url = request.url
        origin = (url.scheme, url.host, url.port or _PORTS[url.scheme])
        make_sure = request.method != "GET"
        while (connection := self._waiting(origin, make_sure=make_sure)) is not None:
            try:
                return await self._answered(connection, request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if make_sure or connection.has_heard:
                    raise
                make_sure = True
        connection = await self._connected(origin, request.extensions["timeout"]["connect"])
        return await self._answered(connection, request)

    async def aclose(self) -> None:
        """Close what waits to be used again."""
        while self._idle:
            self._idle.pop().close()

    def give_back(self, connection: "_Connection") -> None:
        """Keep a connection whose answer has been read, or close one that cannot be used again."""
        if not connection.answer.leaves_it_open:
            connection.close()
            return
        connection.idle_since = trio.current_time()
        self._idle.append(connection)
        if len(self._idle) > self._most_idle:
            self._idle.popleft().close()

    async def _answered(self, connection: "_Connection", request: httpx.Request) -> httpx.Response:
        try:
            await connection.send(request)
            await connection.read_head()
        except BaseException:
            connection.close()
            raise
        answer = connection.answer
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(self, connection), request=request)

    def _waiting(self, origin: _Origin, *, make_sure: bool) -> "_Connection | None":
        """Take the connection used last, so that those which are too many grow old; close what is of no use any more.

        To look whether the other side has closed it lets other threads have the interpreter, which costs more than the
        look itself: what may be asked once more is not made sure of.
        """
        others: list[_Connection] = []
        found = None
        while self._idle and found is None:
            connection = self._idle.pop()
            if connection.origin != origin:
                others.append(connection)
            elif connection.is_young and not (make_sure and connection.is_closed):
                found = connection
            else:
                connection.close()
        self._idle.extend(reversed(others))
        return found

    async def _connected(self, origin: _Origin, timeout: float) -> "_Connection":
        scheme, host, port = origin
        try:
            tls = self._tls() if scheme == "https" else None
            with trio.fail_after(timeout):
                line = Line((await trio.open_tcp_stream(host, port)).socket.detach())
                if tls is None:
                    return _Connection(origin, line, line)
                try:
                    secure = trio.SSLStream(line, tls, server_hostname=host, https_compatible=True)
                    await secure.do_handshake()
                except BaseException:
                    line.close()
                    raise
                return _Connection(origin, secure, line)
        except trio.TooSlowError as error:
            raise httpx.ConnectTimeout(f"no connection within {timeout:g} s") from error
        except (OSError, trio.BrokenResourceError) as error:
            raise httpx.ConnectError(str(error)) from error


class _Body(httpx.AsyncByteStream):
    """The body of one answer, piece by piece; closing it gives the connection back."""

    def __init__(self, wire: Wire, connection: "_Connection") -> None:
        self._wire = wire
        self._connection: _Connection | None = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = None if self._connection is None else await self._connection.read_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wire.give_back(connection)


class _Answer:
    """One answer as the parser tells of it; its methods are httptools' protocol."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_read = False
        self.ended = False
        self.leaves_it_open = False
        self.pieces: deque[bytes] = deque()
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("more than one answer to a request")
        self.headers.clear()  # of an interim answer

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.head_read = self.status >= 200

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.ended = self.head_read
        self.leaves_it_open = self.ended and self.parser.should_keep_alive()

    def meet_end(self) -> None:
        """Take note that the other side has closed: an answer without a length ends so.

        Raises:
            httpx.RemoteProtocolError: it ends in its middle.
        """
        names = {name.lower() for name, _ in self.headers}
        if not self.head_read or names & {b"content-length", b"transfer-encoding"}:
            raise httpx.RemoteProtocolError("the connection was closed in the middle of an answer")
        self.ended = True


class _Connection:
    def __init__(self, origin: _Origin, stream: trio.abc.Stream, line: Line) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.answer = _Answer()
        self._stream = stream
        self._line = line
        self._received = 0  # bytes of the present answer

    @property
    def is_young(self) -> bool:
        """Whether the other side has no reason yet to close it."""
        return trio.current_time() - self.idle_since < KEPT

    @property
    def is_closed(self) -> bool:
        """Whether it is closed; where something came while nothing was asked, it has been."""
        return not self._line.is_silent

    @property
    def has_heard(self) -> bool:
        """Whether anything of an answer has come."""
        return self._received > 0

    def close(self) -> None:
        self._line.close()

    async def send(self, request: httpx.Request) -> None:
        self.answer = _Answer()
        self._received = 0
        lines = b"".join(b"%b: %b\r\n" % header for header in request.headers.raw)
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), request.url.raw_path, lines)
        try:
            await self._stream.send_all(head + request.content)
        except trio.BrokenResourceError as error:
            raise httpx.WriteError(str(error)) from error

    async def read_head(self) -> None:
        while not self.answer.head_read:
            await self._feed()
            if self._received > _LARGEST_HEAD and not self.answer.head_read:
                raise httpx.RemoteProtocolError("the answer's head has no end")

    async def read_piece(self) -> bytes | None:
        """Return the next piece of the body; None at its end."""
        while not self.answer.pieces:
            if self.answer.ended:
                return None
            await self._feed()
        return self.answer.pieces.popleft()

    async def _feed(self) -> None:
        try:
            data = await self._stream.receive_some(PIECE)
        except trio.BrokenResourceError as error:
            raise httpx.ReadError(str(error)) from error
        self._received += len(data)
        if not data:
            self.answer.meet_end()
        try:
            self.answer.parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise httpx.RemoteProtocolError("it changes to another protocol than HTTP") from error
        except httptools.HttpParserError as error:
            self.answer.leaves_it_open = False  # what follows a whole answer is not the next one
            raise httpx.RemoteProtocolError(f"no HTTP: {error.__context__ or error}") from error
