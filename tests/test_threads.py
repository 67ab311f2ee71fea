"""Visits to threads: what is done there comes back, waits its turn, and is never left behind."""

import threading
from contextvars import ContextVar

import pytest
import trio
import trio.testing

from pipeline.tools import threads
from pipeline.tools.threads import Threads

name = ContextVar("name", default="nobody")


@pytest.mark.parametrize("run_sync", [threads.run_sync, Threads(1).run_sync])
async def test_what_is_done_in_another_thread_comes_back_with_its_context(run_sync):
    name.set("mary")
    seen = await run_sync(lambda *words: (threading.get_ident(), name.get(), words), 1, "two")
    assert seen[1:] == ("mary", (1, "two"))
    assert seen[0] != threading.get_ident()


async def test_an_error_comes_back_and_frees_the_thread():
    few = Threads(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await few.run_sync(lambda: 1 / 0)


async def test_what_was_begun_is_waited_for_and_what_was_not_is_left_undone():
    few, go, begun, done = Threads(1), threading.Event(), threading.Event(), []

    def work(who):
        begun.set()
        go.wait(10)
        done.append(who)
        return who

    async def visit(who):
        came_back.append(await few.run_sync(work, who))

    came_back = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit, "first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(visit, "second")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        assert begun.wait(10)
        assert done == []
        go.set()
    assert (done, came_back) == (["first"], ["first"])
    assert await few.run_sync(lambda: "free again") == "free again"


async def test_who_is_cancelled_already_begins_nothing():
    done = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await Threads(1).run_sync(done.append, 1)
    assert (scope.cancelled_caught, done) == (True, [])


async def test_no_more_than_so_many_work_at_once():
    few, present, most, lock = Threads(2), 0, 0, threading.Lock()

    def work():
        nonlocal present, most
        with lock:
            present += 1
            most = max(most, present)
        threading.Event().wait(0.01)
        with lock:
            present -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(few.run_sync, work)
    assert most == 2
