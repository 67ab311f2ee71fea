"""The local store where the disk or a stranger misbehaves."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import StoreConflict, StoreRefused, StoreUnavailable
from pipeline.stores.local import LocalStore
from tests.support.local import FIRST, PLACE, SECOND, is_there, listed, tree
from tests.support.pictures import EARLIER, item
from tests.support.waiting import inline


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "images", run_sync=inline)


async def test_a_link_in_the_images_place_is_neither_followed_nor_replaced(store, tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(FIRST)
    path = tmp_path / "images" / f"{PLACE}.png"
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    for replacing in (None, EARLIER):
        with pytest.raises(StoreConflict):
            await store.put(item(FIRST), replace=replacing)
    assert outside.read_bytes() == FIRST
    assert [asset.status for asset in await listed(store)] == ["removed"], "its number is taken"


@pytest.mark.parametrize(
    "linked", ["alice", "alice/characters", "alice/characters/mary", "alice/characters/mary/images"]
)
async def test_a_linked_folder_is_not_followed_out_of_the_store(store, tmp_path, linked):
    elsewhere = tmp_path / "elsewhere"
    for name in ("", "mary", "mary/images", "characters/mary/images", "images"):
        (elsewhere / name).mkdir(parents=True, exist_ok=True)
    for found in list(elsewhere.rglob("images")):
        (found / "mary_image_1.png").write_bytes(FIRST)
    link = tmp_path / "images" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    before = tree(elsewhere)
    with pytest.raises(StoreRefused, match="link"):
        await store.put(item(FIRST))
    assert tree(elsewhere) == before
    assert await listed(store) == []


async def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "images", run_sync=inline)
    stored = await store.put(item(FIRST))
    assert [asset.stored for asset in await listed(store)] == [stored]


@pytest.mark.parametrize(
    "public_id",
    [
        "../x/characters/y/images/y_image_1",
        "/etc/characters/y/images/y_image_1",
        "a/characters/../images/a",
        "",
        "a\0b",
    ],
)
async def test_a_name_that_leads_elsewhere_is_refused(store, tmp_path, public_id):
    wanted = item(FIRST, public_id=public_id)
    with pytest.raises(StoreRefused, match="no name"):
        await store.put(wanted)
    stored = await store.put(item(FIRST))
    await store.remove(stored._replace(public_id=public_id))
    assert is_there(stored)


async def test_a_folder_that_went_missing_is_made_again(store, tmp_path):
    await store.put(item(FIRST))
    (tmp_path / "images").rename(tmp_path / "moved")
    stored = await store.put(item(SECOND))
    assert is_there(stored)
    await store.probe()


READ_ONLY = """
import os, sys, trio
from pathlib import Path
from pipeline import picture
from pipeline.errors import StoreUnavailable
from pipeline.stores.local import LocalStore
from tests.support.local import FIRST, PLACE, SECOND, is_there, listed, tree
from tests.support.pictures import item, plain
wanted = item(plain())  # imports all that is needed while it may be read
picture.thumbnail(wanted.data)
if os.getuid() == 0:
    os.setegid(65534); os.seteuid(65534)
async def main():
    try:
        await LocalStore(Path(sys.argv[1])).put(wanted)
    except StoreUnavailable as error:
        print(error.code, error)
trio.run(main)
"""


FULL_DISK = """
import resource, signal, sys, trio
from pathlib import Path
from pipeline.errors import StoreUnavailable
from pipeline.stores.local import LocalStore
from tests.support.local import FIRST, PLACE, SECOND, is_there, listed, tree
from tests.support.pictures import item, plain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
wanted = item(plain())
async def main():
    store = LocalStore(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    for call in (lambda: store.put(wanted), store.probe):
        try:
            await call()
        except StoreUnavailable as error:
            print(error.code, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.put(wanted)
    await store.probe()
trio.run(main)
"""


def run(script, *args):
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True, check=True, timeout=60, cwd=root
    )
    return ran.stdout.splitlines()


def test_a_folder_that_may_not_be_written_is_told_with_the_remedy(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    images = tmp_path / "images"
    images.mkdir(mode=0o555)
    [told] = run(READ_ONLY, images)
    assert told.startswith("read_only")
    assert f"make {images} writable" in told


def test_a_full_disk_is_told_leaves_nothing_and_is_got_over(tmp_path):
    images = tmp_path / "images"
    put, probe = run(FULL_DISK, images)
    assert put.startswith("disk_full")
    assert "free some space" in put
    assert probe.startswith("disk_full")
    assert tree(images) == [f".pipeline/thumbnails/{PLACE}.webp", f"{PLACE}.png"]


async def test_a_file_in_the_way_of_a_folder_is_the_stores_trouble(store, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "alice").write_text("a file")
    with pytest.raises(StoreUnavailable, match="alice"):
        await store.put(item(FIRST))
