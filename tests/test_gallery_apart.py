"""The gallery in a thread beside the daemon's loop: it answers while that loop is busy, and ends with it."""

import socket
import sys
import threading
from functools import partial

import httpx
import pytest
import trio

from pipeline.errors import ConfigError
from pipeline.gallery.apart import serve_apart
from pipeline.gallery.listening import Patience, PortTaken
from tests.support.windows import house

HASTY = Patience(grace=0.3, idle=0.3, send=0.2)


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=2)
        yield made


def served(home, stop, left=lambda: None):
    def leaving():
        home.catalogue.close()
        left()

    return partial(serve_apart, home.app, "127.0.0.1", 0, stop=stop, patience=HASTY, leaving=leaving)


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
