"""The local store's own promises: what lies on the disk, and what it says when it is read back."""

import json
import os
import struct
import zlib
from pathlib import Path

import pytest
import trio

from pipeline import picture
from pipeline.errors import StoreConflict
from pipeline.model import Status
from pipeline.stores import layout
from pipeline.stores.local import LocalStore
from pipeline.tools import pngtext
from tests.support.local import FIRST, PLACE, SECOND, is_there, listed, tree
from tests.support.pictures import EARLIER, item, plain
from tests.support.waiting import inline


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "images", public_url="http://127.0.0.1:8787", run_sync=inline)


def signed_png():
    manifest = b"caBX" + b"signed manifest"
    chunk = struct.pack(">I", len(manifest) - 4) + manifest + struct.pack(">I", zlib.crc32(manifest))
    return FIRST[:33] + chunk + FIRST[33:]


def content(stored):
    return Path(stored.path).read_bytes()


async def test_a_person_finds_the_file_where_its_name_says(store, tmp_path):
    stored = await store.put(item(FIRST))
    assert stored.path == str(tmp_path / "images" / f"{PLACE}.png")
    assert stored.url == f"http://127.0.0.1:8787/media/{PLACE}.png"
    assert tree(tmp_path / "images") == [f".pipeline/thumbnails/{PLACE}.webp", f"{PLACE}.png"]


async def test_the_pixels_and_the_texts_of_the_maker_stay(store):
    made = pngtext.with_text(FIRST, {"parameters": "a cat\nSeed: 7", "workflow": "{}"})
    stored = await store.put(item(made))
    kept = content(stored)
    assert pngtext.without_text(kept, "pipeline") == made
    assert picture.examine(kept).pixels == picture.examine(made).pixels


async def test_the_label_says_what_the_index_would(store):
    stored = await store.put(item(FIRST))
    said = json.loads(pngtext.read_text(content(stored))["pipeline"])
    assert said == {
        "publicId": PLACE,
        "status": "done",
        "number": 5,
        "owner": "alice",
        "character": "123",
        "name": "Mary",
        "job": "spring-covers",
        "prompt": item(FIRST).prompt,
        "seed": 4294967295,
        "createdAt": "2025-07-28T10:00:00.123Z",
        "labels": ["spring"],
        "color": item(FIRST).color,
        "pixels": item(FIRST).artifact.pixels,
    }


UNTOUCHED = {"jpg": plain(format="JPEG"), "webp": plain(format="WEBP"), "png": signed_png()}


@pytest.mark.parametrize("extension", UNTOUCHED)
async def test_bytes_that_must_not_be_touched_have_their_label_beside_them(store, tmp_path, extension):
    data = UNTOUCHED[extension]
    wanted = item(data)
    stored = await store.put(wanted)
    assert content(stored) == data
    assert stored.path.endswith(f"mary_image_5.{extension}")
    assert stored.md5 == wanted.artifact.md5
    [asset] = await listed(store)
    assert (asset.owner, asset.seed, asset.stored.created_at) == ("alice", wanted.seed, wanted.created_at)
    assert await store.put(wanted._replace(created_at=wanted.created_at + 1)) == stored
    await store.remove(stored)
    assert tree(tmp_path / "images") == []


async def test_a_placeholder_gives_way_to_an_image_of_another_format(store, tmp_path):
    await store.put(item(FIRST, status=Status.PLACEHOLDER))
    jpeg = item(plain(format="JPEG", shade=4))
    stored = await store.put(jpeg, replace=EARLIER)
    assert tree(tmp_path / "images") == [
        f".pipeline/labels/{PLACE}.json",
        f".pipeline/thumbnails/{PLACE}.webp",
        f"{PLACE}.jpg",
    ]
    back = await store.put(item(SECOND), replace=EARLIER)
    assert back.format == "png"
    assert tree(tmp_path / "images") == [f".pipeline/thumbnails/{PLACE}.webp", f"{PLACE}.png"]
    assert stored.md5 != back.md5


async def test_a_crash_between_the_image_and_the_placeholders_end_is_mended_by_the_repeat(store, tmp_path):
    await store.put(item(FIRST, status=Status.PLACEHOLDER))
    png = tmp_path / "images" / f"{PLACE}.png"
    placeholder = png.read_bytes()
    jpeg = item(plain(format="JPEG", shade=4))
    stored = await store.put(jpeg, replace=EARLIER)
    png.write_bytes(placeholder)  # as if the process had died before it was removed
    [asset] = await listed(store)
    assert (asset.status, asset.stored.format) == (Status.DONE, "jpeg")
    assert await store.put(jpeg, replace=EARLIER) == stored
    assert not png.exists()


async def test_a_crash_before_the_small_version_and_the_label_is_mended_by_the_repeat(store, tmp_path):
    jpeg = item(plain(format="JPEG"))
    await store.put(jpeg)
    whole = tree(tmp_path / "images")
    for name in whole:
        if name.startswith(".pipeline"):
            (tmp_path / "images" / name).unlink()
    await store.put(jpeg)
    assert tree(tmp_path / "images") == whole


async def test_a_placeholder_under_another_extension_holds_the_number(store):
    await store.put(item(FIRST))
    with pytest.raises(StoreConflict, match=r"mary_image_5\.png is a different image"):
        await store.put(item(plain(format="JPEG")))


@pytest.mark.parametrize("stranger", [FIRST, b"not even a picture", plain(format="JPEG"), signed_png()])
async def test_a_replacement_replaces_only_what_is_ours(store, tmp_path, stranger):
    path = tmp_path / "images" / f"{PLACE}.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(stranger)
    with pytest.raises(StoreConflict):
        await store.put(item(SECOND), replace=EARLIER)
    assert path.read_bytes() == stranger


async def test_a_copy_of_another_of_our_images_is_not_ours_here(store, tmp_path):
    other = await store.put(item(FIRST, 4))
    path = tmp_path / "images" / f"{PLACE}.png"
    path.write_bytes(content(other))
    with pytest.raises(StoreConflict):
        await store.put(item(SECOND), replace=EARLIER)


async def test_files_that_only_look_like_images_are_not_adopted(store, tmp_path):
    await store.put(item(FIRST))
    images = tmp_path / "images" / "alice/characters/mary/images"
    (images / "mary_image_7.png").write_bytes(b"")
    (images / "mary_image_8.png").write_text("not a picture")
    (images / "mary_image_9.png").mkdir()
    (images / "mary_image_010.png").write_bytes(FIRST)
    (images / "mary_image_11.gif").write_bytes(FIRST)
    (images / ".0123.tmp").write_bytes(FIRST)
    os.mkfifo(images / "mary_image_12.png")
    (images.parent.parent / "john").mkdir()
    (images.parent.parent / "note.txt").write_text("hello")
    found = await listed(store)
    assert [asset.number for asset in found if asset.status == "done"] == [5]
    assert [asset.number for asset in found if asset.status == "removed"] == [7, 8, 9, 12], "these numbers are taken"
    pages = [page async for page, _ in store.everything()]
    assert [asset for page in pages for asset in page] == found


@pytest.mark.parametrize("order", [("png", "jpg"), ("jpg", "png")])
async def test_of_a_picture_and_a_damaged_file_of_the_same_name_the_picture_is_told(store, tmp_path, order):
    images = tmp_path / "images" / "alice/characters/mary/images"
    images.mkdir(parents=True)
    (images / f"mary_image_3.{order[0]}").write_bytes(FIRST)
    (images / f"mary_image_3.{order[1]}").write_bytes(FIRST[:20])
    (found,) = await listed(store)
    assert (found.status, found.stored.bytes) == ("done", len(FIRST))


@pytest.mark.parametrize(
    "label", ["", "not json", "[]", '{"owner": 5, "seed": "x", "status": [], "createdAt": "yesterday", "number": true}']
)
async def test_a_damaged_label_says_nothing(store, tmp_path, label):
    path = tmp_path / "images" / f"{PLACE}.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(pngtext.with_text(FIRST, {"pipeline": label}))
    os.utime(path, ns=(0, 1_753_704_000_000_000_000))
    [asset] = await listed(store)
    assert (asset.owner, asset.seed, asset.status) == (None, None, Status.DONE)
    assert asset.stored.created_at == 1_753_704_000_000


async def test_images_are_listed_in_number_order(store):
    for number in (10, 9, 1, 100):
        await store.put(item(plain(shade=number), number))
    assert [asset.number for asset in await listed(store)] == [1, 9, 10, 100]


async def test_thumbnails_are_small_and_follow_a_replacement(store, tmp_path):
    small = layout.thumbnail_file(tmp_path / "images", PLACE)
    await store.put(item(plain(1000, 1500), status=Status.PLACEHOLDER))
    before = small.read_bytes()
    assert picture.size_of(before) == (427, 640)
    await store.put(item(plain(1500, 1000, shade=9)), replace=EARLIER)
    assert picture.size_of(small.read_bytes()) == (640, 427)


async def test_a_small_version_that_cannot_be_made_costs_nothing_else(store, tmp_path):
    damaged = FIRST[:-20] + b"\0" * 20
    stored = await store.put(item(FIRST)._replace(data=damaged))
    assert is_there(stored)
    assert tree(tmp_path / "images") == [f"{PLACE}.png"]


async def test_two_puts_of_one_image_at_once_store_it_once(tmp_path):
    store = LocalStore(tmp_path / "images")
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(store.put, item(FIRST))
    assert tree(tmp_path / "images") == [f".pipeline/thumbnails/{PLACE}.webp", f"{PLACE}.png"]
