from collections import deque

import pytest
import trio

from pipeline.errors import InvalidRequest, StoreConflict, StoreRefused, StoreUnavailable
from pipeline.lifecycle import Retried
from pipeline.model import State, Status
from tests.support.index import images_of
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job


def away(**more):
    return StoreUnavailable("503", code="http_503", **more)


async def test_uploads_run_a_few_at_a_time_oldest_first(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore(takes=50.0)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1, uploads=3) as home:
        await home.accept(job(images=7))
        await home.settled()
    assert store.busiest == 3
    assert [name[-1] for _, name, _ in store.puts] == list("1234567")
    assert [moment for moment, *_ in store.puts] == [1, 2, 3, 51, 52, 53, 101]


async def test_an_outage_of_the_store_stops_all_uploads_and_generation_goes_on(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put = deque([away()])
    store.on_probe = deque([away(), away(retry_after=30.0)])
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=3))
        await trio.sleep(10)
        assert home.states() == ["fetched"] * 3
        assert home.stages.weather.reason == "503"
        assert home.ledger._rows("SELECT what, reason FROM troubles") == [("store", "503")]
        assert home.stages.stuck()
        await home.settled()
        assert home.states() == ["done"] * 3
        assert home.stages.weather.reason is None
        await trio.sleep(3)
        assert home.ledger._rows("SELECT what FROM troubles") == []
    assert store.probes == [2, 4, 34]
    assert [moment for moment, *_ in store.puts] == [1, 34, 34, 34]


async def test_refused_credentials_stop_every_new_submission(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put = deque([away(credentials=True)])
    store.on_probe = deque([away(credentials=True)] * 3)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=3))
        await trio.sleep(6)
        assert home.ledger._rows("SELECT reason FROM jobs") == [("the store refuses our credentials: 503",)]
        assert home.stages.hindrances() == [
            "the store refuses our credentials: 503"
        ]  # once, though the store says so too
        await home.settled()
    assert store.probes == [2, 4, 8, 16]
    assert [moment for moment, _ in pod.starts] == [0, 1, 16]


async def test_what_refused_an_upload_is_believed_until_an_upload_is_taken(tmp_path, autojump_clock):
    """A clock that is wrong shows in uploads alone: a probe that goes well must not start buying again."""
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put = deque([away(credentials=True)] * 4)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=3))
        await home.settled()
    refused = [moment for moment, *_ in store.puts[:4]]
    assert [moment for moment, _ in pod.starts][:2] == [0, 1]
    assert [moment for moment, _ in pod.starts][2] >= refused[-1]


async def test_a_probe_that_fails_otherwise_does_not_lift_what_refused_credentials_hold(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put, store.on_probe = deque([away(credentials=True)]), deque([away()] * 3)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=3))
        await home.settled()
    assert len(store.probes) == 4
    assert [moment for moment, _ in pod.starts][2] >= store.probes[-1]


async def test_a_full_spool_is_released_once_it_has_emptied_a_little(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}, limit=50_000) as home:
        held = []
        for size in (50_000, 47_500, 45_000, 47_500):
            await home.spool.write("1-a.img", bytes(size))
            home.stages._weigh()
            held.append(home.brake.held_by("spool"))
    full = "50 kB wait for the store (spool_limit)"
    assert held == [full, full, None, None]


async def test_a_first_look_tells_of_refused_credentials_before_anything_is_bought(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_probe = deque([away(credentials=True)] * 2)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.stages.weather.first_look()
        await home.accept(job(images=1))
        await trio.sleep(0.5)
        assert home.states() == ["planned"]
        assert home.ledger._rows("SELECT reason FROM jobs") == [("the store refuses our credentials: 503",)]
        await home.settled()
    assert [moment for moment, _ in pod.starts] == [store.probes[-1]]


async def test_a_probe_without_an_answer_or_that_breaks_is_none(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put = deque([away()])
    store.on_probe = deque([KeyError("x"), 100.0])
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await trio.sleep(3)
        assert home.stages.weather.reason == "the probe broke with KeyError"
        await trio.sleep(31.5)
        assert home.stages.weather.reason == "no answer to a probe within 30 s"
        await home.settled()
    assert store.probes == [2, 4, 38]


async def test_a_given_up_image_gets_a_placeholder_under_its_own_name(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    pod.on_submit.append(InvalidRequest("no such sampler", code="invalid"))
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert home.spool.total == 0
    item = store.items["alice/characters/mary/images/mary_image_1"]
    assert (item.status, item.artifact.width, item.artifact.format) == (Status.PLACEHOLDER, 64, "png")
    assert image.fault.message == "no such sampler"
    assert item.created_at == image.created_at


async def test_a_different_image_under_our_name_is_never_overwritten_and_ours_is_kept(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    store.on_put.append(StoreConflict("another image is there", code="conflict"))
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert await home.spool.kept() == {image.artifact.file: image.artifact.bytes}
        assert home.spool.total == 0
    assert (image.state, image.fault.code) == (State.FAILED, "conflict")
    assert store.items == {}


async def test_a_refused_image_becomes_a_placeholder_and_its_bytes_are_kept(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    store.on_put.append(StoreRefused("too large", code="too_large"))
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        assert len(await home.spool.kept()) == 1
    assert (image.state, image.fault.code) == (State.PLACEHOLDER, "too_large")


async def test_a_refused_placeholder_has_failed(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    pod.on_submit.append(InvalidRequest("no", code="invalid"))
    store.on_put.append(StoreRefused("not that", code="refused"))
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["failed"]
        assert home.spool.total == 0
        assert await home.spool.kept() == {}


async def test_a_replacement_overwrites_only_its_own_placeholder(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    pod.on_submit.append(InvalidRequest("no", code="invalid"))
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
        first, placeholder = image.created_at, image.stored
        await home.ledger.record(image, Retried())
        home.stages.runner.due("j1")
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.created_at) == (State.DONE, first)
    assert [replace for *_, replace in store.puts] == [None, placeholder]


async def test_a_spool_file_that_somebody_removed_becomes_a_placeholder(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    store.on_put.append(away())
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await trio.sleep(1.5)
        for file in (tmp_path / "spool").iterdir():
            file.unlink()
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.fault.code) == (State.PLACEHOLDER, "spool_lost")


async def test_a_placeholder_file_that_somebody_removed_is_drawn_again(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    pod.on_submit.append(InvalidRequest("no", code="invalid"))
    store.on_put.append(away())
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await trio.sleep(0.5)
        for file in (tmp_path / "spool").iterdir():
            file.unlink()
        await home.settled()
        assert home.states() == ["placeholder"]


async def test_bytes_put_aside_before_a_crash_are_found_again(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(), ScriptedStore()
    store.on_put.append(away())
    async with house(tmp_path, {"pod": pod}, store) as home:
        await home.accept(job())
        await trio.sleep(1.5)
        (image,) = images_of(home.ledger, "j1")
        await home.spool.keep(image.artifact.file)
        await home.settled()
        assert home.states() == ["done"]


async def test_a_defect_met_by_one_image_leaves_the_others_alone(tmp_path, autojump_clock):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore()
    store.on_put = deque([KeyError("asset_id")] * 2)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1) as home:
        await home.accept(job(images=2))
        await home.settled()
        assert home.states() == ["done", "done"]
    assert [name[-1] for _, name, _ in store.puts] in (list("1122"), list("1121"), list("1212"))


async def test_images_that_a_defect_keeps_from_the_store_leave_its_places_to_others(tmp_path, autojump_clock):
    class Picky(ScriptedStore):
        async def put(self, item, *, replace=None):
            if item.job_id == "j1":
                raise KeyError("asset_id")
            return await super().put(item, replace=replace)

    pod = ScriptedBackend(takes=1.0)
    async with house(tmp_path, {"pod": pod}, Picky(), concurrency=3, uploads=2) as home:
        await home.accept(job(images=3))
        await trio.sleep(10)
        await home.accept(job("j2", images=3, seed=9))
        await trio.sleep(10)
        assert (home.states("j1"), home.states("j2")) == (["fetched"] * 3, ["done"] * 3)


@pytest.mark.parametrize("takes", [5.0, 60.0])
async def test_a_stop_finishes_the_uploads_under_way_within_ten_seconds(tmp_path, autojump_clock, takes):
    pod, store = ScriptedBackend(takes=1.0), ScriptedStore(takes=takes)
    async with house(tmp_path, {"pod": pod}, store, concurrency=1, uploads=1) as home:
        await home.accept(job(images=3))
        await trio.sleep(2.5)
        began = trio.current_time()
        home.stop.set()
        await home.gone.wait()
        assert trio.current_time() - began == pytest.approx(min(takes - 1.5, 10.0))
    assert len(store.puts) == 1
    assert len(store.items) == (takes == 5.0)
    assert len(pod.starts) == 3
