"""The gallery over real sockets, in a thread beside the daemon's loop: it answers while that loop is busy, bears clients
that misbehave, and ends with it."""

import json
import math
import socket
import sys
import threading
from functools import partial

import httpx
import pytest
import trio

from pipeline.errors import ConfigError
from pipeline.gallery.addresses import check_exposure, is_loopback
from pipeline.gallery.apart import serve_apart
from pipeline.gallery.listening import UNHURRIED, Deadlines, PortTaken, listen
from pipeline.gallery.tokens import Tokens
from tests.support.windows import house

HASTY = Deadlines(grace=0.3, idle=0.3, send=0.2)


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=2)
        yield made


async def serving(app, host, port, *, stop=None, deadlines=UNHURRIED, task_status=trio.TASK_STATUS_IGNORED):
    await serve_apart(
        app, host, port, stop=trio.Event() if stop is None else stop, deadlines=deadlines, task_status=task_status
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
                    home.app, "127.0.0.1", 0, stop=stop, deadlines=HASTY, task_status=task_status
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
    port = await nursery.start(partial(serving, deadlines=HASTY), home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        assert await ask(port, "") == ""
    nursery.cancel_scope.cancel()


async def test_a_stop_does_not_wait_for_silent_connections(home):
    stop = trio.Event()
    endless = Deadlines(grace=math.inf, idle=math.inf, send=1.0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(
                lambda task_status: serving(
                    home.app, "127.0.0.1", 0, stop=stop, deadlines=endless, task_status=task_status
                )
            )
            async with await trio.open_tcp_stream("127.0.0.1", port) as silent, httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
                stop.set()
                assert await silent.receive_some() == b""


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_doors_of_both_families_stand_at_one_port():
    (four,) = listen("0.0.0.0", 0)
    with four:
        (six,) = listen("::", four.getsockname()[1])
        six.close()


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


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: user@a\r\n"])
async def test_a_request_says_once_which_host_it_asks(home, nursery, hosts):
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        answer = await ask(port, f"GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 400 ")
    assert "bad_request" in answer
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "head", ["HTTP/1.0", "HTTP/1.1\r\nHost:", "HTTP/1.1\r\nHost: [::1]:8787", "HTTP/1.1\r\nHost: my_pod-1.example:80"]
)
async def test_a_host_may_be_anything_that_is_one(home, nursery, head):
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        assert (await ask(port, f"GET /healthz {head}\r\nConnection: close\r\n\r\n")).startswith("HTTP/1.1 200 ")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "long", ["GET /healthz?{} HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nX: {}\r\n", "GET / HTTP/1.1\r\nX: {}"]
)
async def test_a_long_head_is_refused_however_it_arrives(home, nursery, long):
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    with trio.fail_after(5):
        answer = await ask(port, long.format("a" * 65_536) + "Host: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 431 ")
    nursery.cancel_scope.cancel()


async def test_what_is_no_request_does_not_get_into_the_answer_before_it(home, nursery):
    picture = home.studio.store.folder.joinpath("alice/characters/mary/images/mary_image_1.png")
    picture.write_bytes(b"x" * 8_000_000)
    port = await nursery.start(serving, home.app, "127.0.0.1", 0)
    path = f"/media/{picture.relative_to(home.studio.store.folder)}"
    with trio.fail_after(10):
        answer = await ask(
            port, f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.alice}\r\n\r\nno HTTP\r\n\r\n"
        )
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert body == "x" * 8_000_000
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


# -- beside a loop that is busy


def served(home, stop, left=lambda: None):
    """As the daemon serves it."""

    def leaving():
        home.catalogue.close()
        left()

    return partial(serve_apart, home.app, "127.0.0.1", 0, stop=stop, deadlines=HASTY, leaving=leaving)


async def test_an_answer_comes_while_the_loop_beside_it_does_not_come_to_rest(home):
    stop, answered, answers = trio.Event(), threading.Event(), []

    def ask(port):
        headers = {"authorization": f"Bearer {home.alice}"}
        answers.append(httpx.get(f"http://127.0.0.1:{port}{home.images()}", headers=headers, timeout=20))
        answered.set()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(served(home, stop))
        client = threading.Thread(target=ask, args=(port,))
        client.start()
        assert answered.wait(20)  # no checkpoint here: this loop does nothing else meanwhile
        client.join()
        stop.set()
    assert answers[0].json()["data"]["totalCount"] == 2


async def test_a_stop_lets_held_answers_go_and_what_was_opened_in_the_thread_is_closed_there(home):
    stop, left, seen = trio.Event(), [], []
    usual = sys.getswitchinterval()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(served(home, stop, lambda: left.append(threading.current_thread())))

        async def hold():
            headers = {"authorization": f"Bearer {home.alice}"}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
                tag = (await client.get(home.images())).headers["etag"]
                nursery.start_soon(ending)
                answer = await client.get(home.images() + "?wait=100", headers={"if-none-match": tag})
                seen.append(answer.status_code)

        async def ending():
            while not home.app._changes.waiting:  # noqa: ASYNC110 - what the other thread does makes no event here
                await trio.sleep(0.01)
            stop.set()

        with trio.fail_after(20):
            await hold()
    assert seen == [304]
    assert left
    assert left[0] is not threading.current_thread()
    assert sys.getswitchinterval() == usual
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_cancellation_ends_it_wherever_it_is(home, at_once):
    left = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            if at_once:
                nursery.start_soon(served(home, trio.Event(), lambda: left.append(1)))
                await trio.lowlevel.checkpoint()
            else:
                await nursery.start(served(home, trio.Event(), lambda: left.append(1)))
            nursery.cancel_scope.cancel()
    assert left == [1] or (at_once and not left)  # it may have been over before it began


async def test_a_taken_port_is_told_as_it_is(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match="taken by another program"):
            await serve_apart(home.app, "127.0.0.1", port, stop=trio.Event())
    with pytest.raises(ConfigError, match="no-such-host"):
        await serve_apart(home.app, "no-such-host.invalid", 0, stop=trio.Event())
