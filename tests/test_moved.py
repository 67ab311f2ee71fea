"""A workspace that was renamed, copied or mounted elsewhere: its images are found where its folder is now."""

import json
import shutil

import pytest

from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator
from tests.support.windows import House, house
from tests.test_cli_steer import SETTINGS, Workspace

NAMES = [f"mary_image_{n}.png" for n in (1, 2, 3)]
THERE = "images/me/characters/mary/images"


@pytest.fixture
def made(tmp_path):
    """Two images and a placeholder."""
    (tmp_path / "before").mkdir()
    space = Workspace(tmp_path / "before")
    space.drop("a", quantity=3)
    space.work_off()
    return space


@pytest.fixture
def moved(made):
    return Workspace(made.folder.rename(made.folder.parent / "now"))


def test_every_command_finds_the_images(moved):
    here = moved.folder / THERE
    assert moved.call("verify", "--store") == "all is well\n"
    assert all(f"{here}/{name}" in moved.call("gallery", "mary") for name in NAMES)
    told = json.loads(moved.call("status", "a", "--json"))["data"]["images"]
    assert [image["path"] for image in told] == [f"{here}/{name}" for name in NAMES]
    assert moved.call("export", "mary", str(moved.folder / "out")).startswith("3 images")


def test_what_is_gone_is_missed_where_it_should_be(moved):
    lost = moved.folder / THERE / NAMES[0]
    lost.unlink()
    assert f"{lost}: the file is gone" in moved.call("verify", code=1)


def test_a_copy_stands_for_itself(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copy")
    lost = tmp_path / "copy" / THERE / NAMES[0]
    lost.write_bytes(b"damaged")
    assert f"changed: me/characters/mary/images/mary_image_1: {lost}" in Workspace(tmp_path / "copy").call(
        "verify", code=1
    )


def test_what_was_put_into_another_folder_is_still_found_there(made):
    made.file.write_text(f"store: {{type: local, folder: elsewhere}}\n{SETTINGS % 0}")
    made.drop("b", seed=7)
    made.work_off()
    told = made.call("gallery", "mary")
    assert f"{made.folder}/elsewhere/me/characters/mary/images/mary_image_4.png" in told
    assert f"{made.folder / THERE / NAMES[0]}\n" in told
    assert made.call("verify", "--store") == "all is well\n"


def test_what_was_put_into_another_folder_is_removed_there(made):
    made.file.write_text(f"store: {{type: local, folder: elsewhere}}\n{SETTINGS % 0}")
    made.call("remove", "mary", "1", "--yes")
    assert not (made.folder / THERE / NAMES[0]).exists()
    assert not (made.folder / "images/.pipeline/thumbnails/me/characters/mary/images/mary_image_1.webp").exists()
    assert (made.folder / THERE / NAMES[1]).exists()


def test_a_copy_removes_nothing_of_what_it_was_copied_from(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copy")
    (made.folder / THERE / NAMES[1]).write_bytes(b"another image by now")
    (tmp_path / "copy" / THERE / NAMES[1]).unlink()
    Workspace(tmp_path / "copy").call("remove", "mary", "1", "2", "--yes")
    assert not (tmp_path / "copy" / THERE / NAMES[0]).exists()
    assert all((made.folder / THERE / name).exists() for name in NAMES)


def test_what_was_put_into_another_kind_of_store_is_neither_missed_nor_called_removed(made):
    local = made.file.read_text()
    with CloudinaryEmulator() as account:
        keys = {"cloud_name": CLOUD, "api_key": KEY, "api_secret": SECRET, "upload_prefix": account.url}
        made.file.write_text(f"store: {json.dumps({'type': 'cloudinary', **keys})}\n{SETTINGS % 0}")
        made.drop("b", seed=7)
        made.work_off()
        assert made.call("verify", "--store") == "all is well\n"
        told = made.call("remove", "mary", "1", "--yes", code=1)
        assert told.startswith(
            f"mary_image_1: not removed: it stands at {made.folder / THERE / NAMES[0]}, and the store"
        )
        made.file.write_text(local)
        assert made.call("verify", "--store") == "all is well\n"
        assert made.call("remove", "mary", "1", "4", "--yes", code=1).splitlines()[0] == "mary_image_1 is removed"
        assert not (made.folder / THERE / NAMES[0]).exists()
        assert len(account.assets) == 1
    assert {row.number for row in made.catalogue.page("mary").rows} == {2, 3, 4}


async def test_the_gallery_serves_them(tmp_path):
    async with house(tmp_path) as home:
        await home.studio.made(n=1)
        home.studio.store.folder = home.studio.store.folder.rename(tmp_path / "renamed")
        afterwards = House(home.studio)
        async with afterwards.client:
            image = (await afterwards.data(afterwards.images()))["images"][0]
            answers = [await afterwards.client.get(image[key]) for key in ("url", "thumbnailUrl")]
        afterwards.catalogue.close()
        assert [answer.headers["content-type"] for answer in answers] == ["image/png", "image/webp"]
