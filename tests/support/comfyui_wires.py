"""How the emulated ComfyUI is reached: directly under httpx on trio's clock, or over a real socket, with its weather."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import trio

from tests.support.comfyui_emulator import Comfy, Reply


def transport(comfy: Comfy) -> httpx.MockTransport:
    """Put it directly under an httpx client."""

    async def answer(request: httpx.Request) -> httpx.Response:
        weather = comfy.weather_for(request.method, request.url.path)
        kind = weather.kind if weather else ""
        if kind == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        if kind == "reset":
            raise httpx.ReadError("connection reset", request=request)
        if weather and kind in ("page", "answer"):
            reply = weather.reply
        else:
            target = request.url.raw_path.decode()
            reply = comfy.handle(request.method, target, dict(request.headers), await request.aread())
        if kind == "hang":
            await trio.sleep_forever()
        if kind in ("swallow", "cut"):
            raise httpx.RemoteProtocolError("peer closed connection", request=request)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)

    return httpx.MockTransport(answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, comfy: Comfy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comfy = comfy
        self.over = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: _Server

    def log_message(self, *_args) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        comfy = self.server.comfy
        weather = comfy.weather_for(self.command, urlsplit(self.path).path)
        kind = weather.kind if weather else ""
        if kind in ("refuse", "reset"):
            self._break_off()
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        scripted = weather is not None and kind in ("page", "answer")
        reply = weather.reply if scripted else comfy.handle(self.command, self.path, headers, body)
        if kind == "hang":
            self.server.over.wait()
        if kind in ("hang", "swallow"):
            self._break_off()
            return
        self._send(reply, kind)

    def _send(self, reply: Reply, kind: str) -> None:
        lines = [f"HTTP/1.1 {reply.status} -", f"Content-Length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if kind == "cut":
            self.wfile.write(head + reply.body[: len(reply.body) // 2])
            self._break_off()
        elif kind == "drip":
            self.wfile.write(head)
            for at in range(len(reply.body)):
                self.wfile.write(reply.body[at : at + 1])
                if self.server.over.wait(0.1):
                    break
        else:
            self.wfile.write(head + reply.body)

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


@contextmanager
def served(comfy: Comfy) -> Iterator[str]:
    """Serve it on a loopback socket, in threads, and yield its base URL."""
    with _Server(comfy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
