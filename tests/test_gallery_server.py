"""The gallery over real sockets: started in a nursery, stopped, and left alone by clients that misbehave."""

import json
import math
import socket
from functools import partial

import httpx
import pytest
import trio

from pipeline.errors import ConfigError
from pipeline.gallery.addresses import check_exposure, is_loopback
from pipeline.gallery.apart import serve_apart
from pipeline.gallery.listening import UNHURRIED, Patience, listen
from pipeline.gallery.tokens import Tokens
from tests.support.windows import house

HASTY = Patience(grace=0.3, idle=0.3, send=0.2)


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=2)
        yield made


async def serving(app, host, port, *, stop=None, patience=UNHURRIED, task_status=trio.TASK_STATUS_IGNORED):
    await serve_apart(
        app, host, port, stop=trio.Event() if stop is None else stop, patience=patience, task_status=task_status
    )


async def ask(port, text):
    """Send bytes as they are and read until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(text.encode("latin-1"))
        answer = b""
        while chunk := await stream.receive_some():
            answer += chunk
        return answer.decode("latin-1")


@pytest.mark.parametrize("way", ["stop", "cancel"])
async def test_a_client_that_takes_nothing_holds_up_no_stop(home, way):
    home.studio.store.folder.joinpath("alice/characters/mary/images/mary_image_1.png").write_bytes(b"x" * 40_000_000)
    stop = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(
                lambda task_status: serving(
                    home.app, "127.0.0.1", 0, stop=stop, patience=HASTY, task_status=task_status
                )
            )
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            path = "/media/alice/characters/mary/images/mary_image_1.png"
            await stream.send_all(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.alice}\r\n\r\n".encode()
            )
            await stream.receive_some(10)
            stop.set() if way == "stop" else nursery.cancel_scope.cancel()
        await stream.aclose()


async def test_a_silent_connection_is_given_up(home, nursery):
    port = await nursery.start(partial(serving, patience=HASTY), home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        assert await ask(port, "") == ""
    nursery.cancel_scope.cancel()


async def test_a_stop_does_not_wait_for_silent_connections(home):
    stop = trio.Event()
    endless = Patience(grace=math.inf, idle=math.inf, send=1.0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(
                lambda task_status: serving(
                    home.app, "127.0.0.1", 0, stop=stop, patience=endless, task_status=task_status
                )
            )
            async with await trio.open_tcp_stream("127.0.0.1", port) as silent, httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
                stop.set()
                assert await silent.receive_some() == b""


def test_no_part_of_an_answer_waits_for_the_part_before_it():
    for door in listen("127.0.0.1", 0):
        with door, socket.create_connection(door.getsockname()), door.accept()[0] as client:
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("line", ["BREW /gallery/mary", "x-y /gallery/mary", "POST /gallery/mary", "PROPFIND /gallery/mary", "CONNECT gallery:443", "OPTIONS *"])  # fmt: skip
async def test_a_method_that_nobody_has_heard_of_is_not_allowed_either(home, nursery, line):
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        answer = await ask(port, f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 405 ")
    assert "\nallow: GET, HEAD\r\n" in head.lower().replace("get, head", "GET, HEAD")
    assert json.loads(body)["code"] == "method_not_allowed"
    nursery.cancel_scope.cancel()


async def test_idle_connections_stand_in_nobodys_way(home, nursery):
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    idle = []
    for _ in range(300):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(b"GET /healthz HT")
        idle.append(one)
    async with httpx.AsyncClient() as client:
        with trio.fail_after(3):
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    for one in idle:
        one.close()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_named(home, host):
    with pytest.raises(ConfigError, match=host):
        await serving(home.app, host, 0)


async def test_localhost_gets_one_port_for_all_its_addresses(home, nursery):
    port = await nursery.start(serving, home.app, "localhost", 0)
    assert port > 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.4", False), ("fe80::1%eth0", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_what_is_loopback(host, inside):
    assert is_loopback(host) is inside


def test_beyond_loopback_nothing_is_shown_before_there_is_a_token(tmp_path):
    tokens = Tokens(tmp_path / "tokens")
    assert "only programs on this machine" in check_exposure("127.0.0.1", tokens, logins=False)
    tokens.lend(None, seconds=60)
    with pytest.raises(ConfigError, match="pipeline token create"):
        check_exposure("0.0.0.0", tokens, logins=False)
    assert "signed logins" in check_exposure("0.0.0.0", tokens, logins=True)
    tokens.create("alice")
    assert "1 token can" in check_exposure("::", tokens, logins=False)
