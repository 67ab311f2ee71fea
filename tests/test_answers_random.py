"""Whatever a back end answers, it comes to one of our own exceptions, a submission or a picture; soon, and with no secret."""

import base64
import json
import time
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.backends.a1111 import A1111
from pipeline.backends.binding import bind
from pipeline.backends.comfyui import ComfyUI
from pipeline.backends.fetch import Fetcher
from pipeline.backends.graph import load_workflow
from pipeline.backends.pace import Pace
from pipeline.backends.runpod import Runpod
from pipeline.backends.runpod_inputs import sdxl_input
from pipeline.errors import BackendError
from pipeline.model import Lora, Picture, Recipe, Submission
from pipeline.picture import examine
from pipeline.ports import CannotTell, NotThere
from tests.support import hostile, loopback
from tests.support.hostile import assert_in_our_own_words, assert_keepable
from tests.support.pictures import TICKET, plain, request
from tests.support.waiting import wall

# A body that cannot be decoded leaves the generator that gave it to trio, which closes it and says so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

SECRET = "rpa_hush/hush+SECRET0"
TIMEOUT = 5.0
SOON = 2.0  # seconds of this processor for all that one story asks
PNG = base64.b64encode(plain()).decode()
SAID = {"error_type": "<class 'RuntimeError'>", "error_message": "CUDA out of memory", "error_traceback": "…"}
INFO = json.dumps({"seed": 7, "index_of_first_image": 0, "infotexts": ['a\nSteps: 2, TI hashes: "mary: 0a1b"']})
ENTRY = {
    "prompt": [1, TICKET, {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": f"pipeline/{TICKET}"}}}, {}, ["9"]],
    "outputs": {"9": {"images": [{"filename": "a_00001_.png", "subfolder": "pipeline", "type": "output"}]}},
    "status": {
        "status_str": "success",
        "completed": True,
        "messages": [["execution_start", {"timestamp": 1_000}], ["execution_success", {"timestamp": 2_000}]],
    },
}  # fmt: skip
BROKEN = {"node_id": "3", "node_type": "KSampler", "exception_type": "torch.OutOfMemoryError", "exception_message": "m"}
COMBO = {"input": {"required": {"ckpt_name": [["a.safetensors", "b.safetensors"], {}], "lora_name": [["glow.pt"]]}}}
REFUSAL = {"class_type": "KSampler", "errors": [{"type": "value_not_in_list", "message": "m", "details": "d", "extra_info": {
    "input_name": "sampler_name", "received_value": "x", "input_config": [["euler", "ddim"], {}]}}]}  # fmt: skip
RUNPOD = {
    "run": [{"id": "j-1", "status": "IN_QUEUE"}],
    "status": [
        {"id": "j-1", "status": "COMPLETED", "delayTime": 5, "executionTime": 900, "output": {"images": [PNG], "seed": 7}},
        {"status": "COMPLETED", "output": {"images": [{"type": "base64", "filename": "a", "data": PNG}], "info": INFO}},
        {"status": "COMPLETED", "output": [hostile.PRESIGNED], "executionTime": 1},
        {"status": "COMPLETED", "output": {"status": "error", "message": "no", "errors": ["a", {"loc": ["b"], "msg": "c"}]}},
        {"status": "FAILED", "error": json.dumps(SAID), "executionTime": 77, "output": {"details": [SAID]}},
        {"status": "FAILED", "error": SAID},
        {"status": "IN_PROGRESS", "output": "step 3"},
        {"status": "TIMED_OUT", "executionTime": 5},
    ],
    "": [{"jobs": {"completed": 1}, "workers": {"idle": 1}}],
}  # fmt: skip
COMFYUI = {
    "prompt": [
        {"prompt_id": TICKET, "number": 1, "node_errors": {}},
        {"error": {"type": "prompt_outputs_failed_validation", "message": "m", "details": "d"}, "node_errors": {"3": REFUSAL}},
    ],
    "queue": [
        {"queue_running": [], "queue_pending": []},
        {"queue_running": [ENTRY["prompt"]], "queue_pending": [ENTRY["prompt"]]},
    ],
    "history": [
        {TICKET: ENTRY},
        {TICKET: ENTRY | {"status": {"status_str": "error", "messages": [["execution_error", BROKEN]]}}},
        {TICKET: ENTRY | {"status": {"status_str": "error", "messages": [["execution_interrupted", BROKEN]]}}},
        {},
    ],
    "view": [plain()],
    "object_info": [{"CheckpointLoaderSimple": COMBO, "LoraLoader": COMBO, "KSampler": COMBO}],
    "embeddings": [["mary", "john"]],
    "": [{}],
}  # fmt: skip
A1111_SAYS = {
    "txt2img": [
        {"images": [PNG], "parameters": {}, "info": INFO},
        {"error": "RuntimeError", "detail": "", "body": "", "errors": "NaN in Unet"},
        {"detail": [{"loc": ["body", "steps"], "msg": "not an integer"}]},
    ],
    "progress": [{"progress": 0.0, "state": {}, "current_task": TICKET, "active": True, "queued": False, "completed": False}],
    "embeddings": [{"loaded": {"mary": {}}, "skipped": {"old": {}}}],
    "": [[{"name": "Euler", "aliases": ["k_euler"], "label": "Karras", "title": "a.safetensors [12]", "alias": "glow"}]],
}  # fmt: skip


class Says:
    """Answers each path with the replies that were drawn for it, the last one again and again."""

    def __init__(self, replies):
        self._replies = {part: list(some) for part, some in replies.items()}

    def reply_to(self, _method, target, _headers, _body):
        part = next(part for part in self._replies if part in target)
        some = self._replies[part]
        return some.pop(0) if len(some) > 1 else some[0]


def stories(says):
    values = hostile.VALUES | hostile.says(SECRET)
    return st.fixed_dictionaries(
        {part: st.lists(hostile.replies(templates, values), min_size=1, max_size=3) for part, templates in says.items()}
    )


async def nowhere(_host, _port):
    raise OSError("no such host")


def runpod(client):
    fetcher = Fetcher(resolve=nowhere)
    return Runpod(
        "http://r.test/v2/e", client, api_key=SECRET, build=sdxl_input, pace=Pace(150), fetcher=fetcher, clock=wall
    )


def comfyui(client):
    login = ("painter", SECRET)
    binding = bind(load_workflow(None))
    return ComfyUI("http://c.test", client, binding=binding, login=login, pace=Pace(150), clock=wall)


def a1111(client):
    return A1111("http://w.test", client, login=("painter", SECRET), pace=Pace(20), clock=wall)


ASKED = request(
    embedding="mary",
    timeout=TIMEOUT,
    recipe=Recipe(width=64, height=64, model="a", sampler_name="Weird", loras=(Lora("glow", 1.0),)),
)
PLAIN = request(timeout=TIMEOUT, recipe=Recipe(width=64, height=64, model="a.safetensors"))


async def ask_everything(backend):
    """Everything that the house asks of a back end; what is left undone after a while is no failure."""
    for asked in (PLAIN, ASKED):
        made = await outcome(backend.submit, asked)
        found = await outcome(backend.find, asked)
        assert isinstance(found, Submission | NotThere | CannotTell | None)
        known = made if isinstance(made, Submission) else None
        for one in filter(None, (known, Submission(TICKET, "http://c.test", wall(), wall() + 30_000))):
            await outcome(backend.collect, asked, one)
            assert await outcome(backend.cancel, one) is None
        check = backend.check
        assert await outcome(lambda recipe, check=check: check(recipe, images=2), asked.recipe) is None
    assert await outcome(backend.probe) is None


async def outcome(call, *args):
    """Return what a call gave, None where it refused in our own words or took too long."""
    with trio.move_on_after(2 * TIMEOUT):
        try:
            made = await call(*args)
        except BackendError as error:
            assert_in_our_own_words(error, [SECRET])
            return None
        assert_keepable(made)
        if isinstance(made, Submission):
            assert 0 < len(made.remote_id) <= 200
            assert made.accepted_at < made.deadline
        if isinstance(made, Picture):
            with_eyes_open(made)
        return made


def with_eyes_open(made):
    try:
        assert_keepable(examine(made.data))
    except BackendError as error:
        assert_in_our_own_words(error, [SECRET])


@asynccontextmanager
async def reached(answers):
    async with loopback.transport(answers) as wire:
        yield wire


def tell(make, replies):
    async def play():
        async with reached(Says(replies)) as client:
            await ask_everything(make(client))

    began = time.process_time()
    with structlog.testing.capture_logs() as logged:
        trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
    assert SECRET not in repr(logged)
    assert hostile.SIGNATURE not in repr(logged)
    assert time.process_time() - began < SOON


ADAPTERS = {"runpod": (runpod, RUNPOD), "comfyui": (comfyui, COMFYUI), "a1111": (a1111, A1111_SAYS)}


def tell_many(name, stories_told, **more):
    make, says = ADAPTERS[name]

    @settings(max_examples=stories_told, deadline=None, suppress_health_check=list(HealthCheck), **more)
    @given(stories(says))
    def told(replies):
        tell(make, replies)

    told()


@pytest.mark.parametrize("name", ADAPTERS)
def test_whatever_a_back_end_answers_comes_to_an_outcome_in_our_own_words(name):
    tell_many(name, 12)


@pytest.mark.torture
@pytest.mark.parametrize("name", ADAPTERS)
def test_whatever_a_back_end_answers_comes_to_an_outcome_in_our_own_words_many_times(name):
    tell_many(name, 250, derandomize=False, print_blob=True)


@st.composite
def spoilt(draw):
    """A picture's bytes with a few of them changed, cut out or added."""
    data = bytearray(plain(format=draw(st.sampled_from(["PNG", "JPEG", "WEBP"])), mode="RGB"))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        scrap = draw(
            st.binary(max_size=6) | st.sampled_from([b"\xff" * 4, bytes(4), b"IHDR", b"iCCP", b"zTXt", b"Exif"])
        )
        data[at : at + draw(st.integers(0, 8))] = scrap
    return bytes(data)


def look_at_many(pictures, **more):
    @settings(max_examples=pictures, deadline=None, **more)
    @given(spoilt())
    def look(data):
        with_eyes_open(Picture(data))

    look()


def test_whatever_is_said_to_be_a_picture_is_described_or_refused():
    look_at_many(100)


@pytest.mark.torture
def test_whatever_is_said_to_be_a_picture_is_described_or_refused_many_times():
    look_at_many(1_500, derandomize=False, print_blob=True)
