"""The wire against a peer that says exactly what a test tells it to, byte by byte, on real sockets."""

import datetime as dt
import socket
import ssl
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.backends.line import Line
from pipeline.backends.wire import KEPT, Wire

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Twice: a\r\nX-Twice: b\r\n\r\nhello"
PATIENCE = {"timeout": httpx.Timeout(None, connect=5).as_dict()}


class Peer:
    """Answers each request on a connection with the next of its answers; None closes the connection instead."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        self.port = 0
        self.tls = None

    async def serve(self, *, task_status):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self.talk, listeners, task_status=task_status)

    async def talk(self, plain):
        self.connections += 1
        stream = trio.SSLStream(plain, self.tls, server_side=True, https_compatible=True) if self.tls else plain
        async with stream:
            try:
                while (request := await self.heard(stream)) is not None:
                    self.requests.append(request)
                    answer = self.answers.pop(0)
                    if answer is None:
                        return
                    for piece in answer if isinstance(answer, list) else [answer]:
                        await stream.send_all(piece)
                        await trio.sleep(0.001)
                    if isinstance(answer, list) and answer[-1].endswith(b"END"):
                        return
            except trio.BrokenResourceError:
                return

    async def heard(self, stream):
        data = b""
        while not data.partition(b"\r\n\r\n")[1]:
            more = await stream.receive_some()
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += await stream.receive_some()
        return head, body


@asynccontextmanager
async def met(peer, *, idle=4, tls=None):
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        wire = Wire(lambda: tls or ssl.create_default_context(), idle=idle)
        yield wire
        await wire.aclose()
        nursery.cancel_scope.cancel()


async def ask(wire, peer, path="/x?y=%20z", *, method="GET", content=None, scheme="http", host="127.0.0.1"):
    url = f"{scheme}://{host}:{peer.port}{path}"
    response = await wire.handle_async_request(httpx.Request(method, url, content=content, extensions=PATIENCE))
    try:
        return response, b"".join([piece async for piece in response.stream])
    finally:
        await response.aclose()


async def test_a_request_goes_out_whole_and_its_answer_comes_back_whole():
    peer = Peer(
        HELLO, [b"HTTP/1.1 404 Gone\r\nTransfer-Enc", b"oding: chunked\r\n\r\n3\r\nabc", b"\r\n2\r\nde\r\n0\r\n\r\n"]
    )
    async with met(peer) as wire:
        response, body = await ask(wire, peer, method="POST", content=b'{"a": 1}')
        assert (response.status_code, body) == (200, b"hello")
        assert response.headers.get_list("x-twice") == ["a", "b"]
        head, sent = peer.requests[0]
        assert head.startswith(b"POST /x?y=%20z HTTP/1.1\r\n")
        assert f"host: 127.0.0.1:{peer.port}".encode() in head.lower()
        assert sent == b'{"a": 1}'
        response, body = await ask(wire, peer)
        assert (response.status_code, body) == (404, b"abcde")
        assert peer.connections == 1


async def test_an_interim_answer_is_not_the_answer():
    peer = Peer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HELLO)
    async with met(peer) as wire:
        response, body = await ask(wire, peer)
        assert (response.status_code, body, "link" in response.headers) == (200, b"hello", False)


async def test_an_answer_without_a_length_ends_with_its_connection():
    peer = Peer([b"HTTP/1.1 200 OK\r\n\r\nall of it ", b"to the END"], HELLO)
    async with met(peer) as wire:
        assert (await ask(wire, peer))[1] == b"all of it to the END"
        assert (await ask(wire, peer))[1] == b"hello"
        assert peer.connections == 2


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf END"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab END"],
        [b"HTTP/1.1 200 OK\r\nContent-Le END"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 80_000],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
        HELLO + b"HTTP/1.0 408 Request Time-out\r\nContent-Length: 3\r\n\r\nbye",
        HELLO + b"and more",
        [HELLO[:-5], b"hello" + HELLO],
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_what_is_no_whole_answer_is_an_error_and_the_connection_is_not_used_again(broken):
    peer = Peer(broken, HELLO)
    async with met(peer) as wire:
        with pytest.raises(httpx.TransportError):
            await ask(wire, peer)
        assert (await ask(wire, peer))[1] == b"hello"
        assert peer.connections == 2


@pytest.mark.parametrize(("method", "content"), [("GET", None), ("POST", b"{}")])
async def test_a_connection_that_the_peer_has_closed_meanwhile_is_replaced(method, content):
    peer = Peer([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nEND"], HELLO)
    async with met(peer) as wire:
        assert (await ask(wire, peer))[1] == b"END"
        await trio.sleep(0.05)  # until the peer's farewell has arrived
        assert (await ask(wire, peer, method=method, content=content))[1] == b"hello"
        assert (peer.connections, len(peer.requests)) == (2, 2)


@pytest.mark.parametrize(
    ("method", "content", "broken", "asked"),
    [
        ("GET", None, None, 2),  # where nothing has come of an answer, looking costs nothing
        ("GET", None, [b"HTTP/1.1 200 OK\r\nContent-Le END"], 1),
        ("POST", b"{}", None, 1),  # that it went unanswered does not say that it bought nothing
    ],
)
async def test_only_what_costs_nothing_is_asked_again_and_once(method, content, broken, asked):
    peer = Peer(HELLO, broken, broken, broken)
    async with met(peer) as wire:
        await ask(wire, peer)
        with pytest.raises(httpx.TransportError):
            await ask(wire, peer, method=method, content=content)
        assert len(peer.requests) == 1 + asked


async def test_why_a_connection_broke_is_told():
    ours, theirs = socket.socketpair()
    line = Line(ours.detach())
    theirs.close()
    with pytest.raises(trio.BrokenResourceError, match="Broken pipe"):
        await line.send_all(b"hello")
    await line.aclose()


async def test_certificates_are_asked_for_where_they_are_needed():
    peer, asked = Peer(HELLO), []

    def tls():
        asked.append("tls")
        raise OSError("no file descriptor is left")

    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        wire = Wire(tls, idle=1)
        assert (await ask(wire, peer))[1] == b"hello"
        assert asked == []
        with pytest.raises(httpx.ConnectError, match="descriptor"):
            await ask(wire, peer, scheme="https")
        await wire.aclose()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_request_leaves_no_half_read_connection_behind():
    peer = Peer([b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\nonly the beginning"], HELLO)
    async with met(peer) as wire:
        with trio.move_on_after(0.1) as scope:
            await ask(wire, peer)
        assert scope.cancelled_caught
        assert (await ask(wire, peer))[1] == b"hello"
        assert peer.connections == 2


async def test_a_request_that_is_cancelled_while_it_connects_is_cancelled_not_unreached():
    async with trio.open_nursery() as nursery:
        with socket.socket() as deaf:  # its queue of those who want to connect is full
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            callers = [socket.socket() for _ in range(4)]
            for caller in callers:
                caller.setblocking(False)
                caller.connect_ex(deaf.getsockname())
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
            request = httpx.Request("GET", url, extensions=PATIENCE)
            nursery.start_soon(Wire(ssl.create_default_context, idle=1).handle_async_request, request)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            for caller in callers:
                caller.close()
    assert nursery.cancel_scope.cancelled_caught


async def test_a_body_that_is_left_early_costs_its_connection():
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + b"a" * 400_000, HELLO)
    async with met(peer) as wire:
        url = f"http://127.0.0.1:{peer.port}/"
        response = await wire.handle_async_request(httpx.Request("GET", url, extensions=PATIENCE))
        await anext(aiter(response.stream))
        await response.aclose()
        await response.aclose()
        assert (await ask(wire, peer))[1] == b"hello"
        assert peer.connections == 2


async def test_connections_are_used_again_for_their_own_origin_and_not_for_ever(mock_clock):
    mock_clock.rate = 1
    peer = Peer(*[HELLO] * 8)
    async with met(peer, idle=1) as wire:
        await ask(wire, peer)
        await ask(wire, peer)
        assert peer.connections == 1
        await ask(wire, peer, host="localhost")
        assert peer.connections == 2
        await ask(wire, peer)  # `idle` is 1: the connection to localhost took the place of the first
        assert peer.connections == 3
        mock_clock.jump(KEPT)
        await ask(wire, peer)
        assert peer.connections == 4


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file = folder / "peer.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


async def test_tls_is_spoken_where_the_certificate_is_trusted_and_names_the_host(tmp_path):
    file = certificate(tmp_path)
    peer = Peer(HELLO, HELLO)
    peer.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    peer.tls.load_cert_chain(file)
    async with met(peer, tls=ssl.create_default_context(cafile=file)) as wire:
        assert (await ask(wire, peer, scheme="https", host="localhost"))[1] == b"hello"
        assert (await ask(wire, peer, scheme="https", host="localhost"))[1] == b"hello"
        assert peer.connections == 1
        with pytest.raises(httpx.ConnectError):  # another name than the certificate's
            await ask(wire, peer, scheme="https", host="127.0.0.1")
    assert len(peer.requests) == 2
