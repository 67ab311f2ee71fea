import collections
import itertools
import math

import pytest
import trio

from pipeline.backends.pace import Pace
from tests.support.waiting import EPOCH, wall


async def looked(pace, accepted_at, until):
    """The moments of all looks at one image up to `until` seconds."""
    moments = []
    with trio.move_on_at(until + 1e-6):
        async for _ in pace.looks(accepted_at):
            moments += [round(trio.current_time(), 6)]
    return moments


async def found(pace, takes, told=lambda looks, elapsed: None):
    """How long after completion an image that takes `takes` seconds is seen to be done, and after how many looks."""
    began = trio.current_time()
    count = 0
    looks = pace.looks(wall())
    async for _ in looks:
        count += 1
        elapsed = trio.current_time() - began
        if elapsed >= takes:
            return elapsed - takes, count
        told(looks, elapsed)
    raise AssertionError


async def test_an_unknown_back_end_is_asked_every_quarter_second_at_first(autojump_clock):
    assert await looked(Pace(20, clock=wall), EPOCH, 1.0) == [0.25, 0.5, 0.75, 1.0]


async def test_gaps_grow_to_five_percent_of_the_time_gone_by(autojump_clock):
    moments = await looked(Pace(20, clock=wall), EPOCH, 60.0)
    later = [b - a for a, b in itertools.pairwise(moments) if a >= 5.0]
    at = [a for a in moments[:-1] if a >= 5.0]
    assert later == pytest.approx([0.05 * a for a in at], rel=1e-4)
    assert len(moments) == 70


async def test_an_image_found_after_a_restart_is_looked_at_at_once(autojump_clock):
    await trio.sleep(100)
    assert (await looked(Pace(20, clock=wall), EPOCH, 101.0))[0] == 100.0


async def test_a_wall_clock_set_back_does_not_delay_the_first_look(autojump_clock):
    assert (await looked(Pace(20, clock=wall), EPOCH + 3_600_000, 1.0))[0] == 0.25


async def test_around_the_usual_duration_looks_come_often(autojump_clock):
    pace = Pace(100, clock=wall)
    for seconds in (58.0, 60.0, 62.0):
        pace.learned(seconds)
    assert pace.typical == 60.0
    moments = await looked(pace, EPOCH, 80.0)
    gaps = {a: round(b - a, 6) for a, b in itertools.pairwise(moments)}
    start, end = 58.0, 62.0 * 1.1
    gap = (end - start) / 20
    assert min(moment for moment in moments if moment >= start) <= start + gap
    assert {round(gap, 5) for a, gap in gaps.items() if start <= a <= end} == {round(gap, 5)}
    assert max(gaps.values()) <= 0.05 * 80


@pytest.mark.parametrize("learnt", [[], [10.0] * 8, [60.0] * 8, [2.0, 40.0, 3.0, 55.0]])
@pytest.mark.parametrize("takes", [0.1, 0.9, 3.0, 7.7, 20.0, 59.0, 61.0, 300.0])
async def test_a_finished_image_is_found_within_five_percent_or_a_quarter_second(autojump_clock, learnt, takes):
    pace = Pace(1000, clock=wall)
    for seconds in learnt:
        pace.learned(seconds)
    late, _ = await found(pace, takes)
    assert late <= max(0.05 * takes, 0.25) + 1e-9


async def test_a_known_duration_is_met_closely(autojump_clock):
    pace = Pace(1000, clock=wall)
    for _ in range(8):
        pace.learned(60.0)
    late, looks = await found(pace, 60.0)
    assert late <= 0.5 * 6.0 / 20  # half of the fine gap: one look, just after
    assert looks <= 71


async def test_a_wait_is_not_counted_as_work(autojump_clock):
    pace = Pace(1000, clock=wall)
    for waited in (0.0, 5.0, 40.0, 5.0):
        pace.learned(waited + 60.0, waited=waited)
    assert pace.typical == 65.0
    late, _ = await found(pace, 90.0, told=lambda looks, elapsed: looks.waited(*[30.0] * (elapsed >= 30.0)))
    assert late <= 0.5 * 6.0 / 20 + 1e-9


@pytest.mark.parametrize("waited", [(), (0.0,), (3.0,), (1e6,)])
@pytest.mark.parametrize("takes", [0.1, 3.0, 59.0, 300.0])
async def test_whatever_is_told_of_a_wait_the_image_is_found_in_time(autojump_clock, takes, waited):
    pace = Pace(1000, clock=wall)
    for _ in range(8):
        pace.learned(10.0)
    late, _ = await found(pace, takes, told=lambda looks, elapsed: looks.waited(*waited))
    assert late <= max(0.05 * takes, 0.25) + 1e-9


async def test_one_hang_does_not_blur_what_is_usual(autojump_clock):
    pace = Pace(1000, clock=wall)
    for seconds in [10.0] * 20 + [500.0, 0.01]:
        pace.learned(seconds)
    assert pace.likely_done(10.0)
    assert not pace.likely_done(100.0)
    assert not pace.likely_done(1.0)


async def test_all_images_share_one_budget(autojump_clock):
    pace = Pace(10, clock=wall)
    moments = []

    async def watch():
        async for _ in pace.looks(EPOCH):
            moments.extend([trio.current_time()])

    with trio.move_on_at(10.0):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(watch)
    assert len(moments) == pytest.approx(97, abs=1)
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert min(gaps) >= 0.1 - 1e-9


@pytest.mark.parametrize(("rate", "at_once"), [(150.0, 4), (120.0, 3), (40.0, 1), (33.4, 1), (0.5, 1)])
async def test_looks_that_follow_closely_go_out_together_and_no_second_has_more_than_allowed(
    autojump_clock, rate, at_once
):
    pace = Pace(rate, clock=wall)
    moments = []

    async def watch():
        async for _ in pace.looks(EPOCH):
            moments.extend([round(trio.current_time(), 6)])

    with trio.move_on_at(5.0):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(watch)
    groups = collections.Counter(moments)
    assert set(groups.values()) == {at_once}
    assert max(sum(begin <= moment < begin + 1 - 1e-5 for moment in moments) for begin in groups) <= math.ceil(rate)
    assert len(moments) >= 0.95 * rate * (5.0 - 0.25)


async def test_looks_that_come_late_in_their_group_take_nothing_from_the_next_second(autojump_clock):
    pace = Pace(100, clock=wall)
    for _ in range(8):
        pace.learned(10.0)
    moments = []

    async def watch(age):
        async for _ in pace.looks(EPOCH - age):
            moments.extend([trio.current_time()])

    with trio.move_on_at(3.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, 300_000)  # alone at first: the group that it begins is not used up
            await trio.sleep(0.029)
            for _ in range(50):
                nursery.start_soon(watch, 10_000)
    assert max(sum(begin <= moment < begin + 1 - 1e-6 for moment in moments) for begin in moments) <= 100


async def test_where_the_budget_is_short_those_that_may_be_done_go_first(autojump_clock):
    pace = Pace(1, clock=wall)
    for _ in range(5):
        pace.learned(30.0)
    await trio.sleep(30)
    order = []

    async def watch(name, accepted_at):
        async for _ in pace.looks(accepted_at):
            order.append(name)
            return

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(watch, f"young {n}", wall() - 2_000)
        await trio.sleep(0.01)
        nursery.start_soon(watch, "due", EPOCH)
    assert order[1] == "due"
    assert len(order) == 5


async def test_a_cancelled_look_leaves_the_budget_to_the_others(autojump_clock):
    pace = Pace(1, clock=wall)
    moments = []

    async def watch(scope):
        with scope:
            async for _ in pace.looks(EPOCH - 10_000):
                moments.append(trio.current_time())
                return

    scopes = [trio.CancelScope() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(watch, scope)
        await trio.sleep(0.5)
        scopes[1].cancel()
        scopes[0].cancel()
        scopes[2].cancel()
    assert moments in ([0.0, 1.0], [0.0])
