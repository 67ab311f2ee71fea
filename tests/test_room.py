"""Room in memory: bounded, fair, never stuck; claimed before a body is read, and waited for outside of all time limits."""

import httpx
import pytest
import trio
import trio.testing

from pipeline.backends.transport import LARGE, Service
from pipeline.errors import Unavailable
from pipeline.tools import room
from pipeline.tools.room import Room

MB = 1 << 20


async def take(space, size, seconds, order, name):
    with space.hold() as hold:
        await hold.claim(size)
        order.append((name, trio.current_time()))
        await trio.sleep(seconds)


@pytest.mark.parametrize(
    ("sizes", "starts"),
    [
        ([60, 40, 10], [0, 0, 1]),  # the third waits for room
        ([60, 60, 10], [0, 1, 1]),  # a small one does not overtake: first come, first served
        ([10, 500, 10], [0, 1, 2]),  # one larger than all goes alone
        ([100, 100], [0, 1]),
    ],
)
async def test_room_is_bounded_fair_and_never_stuck(autojump_clock, sizes, starts):
    space = Room(100)
    order = []
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number, size in enumerate(sizes):
            nursery.start_soon(take, space, size, 1, order, number)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted((name, at - begin) for name, at in order) == list(enumerate(starts))


async def test_one_who_gives_up_waiting_makes_way(autojump_clock):
    space = Room(100)
    order = []
    begin = trio.current_time()

    async def impatient():
        with trio.move_on_after(1):
            await take(space, 80, 9, order, "impatient")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, space, 50, 5, order, "first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, space, 50, 1, order, "third")
    assert [(name, at - begin) for name, at in order] == [("first", 0), ("third", 1)]


async def test_room_is_given_back_by_one_who_fails(autojump_clock):
    space = Room(100)

    async def fails():
        with space.hold() as hold:
            await hold.claim(100)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    with space.hold() as hold, trio.fail_after(1):
        await hold.claim(100)


async def test_two_who_both_want_more_do_not_wait_for_each_other(autojump_clock):
    space, order = Room(100), []

    async def grow():
        with space.hold() as hold:
            await hold.claim(50)
            await trio.sleep(1)
            await hold.claim(60)
            order.append(trio.current_time())
            await trio.sleep(1)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grow)
            nursery.start_soon(grow)
    assert order[1] - order[0] == 1


async def test_what_is_no_longer_needed_is_given_back_at_once(autojump_clock):
    space = Room(100)
    with space.hold() as first, space.hold() as second, trio.fail_after(1):
        await first.claim(100)
        await first.claim(30)
        await second.claim(70)
        first.let_go()
        await second.claim(100)


async def test_time_limits_stand_still_while_room_is_waited_for(autojump_clock):
    space, begin = Room(100), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, space, 100, 60, [], "first")
        await trio.testing.wait_all_tasks_blocked()
        with space.hold() as hold:
            with room.fail_after(5), room.move_on_after(2) as inner:
                await trio.sleep(1)
                await hold.claim(50)
                assert trio.current_time() - begin == 60
                await trio.sleep(5)
            assert inner.cancelled_caught
            assert trio.current_time() - begin == 61
            with pytest.raises(trio.TooSlowError), room.fail_after(1):
                await trio.sleep(2)


# -- at the wall


class Body(httpx.AsyncByteStream):
    """Counts what was asked of it."""

    def __init__(self, size, *, breaks=False):
        self.read = 0
        self._size = size
        self._breaks = breaks

    async def __aiter__(self):
        while self.read < self._size:
            await trio.lowlevel.checkpoint()
            part = min(64 << 10, self._size - self.read)
            self.read += part
            yield bytes(part)
            if self._breaks:
                raise httpx.ReadError("connection reset")


def service(body, *, declared=None):
    headers = {} if declared is None else {"Content-Length": str(declared)}

    async def answer(request):
        await trio.lowlevel.checkpoint()
        return httpx.Response(200, headers=headers, stream=body)

    return Service("http://back.end", httpx.MockTransport(answer), called="It")


@pytest.mark.parametrize(
    ("declared", "read_without_room"),
    [(8 * MB, 0), (None, 192 << 10)],  # of one that does not say its size: as much as needs no room, and one part more
)
async def test_a_large_body_is_not_read_before_there_is_room_for_it(autojump_clock, declared, read_without_room):
    space, body, begin = Room(10 * MB), Body(8 * MB), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, space, 9 * MB, 100, [], "another")
        await trio.testing.wait_all_tasks_blocked()
        with space.hold() as hold:
            nursery.start_soon(watch, body, read_without_room)
            answer = await service(body, declared=declared).ask("x", timeout=5, limit=LARGE)
            assert len(answer.body) == 8 * MB
            assert trio.current_time() - begin == 100
            with space.hold() as other, trio.fail_after(1):
                await other.claim(2 * MB)  # no more is held than the body takes
            with space.hold() as other, trio.move_on_after(1) as waited:
                await other.claim(3 * MB)
            assert waited.cancelled_caught
            hold.let_go()


async def watch(body, expected):
    await trio.sleep(50)
    assert body.read == expected


async def test_a_small_answer_needs_no_room(autojump_clock):
    space, body = Room(MB), Body(100 << 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, space, MB, 100, [], "another")
        await trio.testing.wait_all_tasks_blocked()
        with space.hold(), trio.fail_after(1):
            await service(body, declared=100 << 10).ask("x")
        nursery.cancel_scope.cancel()


async def test_room_is_given_back_where_a_body_breaks_off(autojump_clock):
    space = Room(10 * MB)
    with space.hold():
        with pytest.raises(Unavailable):
            await service(Body(8 * MB, breaks=True), declared=8 * MB).ask("x", limit=LARGE)
        with space.hold() as other, trio.fail_after(1):
            await other.claim(10 * MB)
