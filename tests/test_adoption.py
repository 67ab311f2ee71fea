import sqlite3
from collections import deque
from contextlib import closing
from itertools import chain

import trio

from pipeline.errors import IndexTrouble, StoreUnavailable
from pipeline.model import Asset, Status, Stored
from tests.support.index import images_of
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job


def asset(number, *, slug="mary", owner=None, character_id=None, folder="alice"):
    name = f"{folder}/characters/{slug}/images/{slug}_image_{number}"
    return Asset(
        Stored(name, f"http://store/{name}", "1", "0" * 32, 10, 8, 8, "png", created_at=1_700_000_000_000),
        slug=slug,
        number=number,
        owner=owner,
        character_id=character_id,
        status=Status.DONE,
    )


def away(**more):
    return StoreUnavailable("503", code="http_503", **more)


async def test_numbers_go_on_after_what_the_store_holds(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.assets["alice"] = [asset(2), asset(5)]
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job(images=2))
        await home.settled()
        assert [image.number for image in images_of(home.ledger, "j1")] == [6, 7]
    assert [slug for _, slug in store.listings] == ["alice"]


async def test_what_stands_there_and_is_no_picture_holds_its_number(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.assets["alice"] = [asset(2), asset(3)._replace(status=Status.REMOVED)]
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job())
        await home.settled()
        (made,) = images_of(home.ledger, "j1")
    assert made.number == 4
    with closing(sqlite3.connect(tmp_path / "index.db")) as index:
        found = index.execute("SELECT number, status, bytes FROM images WHERE number < 4 ORDER BY number").fetchall()
        tallies = index.execute("SELECT status, n FROM tallies WHERE n > 0 ORDER BY status").fetchall()
    assert found == [(1, "removed", None), (2, "done", 10), (3, "removed", None)]
    assert tallies == [("done", 2), ("removed", 2)]


async def test_a_folder_whose_assets_carry_another_owner_is_taken(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.assets["alice"] = [asset(1, owner="alice@other.example")]
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert image.public_id == "alice-2/characters/mary/images/mary_image_1"
    assert [slug for _, slug in store.listings] == ["alice", "alice-2"]


async def test_two_owners_with_one_slug_get_folders_of_their_own(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing = deque([2.0])
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(
            job("a", owner="al.ice"),
            job("b", owner="al@ice", character="eve", seed=9),
            job("c", owner="al:ice", character="zoe", seed=19),
        )
        await home.settled()
        folders = [images_of(home.ledger, name)[0].public_id.split("/")[0] for name in "abc"]
    assert folders == ["al-ice", "al-ice-2", "al-ice-3"]
    assert store.listings == [(0, "al-ice"), (2, "al-ice-2"), (2, "al-ice-3")]


async def test_while_the_store_cannot_be_listed_its_owner_waits_with_the_reason_and_others_go_on(
    tmp_path, autojump_clock
):
    store = ScriptedStore()
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job("known", owner="bob"))
        await home.settled()
        store.on_listing = deque([away(), away(), away(retry_after=30.0)])
        await home.accept(job("new", character="anna"))
        await home.accept(job("more", owner="bob", character="eve", seed=9))
        began = trio.current_time()
        await trio.sleep(5)
        assert home.states("more") == ["done"]
        assert home.states("new") == []
        told = "the store cannot be listed for what it holds already: 503"
        assert home.ledger._rows("SELECT status, reason FROM jobs WHERE id = 'new'") == [("queued", told)]
        assert home.stages.stuck()
        await home.settled()
        assert home.states("new") == ["done"]
        assert home.stages.adoption.reason is None
    assert [round(moment - began, 6) for moment, _ in store.listings[1:]] == [0, 1, 3, 33]


async def test_a_job_that_has_its_numbers_waits_for_its_turn_alone(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing = deque([away()])
    async with house(tmp_path, {"pod": ScriptedBackend(takes=100.0)}, store, concurrency=1) as home:
        await home.accept(job("first"), job("second"))
        await trio.sleep(0.5)
        told = "the store cannot be listed for what it holds already: 503"
        assert home.ledger._rows("SELECT reason FROM jobs") == [(told,)] * 2
        await trio.sleep(5)
        assert home.ledger._rows("SELECT reason FROM jobs") == [(None,)] * 2


async def test_a_listing_that_breaks_is_tried_again(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing.append(KeyError("resources"))
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job())
        await home.settled()
        assert home.states() == ["done"]


async def test_an_index_that_cannot_be_written_is_waited_out(tmp_path, autojump_clock):
    store = ScriptedStore()
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        adopt, fails = home.ledger.adopt, [1, 2]

        async def unwritable(*args):
            if fails:
                fails.pop()
                raise IndexTrouble("database or disk is full")
            await adopt(*args)

        home.ledger.adopt = unwritable
        await home.accept(job())
        await trio.sleep(0.1)
        assert home.stages.adoption.reason == "database or disk is full"
        assert home.stages.stuck()
        await home.settled()
        assert home.states() == ["done"]
        assert home.stages.adoption.reason is None
    assert len(store.listings) == 3


async def test_a_reason_that_cannot_be_noted_stops_nothing(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing.append(away())
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:

        async def unwritable(job_ids, reason):
            await trio.lowlevel.checkpoint()
            raise IndexTrouble("database or disk is full")

        home.ledger.notes.jobs = unwritable
        await home.accept(job())
        await home.settled()
        assert home.states() == ["done"]


async def test_a_folder_given_away_meanwhile_is_chosen_anew_at_once(tmp_path, autojump_clock):
    store = ScriptedStore()
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        choices = home.ledger.folder_choices
        home.ledger.folder_choices = lambda owner: (
            chain(["bob"], choices(owner)) if owner == "alice" else choices(owner)
        )
        await home.accept(job("b", owner="bob", character="eve", seed=9))
        await home.settled()
        await home.accept(job())
        await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert image.public_id == "alice/characters/mary/images/mary_image_1"
    assert len({moment for moment, _ in store.listings[1:]}) == 1


async def test_an_owner_who_was_adopted_meanwhile_is_not_tried_again(tmp_path, autojump_clock):
    store = ScriptedStore()
    store.on_listing = deque([3.0])
    async with house(tmp_path, {"pod": ScriptedBackend()}, store) as home:
        await home.accept(job())
        await trio.sleep(1)
        await home.stages.adoption.adopt("alice")
        await trio.sleep(9)
        assert home.states() == ["done"]
        assert home.stages.adoption.reason is None
    assert store.listings == [(0, "alice"), (1, "alice"), (3, "alice-2")]
