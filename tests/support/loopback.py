"""What our emulators of HTTP services share: weather, and two ways of being reached.

An emulator answers `reply_to(method, target, headers, body)`. `transport()` puts it under httpx and trio's clock,
`served()` on a real loopback socket.
"""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import trio

PAGE = b"<!DOCTYPE html><html><head><title>404</title></head><body>Pod not found</body></html>"
BEFORE = frozenset({"refuse", "reset", "page"})  # the service does not get to hear of the request


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds the service takes
    zeros: int = 0  # bytes that follow the body, made on the way, without a Content-Length


def said(value: object, status: int = 200, **more) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, **more)


def page(status: int = 404, body: bytes = PAGE) -> Reply:
    return Reply(status, body, {"Content-Type": "text/html; charset=utf-8"})


@dataclass
class Weather:
    """What happens to the next `times` requests that match.

    kind: `refuse` (no connection), `reset` (broken off before it was heard), `swallow` (handled, then broken off),
    `hang` (handled, never answered), `cut` (handled, answered by half), `drip` (handled; a byte every tenth of a second),
    `page` (answered with `reply`, not heard), `answer` (handled, answered with `reply` all the same).
    """

    kind: str
    method: str = ""
    path: str = ""  # how the path ends or, with a closing slash, what it holds
    times: int = 1
    reply: Reply = field(default_factory=page)

    def hits(self, method: str, path: str) -> bool:
        there = self.path in path if self.path.endswith("/") else path.endswith(self.path)
        return self.method in ("", method) and there


class Answers(Protocol):
    """What can be put on a wire."""

    def reply_to(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[str, Reply]:
        """Return what the weather does to a request, and the reply to it."""
        ...


class Emulator:
    """A service; subclasses answer in `route`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.weather: deque[Weather] = deque()
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.RLock()

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        raise NotImplementedError

    def refuses(self, headers: dict[str, str], path: str) -> Reply | None:
        return None

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        split = urlsplit(target)
        with self.lock:
            path = unquote(split.path)
            self.requests.append((method, path))
            self.headers.append(headers)
            return self.refuses(headers, path) or self.route(method, path, dict(parse_qsl(split.query)), body)

    def weather_for(self, method: str, path: str) -> Weather | None:
        with self.lock:
            for kind in self.weather:
                if kind.hits(method, path):
                    kind.times -= 1
                    if kind.times <= 0:
                        self.weather.remove(kind)
                    return kind
            return None

    def reply_to(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[str, Reply]:
        weather = self.weather_for(method, urlsplit(target).path)
        kind = weather.kind if weather else ""
        reply = Reply() if kind in BEFORE else self.handle(method, target, headers, body)
        return kind, weather.reply if weather and kind in ("page", "answer") else reply


def transport(emulator: Answers) -> httpx.MockTransport:
    """Put it directly under an httpx client."""

    async def answer(request: httpx.Request) -> httpx.Response:
        kind, reply = emulator.reply_to(
            request.method, request.url.raw_path.decode(), dict(request.headers), await request.aread()
        )
        if kind == "refuse":
            raise httpx.ConnectError("all attempts to connect failed", request=request) from ConnectionRefusedError()
        if kind in ("reset", "swallow"):
            raise httpx.ReadError("connection reset", request=request)
        if kind in ("hang", "drip"):
            await trio.sleep_forever()
        await trio.sleep(reply.delay)
        headers = [(name, value.encode("latin-1")) for name, value in reply.headers.items()]
        return httpx.Response(reply.status, headers=headers, stream=_Stream(reply, cut=kind == "cut"))

    return httpx.MockTransport(answer)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, *, cut: bool) -> None:
        self._reply = reply
        self._cut = cut

    async def __aiter__(self):
        body = self._reply.body
        yield body[: len(body) // 2] if self._cut else body
        if self._cut:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        for _ in range(self._reply.zeros >> 16):
            await trio.lowlevel.checkpoint()
            yield bytes(1 << 16)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: "_Server"

    def log_message(self, *_args) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        kind, reply = self.server.emulator.reply_to(self.command, self.path, headers, body)
        if kind == "hang":
            self.server.over.wait()
        if kind in ("refuse", "reset", "swallow", "hang") or self.server.over.wait(reply.delay):
            self._break_off()
            return
        length = [] if reply.zeros else [f"Content-Length: {len(reply.body)}"]
        ends = ["Connection: close"] if reply.zeros else []
        lines = [f"HTTP/1.1 {reply.status} -", *length, *ends, *(f"{k}: {v}" for k, v in reply.headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._write(head, reply, kind)

    def _write(self, head: bytes, reply: Reply, kind: str) -> None:
        if kind == "drip":
            self.wfile.write(head)
            for at in range(len(reply.body)):
                self.wfile.write(reply.body[at : at + 1])
                if self.server.over.wait(0.1):
                    return
        elif kind == "cut":
            self.wfile.write(head + reply.body[: len(reply.body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(head + reply.body)
            for _ in range(reply.zeros >> 16):
                self.wfile.write(bytes(1 << 16))
            self.close_connection = self.close_connection or bool(reply.zeros)

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client, or we, broke off
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, emulator: Answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.emulator = emulator
        self.over = threading.Event()


@contextmanager
def served(emulator: Answers) -> Iterator[str]:
    """Serve it on a loopback socket, in threads, and yield its origin."""
    with _Server(emulator) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
