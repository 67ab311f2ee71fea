"""`/media/`: found through the index, opened by token or signed address, never by joining a path."""

import os

import pytest

from pipeline.gallery.app import make_app
from pipeline.gallery.settings import GallerySettings, LocalFiles
from pipeline.lifecycle import Retried
from tests.support.windows import KEY, house

PLAIN = "/media/alice/characters/mary/images/mary_image_1.png"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=1)
        yield made


async def links(home):
    image = (await home.data(home.images()))["images"][0]
    return image["url"], image["thumbnailUrl"]


async def test_signed_addresses_open_as_they_are(home):
    url, small = await links(home)
    whole, thumbnail = await home.client.get(url), await home.client.get(small)
    assert (whole.headers["content-type"], whole.content[:4]) == ("image/png", b"\x89PNG")
    assert (thumbnail.headers["content-type"], thumbnail.content[:4]) == ("image/webp", b"RIFF")
    for answer in (whole, thumbnail):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private, max-age=")
        assert answer.headers["cache-control"].endswith(", immutable")
    assert whole.headers["etag"] != thumbnail.headers["etag"]


async def test_the_owners_token_opens_the_plain_address(home):
    assert (await home.client.get(PLAIN)).status_code == 401
    answer = await home.get(PLAIN)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert (await home.get(PLAIN, home.tokens.create("bob"))).status_code == 404
    assert (await home.get(PLAIN + "?thumbnail=1")).headers["content-type"] == "image/webp"


async def test_a_signed_address_ends_and_cannot_be_bent(home):
    url, small = await links(home)
    bent = [
        url + "x", url.replace("mary_image_1", "mary_image_2"), url.replace("expires=17", "expires=27"), url + "&thumbnail=1", small.replace("thumbnail=1", "thumbnail=2"),
        url.partition("&signature")[0], url.replace("signature=", "signature=A"), url.replace("v=", "v=0"), url + "&expires=9999999999",
    ]  # fmt: skip
    for address in bent:
        assert (await home.client.get(address)).status_code == 401, address
    home.studio.moment += 25 * 3600 * 1000
    assert (await home.client.get(url)).status_code == 401
    assert (await home.get(url)).status_code == 200  # a token still does


async def test_a_token_opens_an_address_whose_signature_is_spoilt(home):
    url, _ = await links(home)
    whole = url.partition("&signature")[0]
    shown = whole.partition("&expires")[0]
    for address in (f"{whole}&signature=x", f"{shown}&signature=x", f"{shown}&expires=soon&signature=x", f"{shown}&expires=9999999999&signature=x"):  # fmt: skip
        answer = await home.get(address)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache"), address


async def test_conditional_and_partial_requests(home):
    answer = await home.get(PLAIN)
    tag = answer.headers["etag"]
    for held in (tag, f'W/{tag}, "x"', "*"):
        again = await home.get(PLAIN, if_none_match=held)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    lines = [("authorization", f"Bearer {home.alice}"), ("if-none-match", '"x"'), ("if-none-match", tag)]
    assert (await home.client.get(PLAIN, headers=lines)).status_code == 304
    part = await home.get(PLAIN, range="bytes=1-3")
    assert (part.status_code, part.content) == (206, b"PNG")
    assert (await home.get(PLAIN, range="bytes=1-3", if_range='"other"')).status_code == 200
    beyond = await home.get(PLAIN, range="bytes=999999-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(answer.content)}")
    assert (beyond.json()["success"], beyond.json()["code"]) == (False, "bad_range")
    for none in ("foo", "bytes", "bytes=", "bytes=5-2", "lines=1-2"):
        assert (await home.get(PLAIN, range=none)).content == answer.content
    head = await home.client.head(PLAIN, headers={"authorization": f"Bearer {home.alice}"})
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


async def test_a_replaced_placeholder_has_a_new_address_and_etag(home):
    await home.studio.job(n=1)
    await home.studio.give_up("mary", 2)
    before = (await home.data(home.images() + "?status=placeholder"))["images"][0]
    await home.studio.ledger.record(home.studio.ledger.image_by_number("mary", 2), Retried())
    again = (await home.data(home.images() + "?status=placeholder"))["images"][0]
    assert again["retrying"] is True
    assert again["url"] == before["url"]
    await home.studio.finish("mary", 2)
    after = (await home.data(home.images() + "?status=done"))["images"][0]
    assert (after["number"], after["createdAt"]) == (2, before["createdAt"])
    assert after["url"] != before["url"]
    old = await home.client.get(before["url"])
    assert old.headers["cache-control"] == "private, no-cache"  # an old address shows the new picture, for now


@pytest.mark.parametrize(
    "path",
    ["../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2f.pipeline/index.db", "alice/characters/mary/images/%2e%2e/images/mary_image_1.png",
     "alice//characters/mary/images/mary_image_1.png", "alice/characters/mary/images/mary_image_1.png%00.png", "%00", "alice/characters/mary/images/mary_image_1",
     "alice/characters/mary/images/mary_image_1.jpg", "alice/characters/mary/images/mary_image_1.exe", "alice/characters/mary/images/MARY_IMAGE_1.png",
     "alice/characters/mary/images/mary_image_1.png/", "alice%5ccharacters%5cmary", "%c0%ae%c0%ae/", "%252e%252e/x.png", ".png", "", "/etc/passwd"],
)  # fmt: skip
async def test_tricks_with_the_path_find_nothing(home, path):
    answer = await home.get("/media/" + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_link_in_place_of_a_picture_leads_nowhere(home):
    file = home.studio.store.folder / "alice/characters/mary/images/mary_image_1.png"
    file.unlink()
    assert (await home.get(PLAIN)).status_code == 404
    file.symlink_to("/etc/passwd")
    assert (await home.get(PLAIN)).status_code == 404
    file.unlink()
    os.mkfifo(file)
    assert (await home.get(PLAIN)).status_code == 404


async def test_a_missing_small_version_is_answered_with_the_whole(home):
    _, small = await links(home)
    for file in home.studio.store.folder.rglob("*.webp"):
        file.unlink()
    assert (await home.client.get(small)).headers["content-type"] == "image/png"


async def test_without_a_local_store_there_are_no_files(home):
    home.client._transport.app = make_app(
        home.catalogue, home.tokens, None, settings=GallerySettings(), files=None, now=home.studio.now
    )
    assert (await home.get(PLAIN)).status_code == 404
    assert (await home.client.get(PLAIN + "?signature=x&expires=9")).status_code == 401


def test_the_key_shows_in_no_trace():
    assert "k" * 8 not in repr(LocalFiles(KEY, lambda name: name))
