"""What every Store promises (`pipeline.ports.Store`), asked of each adapter."""

from hashlib import md5

import pytest
import trio

from pipeline.errors import StoreConflict, StoreUnavailable
from pipeline.model import Status
from tests.support.pictures import EARLIER, item, plain
from tests.support.stands import STORES, pull

FIRST, SECOND, THIRD = plain(shade=1), plain(shade=2), plain(shade=3)


@pytest.fixture(params=sorted(STORES))
async def stand(request, tmp_path):
    async with STORES[request.param](tmp_path) as made:
        yield made


async def listed(stand, owner_slug="alice"):
    return sorted([asset async for asset in stand.store.listing(owner_slug)], key=lambda asset: asset.number)


async def test_what_is_put_is_described_as_it_is_kept(stand):
    wanted = item(FIRST)
    stored = await stand.store.put(wanted)
    kept = await pull(stand.content, stored)
    assert (stored.public_id, stored.width, stored.height, stored.format) == (wanted.public_id, 24, 16, "png")
    assert (stored.md5, stored.bytes) == (md5(kept).hexdigest(), len(kept))
    assert stored.url
    assert stored.version
    assert stored.created_at == wanted.created_at


async def test_a_repeat_at_a_later_moment_finds_its_own_work(stand):
    first = await stand.store.put(item(FIRST))
    again = await stand.store.put(item(FIRST, created_at=item(FIRST).created_at + 5000))
    assert again == first
    assert len(await listed(stand)) == 1


async def test_a_different_image_is_never_overwritten(stand):
    stored = await stand.store.put(item(FIRST))
    before = await pull(stand.content, stored)
    with pytest.raises(StoreConflict) as caught:
        await stand.store.put(item(SECOND))
    assert caught.value.code == "conflict"
    assert await pull(stand.content, stored) == before


async def test_a_strangers_image_is_never_overwritten(stand):
    await pull(stand.plant, item(FIRST).public_id, FIRST)
    with pytest.raises(StoreConflict):
        await stand.store.put(item(SECOND))


async def test_two_different_images_at_once_leave_one_and_a_conflict(stand):
    conflicts = []

    async def put(data):
        try:
            await stand.store.put(item(data))
        except StoreConflict as error:
            conflicts.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, FIRST)
        nursery.start_soon(put, SECOND)
    assert len(conflicts) == 1
    assert len(await listed(stand)) == 1


async def test_a_placeholder_gives_way_to_the_image(stand):
    placeholder = await stand.store.put(item(FIRST, status=Status.PLACEHOLDER))
    stored = await stand.store.put(item(SECOND), replace=placeholder)
    assert stored.public_id == placeholder.public_id
    assert stored.version != placeholder.version
    assert stored.md5 != placeholder.md5
    assert md5(await pull(stand.content, stored)).hexdigest() == stored.md5
    [asset] = await listed(stand)
    assert asset.status is Status.DONE
    again = await stand.store.put(item(SECOND), replace=placeholder)
    assert (again.public_id, again.md5, again.created_at) == (stored.public_id, stored.md5, stored.created_at)


async def test_a_strangers_image_in_a_placeholders_place_is_never_overwritten(stand):
    placeholder = await stand.store.put(item(FIRST, status=Status.PLACEHOLDER))
    await stand.store.remove(placeholder)
    await pull(stand.plant, placeholder.public_id, THIRD)
    with pytest.raises(StoreConflict):
        await stand.store.put(item(SECOND), replace=placeholder)


async def test_the_listing_tells_all_that_the_index_needs(stand):
    wanted = item(FIRST, 12)
    stored = await stand.store.put(wanted)
    placeholder = item(SECOND, 13, status=Status.PLACEHOLDER)
    await stand.store.put(placeholder)
    first, second = await listed(stand)
    assert (first.slug, first.number, first.owner, first.character_id) == ("mary", 12, "alice", "123")
    assert (first.character_name, first.job_id, first.seed) == ("Mary", "spring-covers", 4294967295)
    assert (first.prompt, first.color, first.status) == (wanted.prompt, wanted.color, Status.DONE)
    assert (first.stored.public_id, first.stored.bytes) == (stored.public_id, stored.bytes)
    assert first.stored.md5 in {stored.md5, ""}  # Cloudinary's listing tells no digest
    assert (first.stored.width, first.stored.height, first.stored.format) == (24, 16, "png")
    assert first.stored.created_at == wanted.created_at
    assert (second.number, second.status) == (13, Status.PLACEHOLDER)


async def test_the_listing_keeps_to_its_owner(stand):
    await stand.store.put(item(FIRST))
    await stand.store.put(item(SECOND, owner_slug="alice-2"))
    assert [asset.stored.public_id for asset in await listed(stand)] == [item(FIRST).public_id]
    assert await listed(stand, "nobody") == []


async def test_what_another_tool_left_is_listed_without_an_owner(stand):
    await pull(stand.plant, item(FIRST, 3).public_id, FIRST)
    [asset] = await listed(stand)
    assert (asset.slug, asset.number, asset.owner, asset.character_id) == ("mary", 3, None, None)
    assert asset.status is Status.DONE
    assert asset.stored.created_at is not None


async def test_what_is_no_image_of_a_character_is_not_listed(stand):
    await pull(stand.plant, "alice/characters/mary/images/holiday", FIRST)
    await pull(stand.plant, "alice/characters/mary/images/other_image_3", FIRST)
    assert await listed(stand) == []


async def test_removing_twice_is_no_error_and_frees_the_place(stand):
    stored = await stand.store.put(item(FIRST))
    await stand.store.remove(stored)
    await stand.store.remove(stored)
    assert await pull(stand.content, stored) is None
    assert await listed(stand) == []
    again = await stand.store.put(item(SECOND))
    assert again.md5 != stored.md5


async def test_a_replacement_where_nothing_stands_is_an_ordinary_put(stand):
    stored = await stand.store.put(item(FIRST), replace=EARLIER)
    assert md5(await pull(stand.content, stored)).hexdigest() == stored.md5


async def test_a_store_that_is_there_answers_the_probe(stand):
    await stand.store.probe()


@pytest.mark.parametrize("ask", ["put", "remove", "probe"])
async def test_a_store_that_is_down_says_so_in_words(stand, ask):
    stored = await stand.store.put(item(FIRST))
    await pull(stand.go_down)
    calls = {
        "put": lambda: stand.store.put(item(SECOND, 6)),
        "remove": lambda: stand.store.remove(stored),
        "probe": stand.store.probe,
    }
    with pytest.raises(StoreUnavailable) as caught:
        await calls[ask]()
    assert caught.value.code
    assert len(str(caught.value)) > 20


async def test_a_store_that_is_down_is_never_taken_for_an_empty_one(stand):
    await stand.store.put(item(FIRST))
    await pull(stand.go_down)
    with pytest.raises(StoreUnavailable):
        await listed(stand)
