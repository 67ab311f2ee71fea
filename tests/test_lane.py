import math
from collections import deque

import httpx
import pytest
import trio

from pipeline.backends.transport import Service
from pipeline.errors import NotAccepted, Unavailable
from pipeline.tools.brake import Bell, Brake
from pipeline.tools.pauses import Pauses
from tests.support.scripted import ScriptedBackend, lane, no_jitter
from tests.support.waiting import EPOCH, wall


def down(text="refused", **more):
    return Unavailable(text, code="unreachable", **more)


def busy(**more):
    return NotAccepted("too many", code="busy", **more)


@pytest.mark.parametrize(
    "spelt", ["http://Pod.test:80", "HTTPS://pod.test:443/v2/E/", "http://pöd.test:8188/?a=b#c", "http://pod.test/x"]
)
def test_another_spelling_of_an_address_is_no_move(spelt):
    went_to = Service(spelt, httpx.MockTransport(lambda _: httpx.Response(200)), called="Pod").url
    gate = lane("pod", ScriptedBackend(base_url=spelt), Brake())
    assert not gate.moved(went_to)
    assert gate.moved("http://pod.test:8199")


async def test_as_many_images_as_there_are_places(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake(), concurrency=2)
    first = gate.start()
    assert gate.hindrance() is None
    gate.start()
    assert gate.hindrance() == math.inf
    first.release()
    first.release()
    assert gate.occupied == 1
    assert gate.hindrance() is None


async def test_two_starts_keep_their_distance(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake(), concurrency=9, stagger=7.0)
    gate.start()
    assert gate.hindrance() == 7.0
    await trio.sleep(6.5)
    assert gate.hindrance() == 0.5
    await trio.sleep(0.5)
    assert gate.hindrance() is None


async def test_images_found_at_the_back_end_hold_places_even_beyond_the_limit(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake(), concurrency=1)
    slots = [gate.resume() for _ in range(3)]
    assert (gate.occupied, gate.hindrance()) == (3, math.inf)
    for slot in slots:
        slot.release()
    assert gate.hindrance() is None


async def test_refusals_halve_what_runs_at_once_and_successes_raise_it_again(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake(), concurrency=8)
    gate.refused(busy())
    gate.refused(busy())  # answers to what went out together: one refusal
    assert (gate.width, gate.hindrance()) == (4, 1.0)
    await trio.sleep(1)
    gate.refused(busy(retry_after=20.0))
    assert (gate.width, gate.hindrance()) == (2, 20.0)
    for _ in range(3):
        await trio.sleep(60)
        gate.refused(busy())
    assert gate.width == 1
    for _ in range(40):
        gate.accepted()
    assert gate.width == 8


async def test_pauses_after_refusals_grow_until_a_success(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake())
    pauses = []
    for outcome in ["no", "no", "no", "yes", "no"]:
        if outcome == "yes":
            gate.accepted()
        else:
            gate.refused(busy())
            pauses.append(gate.hindrance())
            await trio.sleep(pauses[-1])
    assert pauses == [1, 2, 4, 1]


async def test_a_doubt_does_not_shorten_the_pause_that_a_back_end_asked_for(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake())
    gate.refused(busy(retry_after=60.0))
    gate.doubted("its answer was lost")
    assert gate.hindrance() == 60.0
    assert "too many" in gate.reason


async def test_the_circuit_opens_once_and_probes_until_one_is_answered(autojump_clock):
    pod = ScriptedBackend()
    pod.on_probe = deque([busy(), down(retry_after=50.0), "hang", KeyError("x"), None])
    gate = lane("pod", pod, Brake())
    changes = []
    gate.changed = lambda: changes.append(gate.reason)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.keep_watch)
        await trio.sleep(10)
        gate.refused(down("first"))
        gate.refused(down("second"))
        assert gate.reason == "back end pod is down: first"
        assert gate.hindrance() == math.inf
        assert gate.state(waiting=3).next_try == wall() + 1_000
        await gate.up()
        assert trio.current_time() == 10 + 1 + 2 + 50 + 8 + 30 + 16
        assert (gate.reason, gate.hindrance(), gate.state(waiting=3).next_try) == (None, None, None)
        nursery.cancel_scope.cancel()
    assert pod.probes == [11, 13, 63, 101, 117]
    assert changes == ["back end pod is down: first", None]


async def test_the_moment_of_the_next_try_is_told_alike_at_each_look(autojump_clock):
    """What differs is written to the index anew, with a flush each time."""
    gate = lane("pod", ScriptedBackend(), Brake())
    gate.refused(down(retry_after=50.0))
    told = set()
    for _ in range(50):
        told.add(gate.state(waiting=1).next_try)
        await trio.sleep(0.0123)
    assert told == {EPOCH + 50_000}


async def test_an_answered_probe_does_not_shorten_the_next_outage(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.keep_watch)
        spans = []
        for success in (False, False, True, False):
            began = trio.current_time()
            gate.refused(down())
            await gate.up()
            spans.append(trio.current_time() - began)
            if success:
                gate.accepted()
        nursery.cancel_scope.cancel()
    assert spans == [1, 2, 4, 1]


async def test_asking_whether_it_is_there_opens_the_circuit_where_it_is_not(autojump_clock):
    pod = ScriptedBackend()
    gate = lane("pod", pod, Brake())
    assert await gate.answers()
    pod.down = "gone"
    assert not await gate.answers()
    assert gate.down == "gone"


async def test_a_brake_holds_every_lane_and_names_its_first_cause(autojump_clock):
    brake = Brake()
    gates = [lane(name, ScriptedBackend(), brake) for name in "ab"]
    brake.put("store", "no credentials")
    brake.put("spool", "full")
    assert [gate.hindrance() for gate in gates] == [math.inf, math.inf]
    assert gates[0].reason == "no credentials"
    brake.put("store", None)
    brake.put("store", None)
    assert gates[1].reason == "full"
    brake.put("spool", None)
    assert [gate.hindrance() for gate in gates] == [None, None]


async def test_what_status_is_told(autojump_clock):
    gate = lane("pod", ScriptedBackend(), Brake(), concurrency=3)
    gate.pace.learned(12.0)
    slot = gate.start()
    ready = gate.state(waiting=5)
    assert (ready.state, ready.slots, ready.busy, ready.waiting, ready.typical) == ("ready", 3, 1, 5, 12.0)
    assert ready.next_try is None
    gate.refused(busy(retry_after=20.0))
    held = gate.state(waiting=5)
    assert (held.state, held.reason, held.next_try) == ("held", "too many", EPOCH + 20_000)
    assert gate.reason == "back end pod takes nothing more for now: too many"
    await trio.sleep(20)
    assert (gate.state(waiting=5).state, gate.state(waiting=5).next_try) == ("held", None)
    slot.release()
    assert gate.state(waiting=0).state == "ready"  # nobody is there to find out that it takes images again
    gate.accepted()
    assert (gate.state(waiting=5).state, gate.reason) == ("ready", None)
    gate.refused(down())
    assert (gate.state(waiting=0).state, gate.state(waiting=0).reason) == ("down", "refused")
    gate.pause("paused")
    assert (gate.state(waiting=0).state, gate.state(waiting=0).reason) == ("paused", "paused")


async def test_a_bell_rung_early_is_heard_later(autojump_clock):
    bell = Bell()
    bell.ring()
    await bell.wait()
    assert trio.current_time() == 0
    await bell.wait(5.0)
    assert trio.current_time() == 5.0


@pytest.mark.parametrize(
    ("asked", "lengths"),
    [(None, [1, 2, 4, 8, 10, 10]), (3.0, [3, 3, 4, 8, 10, 10]), (1e9, [3600] * 6)],
)
def test_pauses_grow_to_a_limit_and_honour_what_was_asked(asked, lengths):
    pauses = Pauses(first=1.0, longest=10.0, draw=no_jitter)
    assert [pauses.next(asked) for _ in lengths] == lengths
    pauses.reset()
    assert pauses.next() == 1


def test_pauses_are_jittered_down_to_half():
    assert Pauses(first=8.0, draw=lambda: 0.0).next() == 4.0
