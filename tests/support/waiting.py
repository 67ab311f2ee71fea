"""How tests treat time: the virtual clock as a wall clock, no threads beside it, and real programs that are waited for."""

import time

import trio

EPOCH = 1_753_696_800_000  # 2025-07-28T10:00:00Z


def wall():
    """Milliseconds, in step with trio's clock."""
    return EPOCH + round(trio.current_time() * 1000)


async def inline(function, *args, **_):
    """A `run_sync` without a thread, which the virtual clock would take for idleness."""
    return function(*args)


def until(condition, seconds=60.0, *, told=lambda: "it did not happen in time"):
    """Ask again and again, since what another process does makes no event here; returns what was found."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
    return found


async def becomes(condition, seconds=20.0):
    """The same beside other tasks, in real time: what happens in files and threads rings no bell."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)
