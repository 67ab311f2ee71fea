"""The Cloudinary store: the unmodified SDK over a real socket against the emulator."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import pytest
import trio
from PIL import Image

from pipeline.errors import StoreConflict, StoreError, StoreRefused, StoreUnavailable
from pipeline.model import Artifact, Item, Status
from pipeline.stores.cloudinary import Account, CloudinaryStore
from pipeline.stores.context import encoded, read_context, written_context
from tests.support.cloudinary_emulator import (
    CLOUD,
    KEY,
    SECRET,
    Answer,
    CloudinaryEmulator,
    failing,
    raw,
    reset_after_storing,
)

NOW = 1_795_000_000_000


def png(color: str = "teal", size: tuple[int, int] = (64, 96)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def item(data: bytes | None = None, *, number: int = 5, status: Status = Status.DONE, **changes: object) -> Item:
    data = png() if data is None else data
    artifact = Artifact("f", hashlib.md5(data).hexdigest(), len(data), 64, 96, "png", "p", "#008080")
    values: dict[str, object] = {
        "public_id": f"alice/characters/mary/images/mary_image_{number}", "data": data, "artifact": artifact, "status": status,
        "number": number, "owner": "alice@example.com|x", "character_id": "123", "character_name": "Mary = 50 % \\ café",
        "job_id": "job-1", "prompt": "a | b = c \\(d:1.2\\)\nsecond & line", "seed": 7, "created_at": NOW,
        "labels": ("spring", "a,b"), "color": "#008080", **changes,
    }  # fmt: skip
    return Item(**values)


@pytest.fixture
def cloud():
    with CloudinaryEmulator() as emulator:
        yield emulator


def store(
    cloud: CloudinaryEmulator, *, secret: str = SECRET, cloud_name: str = CLOUD, timeout: float = 5, **options: object
) -> CloudinaryStore:
    account = Account(cloud_name, KEY, secret, cloud.url)
    return CloudinaryStore(account, delivery_type="authenticated", clock=lambda: NOW, timeout=timeout, **options)


async def test_an_upload_carries_all_that_the_index_needs(cloud):
    stored = await store(cloud).put(item())
    asset = cloud.assets["authenticated", "alice/characters/mary/images/mary_image_5"]
    assert (stored.md5, stored.version, stored.type) == (asset.etag, str(asset.version), "authenticated")
    assert (stored.width, stored.height, stored.format, stored.bytes) == (64, 96, "png", len(asset.data))
    assert stored.url.startswith("https://res.cloudinary.com/demo/image/authenticated/s--")
    assert stored.url.endswith(f"--/v{asset.version}/{asset.public_id}.png")
    assert asset.tags == ["pipeline", "123", "job-1", "spring", "a b"]
    assert read_context(asset.record()) == {
        "number": "5", "seed": "7", "status": "done", "createdAt": "2026-11-18T11:06:40.000Z", "job": "job-1", "character": "123",
        "name": "Mary = 50 % \\ café", "owner": "alice@example.com|x", "prompt": "a | b = c \\(d:1.2\\)\nsecond & line", "color": "#008080",
    }  # fmt: skip


async def test_a_placeholder_is_tagged_as_one_and_replaced_with_a_new_version(cloud):
    first = await store(cloud).put(item(png("orange"), status=Status.PLACEHOLDER))
    assert "placeholder" in cloud.assets["authenticated", first.public_id].tags
    second = await store(cloud).put(item(png("navy")), replace=first)
    asset = cloud.assets["authenticated", first.public_id]
    assert second.version != first.version
    assert "placeholder" not in asset.tags
    assert read_context(asset.record())["status"] == "done"


async def test_a_placeholder_of_another_access_goes_only_while_it_is_ours(cloud):
    account = Account(CLOUD, KEY, SECRET, cloud.url)
    before = CloudinaryStore(account, delivery_type="upload", clock=lambda: NOW, timeout=5)
    for ours in (True, False):
        cloud.assets.clear()
        first = await before.put(item(png("orange"), status=Status.PLACEHOLDER))
        if not ours:
            cloud.plant(first.public_id, png("red"))
        stored = await store(cloud).put(item(png("navy")), replace=first)
        assert stored.type == "authenticated"
        assert {kind for kind, _ in cloud.assets} == ({"authenticated"} if ours else {"authenticated", "upload"})
        assert await store(cloud).put(item(png("navy")), replace=first) == stored


async def test_a_placeholder_that_cannot_be_deleted_holds_up_nothing(cloud):
    account = Account(CLOUD, KEY, SECRET, cloud.url)
    before = CloudinaryStore(account, delivery_type="upload", clock=lambda: NOW, timeout=5)
    first = await before.put(item(png("orange"), status=Status.PLACEHOLDER))
    cloud.admin_left = 0
    assert (await store(cloud).put(item(png("navy")), replace=first)).type == "authenticated"


async def test_the_same_bytes_a_second_time_are_adopted_and_stored_once(cloud):
    first = await store(cloud).put(item())
    assert await store(cloud).put(item()) == first
    assert cloud.uploads == 1


async def test_two_uploads_of_one_image_at_once_store_it_once(cloud):
    results = []

    async def upload() -> None:
        results.append(await ours.put(item()))

    ours = store(cloud)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        nursery.start_soon(upload)
    assert results[0] == results[1]
    assert cloud.uploads == 1


async def test_a_different_image_under_our_name_is_a_conflict_and_stays(cloud):
    planted = cloud.plant(item().public_id, png("red"), type="authenticated")
    with pytest.raises(StoreConflict, match="a different image stands at alice/characters/mary/images/mary_image_5"):
        await store(cloud).put(item())
    assert cloud.assets["authenticated", item().public_id] is planted


async def test_an_answer_that_was_cut_off_after_storing_is_found_again(cloud):
    cloud.weather = [reset_after_storing]
    with pytest.raises(StoreUnavailable, match="Cloudinary is not to be had: the connection broke off"):
        await store(cloud).put(item())
    assert (await store(cloud).put(item())).md5 == item().artifact.md5
    assert cloud.uploads == 1


async def test_a_refusal_after_an_answer_was_lost_does_not_hide_that_the_image_stands(cloud):
    cloud.weather = [reset_after_storing, failing(400, "Invalid image file")]
    with pytest.raises(StoreUnavailable):
        await store(cloud).put(item())
    assert (await store(cloud).put(item())).md5 == item().artifact.md5
    cloud.weather = [failing(400, "Invalid image file")]
    with pytest.raises(StoreRefused, match="Invalid image file"):  # other bytes than those that stand there
        await store(cloud).put(item(png("red")))
    cloud.weather = [failing(400, "Invalid image file"), failing(420, "Rate Limit Exceeded")]
    with pytest.raises(StoreRefused, match="Invalid image file"):  # nobody can say what stands there
        await store(cloud).put(item())
    assert cloud.uploads == 1


WEATHER = {
    "400 invalid image": (failing(400, "Invalid image file"), StoreRefused, "store_refused"),
    "401": (failing(401, "Invalid Signature abc"), StoreUnavailable, "credentials"),
    "403": (failing(403, "disabled account"), StoreUnavailable, "credentials"),
    "404 cloud": (failing(404, "cloud demo not found"), StoreUnavailable, "credentials"),
    "404 other": (failing(404, "not here"), StoreUnavailable, "store_down"),
    "409": (failing(409, "busy"), StoreUnavailable, "store_down"),
    "413": (failing(413, "too large"), StoreRefused, "store_refused"),
    "420": (failing(420, "Rate Limit Exceeded"), StoreUnavailable, "rate_limited"),
    "423": (failing(423, "locked"), StoreUnavailable, "store_down"),
    "429": (failing(429, "slow down"), StoreUnavailable, "rate_limited"),
    "500": (failing(500, "oops"), StoreUnavailable, "store_down"),
    "502 HTML": (raw(502, b"<html>Bad gateway</html>"), StoreUnavailable, "store_down"),
    "503 with an empty object": (raw(503, b"{}"), StoreUnavailable, "store_down"),
    "400 of a proxy": (raw(400, b"<html>Bad request</html>"), StoreUnavailable, "store_down"),
    "403 of a proxy": (raw(403, b"<html>Blocked</html>"), StoreUnavailable, "store_down"),
    "413 of a proxy": (raw(413, b"<html>Too large</html>"), StoreRefused, "store_refused"),
    "200 with an empty object": (raw(200, b"{}"), StoreUnavailable, "bad_answer"),
    "200 with a list": (raw(200, b"[]"), StoreUnavailable, "bad_answer"),
    "200 with nothing": (raw(200, b""), StoreUnavailable, "store_down"),
    "200 for another name": (raw(200, b'{"public_id":"x","asset_id":"a","version":1}'), StoreUnavailable, "bad_answer"),
    "200 with no size": (
        raw(200, b'{"public_id":"alice/characters/mary/images/mary_image_5","asset_id":"a","version":1,"bytes":0}'),
        StoreUnavailable, "bad_answer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WEATHER)
async def test_weather_on_upload(cloud, name):
    weather, kind, code = WEATHER[name]
    cloud.weather = [weather]
    with pytest.raises(StoreError) as raised:
        await store(cloud).put(item())
    assert type(raised.value) is kind
    assert raised.value.code == code
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    for foreign in ("<html", "Got -", "Unexpected", "indices"):
        assert foreign not in str(raised.value)
    assert (await store(cloud).put(item())).md5 == item().artifact.md5  # and the next call works


async def test_credentials_and_clock_are_told_as_such(cloud):
    with pytest.raises(StoreUnavailable, match="refuses the credentials for cloud 'demo'") as raised:
        await store(cloud, secret="wrong-secret").put(item())
    assert raised.value.credentials
    assert "wrong-secret" not in str(raised.value)
    assert item().prompt[:9] not in str(raised.value)
    with pytest.raises(StoreUnavailable, match="cloud 'nobody'"):
        await store(cloud, cloud_name="nobody").put(item())
    cloud.weather = [failing(401, f"Invalid api_key {KEY}")]
    with pytest.raises(StoreUnavailable, match=r"Invalid api_key \*\*\*"):
        await store(cloud).put(item())
    cloud.weather = [
        failing(400, "Stale request - reported time is 2014-11-01 09:25:57 +0000 which is more than 1 hour ago")
    ]
    with pytest.raises(
        StoreUnavailable, match=r"this machine's clock says 2026-11-18T11:06:40.000Z; set it right"
    ) as raised:
        await store(cloud).put(item())
    assert raised.value.credentials


async def test_a_hanging_upload_ends_at_its_timeout(cloud):
    def hang(emulator, serve):
        emulator.release.wait(10)
        return serve()

    cloud.weather = [hang]
    with pytest.raises(StoreUnavailable, match=r"Cloudinary is not to be had: no answer within 0\.2 s"):
        await store(cloud, timeout=0.2).put(item())


async def test_an_answer_that_drips_ends_too(cloud):
    cloud.weather = [lambda _, serve: replace(serve(), drip=True)]
    with pytest.raises(StoreUnavailable, match=r"Cloudinary is not to be had: no whole answer within 1\.5 s"):
        await store(cloud, timeout=0.15).put(item())


async def test_nobody_there(cloud):
    account = Account(CLOUD, KEY, SECRET, "http://127.0.0.1:9")
    nobody = CloudinaryStore(account, delivery_type="upload", clock=lambda: NOW)
    for call in (nobody.put(item()), nobody.probe()):
        with pytest.raises(StoreUnavailable, match="Cloudinary is not to be had: connection refused"):
            await call


async def test_parallel_uploads_are_bounded(cloud):
    ours = store(cloud, uploads=3)
    async with trio.open_nursery() as nursery:
        for number in range(1, 13):
            nursery.start_soon(ours.put, item(number=number))
    assert cloud.uploads == 12
    assert cloud.busiest <= 3


async def test_the_listing_pages_through_all_three_types(cloud):
    for number in range(1, 502):
        cloud.plant(f"alice/characters/mary/images/mary_image_{number}", png(size=(2, 2)))
    cloud.plant(
        "alice/characters/john/images/john_image_1", png(), type="private", context={"character": "j", "owner": "alice"}
    )
    cloud.plant(
        "alice/characters/john/images/john_image_2", png(), type="authenticated", created_at="2025-07-28T10:00:00Z"
    )
    cloud.plant("alice/characters/john/other.png", png())
    cloud.plant("alice/characters/john/images/mary_image_9", png())
    cloud.plant("alice-2/characters/mary/images/mary_image_1", png())
    found = [asset async for asset in store(cloud).listing("alice")]
    assert len(found) == 503
    assert cloud.calls.count(f"/v1_1/{CLOUD}/resources/image/upload") == 2
    john = sorted(
        (asset.number, asset.character_id, asset.owner, asset.stored.type) for asset in found if asset.slug == "john"
    )
    assert john == [(1, "j", "alice", "private"), (2, None, None, "authenticated")]
    second = next(asset for asset in found if asset.slug == "john" and asset.number == 2)
    assert second.stored.created_at == int(datetime(2025, 7, 28, 10, tzinfo=UTC).timestamp() * 1000)


async def test_what_we_uploaded_is_listed_as_we_said_it(cloud):
    await store(cloud).put(item(status=Status.PLACEHOLDER))
    (asset,) = [asset async for asset in store(cloud).listing("alice")]
    assert (asset.slug, asset.number, asset.seed, asset.status) == ("mary", 5, 7, Status.PLACEHOLDER)
    assert (asset.owner, asset.character_id, asset.character_name) == (
        "alice@example.com|x",
        "123",
        "Mary = 50 % \\ café",
    )
    assert (asset.prompt, asset.job_id, asset.color) == (item().prompt, "job-1", "#008080")
    assert asset.stored.created_at == NOW


async def test_the_admin_quota_names_the_time_to_wait(cloud):
    cloud.admin_left = 0
    with pytest.raises(StoreUnavailable) as raised:
        [asset async for asset in store(cloud).listing("alice")]
    assert raised.value.code == "rate_limited"
    assert raised.value.retry_after is not None


@pytest.mark.parametrize("status", [420, 429, 503])
@pytest.mark.parametrize("body", [{"error": {"message": "slow down"}}, {}])
@pytest.mark.parametrize(("asked", "pause"), [("4", 4.0), ("86400", 3600.0), ("soon", None)])
async def test_a_pause_that_cloudinary_asks_for_is_kept_also_where_its_sdk_drops_it(cloud, status, body, asked, pause):
    cloud.weather = [lambda _, __: Answer(status, body, {"Retry-After": asked})] * 2
    with pytest.raises(StoreUnavailable) as upload:
        await store(cloud).put(item())
    with pytest.raises(StoreUnavailable) as listing:
        [asset async for asset in store(cloud).listing("alice")]
    assert (upload.value.retry_after, listing.value.retry_after) == (pause, pause)


@pytest.mark.parametrize("weather", [failing(429, "slow"), failing(503, "down"), raw(200, b"{}"), raw(502, b"<html>")])
async def test_bad_weather_on_the_listing_is_one_call_and_an_error(cloud, weather):
    cloud.weather = [weather]
    with pytest.raises(StoreUnavailable):
        [asset async for asset in store(cloud).listing("alice")]
    assert len(cloud.calls) == 1


async def test_a_listing_that_names_the_same_page_again_is_ended(cloud):
    cloud.weather = [raw(200, b'{"resources": [], "next_cursor": "again"}')] * 2
    with pytest.raises(StoreUnavailable, match="no progress"):
        [asset async for asset in store(cloud).listing("alice")]
    assert len(cloud.calls) == 2


async def test_removal_is_repeatable(cloud):
    stored = await store(cloud).put(item())
    await store(cloud).remove(stored)
    await store(cloud).remove(stored)
    assert cloud.assets == {}
    cloud.weather = [raw(200, b'{"result": "hm"}')]
    with pytest.raises(StoreUnavailable, match="did not say"):
        await store(cloud).remove(stored)


async def test_an_image_of_another_store_is_not_called_removed(cloud):
    stored = await store(cloud).put(item())
    with pytest.raises(StoreRefused, match=r"it stands at /somewhere/mary_image_5\.png, and the store is another"):
        await store(cloud).remove(stored._replace(path="/somewhere/mary_image_5.png"))
    assert len(cloud.assets) == 1
    await store(cloud).remove(stored)
    before = stored._replace(url=stored.url.replace(f"/{CLOUD}/", "/before/"))
    with pytest.raises(StoreRefused, match="it stands in another cloud"):
        await store(cloud).remove(before)


async def test_the_probe_notices_wrong_credentials(cloud):
    await store(cloud).probe()
    with pytest.raises(StoreUnavailable, match="refuses the credentials"):
        await store(cloud, secret="nope").probe()


@pytest.mark.parametrize("status", [420, 429])
async def test_a_quota_of_listings_that_is_used_up_keeps_nothing_from_being_uploaded(cloud, status):
    cloud.weather = [failing(status, "Rate Limit Exceeded. Try again on 2026-11-18 12:00:00 UTC")]
    await store(cloud).probe()


def test_a_context_that_is_no_map_says_nothing():
    assert read_context({"context": {"custom": "x"}}) == {}
    assert read_context({}) == {}
    assert "color" not in written_context(item(color=None))


def test_context_values_are_cut_without_splitting_a_character():
    assert len(encoded("é" * 2000).encode()) == 1000
    assert encoded("a" * 999 + "|") == "a" * 999
    assert encoded("plain text, 100 %") == "plain text, 100 %25"
    assert all(len(value.encode()) <= 1000 for value in written_context(item(prompt="\\|=" * 900)).values())


def test_neither_key_nor_secret_is_in_a_repr():
    assert not {KEY, SECRET} & set(repr(Account(CLOUD, KEY, SECRET)).split("'"))
