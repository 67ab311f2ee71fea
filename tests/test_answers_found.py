"""Answers that once broke an adapter, leaked, or took minutes to read; random ones are tried in `test_answers_random`."""

import json
import time
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest

from pipeline.backends import comfy_words
from pipeline.backends.answers import Answer
from pipeline.backends.comfy_words import Finished
from pipeline.backends.installed import Installed, missing
from pipeline.errors import AcceptanceUnknown, InvalidRequest, StoreUnavailable, Unavailable
from pipeline.model import Recipe, Stored, Submission
from pipeline.stores.cloudinary import Account, CloudinaryStore
from pipeline.tools.clock import now
from pipeline.tools.scrub import scrub
from tests.support import loopback
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator, failing, raw
from tests.support.cloudinary_emulator import Answer as Said
from tests.support.loopback import Reply
from tests.support.pictures import TICKET, item, plain, request
from tests.test_answers_random import PNG, Says, a1111, comfyui, runpod
from tests.test_answers_random import SECRET as OURS

PUBLIC_ID = "alice/characters/mary/images/mary_image_5"


@asynccontextmanager
async def speaking(make, **bodies):
    """A back end whose paths answer with these bodies."""
    replies = {part: [("", body if isinstance(body, Reply) else Reply(200, body))] for part, body in bodies.items()}
    async with loopback.transport(Says(replies)) as wire:
        yield make(wire)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id":' * 5_000, b'{"id": NaN, "x": ' + b"[" * 5_000])
async def test_nesting_without_end_is_no_answer(body):
    with pytest.raises(ValueError, match=r"nested too deep|column"):
        Answer(200, body).json()
    async with speaking(runpod, run=body) as backend:
        with pytest.raises(AcceptanceUnknown):
            await backend.submit(request())


async def test_a_list_of_models_that_tells_a_secret_is_told_without_it():
    models = [{"name": "Euler", "title": f"bad key {OURS}"}]
    async with speaking(a1111, **{"": json.dumps(models).encode()}) as backend:
        with pytest.raises(InvalidRequest, match=r'A1111 at http://w\.test: no model "oil"') as refused:
            await backend.check(Recipe(width=64, height=64, model="oil"), images=1)
    assert OURS not in str(refused.value)


def test_half_a_character_does_not_get_as_far_as_the_index():
    told = Answer(200, b'{"info": "cut \\ud83d", "\\udc00": [NaN]}').json()
    assert list(told) == ["info", "?"]
    assert told["info"] == "cut ?"


NO_IDS = ["", "a\nb", "x" * 4_000, "\u202e", 5, None, f"bad key {OURS}", f"bad-key-{quote(OURS, safe='')}"]


@pytest.mark.parametrize("remote_id", NO_IDS)
@pytest.mark.parametrize(("make", "path", "key"), [(runpod, "run", "id"), (comfyui, "prompt", "prompt_id")])
async def test_what_no_submission_may_be_called_is_no_acceptance(make, path, key, remote_id):
    async with speaking(make, **{path: json.dumps({key: remote_id}).encode(), "": b"{}"}) as backend:
        with pytest.raises(AcceptanceUnknown, match=r"an id that could be used|no usable prompt_id") as refused:
            await backend.submit(request(recipe=Recipe(width=64, height=64, model="a.ckpt")))
    assert OURS not in str(refused.value)


@pytest.mark.parametrize(("given", "found"), [("7", ("7", False)), (f"for {OURS}", None)])
def test_an_id_of_a_servers_own_is_known_by_its_name_unless_it_tells_a_secret(given, found):
    graph = {"9": {"inputs": {"filename_prefix": f"pipeline/{TICKET}"}}}
    queue = {"queue_running": [], "queue_pending": [[1, given, graph]]}
    looked = comfy_words.in_queue(queue, prompt_id="none", prefix=f"pipeline/{TICKET}", secrets=[OURS])
    assert looked == found


@pytest.mark.parametrize("spent", ["NaN", "Infinity", "1" + "0" * 400, "true", '"5"'])
async def test_a_time_that_is_none_is_not_counted(spent):
    job = f'{{"status": "COMPLETED", "executionTime": {spent}, "delayTime": {spent}, "output": "{PNG}"}}'
    async with speaking(runpod, status=job.encode()) as backend:
        made = await backend.collect(request(), Submission("j", "http://r.test/v2/e", 0, now() + 60_000))
    assert (made.data, made.gpu_seconds) == (plain(), None)


@pytest.mark.parametrize("location", ["http://x:none/", "http://a\tb/", ""])
async def test_a_redirect_to_what_is_no_address_is_an_outage(location):
    async with speaking(runpod, health=Reply(300, headers={"Location": location})) as backend:
        with pytest.raises(Unavailable, match="redirects to somewhere else"):
            await backend.probe()


@pytest.mark.parametrize("running", [5, "x", {"a": 1}, [5, [], [1, 2, {}], [1, TICKET]]])
async def test_a_queue_that_is_none_holds_nothing(running):
    assert comfy_words.in_queue({"queue_running": running, "queue_pending": running}, prompt_id=TICKET) is None


@pytest.mark.parametrize("messages", [5, "x", [[[], {}]], [[{}, {"timestamp": 1}]], [["execution_start"]]])
def test_messages_that_are_none_tell_nothing(messages):
    status = {"status_str": "success", "messages": messages}
    assert comfy_words.finished({TICKET: {"outputs": {}, "status": status}}, TICKET) == Finished({}, True, [])


def test_errors_that_are_none_are_no_complaint():
    assert comfy_words.complaints({"node_errors": {"3": {"errors": 5}, "4": {"errors": "x"}, "5": 5}}) is None


def test_a_run_without_end_has_no_length():
    messages = [("execution_start", {"timestamp": 0}), ("execution_success", {"timestamp": 10**400})]
    assert Finished({}, True, messages).gpu_seconds() is None


def test_names_of_models_are_told_in_short_and_without_secrets():
    told = {
        "K": {"input": {"required": {"a_name": [["x" * 70_000, 5, "http://h/?X-Amz-Signature=hush", *"abcdefghijkl"]]}}}
    }
    offered = Installed(told).choices("K", "a_name")
    message = str(missing("model", "m", offered))
    assert len(message) < 500
    assert "hush" not in message


@pytest.mark.parametrize(
    "word", ["http://", "http://a@", "a-", "secret", "x-amz-", "token ", "bearer ", "data:a/", " ", "x"]
)
def test_words_that_are_long_to_read_are_read_soon(word):
    began = time.process_time()
    assert len(scrub(word * 300_000)) <= 600
    assert time.process_time() - began < 1


@pytest.fixture(scope="module")
def cloud():
    with CloudinaryEmulator() as cloud:
        yield cloud


@pytest.fixture
def store(cloud):
    cloud.weather.clear()
    return CloudinaryStore(Account(CLOUD, KEY, SECRET, cloud.url), delivery_type="upload", clock=now, timeout=5)


def says(cloud, value, times=1):
    cloud.weather.extend([lambda _, __: Said(200, value)] * times)


@pytest.mark.parametrize("records", [["x"], [None], [[1]], [5]])
async def test_a_listing_of_what_are_no_assets_is_not_believed(cloud, store, records):
    says(cloud, {"resources": records})
    with pytest.raises(StoreUnavailable, match="without `resources`"):
        assert [asset async for asset in store.listing("alice")]


async def test_a_listing_that_begins_the_same_page_again_ends(cloud, store):
    says(cloud, {"resources": [], "next_cursor": "c"}, times=9)
    with pytest.raises(StoreUnavailable, match="makes no progress"):
        assert [asset async for asset in store.listing("alice")]


async def test_an_asset_whose_context_is_nonsense_is_listed_without_it(cloud, store):
    nonsense = {"seed": "9" * 5_000, "createdAt": "0001-01-01T00:00:00+23:59", "prompt": "a \ud83d", "job": [[]]}
    record = {"public_id": PUBLIC_ID, "version": [1], "bytes": 2**70, "created_at": {}, "context": {"custom": nonsense}}
    says(cloud, {"resources": [record]})
    (asset,) = [asset async for asset in store.listing("alice")]
    assert (asset.seed, asset.prompt, asset.job_id) == (None, "a ?", None)
    assert (asset.stored.version, asset.stored.bytes) == (None, 0)


async def test_a_deletion_that_is_answered_with_a_list_did_not_happen(cloud, store):
    says(cloud, {"result": ["ok"]})
    with pytest.raises(StoreUnavailable, match="did not say"):
        await store.remove(Stored(PUBLIC_ID, "", "1", "", 1, 1, 1, "png"))


@pytest.mark.parametrize(("moment", "pause"), [("2026-99-99 99:99:99", None), ("9999-12-31 23:59:59", 3600.0)])
async def test_a_quota_that_never_comes_back_is_asked_for_again_within_the_hour(cloud, store, moment, pause):
    cloud.weather.append(failing(420, f"Rate Limit Exceeded. Try again on {moment} UTC"))
    with pytest.raises(StoreUnavailable) as caught:
        assert [asset async for asset in store.listing("alice")]
    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", pause)


async def test_addresses_that_a_store_quotes_lose_their_signatures(cloud, store):
    cloud.weather.append(failing(400, "cannot fetch https://bucket/a.png?X-Amz-Signature=hush-hush"))
    with pytest.raises(Exception, match=r"cannot fetch https://bucket/a\.png\?\*\*\*"):
        await store.put(item(plain()))


async def test_nesting_without_end_is_an_outage_of_the_store(cloud, store):
    cloud.weather.append(raw(200, b'{"resources": ' + b"[" * 100_000))
    with pytest.raises(StoreUnavailable):
        await store.probe()


async def test_a_prompt_may_be_cancelled_whatever_the_queue_says():
    async with speaking(comfyui, cancel=Reply(404), queue=b'{"queue_running": 1, "queue_pending": "x"}') as backend:
        await backend.cancel(Submission(TICKET, "http://c.test", 0, 1))
