"""The gallery over real sockets: started in a nursery, stopped, and left alone by clients that misbehave."""

import math
import socket
from functools import partial

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from pipeline.errors import ConfigError
from pipeline.gallery.addresses import check_exposure, is_loopback
from pipeline.gallery.listening import Patience, PortTaken
from pipeline.gallery.server import serve
from pipeline.gallery.tokens import Tokens
from tests.support.windows import house

HASTY = Patience(grace=0.3, idle=0.3, send=0.2)


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=2)
        yield made


async def until(condition):
    while not condition():  # noqa: ASYNC110 - see below
        await trio.sleep(0.01)  # what a socket's other end has done makes no event here


async def ask(port, text):
    """Send bytes as they are and read until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(text.encode("latin-1"))
        answer = b""
        while chunk := await stream.receive_some():
            answer += chunk
        return answer.decode("latin-1")


async def test_the_essential_routes_over_a_socket(home, nursery):
    port = await nursery.start(serve, home.app, "127.0.0.1", 0)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {home.alice}"}
    ) as client:
        gallery = await client.get(home.images())
        assert gallery.json()["data"]["totalCount"] == 2
        assert "server" not in gallery.headers
        assert (await client.get(home.images(), headers={"if-none-match": gallery.headers["etag"]})).status_code == 304
        head = await client.head(home.images(), headers={"accept-encoding": "identity"})
        assert int(head.headers["content-length"]) > 500
        for path, status in (
            ("/healthz", 200),
            ("/metrics", 200),
            ("/", 200),
            ("/gallery/mary", 200),
            ("/assets/page.css", 200),
            ("/x", 404),
        ):
            assert (await client.get(path)).status_code == status
        assert (await client.post("/api/jobs")).headers["allow"] == "GET, HEAD"
        address = gallery.json()["data"]["images"][0]["url"].removeprefix("http://testserver")
        assert (await client.get(address, headers={"authorization": ""})).content.startswith(b"\x89PNG")
    nursery.cancel_scope.cancel()


async def test_the_log_has_paths_and_never_queries_or_tokens(home, nursery):
    port = await nursery.start(serve, home.app, "127.0.0.1", 0)
    with capture_logs() as lines:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await client.get("/api/jobs%0a?q=secret-words", headers={"authorization": f"Bearer {home.alice}"})
            await client.get("/media/x.png?signature=secret-words")
    written = repr(lines)
    assert "/api/jobs%0a" in written
    assert "secret-words" not in written
    assert home.alice.split("_", 2)[2] not in written
    nursery.cancel_scope.cancel()


async def test_a_stop_lets_held_answers_go_and_answers_under_way_finish(home):
    stop = trio.Event()
    seen = []
    async with trio.open_nursery() as nursery:
        port = await nursery.start(
            lambda task_status: serve(home.app, "127.0.0.1", 0, stop=stop, patience=HASTY, task_status=task_status)
        )

        async def hold():
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {home.alice}"}
            ) as client:
                tag = (await client.get(home.images())).headers["etag"]
                seen.append(
                    (
                        await client.get(home.images() + "?wait=100", headers={"if-none-match": tag}, timeout=30)
                    ).status_code
                )

        nursery.start_soon(hold)
        with trio.fail_after(10):
            await until(lambda: home.app._changes.waiting)
            stop.set()
            await until(lambda: seen)
    assert seen == [304]
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize("way", ["stop", "cancel"])
async def test_a_client_that_takes_nothing_holds_up_no_stop(home, way):
    home.studio.store.folder.joinpath("alice/characters/mary/images/mary_image_1.png").write_bytes(b"x" * 40_000_000)
    stop = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(
                lambda task_status: serve(home.app, "127.0.0.1", 0, stop=stop, patience=HASTY, task_status=task_status)
            )
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            path = "/media/alice/characters/mary/images/mary_image_1.png"
            await stream.send_all(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.alice}\r\n\r\n".encode()
            )
            await stream.receive_some(10)
            stop.set() if way == "stop" else nursery.cancel_scope.cancel()
        await stream.aclose()


async def test_a_client_that_takes_nothing_is_given_up(home, nursery):
    home.studio.store.folder.joinpath("alice/characters/mary/images/mary_image_1.png").write_bytes(b"x" * 40_000_000)
    port = await nursery.start(partial(serve, patience=HASTY), home.app, "127.0.0.1", 0)
    path = "/media/alice/characters/mary/images/mary_image_1.png"
    with trio.fail_after(8):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.alice}\r\n\r\n".encode()
            )
            await trio.sleep(5 * HASTY.send)  # real time: what is waited for is that nothing happens
            got = 0
            try:
                while chunk := await stream.receive_some():
                    got += len(chunk)
            except trio.BrokenResourceError:
                got += 1
    assert 0 < got < 40_000_000
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "text",
    ["\x00\xff\xfe\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish", "GET / HTTP/1.1\r\nHost: x\r\nX: " + "y" * 70_000,
      "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !!!\r\n\r\n",
     "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"],
)  # fmt: skip
async def test_rubbish_on_one_connection_ends_that_one_alone(home, nursery, text):
    port = await nursery.start(partial(serve, patience=HASTY), home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        answer = await ask(port, text)
    assert " 200 " not in answer.partition("\r\n")[0] or text.startswith("GET / HTTP/1.1\r\nHost")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    nursery.cancel_scope.cancel()


async def test_headers_that_never_end_are_not_waited_for(home, nursery):
    port = await nursery.start(partial(serve, patience=HASTY), home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        assert "HTTP/1.1 200" not in await ask(port, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    nursery.cancel_scope.cancel()


async def test_a_silent_connection_is_given_up(home, nursery):
    port = await nursery.start(partial(serve, patience=HASTY), home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        assert await ask(port, "") == ""
    nursery.cancel_scope.cancel()


async def test_a_stop_does_not_wait_for_silent_connections(home):
    stop = trio.Event()
    endless = Patience(grace=math.inf, idle=math.inf, send=1.0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(
                lambda task_status: serve(
                    home.app, "127.0.0.1", 0, stop=stop, patience=endless, task_status=task_status
                )
            )
            async with await trio.open_tcp_stream("127.0.0.1", port) as silent, httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
                stop.set()
                assert await silent.receive_some() == b""


async def test_idle_connections_stand_in_nobodys_way(home, nursery):
    port = await nursery.start(serve, home.app, "127.0.0.1", 0)
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


async def test_a_taken_port_is_said_to_be_taken(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken, match="taken by another program"):
            await serve(home.app, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_named(home, host):
    with pytest.raises(ConfigError, match=host):
        await serve(home.app, host, 0)


async def test_localhost_gets_one_port_for_all_its_addresses(home, nursery):
    port = await nursery.start(serve, home.app, "localhost", 0)
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
