from collections import deque

import pytest
import trio

from pipeline.errors import (
    AcceptanceUnknown,
    AttemptFailed,
    IndexTrouble,
    InvalidRequest,
    NotAccepted,
    NotWorthRepeating,
    Unavailable,
)
from pipeline.model import OnFailure, Picture, State
from pipeline.orders.kinds import Pause
from tests.support.index import images_of
from tests.support.pictures import plain
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job
from tests.support.waiting import EPOCH


def down(**more):
    return Unavailable("connection refused", code="unreachable", **more)


async def test_a_job_becomes_stored_images_and_a_result(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=3.0), ScriptedStore()
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job(images=5))
        await home.settled()
        assert home.states() == ["done"] * 5
        assert sorted(store.items) == [f"alice/characters/mary/images/mary_image_{n}" for n in range(1, 6)]
        assert (tmp_path / "jobs/done/j1.result.json").exists()
        assert (tmp_path / "jobs/done/j1.yaml").exists()
        assert not (tmp_path / "jobs/active/j1.yaml").exists()
        assert home.spool.total == 0
        assert pod.busiest == 2


async def test_an_image_that_comes_back_goes_to_the_end_of_its_job(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    pod.on_collect = deque([AttemptFailed("broke", code="failed")])
    async with house(tmp_path, {"pod": pod}, concurrency=2) as home:
        await home.accept(job(images=3))
        await home.settled()
    assert [seed for _, seed in pod.starts] == [1, 2, 3, 1]


async def test_starts_at_one_back_end_keep_the_stagger_over_all_jobs(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=100.0)
    async with house(tmp_path, {"pod": pod}, concurrency=10, stagger=7.0, timeout=600) as home:
        await home.accept(job("a", 2), job("b", 2, seed=11))
        await home.settled()
    assert pod.starts == [(0, 1), (7, 11), (14, 2), (21, 12)]


async def test_a_jobs_own_stagger_leaves_the_back_end_to_others(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("slow", 3, stagger=5.0), job("quick", 4, seed=11))
        await home.settled()
    assert pod.starts == [(0, 1), (1, 11), (2, 12), (3, 13), (4, 14), (5, 2), (10, 3)]


class LooksUp(ScriptedBackend):
    """Asks for names before it orders; `delays` are the seconds that takes, by seed."""

    def __init__(self, delays, **options):
        super().__init__(**options)
        self.delays = delays

    async def submit(self, request):
        await trio.sleep(self.delays.get(request.seed, 0.0))
        return await super().submit(request)


async def test_the_stagger_is_kept_by_the_orders_however_long_what_comes_before_them_takes(tmp_path, autojump_clock):
    pod = LooksUp({1: 1.75, 3: 0.5})
    async with house(tmp_path, {"pod": pod}, concurrency=4, stagger=1.0) as home:
        await home.accept(job(images=5))
        await home.settled()
    assert pod.starts == [(1, 2), (2, 1), (3, 3), (4, 4), (5, 5)]


async def test_a_jobs_own_stagger_is_kept_by_the_orders_over_all_its_back_ends(tmp_path, autojump_clock):
    pods = {name: LooksUp({1: 4.0}) for name in "ab"}
    async with house(tmp_path, pods, concurrency=1) as home:
        await home.accept(job("slow", 4, stagger=5.0, backends=("a", "b")), job("quick", 2, seed=11, backends=("b",)))
        await home.settled()
    starts = sorted(pods["a"].starts + pods["b"].starts)
    assert [moment for moment, seed in starts if seed < 10] == [4, 9, 14, 19]
    assert max(moment for moment, seed in starts if seed > 10) <= 6  # one place is taken for five seconds


async def test_an_order_that_is_called_off_while_it_waits_for_its_distance_delays_no_other(tmp_path, autojump_clock):
    pod = LooksUp({1: 8.0})
    async with house(tmp_path, {"pod": pod}, concurrency=4, stagger=10.0) as home:
        await home.accept(job("first"), job("off", seed=50), job("last", seed=60))
        await trio.sleep(12)
        await home.stages.runner.cancel("off")
        await home.settled()
    assert pod.starts == [(8, 1), (20, 60)]


async def test_an_image_made_again_keeps_its_jobs_stagger(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    pod.on_collect.append(AttemptFailed("out of memory", code="failed"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(stagger=5.0))
        await home.settled()
        assert not home.stages.runner._spacings
    assert pod.starts == [(0, 1), (5, 1)]


async def test_a_jobs_own_stagger_outlives_a_restart_and_a_pause(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=3, stagger=10.0))
        await trio.sleep(3)
    async with house(tmp_path, {"pod": pod}) as home:
        await trio.sleep(9)
        home.stages.runner.rest("j1")
        await trio.sleep(3)
        home.stages.runner.wake("j1")
        await home.settled()
    assert pod.starts == [(0, 1), (10, 2), (20, 3)]


async def test_a_small_job_behind_a_large_one_starts_within_two_image_times(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=10.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("large", 1000))
        await trio.sleep(25)
        await home.accept(job("small", 1, seed=5000))
        await trio.sleep(20)
        assert (40, 5000) in pod.starts


async def test_higher_priority_goes_first(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("low", 2, priority=-1), job("high", 2, seed=11, priority=5), job("mid", 1, seed=21))
        await home.settled()
    assert [seed for _, seed in pod.starts] == [11, 12, 21, 1, 2]


async def test_a_pool_uses_every_free_back_end_and_the_row_names_the_maker(tmp_path, autojump_clock):
    pods = {"a": ScriptedBackend(takes=4.0), "b": ScriptedBackend(takes=1.0)}
    async with house(tmp_path, pods, concurrency=1) as home:
        await home.accept(job(images=10, backends=("a", "b")))
        await home.settled()
        makers = [image.backend for image in images_of(home.ledger, "j1")]
    assert (makers.count("a"), makers.count("b")) == (2, 8)


async def test_refusals_cost_no_attempt_and_lower_what_is_started_at_once(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    pod.on_submit = deque([None, None, NotAccepted("too many", code="busy", retry_after=9.0)])
    async with house(tmp_path, {"pod": pod}, concurrency=4, stagger=0.1) as home:
        await home.accept(job(images=3))
        await trio.sleep(5)
        assert home.lanes["pod"].width == 2
        await home.settled()
        assert [image.attempts for image in images_of(home.ledger, "j1")] == [1, 1, 1]
    assert [moment for moment, _ in pod.starts] == pytest.approx([0, 0.1, 0.2, 9.2])


async def test_an_outage_opens_the_circuit_and_a_probe_closes_it(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    pod.on_submit = deque([down()])
    pod.on_probe = deque([down(), down(retry_after=20.0)])
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job(images=2))
        await trio.sleep(2.9)
        (row,) = home.ledger._rows("SELECT state, reason FROM lanes")
        assert row == ("down", "connection refused")
        told = "back end pod is down: connection refused"
        assert home.ledger._rows("SELECT status, reason FROM jobs") == [("queued", told)]
        await home.settled()
        assert home.ledger._rows("SELECT reason FROM jobs") == [(None,)]
        assert [image.attempts for image in images_of(home.ledger, "j1")] == [1, 1]
    assert pod.probes == [1, 3, 23]
    assert [moment for moment, _ in pod.starts] == [0, 23, 24]


async def test_what_a_back_end_holds_off_is_told_and_waited_for_as_an_outage_is(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    pod.on_submit = deque([None, NotAccepted("enough for now (429)", code="busy", retry_after=60.0)])
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("a", 4), job("b", seed=11, priority=-1))
        await trio.sleep(5)
        told = "back end pod takes nothing more for now: enough for now (429)"
        assert home.ledger._rows("SELECT status, reason FROM jobs") == [("queued", told)] * 2
        (row,) = home.ledger._rows("SELECT state, reason, next_try FROM lanes")
        assert row == ("held", "enough for now (429)", EPOCH + 61_000)
        assert home.stages.stuck()
        await home.settled()
        assert home.ledger._rows("SELECT reason FROM jobs") == [(None,)] * 2
    assert [moment for moment, _ in pod.starts] == [0, 1, 61, 62, 63, 64]


async def test_a_mere_try_does_not_end_what_a_job_waits_for(tmp_path, autojump_clock):
    class Full(ScriptedBackend):
        async def submit(self, request):
            await trio.sleep(0.5)
            raise NotAccepted("enough for now (429)", code="busy")

    async with house(tmp_path, {"pod": Full()}) as home:
        await home.accept(job(images=2))
        await trio.sleep(1)
        for _ in range(300):
            await trio.sleep(0.1)
            ((status, running, reason),) = home.ledger._rows("SELECT status, running, reason FROM jobs")
            assert reason == "back end pod takes nothing more for now: enough for now (429)"
            assert status == ("running" if running else "queued")


async def test_what_an_earlier_run_said_of_waiting_jobs_is_forgotten(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=100.0)
    pod.down = "connection refused"
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("a"), job("b"), job("paused"))
        await home.steward.carry_out(Pause(job="paused"))
        await trio.sleep(5)
        told = "back end pod is down: connection refused"
        assert home.ledger._rows("SELECT reason FROM jobs WHERE id <> 'paused'") == [(told,)] * 2
    pod.down = None
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await trio.sleep(5)
        reasons = dict(home.ledger._rows("SELECT id, reason FROM jobs"))
    assert (reasons["a"], reasons["b"]) == (None, None)
    assert reasons["paused"].startswith("the job is paused")


async def test_trying_again_and_again_in_vain_is_no_work(tmp_path, autojump_clock):
    class Broken(ScriptedBackend):
        async def submit(self, request):
            if request.seed == 1:
                return await super().submit(request)
            await trio.sleep(2)
            raise AcceptanceUnknown("500", code="http_500")

    async with house(tmp_path, {"pod": Broken(takes=30.0)}) as home:
        await home.accept(job(images=3))
        for _ in range(29):
            await trio.sleep(1)
            assert not home.stages.stuck()  # the first image is being made there
        await trio.sleep(2)
        for _ in range(200):
            await trio.sleep(0.5)
            assert home.stages.stuck()


async def test_others_of_the_pool_take_over_from_one_that_is_down(tmp_path, autojump_clock):
    pods = {"a": ScriptedBackend(takes=1.0), "b": ScriptedBackend(takes=1.0)}
    pods["a"].down = "stopped"
    async with house(tmp_path, pods, concurrency=1) as home:
        await home.accept(job(images=4, backends=("a", "b")))
        await home.settled()
        assert {image.backend for image in images_of(home.ledger, "j1")} == {"b"}
    assert len(pods["a"].starts) == 1


async def test_a_failed_attempt_is_made_again_until_the_attempts_are_used_up(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    pod.on_collect = deque([AttemptFailed("out of memory", code="failed")] * 4)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1, attempts=3) as home:
        await home.accept(job(images=2))
        await home.settled()
        first, second = images_of(home.ledger, "j1")
    assert (first.state, first.attempts, first.fault.code) == (State.PLACEHOLDER, 3, "failed")
    assert (second.state, second.attempts, second.fault) == (State.DONE, 2, None)


@pytest.mark.parametrize(
    ("script", "error", "attempts"),
    [
        ("on_submit", InvalidRequest("no such sampler", code="invalid"), 0),
        ("on_collect", NotWorthRepeating("blank", code="blank_output"), 1),
        ("on_collect", InvalidRequest("node 3 failed to validate", code="invalid"), 1),
        ("on_submit", NotWorthRepeating("blank", code="blank_output"), 1),
    ],
)
async def test_what_is_not_worth_repeating_ends_at_once(tmp_path, autojump_clock, script, error, attempts):
    pod = ScriptedBackend()
    getattr(pod, script).append(error)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.fault.code) == (State.PLACEHOLDER, attempts, error.code)
    assert len(pod.starts) == 1


@pytest.mark.parametrize("data", [b"", b"<html>busy</html>", plain(shade=1)[:-20]], ids=["empty", "a page", "half"])
async def test_bytes_that_were_damaged_on_their_way_are_fetched_once_more_not_bought(tmp_path, autojump_clock, data):
    pod = ScriptedBackend(takes=5.0)
    pod.on_collect.append(Picture(data, gpu_seconds=5.0))
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.failures, image.gpu_seconds) == (State.DONE, 1, 0, 5.0)
    assert ([moment for moment, _ in pod.looks], len(pod.starts)) == ([0, 1], 1)


async def test_where_damaged_bytes_cannot_be_fetched_once_more_the_attempt_tells_of_them(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_collect = deque([Picture(b"<html>busy</html>", gpu_seconds=5.0), AttemptFailed("it is gone", code="lost")])
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.fault.code, image.gpu_seconds, image.attempts) == ("not_an_image", 5.0, 1)


async def test_an_image_that_may_fail_leaves_a_failed_row(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_submit.append(InvalidRequest("no", code="invalid"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(on_failure=OnFailure.FAIL))
        await home.settled()
        assert home.states() == ["failed"]


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty_output"), (b"<html>busy</html>", "not_an_image")],
)
async def test_output_that_is_no_image_is_a_failed_attempt(tmp_path, autojump_clock, data, code):
    pod = ScriptedBackend()
    pod.on_collect = deque([Picture(data, gpu_seconds=2.0)] * 6)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.fault.code) == (State.PLACEHOLDER, 3, code)
    assert image.gpu_seconds == 6.0


async def test_the_same_pixels_twice_in_a_job_are_not_bought_again(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    pod.on_collect = deque([Picture(plain(shade=9), 1.5)] * 2)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=2))
        await home.settled()
        first, second = images_of(home.ledger, "j1")
        assert home.spool.total == 0
    assert first.state is State.DONE
    assert (second.state, second.attempts, second.fault.code) == (State.PLACEHOLDER, 1, "repeated_output")
    assert second.gpu_seconds == 1.5
    assert len(pod.starts) == 2


async def test_a_lost_answer_is_looked_up_where_the_back_end_can_tell(tmp_path, autojump_clock):
    pod = ScriptedBackend()

    class Reset(ScriptedBackend):
        async def submit(self, request):
            await super().submit(request)
            raise AcceptanceUnknown("connection reset", code="reset")

    pod = Reset()
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.doubtful, len(pod.starts)) == (State.DONE, 1, 0, 1)


async def test_a_submission_that_was_never_accepted_is_sent_again_and_costs_nothing(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_submit.append(AcceptanceUnknown("502", code="http_502"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.doubtful) == (State.DONE, 1, 0)
    assert [moment for moment, _ in pod.starts] == [0, 1]


async def test_where_orders_find_no_answer_in_time_the_next_goes_to_another_back_end(tmp_path, autojump_clock):
    deaf, pod = ScriptedBackend(), ScriptedBackend()
    deaf.on_submit = deque(["hang"] * 9)
    async with house(tmp_path, {"deaf": deaf, "pod": pod}, timeout=20.0) as home:
        home.lanes["pod"].pause("not yet")
        await home.accept(job(images=1, backends=("deaf", "pod")))
        await trio.sleep(1)
        home.lanes["pod"].pause(None)
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.backend, image.attempts, image.doubtful) == (State.DONE, "pod", 1, 0)
    assert [moment for moment, _ in pod.starts] == [20]


async def test_what_is_never_accepted_is_limited_by_the_attempts_and_other_images_go_on(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_submit = deque([AcceptanceUnknown("500", code="no_answer")] * 3)
    async with house(tmp_path, {"pod": pod}, concurrency=1, attempts=3) as home:
        await home.accept(job(images=2))
        await home.settled()
        first, second = images_of(home.ledger, "j1")
    assert (first.state, first.attempts, first.doubtful, first.fault.code) == (State.PLACEHOLDER, 0, 0, "no_answer")
    assert (second.state, second.attempts) == (State.DONE, 1)
    assert [moment for moment, _ in pod.starts] == [0, 1, 3, 7]


async def test_what_an_outage_kept_from_being_accepted_uses_up_no_attempt(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_submit = deque([AcceptanceUnknown("502", code="no_answer")] * 3)
    pod.on_probe = deque([down(), None] * 3)
    async with house(tmp_path, {"pod": pod}, attempts=1) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.failures) == (State.DONE, 1, 0)


async def test_what_cannot_be_looked_up_is_made_again_with_the_same_seed_and_counted(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit = deque([AcceptanceUnknown("502", code="http_502")] * 2)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(seed=40))
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts, image.doubtful) == (State.DONE, 1, 2)
    assert [seed for _, seed in pod.starts] == [40, 40, 40]


async def test_doubtful_submissions_are_limited_by_the_attempts(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit = deque([AcceptanceUnknown("502", code="http_502")] * 9)
    async with house(tmp_path, {"pod": pod}, attempts=3) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful, image.fault.code) == (State.PLACEHOLDER, 3, "acceptance_unknown")


async def test_what_an_outage_left_in_doubt_waits_for_its_end_and_uses_up_no_attempt(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit.append(AcceptanceUnknown("502", code="http_502"))
    pod.on_probe = deque([down()] * 4)
    async with house(tmp_path, {"pod": pod}, concurrency=1, attempts=1) as home:
        await home.accept(job(images=2))
        await trio.sleep(12)
        assert home.states() == ["unclear", "planned"]
        assert home.lanes["pod"].down == "connection refused"
        await home.settled()
        found = [(image.state, image.attempts, image.doubtful) for image in images_of(home.ledger, "j1")]
    assert found == [(State.DONE, 1, 1), (State.DONE, 1, 0)]
    assert pod.probes == [0, 1, 3, 7, 15]
    assert [moment for moment, _ in pod.starts] == [0, 15, 16]


async def test_an_image_that_takes_its_back_end_down_each_time_is_not_bought_for_ever(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit = deque([AcceptanceUnknown("reset", code="no_answer")] * 99)
    pod.on_probe = deque([down(), None] * 99)
    async with house(tmp_path, {"pod": pod}, attempts=2) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful, len(pod.starts)) == (State.PLACEHOLDER, 5 * 2 + 2, 5 * 2 + 2)


async def test_doubts_at_a_back_end_that_is_there_are_spent_slowly(tmp_path, autojump_clock):
    pod = ScriptedBackend(blind=True)
    pod.on_submit = deque([AcceptanceUnknown("500", code="http_500")] * 4)
    async with house(tmp_path, {"pod": pod}, attempts=5) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful) == (State.DONE, 4)
    assert [moment for moment, _ in pod.starts] == [0, 5, 15, 35, 75]


async def test_a_time_out_looks_once_more_and_cancels_there_before_the_next_attempt(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1000.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1, timeout=60.0, attempts=2) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert [moment for moment, _ in pod.looks] == [0, 60, 90, 150]
    assert [moment for moment, _ in pod.cancels] == [90, 180]
    assert [moment for moment, _ in pod.starts] == [0, 90]
    assert (image.state, image.attempts, image.fault.code) == (State.PLACEHOLDER, 2, "timed_out")


async def test_a_result_that_the_last_look_finds_is_taken(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=61.0)
    async with house(tmp_path, {"pod": pod}, timeout=60.0) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["done"]
    assert pod.cancels == []


async def test_an_outage_at_the_deadline_is_not_the_images_fault(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=50.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1, timeout=60.0) as home:
        await home.accept(job())
        await trio.sleep(10)
        pod.down = "gone"
        await trio.sleep(990)
        assert home.lanes["pod"].down == "gone"
        assert home.states() == ["submitted"]
        pod.down = None
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.attempts) == (State.DONE, 1)


async def test_a_service_that_answers_at_once_needs_no_look(tmp_path, autojump_clock):
    sketch = ScriptedBackend(takes=2.0, at_once=True)
    async with house(tmp_path, {"pod": sketch}, concurrency=1) as home:
        await home.accept(job(images=2))
        await home.settled()
        assert [image.attempts for image in images_of(home.ledger, "j1")] == [1, 1]
        assert home.lanes["pod"].pace.typical == 2.0
    assert sketch.starts == [(0, 1), (2, 2)]
    assert sketch.looks == []


async def test_a_service_that_answers_at_once_but_too_late_is_in_doubt(tmp_path, autojump_clock):
    slow = ScriptedBackend(takes=100.0, at_once=True, blind=True)
    async with house(tmp_path, {"pod": slow}, concurrency=1, timeout=60.0, attempts=2) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.doubtful) == (State.PLACEHOLDER, 2)
    assert [moment for moment, _ in slow.starts] == [0, 65]


async def test_a_defect_of_an_adapter_ends_in_attempts_not_in_the_daemon(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_collect = deque([KeyError("images")] * 3)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job(images=2))
        await home.settled()
        first, second = images_of(home.ledger, "j1")
    assert (first.state, first.fault.code) == (State.PLACEHOLDER, "unexpected")
    assert second.state is State.DONE


async def test_a_job_whose_back_end_lacks_its_model_ends_before_anything_is_submitted(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_check.append(InvalidRequest('no model "x"; there are: y', code="model_missing"))
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job(images=3))
        await home.settled()
        assert home.states() == ["placeholder"] * 3
    assert pod.starts == []
    assert pod.checks == [(0, 3)]


async def test_a_pool_leaves_out_the_back_end_that_lacks_the_model(tmp_path, autojump_clock):
    pods = {"a": ScriptedBackend(), "b": ScriptedBackend()}
    pods["a"].on_check.append(InvalidRequest("no such model", code="model_missing"))
    async with house(tmp_path, pods, concurrency=1) as home:
        await home.accept(job(images=3, backends=("a", "b")))
        await home.settled()
        assert home.states() == ["done"] * 3
    assert pods["a"].starts == []


async def test_a_back_end_that_is_down_when_it_is_asked_for_models_is_waited_for(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    pod.on_check.append(down())
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["done"]
    assert pod.starts == [(1, 1)]


async def test_cancelling_a_job_stops_it_at_the_back_end_and_holds_the_numbers(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=50.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=5), job("other", 1, seed=50))
        await trio.sleep(10)
        await home.stages.runner.cancel("j1")
        assert home.states() == ["cancelled"] * 5
        assert [remote for _, remote in pod.cancels] == ["r1"]
        await home.settled()
        assert home.states("other") == ["done"]


async def test_a_resting_job_starts_nothing_until_it_is_woken(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=5.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job(images=2))
        await trio.sleep(1)
        home.stages.runner.rest("j1")
        await trio.sleep(99)
        assert home.states() == ["done", "planned"]
        home.stages.runner.wake("j1")
        await home.settled()
        assert home.states() == ["done", "done"]
    assert [moment for moment, _ in pod.starts] == [0, 100]


async def test_a_full_spool_holds_new_images_and_goes_on_when_the_store_has_taken_some(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore(takes=100.0)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1, limit=100, uploads=1) as home:
        await home.accept(job(images=3))
        await home.settled()
    assert [moment for moment, _ in pod.starts] == [0, 101, 202]


async def test_an_unconfigured_back_end_is_named_as_the_reason(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        await home.accept(job(backends=("gone",)))
        await trio.sleep(5)
        assert home.ledger._rows("SELECT reason FROM jobs") == [("back end gone is not configured",)]
        assert home.stages.stuck()


async def test_a_paused_lane_starts_nothing(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}) as home:
        home.lanes["pod"].pause("paused by alice")
        await home.accept(job())
        await trio.sleep(5)
        assert home.ledger._rows("SELECT jobs.reason, lanes.state FROM jobs, lanes") == [("paused by alice", "paused")]
        home.lanes["pod"].pause(None)
        await home.settled()
    assert pod.starts == [(5, 1)]


async def test_a_job_that_could_not_be_read_when_it_was_accepted_is_found_later(tmp_path, autojump_clock):
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job("first"))
        await home.settled()
        turn, turns, fails = home.ledger.turn, home.ledger.turns, [1, 2, 3]

        def unreadable(read):
            def attempt(*args):
                if fails:
                    fails.pop()
                    raise IndexTrouble("disk I/O error")
                return read(*args)

            return attempt

        home.ledger.turn, home.ledger.turns = unreadable(turn), unreadable(turns)
        await home.accept(job(seed=9))
        await home.settled()
        await trio.sleep(10)
        assert home.states() == ["done"]


async def test_an_image_whose_row_cannot_be_read_waits(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}) as home:
        image, hold, fails = home.ledger.image, home.spool.room.hold, [1, 2, 3]

        def unwell(read):
            def attempt(*args):
                if fails:
                    fails.pop()
                    raise IndexTrouble("disk I/O error")
                return read(*args)

            return attempt

        home.spool.room.hold, home.ledger.image = unwell(hold), unwell(image)
        await home.accept(job())
        await home.settled()
        assert home.states() == ["done"]
