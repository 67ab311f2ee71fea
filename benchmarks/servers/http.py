"""A server that costs next to nothing, so that what is measured beside it has the processor: asyncio and httptools alone."""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping

import httptools
import orjson

Answer = Callable[[str, bytes, Mapping[bytes, bytes], bytes], bytes]

SENT_AT_ONCE = 16 << 20  # bytes: a whole result goes to the kernel in one call
REASONS = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 429: b"Too Many Requests"}


class Connection(asyncio.Protocol):
    """One connection: each request whole, then its answer whole."""

    def __init__(self, answer: Answer):
        self._answer = answer

    def connection_made(self, transport):
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_AT_ONCE)

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_message_begin(self):
        self._target, self._headers, self._body = b"", {}, []

    def on_url(self, url):
        self._target += url

    def on_header(self, name, value):
        self._headers[name.lower()] = value

    def on_body(self, data):
        self._body.append(data)

    def on_message_complete(self):
        method = self._parser.get_method().decode()
        self._transport.write(self._answer(method, self._target, self._headers, b"".join(self._body)))


def said(value, status=200) -> bytes:
    """A whole answer in JSON."""
    return whole(orjson.dumps(value), status)


def whole(body: bytes, status=200) -> bytes:
    return b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        REASONS[status],
        len(body),
        body,
    )


def serve(answer: Answer) -> None:
    """Serve on a free loopback port, tell it on stdout, and go on until ended, or until whoever started this is gone."""
    gc.collect()
    gc.disable()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(answer))


async def _serve(answer: Answer) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answer), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    sys.stdout.close()
    starter = os.getppid()
    while os.getppid() == starter:  # noqa: ASYNC110  # it may be killed, of which no event tells
        await asyncio.sleep(1)
    server.close()


def arguments(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
