"""What each order does, with a working house around the steward and without one, and after a crash in between."""

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from pipeline.audit import audit_store
from pipeline.catalogue import Catalogue
from pipeline.errors import (
    AttemptFailed,
    IndexTrouble,
    InvalidRequest,
    StoreConflict,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
    UserError,
)
from pipeline.ledger import open_ledger
from pipeline.lifecycle import Retried
from pipeline.model import Asset, OnFailure, Status, Stored
from pipeline.orders.kinds import Adopt, Cancel, Favorite, Pause, Remove, Resume, Retry
from pipeline.orders.steward import Steward
from pipeline.spool import Spool
from pipeline.stages import Parts, Stages
from pipeline.tools.brake import Brake
from tests.support.index import images_of
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job, lane, no_jitter, reading
from tests.support.waiting import inline, wall


class Crash(Exception):
    """The machine loses its power here."""


class Account(ScriptedStore):
    """A store that can tell what stands elsewhere in the account, and whose deletions can be made to fail."""

    def __init__(self, *found):
        super().__init__()
        self.found = list(found)
        self.removed = []
        self.on_remove = deque()

    async def elsewhere(self, prefix):
        await trio.lowlevel.checkpoint()
        for one in self.found:
            if one.public_id.startswith(prefix):
                yield one

    async def remove(self, stored):
        await self._scripted(self.on_remove)
        self.removed.append(stored.public_id)
        await super().remove(stored)


class Dying:
    """A ledger that loses its power, or fails otherwise, right before or right after a step."""

    def __init__(self, ledger, *, method, after=False, error=Crash):
        self._ledger = ledger
        self._method = method
        self._after = after
        self._error = error

    def __getattr__(self, name):
        found = getattr(self._ledger, name)
        if name != self._method:
            return found

        async def last(*args):
            if self._after:
                await found(*args)
            raise self._error

        return last


@asynccontextmanager
async def idle(folder, store, backends=None, *, dying=None):
    """A steward over a house whose stages do not run, as a command without a daemon has it."""
    for name in ("active", "done"):
        (folder / "jobs" / name).mkdir(parents=True, exist_ok=True)
    brake = Brake()
    lanes = {name: lane(name, backend, brake) for name, backend in (backends or {}).items()}
    index = folder / "index.db"
    async with open_ledger(index, clock=wall, run_sync=inline) as ledger, reading(index) as catalogue:
        kept = Dying(ledger, **dying) if dying else ledger
        spool = Spool(folder / "spool", folder / "kept", run_sync=inline)
        parts = Parts(kept, catalogue, spool, store, lanes, brake, folder / "jobs", wall, inline, 8, no_jitter)
        yield parts, Steward(parts, Stages(parts))


async def made(folder, store, *, images=3, fail=(), conflict=False, **changes):
    """A job worked off in an ordinary run; images whose seed is in `fail` get no picture."""
    pod = Failing(set(fail))
    async with house(folder, {"pod": pod}, store) as home:
        await home.accept(job(images=images, **changes))
        await home.settled()
        return home.states()


class Failing(ScriptedBackend):
    """Fails certain seeds for good."""

    def __init__(self, seeds, **settings):
        super().__init__(**settings)
        self.seeds = seeds

    async def collect(self, request, submission):
        picture = await super().collect(request, submission)
        if request.seed in self.seeds:
            raise AttemptFailed("out of memory", code="failed")
        return picture


class Slow(ScriptedBackend):
    """Takes its time before it says that it cannot."""

    async def submit(self, request):
        await super().submit(request)
        raise InvalidRequest("no such model", code="no_model")


def reasons(home):
    return home.ledger._rows("SELECT status, reason FROM jobs ORDER BY seq")


# -- cancel


async def test_cancelling_leaves_what_is_made_and_ends_the_rest_within_two_seconds(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=10.0), ScriptedStore(takes=30.0)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=5))
        await trio.sleep(15)
        began = trio.current_time()
        reply = await home.steward.carry_out(Cancel(job="j1"))
        assert trio.current_time() - began < 2
        assert home.states() == ["fetched", "cancelled", "cancelled", "cancelled", "cancelled"]
        assert reply.lines == ("j1: 4 images cancelled; 1 image made already, still to be stored",)
        assert reply.data == {"jobs": [{"jobId": "j1", "cancelled": 4, "stillStored": 1, "unheard": []}]}
        await home.settled()
        assert home.states()[0] == "done"
        assert (await home.steward.carry_out(Cancel(job="j1"))).lines == (
            "j1 has ended already: there is nothing to cancel",
        )
    assert [remote for _, remote in pod.cancels] == ["r2"]
    assert len(pod.starts) == 2


@pytest.mark.parametrize(
    ("failing", "on_failure", "state"),
    [
        (False, OnFailure.PLACEHOLDER, "done"),
        (True, OnFailure.PLACEHOLDER, "placeholder"),
        (True, OnFailure.FAIL, "failed"),
    ],
)
async def test_what_comes_to_its_end_while_its_job_is_cancelled_is_stored_and_told(
    tmp_path, autojump_clock, failing, on_failure, state
):
    pod = (Slow if failing else ScriptedBackend)(takes=0.8, at_once=True)
    async with house(tmp_path, {"pod": pod}, ScriptedStore(), concurrency=1) as home:
        await home.accept(job(images=1, on_failure=on_failure))
        await trio.sleep(0.5)
        await home.steward.carry_out(Cancel(job="j1"))
        with trio.fail_after(5):
            await home.settled()
        assert home.states() == [state]


async def test_all_jobs_with_a_label_are_cancelled_those_without_numbers_too(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=10.0), ScriptedStore()
    store.on_listing = deque([None, StoreUnavailable("503", code="x")])
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job("a", 1, labels=("spring",)), job("b", 1, seed=9, labels=("summer",)))
        await trio.sleep(1)
        await home.accept(job("c", 2, owner="bob", character="john", labels=("spring",)))
        reply = await home.steward.carry_out(Cancel(label="spring"))
        assert reply.lines == ("a: 1 image cancelled", "c: cancelled before it had numbers")
        assert [status for status, _ in reasons(home)] == ["cancelled", "running", "cancelled"]
        assert "every job with the label" in (await home.steward.carry_out(Cancel(label="spring"))).lines[0]
        with pytest.raises(UserError, match='no job has the label "autumn"'):
            await home.steward.carry_out(Cancel(label="autumn"))
        with pytest.raises(UserError, match='no job has the id "nope"'):
            await home.steward.carry_out(Cancel(job="nope"))
        await home.settled()
        assert home.states("b") == ["done"]


async def test_a_cancelled_retry_leaves_the_placeholder_standing(tmp_path, autojump_clock):
    store = ScriptedStore()
    assert await made(tmp_path, store, fail={2}) == ["done", "placeholder", "done"]
    pod = ScriptedBackend(takes=100.0)
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.steward.carry_out(Retry(job="j1"))
        await trio.sleep(5)
        assert home.states() == ["done", "submitted", "done"]
        assert (await home.steward.carry_out(Cancel(job="j1"))).lines == ("j1: 1 image cancelled",)
        assert home.states() == ["done", "placeholder", "done"]


@pytest.mark.parametrize(
    ("trouble", "takes"), [(Unavailable("refused", code="unreachable"), 0), ("hang", 10)], ids=["refuses", "hangs"]
)
async def test_a_back_end_that_cannot_be_told_does_not_keep_a_job_alive(tmp_path, autojump_clock, trouble, takes):
    pod = Deaf(trouble)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=1))
        await trio.sleep(5)
    began = trio.current_time()
    async with idle(tmp_path, ScriptedStore(), {"pod": pod}) as (parts, steward):
        reply = await steward.carry_out(Cancel(job="j1"))
        assert [image.state for image in images_of(parts.ledger, "j1")] == ["cancelled"]
    assert trio.current_time() - began == takes
    assert reply.exit_code == 0
    assert reply.lines[1] == "mary_image_1: may go on at back end pod, which could not be told to stop"
    assert reply.data["jobs"][0]["unheard"] == ["mary_image_1"]


class Deaf(ScriptedBackend):
    """Cannot be told to stop anything."""

    def __init__(self, trouble):
        super().__init__(takes=1000.0)
        self.on_cancel = deque([trouble])

    async def cancel(self, submission):
        await self._scripted(self.on_cancel)


async def test_cancelling_without_a_daemon_tells_the_back_end_and_files_nothing_twice(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=1000.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=3))
        await trio.sleep(5)
    async with idle(tmp_path, ScriptedStore(), {"pod": pod}) as (parts, steward):
        for line in ("j1: 3 images cancelled", "j1 has ended already: there is nothing to cancel"):
            assert (await steward.carry_out(Cancel(job="j1"))).lines == (line,)
        assert parts.ledger.to_file(5) == ["j1"]
    assert sorted(remote for _, remote in pod.cancels) == ["r1", "r2"]


async def test_an_image_whose_back_end_is_gone_from_the_configuration_is_let_go(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend(takes=1000.0)}) as home:
        await home.accept(job(images=1))
        await trio.sleep(5)
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        assert "may go on at back end pod" in (await steward.carry_out(Cancel(job="j1"))).lines[1]


# -- pause and resume


async def test_a_paused_job_waits_with_the_reason_while_others_go_on(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=10.0)
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("a", 3), job("b", 1, seed=9))
        await trio.sleep(1)
        assert (await home.steward.carry_out(Pause(job="a"))).lines == ("job a is paused",)
        assert (await home.steward.carry_out(Pause(job="a"))).lines == ("job a was paused already",)
        await trio.sleep(50)
        told = "the job is paused; `pipeline resume a` lets it go on"
        assert reasons(home) == [("queued", told), ("done", None)]
        assert home.states("a") == ["done", "planned", "planned"]
        assert not home.stages.settled()
        assert home.stages.stuck()
        assert (await home.steward.carry_out(Resume(job="a"))).lines == ("job a goes on",)
        assert reasons(home)[0] == ("running", None)
        await home.settled()
    assert [moment for moment, _ in pod.starts] == [0, 10, 51, 61]


async def test_everything_paused_stays_so_over_a_restart(tmp_path, autojump_clock):
    pod, told = ScriptedBackend(takes=10.0), "everything is paused; `pipeline resume` lets it go on"
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("a", 3))
        await trio.sleep(1)
        assert (await home.steward.carry_out(Pause())).lines == ("everything is paused",)
        await trio.sleep(20)
        assert reasons(home) == [("queued", told)]
    async with house(tmp_path, {"pod": pod}, concurrency=1) as home:
        await home.accept(job("b", 1, seed=9))
        await trio.sleep(30)
        assert reasons(home) == [("queued", told), ("queued", told)]
        reply = await home.steward.carry_out(Resume())
        assert reply.lines == ("everything goes on",)
        assert reply.data == {"pauses": [{"kind": "all", "name": None}]}
        await home.settled()
    assert [moment for moment, _ in pod.starts] == [0, 51, 61, 71]


async def test_a_paused_back_end_leaves_the_work_to_others_of_the_pool(tmp_path, autojump_clock):
    pods = {name: ScriptedBackend(takes=10.0) for name in "ab"}
    async with house(tmp_path, pods) as home:
        await home.steward.carry_out(Pause(backend="a"))
        await home.accept(job("both", 2, backends=("a", "b")), job("one", 1, seed=9, backends=("a",)))
        await trio.sleep(30)
        told = "back end a is paused; `pipeline resume --backend a` lets it go on"
        assert reasons(home) == [("done", None), ("queued", told)]
        assert home.ledger._rows("SELECT name, state FROM lanes") == [("a", "paused"), ("b", "ready")]
    async with house(tmp_path, pods) as home:
        await trio.sleep(30)
        assert pods["a"].starts == []
        assert (await home.steward.carry_out(Resume(backend="a"))).lines == ("back end a goes on",)
        await home.settled()
    assert [seed for _, seed in pods["a"].starts] == [9]


async def test_resuming_nothing_in_particular_lifts_every_pause(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        await home.accept(job())
        for order in (Pause(), Pause(job="j1"), Pause(backend="pod"), Pause(backend="gone")):
            await home.steward.carry_out(order)
        reply = await home.steward.carry_out(Resume(job="j1"))
        assert reply.lines == ("job j1 goes on", "but everything is paused; `pipeline resume` lets it go on")
        reply = await home.steward.carry_out(Resume())
        assert reply.lines == ("everything goes on", "back end gone goes on", "back end pod goes on")
        assert (await home.steward.carry_out(Resume())).lines == ("nothing is paused",)
        assert (await home.steward.carry_out(Resume(backend="pod"))).lines == ("back end pod was not paused",)
        await home.settled()
        for order in (Pause(job="nope"), Resume(job="nope")):
            with pytest.raises(UserError, match="no job has the id"):
                await home.steward.carry_out(order)


async def test_a_pause_is_told_before_any_daemon_runs_and_jobs_keep_their_own(tmp_path, autojump_clock):
    async with idle(tmp_path, ScriptedStore(), {"pod": ScriptedBackend()}) as (parts, steward):
        await parts.ledger.accept([job("a"), job("b", seed=9)])
        await parts.ledger.notes.lane(parts.lanes["pod"].state(waiting=0))
        for order in (Pause(job="a"), Pause(), Pause(backend="pod")):
            await steward.carry_out(order)
        own, all_of_it = (
            "the job is paused; `pipeline resume a` lets it go on",
            "everything is paused; `pipeline resume`",
        )
        (_, a), (_, b) = parts.ledger._rows("SELECT status, reason FROM jobs ORDER BY seq")
        assert (a, b.startswith(all_of_it)) == (own, True)
        assert parts.ledger._rows("SELECT state FROM lanes") == [("paused",)]
        await steward.carry_out(Resume(job="a"))
        assert all(reason.startswith(all_of_it) for _, reason in parts.ledger._rows("SELECT status, reason FROM jobs"))
        await steward.carry_out(Resume())
        assert parts.ledger._rows("SELECT state FROM lanes") == [("ready",)]
        assert parts.ledger._rows("SELECT DISTINCT status, reason FROM jobs") == [("queued", None)]


async def test_a_job_paused_before_it_has_numbers_waits_after_it_got_them(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing = deque([StoreUnavailable("503", code="x")])
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.steward.carry_out(Pause(job="j1"))
        await trio.sleep(30)
        assert home.states() == ["planned"]
        assert reasons(home) == [("queued", "the job is paused; `pipeline resume j1` lets it go on")]
        await home.steward.carry_out(Cancel(job="j1"))
        assert home.ledger.pauses() == []
    assert pod.starts == []


# -- retry


async def test_a_retried_placeholder_stands_until_its_replacement_is_stored(tmp_path, autojump_clock):
    store = ScriptedStore()
    await made(tmp_path, store, fail={2})
    pod = ScriptedBackend(takes=20.0)
    async with house(tmp_path, {"pod": pod}, store) as home:
        (result,) = (tmp_path / "jobs/done").glob("*.result.json")
        before = result.read_bytes()
        reply = await home.steward.carry_out(Retry(job="j1"))
        assert reply.lines == ("1 image is made again: mary_image_2",)
        assert reply.data == {"retried": ["mary_image_2"], "uploaded": [], "left": []}
        await trio.sleep(10)
        assert home.ledger._rows("SELECT number, status, standing FROM images WHERE standing IS NOT NULL") == [
            (2, "placeholder", "placeholder")
        ]
        assert home.ledger._rows("SELECT status FROM jobs") == [("done",)]
        again = await home.steward.carry_out(Retry(character="mary", numbers=(2,)))
        assert (again.exit_code, again.lines) == (0, ("mary_image_2 is being made again already",))
        await home.settled()
        assert home.states() == ["done"] * 3
        assert result.read_bytes() != before
    assert [seed for _, seed in pod.starts] == [2]
    _, public_id, placeholder = store.puts[-1]
    assert public_id == placeholder.public_id == "alice/characters/mary/images/mary_image_2"


async def test_a_retry_that_fails_leaves_the_placeholder(tmp_path, autojump_clock):
    store = ScriptedStore()
    await made(tmp_path, store, fail={2})
    async with house(tmp_path, {"pod": Failing({2})}, store) as home:
        await home.steward.carry_out(Retry(placeholders=True))
        await home.settled()
        assert home.states() == ["done", "placeholder", "done"]
    assert len(store.puts) == 3


@pytest.mark.parametrize(
    ("order", "retried"),
    [
        (Retry(placeholders=True), ["mary_image_2", "john_image_1"]),
        (Retry(failed=True), ["mary_image_4"]),
        (Retry(placeholders=True, failed=True, character="mary"), ["mary_image_2", "mary_image_4"]),
        (Retry(placeholders=True, label="spring"), ["mary_image_2"]),
        (Retry(job="p", failed=True), []),
        (Retry(character="mary", numbers=(4, 4)), ["mary_image_4"]),
    ],
)
async def test_what_is_retried_is_what_was_meant(tmp_path, autojump_clock, order, retried):
    async with house(tmp_path, {"pod": Failing({2, 12, 21})}) as home:
        await home.accept(
            job("p", 2, labels=("spring",)),
            job("f", 2, seed=11, on_failure=OnFailure.FAIL),
            job("o", 1, seed=21, character="john"),
        )
        await home.settled()
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        reply = await steward.carry_out(order)
        assert sorted(reply.data["retried"]) == sorted(retried)
        if not retried:
            assert reply.lines == ("nothing to retry: no placeholder or failed image is meant",)


async def test_what_cannot_be_retried_is_told(tmp_path, autojump_clock):
    store = Account(elsewhere(1))
    await made(tmp_path, store)
    async with idle(tmp_path, store) as (parts, steward):
        reply = await steward.carry_out(Retry(character="mary", numbers=(1,)))
        assert (reply.exit_code, reply.lines) == (
            1,
            ("mary_image_1 is done: only placeholders and failed images are made again",),
        )
        await parts.ledger.adopt("bob", "bob", [planted(1, status=Status.PLACEHOLDER)])
        await parts.ledger.accept([job("theirs", owner="bob", character="john")])
        reply = await steward.carry_out(Retry(placeholders=True))
        assert reply.lines == ("john_image_1 was adopted from the store: no job tells how to make it",)
        with pytest.raises(UserError, match="mary has no image 9"):
            await steward.carry_out(Retry(character="mary", numbers=(9,)))
        with pytest.raises(UserError, match="no job has the id"):
            await steward.carry_out(Retry(job="nope"))
        with pytest.raises(UserError, match='no character has the id "nobody"'):
            await steward.carry_out(Retry(failed=True, character="nobody"))
        with pytest.raises(UserError, match='no job has the label "nope"'):
            await steward.carry_out(Retry(failed=True, label="nope"))


async def test_a_character_that_is_not_there_is_told_before_its_images(tmp_path, autojump_clock):
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        for order in (Remove(character="nobody", numbers=(1,)), Favorite(character="nobody", numbers=(1,))):
            with pytest.raises(UserError, match='no character has the id "nobody"'):
                await steward.carry_out(order)


async def test_a_retry_of_paused_work_says_what_it_waits_for(tmp_path, autojump_clock):
    await made(tmp_path, ScriptedStore(), fail={2})
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        await steward.carry_out(Pause(job="j1"))
        reply = await steward.carry_out(Retry(job="j1"))
        assert reply.lines[-1] == "but the job is paused; `pipeline resume j1` lets it go on"


async def test_a_long_list_of_names_is_cut_and_every_image_is_retried(tmp_path, autojump_clock):
    await made(tmp_path, ScriptedStore(), images=12, fail=set(range(1, 13)))
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        reply = await steward.carry_out(Retry(job="j1"))
        assert reply.lines[0].startswith("12 images are made again: ")
        assert [name.rpartition("_")[2] for name in reply.data["retried"]] == [str(n + 1) for n in range(12)]
        assert reply.lines[0].endswith(" and 2 more")


def refusing(error):
    store = Account()
    store.on_put = deque([error])
    return store


KEPT = [
    (StoreRefused("too large", code="store_refused"), "placeholder"),
    (StoreConflict("another stands there", code="conflict"), "failed"),
]


@pytest.mark.parametrize(("error", "ended"), KEPT, ids=["refused", "conflict"])
async def test_bytes_that_were_paid_for_are_only_uploaded_again(tmp_path, autojump_clock, error, ended):
    store = refusing(error)
    assert await made(tmp_path, store, images=1) == [ended]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}, store) as home:
        reply = await home.steward.carry_out(Retry(job="j1"))
        assert reply.lines == ("1 image is uploaded again, without buying: mary_image_1",)
        await home.settled()
        assert home.states() == ["done"]
        assert home.spool.total == 0
    assert pod.starts == []
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(("error", "ended"), KEPT, ids=["refused", "conflict"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_beside_the_recorded_retry_buys_nothing(tmp_path, autojump_clock, error, ended, after):
    store = refusing(error)
    await made(tmp_path, store, images=1)
    async with idle(tmp_path, store, dying={"method": "record", "after": after}) as (_, steward):
        with pytest.raises(ExceptionGroup):
            await steward.carry_out(Retry(job="j1"))
    pod = ScriptedBackend()
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.steward.carry_out(Retry(job="j1"))  # the order is found again at the start
        await home.settled()
        assert home.states() == ["done"]
    assert pod.starts == []
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("damage", [b"no picture", b""], ids=["garbled", "empty"])
async def test_kept_bytes_that_are_no_picture_any_more_are_made_again(tmp_path, autojump_clock, damage):
    store = refusing(KEPT[0][0])
    await made(tmp_path, store, images=1)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(damage)
    (tmp_path / "kept/notes.txt").write_text("a person's own")
    async with idle(tmp_path, store) as (_, steward):
        assert (await steward.carry_out(Retry(job="j1"))).data["retried"] == ["mary_image_1"]


async def test_an_image_that_moves_on_meanwhile_is_left_to_whoever_moved_it(tmp_path, autojump_clock):
    await made(tmp_path, ScriptedStore(), fail={2})
    async with idle(tmp_path, ScriptedStore()) as (parts, _):
        late = replace(parts, ledger=Late(parts.ledger, parts.ledger.image_by_number("mary", 2)))
        reply = await Steward(late, Stages(late)).carry_out(Retry(job="j1"))
        assert reply.data == {"retried": [], "uploaded": [], "left": []}


class Late:
    """A ledger in which somebody else's step comes first."""

    def __init__(self, ledger, image):
        self._ledger = ledger
        self._image = image

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def record(self, image, event):
        await self._ledger.record(self._image, Retried())
        return await self._ledger.record(image, event)


# -- favorites, removal


async def test_favorites_are_marked_and_unmarked(tmp_path, autojump_clock):
    await made(tmp_path, ScriptedStore())
    async with idle(tmp_path, ScriptedStore()) as (parts, steward):
        reply = await steward.carry_out(Favorite(character="mary", numbers=(1, 3, 1)))
        assert reply.lines == ("mary_image_1 is a favorite", "mary_image_3 is a favorite")
        await steward.carry_out(Favorite(character="mary", numbers=(3,), chosen=False))
        assert parts.ledger._rows("SELECT number FROM images WHERE favorite = 1") == [(1,)]
        with pytest.raises(UserError, match="mary has no image 9"):
            await steward.carry_out(Favorite(character="mary", numbers=(2, 9)))
        assert parts.ledger._rows("SELECT number FROM images WHERE favorite = 1") == [(1,)]


async def test_a_removed_image_is_gone_at_the_store_and_its_number_stays_held(tmp_path, autojump_clock):
    store = Account()
    await made(tmp_path, store)
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        for _ in range(2):
            reply = await home.steward.carry_out(Remove(character="mary", numbers=(2,)))
            assert reply.lines == ("mary_image_2 is removed",)
        assert home.states() == ["done", "removed", "done"]
        assert store.removed == ["alice/characters/mary/images/mary_image_2"]
        await home.accept(job("next", 1, seed=9))
        await home.settled()
        assert [image.number for image in images_of(home.ledger, "next")] == [4]
    assert '"removed"' in (tmp_path / "jobs/done/j1.result.json").read_text()


async def test_what_is_in_the_making_is_not_removed(tmp_path, autojump_clock):
    pod = ScriptedBackend(takes=100.0)
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job(images=1))
        await trio.sleep(5)
        reply = await home.steward.carry_out(Remove(character="mary", numbers=(1,)))
        assert (reply.exit_code, reply.data["removed"]) == (1, [])
        assert reply.lines[0].startswith("mary_image_1: is running")


async def test_what_is_made_again_is_neither_removed_nor_called_by_an_inner_name(tmp_path, autojump_clock):
    store = Account()
    assert await made(tmp_path, store, images=2, fail=[1]) == ["placeholder", "done"]
    async with idle(tmp_path, store) as (_, steward):
        await steward.carry_out(Retry(character="mary", numbers=(1,)))
        reply = await steward.carry_out(Remove(character="mary", numbers=(1,)))
        assert reply.exit_code == 1
        assert reply.lines[0].startswith("mary_image_1: is being made again: ")


async def test_an_index_that_cannot_take_note_of_a_removal_is_told_beside_what_is_gone(tmp_path, autojump_clock):
    store = Account()
    await made(tmp_path, store)
    full = {"method": "record", "error": IndexTrouble("index.db: the disk is full")}
    async with idle(tmp_path, store, dying=full) as (_, steward):
        reply = await steward.carry_out(Remove(character="mary", numbers=(2,)))
    assert (reply.exit_code, reply.data["removed"]) == (1, [])
    assert "is deleted at the store, but the index could not take note (index.db: the disk is full)" in reply.lines[0]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(StoreUnavailable("503", code="x"), "not removed: 503"), (1000.0, "gave no answer within 60 s")],
    ids=["down", "hangs"],
)
async def test_a_store_that_is_down_keeps_the_image_and_the_row(tmp_path, autojump_clock, trouble, told):
    store = Account()
    await made(tmp_path, store)
    store.on_remove = deque([trouble])
    async with idle(tmp_path, store) as (parts, steward):
        reply = await steward.carry_out(Remove(character="mary", numbers=(1, 2)))
        assert reply.exit_code == 1
        assert told in reply.lines[0]
        assert reply.data["removed"] == [2]
        assert [image.state for image in images_of(parts.ledger, "j1")] == ["done", "removed", "done"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_beside_the_recorded_removal_is_mended_by_a_repeat(tmp_path, autojump_clock, after):
    store = Account()
    await made(tmp_path, store)
    order = Remove(character="mary", numbers=(2,))
    async with idle(tmp_path, store, dying={"method": "record", "after": after}) as (_, steward):
        with pytest.raises(Crash):
            await steward.carry_out(order)
    async with idle(tmp_path, store) as (parts, steward):
        assert (await steward.carry_out(order)).exit_code == 0
        assert [image.state for image in images_of(parts.ledger, "j1")] == ["done", "removed", "done"]
    assert "alice/characters/mary/images/mary_image_2" not in store.items


@pytest.mark.parametrize(("error", "ended"), KEPT, ids=["refused", "conflict"])
async def test_removing_an_image_discards_its_kept_bytes_and_never_a_strangers_image(
    tmp_path, autojump_clock, error, ended
):
    store = refusing(error)
    await made(tmp_path, store, images=1)
    async with idle(tmp_path, store) as (parts, steward):
        await steward.carry_out(Remove(character="mary", numbers=(1,)))
        assert [image.state for image in images_of(parts.ledger, "j1")] == ["removed"]
    assert list((tmp_path / "kept").iterdir()) == []
    assert bool(store.removed) == (ended == "placeholder")


# -- adopt


def elsewhere(n, *, at=None, folder="old/mary"):
    public_id = f"{folder}/pic{n}"
    return Stored(public_id, f"http://store/{public_id}", "1", "0" * 32, 9, 8, 8, "png", created_at=at or 1_000 * n)


def planted(number, **changes):
    name = f"bob/characters/john/images/john_image_{number}"
    kept = Stored(name, f"http://store/{name}", "1", "0" * 32, 9, 8, 8, "png", created_at=5_000)
    return Asset(kept, "john", number, None, None)._replace(**changes)


ADOPT = Adopt(character="mary", prefix="old/mary", default_owner="alice")


async def test_old_images_get_the_next_numbers_oldest_first_and_once(tmp_path, autojump_clock):
    store = Account(
        elsewhere(2, at=9_000), elsewhere(1, at=8_000), elsewhere(3, at=7_000), elsewhere(1, folder="old/maryann")
    )
    await made(tmp_path, store, images=2)
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        reply = await home.steward.carry_out(ADOPT)
        assert reply.lines == ("3 images are adopted as numbers 3 to 5",)
        assert reply.data == {"characterId": "mary", "numbers": [3, 4, 5], "known": 0, "left": 0}
        rows = "SELECT number, public_id, state, created_at FROM images WHERE job IS NULL"
        assert home.ledger._rows(rows) == [
            (3, "old/mary/pic3", "done", 7_000),
            (4, "old/mary/pic1", "done", 8_000),
            (5, "old/mary/pic2", "done", 9_000),
        ]
        store.found.append(elsewhere(4))
        assert (await home.steward.carry_out(ADOPT)).lines == (
            "1 image is adopted as number 6",
            "3 were in the index already",
        )
        assert (await home.steward.carry_out(ADOPT)).lines[0] == "0 images are adopted"
        await home.accept(job("next", 1, seed=9))
        await home.settled()
        assert [image.number for image in images_of(home.ledger, "next")] == [7]


async def test_a_character_may_begin_with_old_images(tmp_path, autojump_clock):
    store = Account(elsewhere(1))
    store.assets["bob"] = [planted(1)]
    async with idle(tmp_path, store) as (parts, steward):
        order = Adopt(character="john", prefix="old/mary", owner="bob", default_owner="alice")
        reply = await steward.carry_out(order)
        assert reply.data["numbers"] == [2]
        assert parts.ledger.owner_of("john") == "bob"
        with pytest.raises(UserError, match="belongs to another owner"):
            await steward.carry_out(order.model_copy(update={"owner": "carol", "prefix": "old"}))


async def test_a_prefix_without_a_folder_is_the_beginning_of_names(tmp_path, autojump_clock):
    store = Account(elsewhere(1), elsewhere(2))
    async with idle(tmp_path, store) as (_, steward):
        reply = await steward.carry_out(ADOPT.model_copy(update={"prefix": "old/mary/pic"}))
        assert reply.data["numbers"] == [1, 2]
        with pytest.raises(UserError, match='no image under "elsewhere"'):
            await steward.carry_out(ADOPT.model_copy(update={"prefix": "elsewhere"}))


async def test_names_of_our_own_kind_are_left_to_the_listing(tmp_path, autojump_clock):
    store = Account(planted(4).stored)
    async with idle(tmp_path, store) as (_, steward):
        reply = await steward.carry_out(ADOPT.model_copy(update={"prefix": "bob"}))
        assert reply.data == {"characterId": "mary", "numbers": [], "known": 0, "left": 1}


async def test_a_local_store_has_nothing_elsewhere(tmp_path, autojump_clock):
    async with idle(tmp_path, ScriptedStore()) as (_, steward):
        with pytest.raises(UserError, match="the local store holds only its own folder"):
            await steward.carry_out(ADOPT)


@pytest.mark.parametrize("method", ["adopt", "take_over"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_beside_a_step_of_adoption_is_mended_by_a_repeat(tmp_path, autojump_clock, method, after):
    store = Account(elsewhere(1), elsewhere(2))
    async with idle(tmp_path, store, dying={"method": method, "after": after}) as (_, steward):
        with pytest.raises(Crash):
            await steward.carry_out(ADOPT)
    async with idle(tmp_path, store) as (parts, steward):
        await steward.carry_out(ADOPT)
        assert parts.ledger._rows("SELECT number, public_id FROM images") == [
            (1, "old/mary/pic1"),
            (2, "old/mary/pic2"),
        ]
        assert parts.ledger._rows("SELECT status, n FROM tallies WHERE n > 0") == [("done", 2)]


async def test_the_adoption_stage_may_be_quicker_with_the_owners_folder(tmp_path, autojump_clock):
    class Quicker(Account):
        async def listing(self, owner_slug):
            if not self.listings:
                self.listings.append(owner_slug)
                await self.ledger.adopt("alice", "alice", [])
            async for asset in super().listing(owner_slug):
                yield asset

    store = Quicker(elsewhere(1))
    async with idle(tmp_path, store) as (parts, steward):
        store.ledger = parts.ledger
        assert (await steward.carry_out(ADOPT)).data["numbers"] == [1]


async def test_what_was_taken_over_from_elsewhere_is_not_missed_in_the_owners_folder(tmp_path, autojump_clock):
    store = Account(elsewhere(1))
    await made(tmp_path, store, images=2)
    async with idle(tmp_path, store) as (_, steward):
        await steward.carry_out(ADOPT)
    catalogue = Catalogue(tmp_path / "index.db")
    problems = [(one.kind, one.subject) async for one in audit_store(catalogue, store)]
    assert problems == [("missing", f"alice/characters/mary/images/mary_image_{n}") for n in (1, 2)]
