"""Whatever Cloudinary answers, through its own SDK: stored, listed, or refused in our words; soon, and with no secret."""

import time

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.model import Stored
from pipeline.stores.cloudinary import Account, CloudinaryStore
from pipeline.tools.clock import now
from tests.support import hostile
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, Answer, CloudinaryEmulator
from tests.support.hostile import assert_in_our_own_words, assert_keepable
from tests.support.pictures import item, plain

ITEM = item(plain())
SOON = 2.0  # seconds of this processor
RECORD = {
    "asset_id": "a1", "public_id": ITEM.public_id, "version": 17, "type": "authenticated", "resource_type": "image",
    "format": "png", "width": 24, "height": 16, "bytes": 100, "created_at": "2026-01-02T03:04:05Z", "tags": ["pipeline"],
    "context": {"custom": {
        "number": "5", "seed": "7", "status": "placeholder", "createdAt": "2026-01-02T03:04:05.006Z", "job": "j",
        "character": "123", "name": "Mary", "owner": "alice", "prompt": "a garden", "color": "#aabbcc"}},
    "etag": "0" * 32, "existing": True, "secure_url": hostile.PRESIGNED,
}  # fmt: skip
UPLOADS = [RECORD, {"error": {"message": "Stale request"}}, {"error": {"message": f"Invalid Signature. String to sign - '{SECRET}'"}}]  # fmt: skip
REMOVALS = [{"result": "ok"}, {"result": "not found"}]
LISTINGS = [
    {"resources": [RECORD, RECORD | {"public_id": ITEM.public_id[:-1] + "6"}], "next_cursor": "c1"},
    {"resources": []},
    {
        "error": {
            "message": "Rate Limit Exceeded. Limit of 500 api operations reached. Try again on 2026-01-02 03:04:05 UTC"
        }
    },
]
VALUES = hostile.VALUES | hostile.says(SECRET)
DONE = Stored(ITEM.public_id, "http://x", "1", "0" * 32, 1, 1, 1, "png")


async def put(store):
    assert_keepable(await store.put(ITEM))


async def remove(store):
    assert await store.remove(DONE) is None


async def listing(store):
    async for asset in store.listing("alice"):
        assert_keepable(asset)


async def everything(store):
    async for assets, mark in store.everything():
        assert_keepable([list(map(asset_of, assets)), mark])


def asset_of(asset):
    assert_keepable(asset)
    return asset.slug


async def elsewhere(store):
    async for stored in store.elsewhere("alice/"):
        assert_keepable(stored)


async def probe(store):
    assert await store.probe() is None


CALLS = {
    put: UPLOADS,
    remove: REMOVALS,
    listing: LISTINGS,
    everything: LISTINGS,
    elsewhere: LISTINGS,
    probe: LISTINGS,
}


@pytest.fixture(scope="module")
def cloud():
    with CloudinaryEmulator() as cloud:
        yield cloud


async def tell(cloud, call, replies):
    cloud.weather[:] = [answering(reply) for reply in replies]
    store = CloudinaryStore(Account(CLOUD, KEY, SECRET, cloud.url), delivery_type="authenticated", clock=now, timeout=5)
    began = time.process_time()
    try:
        with trio.fail_after(20):
            await call(store)
    except StoreError as error:
        assert_in_our_own_words(error, [SECRET])
    assert time.process_time() - began < SOON


def answering(reply):
    kind, said = reply
    return lambda _, __: Answer(said.status, said.body, said.headers, cut=bool(kind))


def tell_many(cloud, call, stories, **more):
    @settings(max_examples=stories, deadline=None, suppress_health_check=list(HealthCheck), **more)
    @given(st.lists(hostile.replies(CALLS[call], VALUES), min_size=1, max_size=3))
    def told(replies):
        trio.run(tell, cloud, call, replies)

    told()


@pytest.mark.parametrize("call", CALLS)
def test_whatever_cloudinary_answers_comes_to_an_outcome_in_our_own_words(cloud, call):
    tell_many(cloud, call, 12)


@pytest.mark.torture
@pytest.mark.parametrize("call", CALLS)
def test_whatever_cloudinary_answers_comes_to_an_outcome_in_our_own_words_many_times(cloud, call):
    tell_many(cloud, call, 300, derandomize=False, print_blob=True)
