"""What befalls single images at odd moments: settling, addresses that changed, full disks, cancellations."""

import math
from collections import deque

import pytest
import trio

from pipeline.errors import (
    BackendError,
    IndexTrouble,
    NotAccepted,
    OutOfTime,
    SpoolTrouble,
    Unavailable,
)
from pipeline.lifecycle import AcceptanceLost, Accepted, Cancelled, Submitting
from pipeline.making.asking import LAST_LOOK, PARTING
from pipeline.making.crew import Crew
from pipeline.making.runner import GRACE, SHUTDOWN
from pipeline.model import Fault, State, Submission
from pipeline.tools.brake import Brake
from pipeline.tools.patience import Patience
from tests.support.index import images_of
from tests.support.pictures import request
from tests.support.scripted import ScriptedBackend, house, job, no_jitter
from tests.support.waiting import EPOCH

TICKET = "0b8e6a1c-8c1e-4a53-9a3f-3f1d7f6d2a10"


def down(**more):
    return Unavailable("refused", code="unreachable", **more)


async def left_behind(folder, pod, *events, images=1):
    """A job whose first image was brought so far by an earlier run, by recording `events`."""
    quiet = ScriptedBackend()
    quiet.down = "not yet"
    async with house(folder, {"pod": quiet}, timeout=60.0) as home:
        home.lanes["pod"].pause("not yet")
        await home.accept(job(images=images))
        await trio.sleep(1)
        (image, *_) = images_of(home.ledger, "j1")
        for event in events:
            image = await home.ledger.record(image, event)
    return image


def submitted(pod, *, remote="r1", base_url=None, deadline=60.0):
    return Accepted(Submission(remote, base_url or pod.base_url, EPOCH, EPOCH + round(deadline * 1000)))


async def test_a_deadline_that_passed_while_the_daemon_was_down_still_gets_its_last_look(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=10.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await trio.sleep(5)
    await trio.sleep(3600)
    async with house(tmp_path, {"pod": pod}) as home:
        began = trio.current_time()
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert trio.current_time() - began < 1
    assert (image.state, image.attempts, len(pod.starts)) == (State.DONE, 1, 1)


async def test_a_clock_that_was_put_back_gives_nobody_more_time(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.accept(request())
    pod.remote["r1"].ready_at = math.inf
    day = 86_400_000
    accepted = Accepted(Submission("r1", pod.base_url, EPOCH + day, EPOCH + day + 60_000))
    await left_behind(tmp_path, pod, Submitting("pod", TICKET), accepted)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.settled()
    assert pod.cancels[0][1] == "r1"
    assert trio.current_time() < 120


async def test_what_a_restart_finds_under_way_goes_before_new_images_and_holds_places(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=20.0)
    async with house(tmp_path, {"pod": pod}, concurrency=2) as home:
        await home.accept(job(images=4))
        await trio.sleep(5)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        assert home.lanes["pod"].occupied == 2
        await home.settled()
        assert [image.attempts for image in images_of(home.ledger, "j1")] == [1] * 4
    assert pod.starts == [(0, 1), (0, 2), (20, 3), (40, 4)]


async def test_a_crash_in_the_window_of_a_blind_back_end_costs_no_attempt(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    await left_behind(tmp_path, pod, Submitting("pod", TICKET))
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.failures, image.doubtful) == (State.DONE, 1, 0, 1)


async def test_settling_waits_while_the_back_end_cannot_be_asked(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    unclear = AcceptanceLost(Fault("reset", "connection reset"))
    await left_behind(tmp_path, pod, Submitting("pod", TICKET), unclear)
    pod.on_find = deque([down(), NotAccepted("too many", code="busy"), "hang"])
    async with house(tmp_path, {"pod": pod}, timeout=60.0) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.doubtful) == (State.DONE, 1, 0)
    assert len(pod.probes) == 3


async def test_settling_may_take_longer_than_an_image(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    await left_behind(tmp_path, pod, Submitting("pod", TICKET))
    began = trio.current_time()
    pod.on_find = deque([2.0] * 9)
    async with house(tmp_path, {"pod": pod}, timeout=1.5) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful, pod.probes) == (State.DONE, 0, [began])
    assert [moment - began for moment, _ in pod.starts] == [2]


async def test_a_question_that_fails_again_and_again_at_a_back_end_that_is_up_has_no_answer(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    await left_behind(tmp_path, pod, Submitting("pod", TICKET), AcceptanceLost(Fault("no_answer", "502")))
    began = trio.current_time()
    pod.on_find = deque([down()] * 99)
    async with house(tmp_path, {"pod": pod}, timeout=10.0) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert home.lanes["pod"].down is None
    assert (image.state, image.doubtful, image.failures) == (State.DONE, 1, 1)
    assert 10 <= pod.starts[0][0] - began <= 31, "five times with growing pauses"


async def test_a_defect_while_settling_counts_as_not_knowing(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    await left_behind(tmp_path, pod, Submitting("pod", TICKET))
    pod.on_find.append(KeyError("queue_running"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful) == (State.DONE, 1)


async def test_an_address_that_changed_is_given_the_time_out_then_the_image_goes_to_the_new_one(
    tmp_path, autojump_clock
):
    old, new = ScriptedBackend(base_url="http://old"), ScriptedBackend(base_url="http://new")
    await left_behind(tmp_path, old, Submitting("pod", TICKET), submitted(old))
    new.on_collect = deque([down()] * 3 + ["hang"])
    new.remote["r1"] = type("Gone", (), {"cancelled": False})()
    began = trio.current_time()
    async with house(tmp_path, {"pod": new}, timeout=60.0) as home:
        assert home.lanes["pod"].occupied == 0
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert home.lanes["pod"].down is None
    assert (image.state, image.attempts, image.failures) == (State.DONE, 2, 1)
    assert [moment - began for moment, _ in new.starts] == [60]


@pytest.mark.parametrize(
    ("sent_to", "looked_at"),
    [("http://old", "http://old"), ("http://new/", None), (None, None)],
    ids=["elsewhere", "here", "not known where"],
)
async def test_what_is_in_doubt_is_looked_for_where_it_went(tmp_path, autojump_clock, sent_to, looked_at):
    looks = []

    class New(ScriptedBackend):
        async def find(self, request):
            looks.append(request.sent_to)
            return await super().find(request)

    new = New(base_url="http://new")
    left = await left_behind(tmp_path, new, Submitting("pod", TICKET, sent_to))
    assert left.sent_to == sent_to
    async with house(tmp_path, {"pod": new}) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert looks == [looked_at]
    assert (image.state, image.attempts, image.doubtful, image.sent_to) == (State.DONE, 1, 0, None)


async def test_where_the_address_it_went_to_stays_silent_it_is_made_again_and_counted(tmp_path, autojump_clock):
    new = ScriptedBackend(base_url="http://new")
    await left_behind(tmp_path, new, Submitting("pod", TICKET, "http://old"))
    new.on_find = deque([down()] * 99)
    async with house(tmp_path, {"pod": new}, timeout=10.0) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert home.lanes["pod"].down is None
    assert (image.state, image.attempts, image.doubtful) == (State.DONE, 1, 1)


async def test_the_index_tells_where_a_request_went_that_a_crash_cut_off(tmp_path, autojump_clock):
    pod = ScriptedBackend(base_url="http://pod:8188")
    pod.on_submit.append("hang")
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await trio.sleep(1)
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.sent_to) == (State.SUBMITTING, "http://pod:8188")


async def test_a_back_end_that_is_no_longer_configured_is_waited_for_until_the_deadline(tmp_path, autojump_clock):
    pod, other = ScriptedBackend(), ScriptedBackend()
    await left_behind(tmp_path, pod, Submitting("pod", TICKET), submitted(pod, deadline=100.0))
    async with house(tmp_path, {"other": other}) as home:
        await trio.sleep(90)
        assert home.states() == ["submitted"]
        assert not home.stages.stuck()
        await trio.sleep(20)
        (image,) = images_of(home.ledger, "j1")
        assert (image.state, image.fault.code) == (State.PLANNED, "lost")
        assert home.stages.stuck()


async def test_an_unclear_image_of_a_back_end_that_is_no_longer_configured_is_made_again(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    await left_behind(tmp_path, pod, Submitting("pod", TICKET))
    async with house(tmp_path, {"other": ScriptedBackend()}) as home:
        await trio.sleep(1)
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful) == (State.PLANNED, 1)


async def test_looks_that_fail_for_ever_at_a_back_end_that_is_up_end_with_its_time(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_collect = deque([down()] * 999)
    async with house(tmp_path, {"pod": pod}, timeout=10.0, attempts=2) as home:
        await home.accept(job())
        with trio.fail_after(2 * (10 + LAST_LOOK) + 60):
            await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.fault.code, image.attempts) == (State.PLACEHOLDER, "timed_out", 2)
    assert len(pod.cancels) == 2


async def test_what_still_goes_on_there_when_its_time_is_over_is_cancelled(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_collect = deque([OutOfTime("still IN_PROGRESS")])
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.fault) == (State.PLACEHOLDER, Fault("timed_out", "still IN_PROGRESS"))
    assert [remote for _, remote in pod.cancels] == ["r1"]


async def test_a_cancel_that_is_not_heard_holds_the_image_for_a_moment_only(tmp_path, autojump_clock):
    class Deaf(ScriptedBackend):
        async def cancel(self, submission):
            await trio.sleep_forever()

    pod = Deaf()
    pod.on_collect = deque([OutOfTime("still IN_PROGRESS")])
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["placeholder"]
        assert trio.current_time() == pytest.approx(PARTING, abs=0.5)


async def test_a_collect_that_is_refused_waits_for_the_back_end(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=5.0)
    pod.on_collect = deque([down(), NotAccepted("429", code="busy", retry_after=7.0)])
    async with house(tmp_path, {"pod": pod}, timeout=60.0) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts) == (State.DONE, 1)
    assert [moment for moment, _ in pod.looks] == [0, 1, 8]


async def test_a_cancel_that_the_back_end_refuses_does_not_hold_the_image(tmp_path, autojump_clock):
    class Stubborn(ScriptedBackend):
        async def cancel(self, submission):
            await super().cancel(submission)
            raise BackendError("405", code="http_405")

    pod = Stubborn(takes=1000.0)
    async with house(tmp_path, {"pod": pod}, timeout=60.0, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["placeholder"]
    assert len(pod.cancels) == 1


async def test_cancelling_looks_for_what_may_have_been_accepted(tmp_path, autojump_clock):
    class Reset(ScriptedBackend):
        async def submit(self, request):
            self.accept(request)
            await trio.sleep_forever()

    pod = Reset()
    async with house(tmp_path, {"pod": pod}, timeout=600.0) as home:
        await home.accept(job())
        await trio.sleep(3)
        assert home.states() == ["submitting"]
        await home.stages.runner.cancel("j1")
        assert home.states() == ["cancelled"]
        assert trio.current_time() == pytest.approx(3 + GRACE)
    assert [remote for _, remote in pod.cancels] == ["r1"]


@pytest.mark.parametrize(("blind", "unheard"), [(False, []), (True, [1])])
async def test_what_a_back_end_knows_nothing_of_goes_on_nowhere_and_what_cannot_be_asked_for_may(
    tmp_path, autojump_clock, blind, unheard
):
    class Silent(ScriptedBackend):
        async def submit(self, request):
            await trio.sleep_forever()

    async with house(tmp_path, {"pod": Silent(blind=blind)}, timeout=600.0) as home:
        await home.accept(job())
        await trio.sleep(3)
        gone = await home.stages.runner.cancel("j1")
    assert (gone.images, [image.number for image in gone.unheard]) == (1, unheard)


async def test_an_adapter_that_breaks_when_it_looks_for_a_submission_keeps_no_job_from_being_cancelled(
    tmp_path, autojump_clock
):
    class Broken(ScriptedBackend):
        async def submit(self, request):
            await trio.sleep_forever()

        async def find(self, request):
            raise KeyError(request.ticket)

    async with house(tmp_path, {"pod": Broken()}, timeout=600.0) as home:
        await home.accept(job(images=2))
        await trio.sleep(3)
        gone = await home.stages.runner.cancel("j1")
        assert home.states() == ["cancelled"] * 2
        assert {image.number for image in gone.unheard} == {1, 2}


async def slowly(function, *args):
    """A commit on a slow disk: carried to its end whatever becomes of who waits for it, as in a thread."""
    with trio.CancelScope(shield=True):
        await trio.sleep(0.5)
    return function(*args)


@pytest.mark.parametrize(
    "moment", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
)  # more often than commits, some meet the right one
async def test_a_stop_that_meets_the_record_of_a_submission_need_not_wait_for_the_answer(
    tmp_path, autojump_clock, moment
):
    pod = ScriptedBackend(answers_in=300.0)
    async with house(tmp_path, {"pod": pod}, commits=slowly, timeout=600.0) as home:
        await home.accept(job())
        while not home.stages.runner.under_way:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.1)
        await trio.sleep(moment)
        stopped = trio.current_time()
        home.stop.set()
        await home.gone.wait()
        assert trio.current_time() - stopped < 2 * SHUTDOWN


async def test_what_somebody_else_has_cancelled_is_left_alone(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=5.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=2))
        await trio.sleep(1)
        first, _ = images_of(home.ledger, "j1")
        await home.ledger.record(first, Cancelled())
        await home.settled()
        assert home.states() == ["cancelled", "done"]


async def test_a_stop_lets_requests_under_way_be_answered_so_that_nothing_is_bought_twice(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=30.0, blind=True, answers_in=4.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=1))
        await trio.sleep(1)
        home.stop.set()
        await home.gone.wait()
        assert trio.current_time() == pytest.approx(4)
        assert home.states() == ["submitted"]
    async with house(tmp_path, {"pod": pod}) as home:
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.doubtful, len(pod.starts)) == (0, 1)


async def test_a_stop_waits_ten_seconds_at_most_for_requests_under_way(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=300.0, at_once=True)
    async with house(tmp_path, {"pod": pod}, timeout=600.0) as home:
        await home.accept(job())
        await trio.sleep(1)
        home.stop.set()
        await home.gone.wait()
        assert trio.current_time() == pytest.approx(11)
        assert home.states() == ["submitting"]


async def test_a_full_disk_stops_new_images_and_is_waited_out(tmp_path, autojump_clock, capsys):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        write, tries = home.spool.write_examined, []

        async def full(name, data, examine):
            tries.append(trio.current_time())
            if len(tries) <= 3:
                raise SpoolTrouble("no space left")
            return await write(name, data, examine)

        home.spool.write_examined = full
        await home.accept(job(images=2))
        await trio.sleep(5)
        assert home.brake.reason == "the spool cannot be used: no space left"
        await home.settled()
        assert home.states() == ["done", "done"]
        assert home.brake.reason is None
    assert tries[:4] == [1, 2, 4, 8]
    assert capsys.readouterr().out.count("no space left") == 1


async def test_a_slot_is_free_before_the_picture_is_written(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=10.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        write = home.spool.write_examined

        async def slow(name, data, examine):
            await trio.sleep(5)
            return await write(name, data, examine)

        home.spool.write_examined = slow
        await home.accept(job(images=3))
        await home.settled()
    assert [moment for moment, _ in pod.starts] == [0, 10, 20]


async def test_an_image_met_by_a_defect_of_ours_goes_on_later(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        write, broken = home.spool.write_examined, [1]

        async def unwell(name, data, examine):
            if broken:
                broken.pop()
                raise RuntimeError("a defect")
            return await write(name, data, examine)

        home.spool.write_examined = unwell
        await home.accept(job(images=2))
        await home.settled()
        assert home.states() == ["done", "done"]
        assert [image.attempts for image in images_of(home.ledger, "j1")] == [1, 1]


async def test_patience_holds_the_brake_until_the_last_trouble_is_over(autojump_clock):
    brake = Brake()
    patience = Patience(brake, draw=no_jitter)
    fails = {"a": 2, "b": 4}

    async def attempt(name):
        await trio.lowlevel.checkpoint()
        fails[name] -= 1
        if fails[name] >= 0:
            raise IndexTrouble(f"{name} is full")
        return name

    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.until_done, "the index", lambda: attempt("a"))
        nursery.start_soon(patience.until_done, "the index", lambda: attempt("b"))
        await trio.sleep(0.5)
        assert patience.trouble is not None
        await trio.sleep(5)
        assert brake.reason == "the index cannot be used: b is full"
    assert brake.reason is None
    assert trio.current_time() == 15


async def test_patience_does_not_wait_for_what_is_lost(autojump_clock):
    async def attempt():
        await trio.lowlevel.checkpoint()
        raise SpoolTrouble("gone", lost=True)

    with pytest.raises(SpoolTrouble, match="gone"):
        await Patience(Brake()).until_done("the spool", attempt)


async def test_a_defect_while_submitting_leaves_the_acceptance_unknown(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit.append(KeyError("id"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful) == (State.DONE, 1)


async def test_a_defect_while_cancelling_does_not_hold_the_image(tmp_path, autojump_clock):
    class Broken(ScriptedBackend):
        async def cancel(self, submission):
            await trio.lowlevel.checkpoint()
            raise KeyError("status")

    async with house(tmp_path, {"pod": Broken(takes=1000.0)}, timeout=60.0, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["placeholder"]


async def test_a_job_cancelled_before_its_image_began_gives_its_place_back(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        gate = home.lanes["pod"]
        crew = Crew(home.stages.runner._carry)
        crew.scope.cancel()
        crew.hand_over(await left(home), gate, gate.start())
        await crew.work()
        assert gate.occupied == 0
        assert crew.gone.is_set()


async def left(home):
    """An image that waits."""
    home.lanes["pod"].pause("not yet")
    await home.accept(job())
    await trio.sleep(1)
    return images_of(home.ledger, "j1")[0]
