"""RunPod serverless: what is bought once is followed to its end, in every weather."""

import base64
import json
import traceback
from dataclasses import replace

import pytest
import structlog
import trio

from pipeline.backends.connecting import open_transport
from pipeline.backends.endurance import ENDURED
from pipeline.backends.fetch import Fetcher
from pipeline.backends.pace import Pace
from pipeline.backends.runpod import LARGEST_REQUEST, Runpod
from pipeline.backends.runpod_inputs import input_builder, sdxl_input
from pipeline.errors import (
    AcceptanceUnknown,
    AttemptFailed,
    BackendError,
    ConfigError,
    InvalidRequest,
    NotAccepted,
    NotWorthRepeating,
    OutOfTime,
    Unavailable,
)
from pipeline.model import Lora, Recipe
from pipeline.ports import CannotTell
from tests.support import pictures
from tests.support.loopback import Reply, Weather, page, said, served, transport
from tests.support.runpod_emulator import KEY, Plan, RunPod, sdxl_output
from tests.support.waiting import EPOCH, wall

URL = "https://api.runpod.test/v2/e"
PICTURE = pictures.plain(24, 16, shade=7)
B64 = base64.b64encode(PICTURE).decode()
SIGNED = "https://bucket.test/a.png?X-Amz-Signature=hush-hush"


@pytest.fixture
def cloud():
    return RunPod(trio.current_time)


def adapter(cloud, url=URL, *, wire=None, key=KEY, build=sdxl_input, fetcher=None, clock=wall) -> Runpod:
    wire = wire or transport(cloud)
    pace = Pace(150, clock=clock)
    return Runpod(url, wire, api_key=key, build=build, pace=pace, fetcher=fetcher or Fetcher(), clock=clock)


def asked(**changes):
    return pictures.request(recipe=Recipe(width=24, height=16), **changes)


async def made(backend, request):
    return await backend.collect(request, await backend.submit(request))


# --- the straight way


async def test_a_request_is_submitted_once_and_collected_when_it_is_done(cloud, autojump_clock):
    cloud.plans.append(Plan(seconds=12.1, queued=3, make_output=sdxl_output))
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    assert (submission.base_url, submission.accepted_at) == (URL, wall())
    assert submission.deadline == EPOCH + 600_000
    assert submission.expires_at == EPOCH + 1_800_000
    picture = await backend.collect(asked(), submission)
    assert (picture.data, picture.gpu_seconds, picture.used_embedding) == (PICTURE, 12.1, False)
    assert 15.1 <= trio.current_time() <= 15.1 * 1.05
    assert cloud.bodies == [
        {
            "input": {"prompt": "a portrait in a garden", "width": 24, "height": 16, "seed": 7, "num_images": 1},
            "policy": {"executionTimeout": 600_000, "ttl": 7_200_000},
        }
    ]


@pytest.mark.parametrize(
    ("timeout", "run", "ttl"), [(2, 5_000, 7_200_000), (600, 600_000, 7_200_000), (7200, 7_200_000, 10_800_000)]
)
async def test_the_policy_follows_the_timeout(cloud, autojump_clock, timeout, run, ttl):
    await adapter(cloud).submit(asked(timeout=timeout))
    assert cloud.bodies[0]["policy"] == {"executionTimeout": run, "ttl": ttl}


async def test_collecting_can_be_repeated_also_by_a_later_run_of_the_program(cloud, autojump_clock):
    submission = await adapter(cloud).submit(asked())
    await trio.sleep(1000)
    first = await adapter(cloud).collect(asked(), submission)
    assert (await adapter(cloud).collect(asked(), submission)).data == first.data
    assert trio.current_time() == 1000
    assert cloud.paid == 1


async def test_progress_output_is_no_result(cloud, autojump_clock):
    cloud.plans.append(Plan(seconds=9, progress={"images": [B64]}, output={"images": [B64]}))
    await made(adapter(cloud), asked())
    assert trio.current_time() >= 9


@pytest.mark.parametrize("queued", [0.0, 0.3, 4.0, 33.3])
async def test_what_a_job_waited_for_a_worker_does_not_blur_when_it_will_be_done(cloud, autojump_clock, queued):
    backend = adapter(cloud)
    for wait in (0.0, 7.0, 2.0, queued):
        cloud.plans.append(Plan(seconds=10, queued=wait, make_output=sdxl_output))
        began = trio.current_time()
        await made(backend, asked())
    assert 0 <= trio.current_time() - began - queued - 10 <= 0.025 + 1e-6, "half of the finest gap"


async def test_a_status_nobody_knows_is_waited_out(cloud, autojump_clock):
    cloud.weather.append(Weather("answer", path="/status/", reply=said({"id": "x", "status": "DEFROSTING"}), times=2))
    with structlog.testing.capture_logs() as logs:
        await made(adapter(cloud), asked())
    assert [log["status"] for log in logs if log["event"] == "unknown_status"] == ["DEFROSTING", "DEFROSTING"]


# --- ends


ENDS = [
    (Plan(ends="FAILED", error="the GPU fell off the bus"), AttemptFailed, "failed", "the GPU fell off"),
    (Plan(ends="FAILED", error=json.dumps({"error_type": "X", "error_message": "boom", "hostname": "pod-7"})),
     AttemptFailed, "failed", "X: boom"),
    (Plan(ends="FAILED", error="Workflow validation failed", output={"details": ["node 4: ckpt_name"]}),
     InvalidRequest, "invalid_request", "node 4: ckpt_name"),
    (Plan(ends="FAILED", error=["Unexpected input. cfg is not a valid input option."]),
     InvalidRequest, "invalid_request", "cfg is not a valid"),
    (Plan(ends="FAILED", error="OutOfMemoryError", output={"detail": "", "errors": "CUDA"}),
     AttemptFailed, "out_of_memory", "OutOfMemoryError"),
    (Plan(ends="FAILED", output={"output": "Traceback: no such node"}), AttemptFailed, "failed", "no such node"),
    (Plan(ends="FAILED"), AttemptFailed, "failed", "no reason given"),
    (Plan(ends="CANCELLED"), AttemptFailed, "cancelled", "cancelled there"),
    (Plan(ends="TIMED_OUT"), AttemptFailed, "timed_out", "make images smaller"),
    (Plan(output={"status": "success_no_images", "images": []}), AttemptFailed, "empty_output", "no image"),
    (Plan(), AttemptFailed, "empty_output", "no image"),
    (Plan(output={"images": [], "errors": ["node 9: boom"]}), AttemptFailed, "failed", "node 9: boom"),
    (Plan(output={"detail": [{"loc": ["body", "steps"], "msg": "value is not a valid integer", "type": "type_error.integer"}]}),
     InvalidRequest, "invalid_request", "steps: value is not a valid integer"),
    (Plan(error={"error": "dict"}), AttemptFailed, "failed", "dict"),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "kind", "code", "words"), ENDS)
async def test_every_end_but_a_picture_is_an_error_with_its_cost(cloud, autojump_clock, plan, kind, code, words):
    cloud.plans.append(replace(plan, seconds=4))
    with pytest.raises(kind, match=words) as caught:
        await made(adapter(cloud), asked())
    assert caught.value.code == code
    assert caught.value.gpu_seconds == 4.0


async def test_errors_besides_an_image_do_not_spoil_it(cloud, autojump_clock):
    cloud.plans.append(Plan(output={"images": [{"type": "base64", "data": B64}, B64], "errors": ["preview failed"]}))
    assert (await made(adapter(cloud), asked())).data == PICTURE


async def test_a_job_that_never_ends_is_looked_at_until_its_time_is_over_and_says_what_it_may_be(cloud, autojump_clock):
    """A result too large for the worker to deliver looks exactly like this."""
    cloud.plans.append(Plan(ends="IN_PROGRESS"))
    backend = adapter(cloud)
    request = asked(timeout=60)
    submission = await backend.submit(request)
    cloud.jobs[submission.remote_id].limit = 3600
    with pytest.raises(OutOfTime, match=r"still IN_PROGRESS after 60 s.*10 MB") as caught:
        await backend.collect(request, submission)
    assert caught.value.code == "timed_out"
    assert 60 <= trio.current_time() <= 63


async def test_a_wall_clock_that_is_put_on_ends_nothing_that_still_has_time(cloud, autojump_clock):
    cloud.plans.append(Plan(seconds=20, make_output=sdxl_output))
    backend = adapter(cloud, clock=lambda: wall() + (3_600_000 if trio.current_time() > 5 else 0))
    assert (await made(backend, asked())).data == PICTURE


@pytest.mark.parametrize(
    ("plan", "down", "code"),
    [
        (Plan(seconds=1), 29 * 60, None),
        (Plan(seconds=1), 31 * 60, "expired"),
        (Plan(forgotten_after=2, seconds=9), 0, "lost"),
        (Plan(seconds=7200, queued=7000), 7201, "expired"),
    ],
)
async def test_a_result_that_is_gone_is_told_apart_from_one_that_is_late(cloud, autojump_clock, plan, down, code):
    cloud.plans.append(replace(plan, make_output=sdxl_output))
    submission = await adapter(cloud).submit(asked(timeout=10_000 if code is None else 60))
    await trio.sleep(down)
    collect = adapter(cloud).collect(asked(), submission)
    if code is None:
        assert (await collect).data == PICTURE
        return
    with pytest.raises(AttemptFailed) as caught:
        await collect
    assert caught.value.code == code


async def test_one_404_alone_is_not_believed(cloud, autojump_clock):
    cloud.weather.append(Weather("page", path="/status/", reply=said({}, 404)))
    assert (await made(adapter(cloud), asked())).data == PICTURE


# --- weather


@pytest.mark.parametrize(
    "weather",
    [
        Weather("refuse"),
        Weather("reset"),
        Weather("swallow"),
        Weather("cut"),
        Weather("hang"),
        Weather("answer", reply=Reply(500)),
        Weather("answer", reply=page(502)),
        Weather("answer", reply=Reply(503)),
        Weather("answer", reply=Reply(429, headers={"retry-after": "2"})),
        Weather("answer", reply=Reply(429)),
        Weather("answer", reply=Reply(200)),
        Weather("answer", reply=Reply(200, b'{"status": "COMP')),
        Weather("answer", reply=said([])),
        Weather("answer", reply=said({"id": "x"})),
        Weather("answer", reply=said({"error": "bad"}, 400)),
    ],
)
async def test_weather_while_collecting_is_waited_out_and_then_told(cloud, autojump_clock, weather):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    cloud.weather.append(replace(weather, path="/status/", times=ENDURED - 1))
    assert (await backend.collect(asked(), submission)).data == PICTURE
    cloud.weather.append(replace(weather, path="/status/", times=ENDURED))
    with pytest.raises(NotAccepted):
        await backend.collect(asked(), submission)
    assert cloud.paid == 1


async def test_a_page_in_place_of_everything_is_waited_out_and_then_told(cloud, autojump_clock):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    cloud.weather.extend(Weather("page", path=path, times=ENDURED - 1) for path in ("/status/", "/health"))
    assert (await backend.collect(asked(), submission)).data == PICTURE
    cloud.weather.extend(Weather("page", path=path, times=ENDURED) for path in ("/status/", "/health"))
    with pytest.raises(Unavailable):
        await backend.collect(asked(), submission)
    assert cloud.paid == 1


async def test_a_job_that_is_not_there_is_lost_also_where_a_page_says_so(cloud, autojump_clock):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    cloud.weather.append(Weather("page", path="/status/", times=2))
    with pytest.raises(AttemptFailed) as caught:
        await backend.collect(asked(), submission)
    assert (caught.value.code, trio.current_time()) == ("lost", 0.5)


async def test_pauses_in_bad_weather_grow_or_are_as_long_as_asked_for(cloud, autojump_clock):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    await trio.sleep(10)
    cloud.weather.append(Weather("page", path="/status/", reply=Reply(503), times=3))
    began = trio.current_time()
    await backend.collect(asked(), submission)
    assert trio.current_time() - began == pytest.approx(0.5 + 1 + 2, abs=2)
    cloud.weather.append(Weather("page", path="/status/", reply=Reply(429, headers={"retry-after": "33"})))
    began = trio.current_time()
    await backend.collect(asked(), submission)
    assert trio.current_time() - began == pytest.approx(33, abs=2)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_what_does_not_mend_by_waiting_is_told_at_once(cloud, autojump_clock, status):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    cloud.weather.append(Weather("page", path="/status/", reply=Reply(status), times=9))
    with pytest.raises(Unavailable):
        await backend.collect(asked(), submission)
    assert len([path for _, path in cloud.requests if "status" in path]) == 0


async def test_an_answer_of_200_mb_is_refused_and_not_asked_for_again(cloud, autojump_clock):
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    cloud.weather.append(Weather("answer", path="/status/", reply=Reply(200, b"{", zeros=200 << 20)))
    with pytest.raises(AttemptFailed) as caught:
        await backend.collect(asked(), submission)
    assert caught.value.code == "too_large"


SUBMITS = [
    (Weather("refuse"), Unavailable, "unreachable", 0),
    (Weather("reset"), AcceptanceUnknown, "no_answer", 0),
    (Weather("swallow"), AcceptanceUnknown, "no_answer", 1),
    (Weather("hang"), AcceptanceUnknown, "timed_out", 1),
    (Weather("answer", reply=page(200)), AcceptanceUnknown, "no_answer", 1),
    (Weather("answer", reply=page(502)), AcceptanceUnknown, "no_answer", 1),
    (Weather("answer", reply=Reply(500)), AcceptanceUnknown, "no_answer", 1),
    (Weather("answer", reply=said({"status": "IN_QUEUE"})), AcceptanceUnknown, "no_answer", 1),
    (Weather("answer", reply=said({"id": ""})), AcceptanceUnknown, "no_answer", 1),
    (Weather("answer", reply=said([])), AcceptanceUnknown, "no_answer", 1),
    (Weather("page", reply=Reply(429)), NotAccepted, "rate_limited", 0),
    (Weather("page", reply=Reply(401)), Unavailable, "credentials", 0),
    (Weather("page", reply=said({}, 404)), Unavailable, "not_found", 0),
    (Weather("page", reply=said({"id": "x", "status": "FAILED", "error": "size"}, 400)), InvalidRequest, "invalid_request", 0),
    (Weather("page", reply=Reply(400, b"bad request: body: exceeded max body size of 10MiB")), InvalidRequest, "too_large", 0),
]  # fmt: skip


@pytest.mark.parametrize(("weather", "kind", "code", "paid"), SUBMITS)
async def test_weather_over_a_submission(cloud, autojump_clock, weather, kind, code, paid):
    weather.times = 1
    cloud.weather.append(weather)
    with pytest.raises(BackendError) as caught:
        await adapter(cloud).submit(asked())
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert cloud.paid == paid
    if code == "credentials":
        assert "RUNPOD_API_KEY" in str(caught.value)


async def test_a_request_over_10_mb_is_not_even_sent(cloud, autojump_clock):
    request = pictures.request(recipe=Recipe(params={"image_url": "x" * LARGEST_REQUEST}))
    with pytest.raises(InvalidRequest, match=r"10\.5 MB.*10 MiB at most") as caught:
        await adapter(cloud).submit(request)
    assert caught.value.code == "too_large"
    assert cloud.requests == []


# --- the other verbs


async def test_what_is_in_doubt_cannot_be_looked_up(cloud, autojump_clock):
    assert isinstance(await adapter(cloud).find(asked()), CannotTell)
    assert cloud.requests == []


async def test_cancelling_stops_that_job_and_nothing_else(cloud, autojump_clock):
    backend = adapter(cloud)
    first, second = await backend.submit(asked()), await backend.submit(asked())
    await backend.cancel(first)
    await backend.cancel(first)
    await backend.cancel(first._replace(remote_id="../purge-queue"))
    assert cloud.cancelled[:2] == [first.remote_id] * 2
    assert not any(path.rpartition("/")[2] == "purge-queue" and "cancel" not in path for _, path in cloud.requests)
    with pytest.raises(AttemptFailed, match="cancelled"):
        await backend.collect(asked(), first)
    assert (await backend.collect(asked(), second)).data == PICTURE


async def test_the_probe_asks_for_health(cloud, autojump_clock):
    await adapter(cloud).probe()
    assert cloud.requests == [("GET", "/v2/e/health")]
    with pytest.raises(Unavailable, match="RUNPOD_API_KEY"):
        await adapter(cloud, key="wrong-key").probe()
    with pytest.raises(Unavailable):
        await adapter(cloud, "https://api.runpod.test/v2/other").probe()


@pytest.mark.parametrize("status", [400, 422, 500, 502])
async def test_a_probe_that_is_answered_badly_says_so(cloud, autojump_clock, status):
    cloud.weather.append(Weather("answer", reply=Reply(status, b"no workers")))
    with pytest.raises(Unavailable, match=f"answered {status} with .*no workers"):
        await adapter(cloud).probe()


async def test_the_key_does_not_follow_a_submission_to_another_origin(cloud, autojump_clock):
    backend = adapter(cloud)
    submission = (await backend.submit(asked()))._replace(base_url="https://elsewhere.test/v2/e")
    with pytest.raises(Unavailable):
        await backend.collect(asked(), submission)
    assert "authorization" not in cloud.headers[-1]


async def test_an_old_address_at_the_same_origin_is_asked_there(cloud, autojump_clock):
    submission = await adapter(cloud).submit(asked())
    assert (await adapter(cloud, "https://api.runpod.test/v2/new").collect(asked(), submission)).data == PICTURE


# --- images by URL


class Shelf:
    """Stands in for downloads; each result is used once, the last one for ever."""

    def __init__(self, *results) -> None:
        self.results = list(results)
        self.urls = []

    async def fetch(self, url, *, timeout=1.0):
        self.urls.append(url)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


async def test_an_image_named_by_url_is_fetched_also_in_bad_weather(cloud, autojump_clock):
    cloud.plans.append(Plan(output={"images": [{"type": "s3_url", "data": SIGNED}]}))
    shelf = Shelf(Unavailable("down", code="image_host"), PICTURE)
    assert (await made(adapter(cloud, fetcher=shelf), asked())).data == PICTURE
    assert shelf.urls == [SIGNED, SIGNED]


async def test_a_private_address_is_not_asked_and_not_bought_again(cloud, autojump_clock):
    cloud.plans.append(Plan(output={"image_url": "http://127.0.0.1:1/a.png"}))
    with pytest.raises(BackendError) as caught:
        await made(adapter(cloud), asked())
    assert (type(caught.value).__name__, caught.value.code) == ("NotWorthRepeating", "forbidden_address")


@pytest.mark.parametrize(
    "trouble",
    [
        NotWorthRepeating("private", code="forbidden_address"),
        AttemptFailed("gone", code="expired"),
        AttemptFailed("redirects without end", code="bad_image_url"),
    ],
)
async def test_what_the_gpu_has_cost_is_told_though_its_picture_cannot_be_fetched(cloud, autojump_clock, trouble):
    cloud.plans.append(Plan(seconds=0.3, output={"image_url": SIGNED}))
    with pytest.raises(BackendError) as caught:
        await made(adapter(cloud, fetcher=Shelf(trouble)), asked())
    assert (caught.value, caught.value.gpu_seconds) == (trouble, 0.3)


# --- secrets


SECRET_WEATHER = [
    *(Weather("answer", reply=Reply(code, f"key {KEY} at {SIGNED} Bearer {KEY}".encode())) for code in (200, 400, 401, 404, 422, 429, 500, 503)),
    Weather("answer", reply=Reply(302, headers={"location": SIGNED})),
    *(Weather(kind) for kind in ("refuse", "reset", "swallow", "cut", "hang")),
    Weather("answer", reply=said({"id": "x", "status": "FAILED", "error": f"key {KEY} {SIGNED}"})),
    Weather("answer", reply=said({"id": "x", "status": "COMPLETED", "output": {"errors": [KEY, SIGNED]}})),
    Weather("answer", reply=said({"id": "x", "status": KEY})),
]  # fmt: skip


@pytest.mark.parametrize("weather", SECRET_WEATHER)
async def test_no_secret_is_in_any_error_or_log(cloud, autojump_clock, caplog, weather):
    caplog.set_level("DEBUG")
    backend = adapter(cloud)
    submission = await backend.submit(asked())
    texts = []
    with structlog.testing.capture_logs() as logs:
        for act in (
            lambda: backend.submit(asked()),
            lambda: backend.collect(asked(timeout=20), submission._replace(deadline=wall() + 20_000)),
            lambda: backend.cancel(submission),
            backend.probe,
        ):
            cloud.weather.clear()
            cloud.weather.append(replace(weather, times=99))
            try:
                with trio.move_on_after(100):
                    await act()
            except BackendError as error:
                texts.append("".join(traceback.format_exception(error)))
    texts += [repr(logs), caplog.text]
    for secret in (KEY, "hush-hush"):
        assert not any(secret in text for text in texts)


# --- inputs


def full(**changes):
    recipe = Recipe(
        width=832, height=1216, negative_prompt="blurry", model="animagine.safetensors", steps=28, cfg_scale=7,
        sampler_name="Euler", loras=(Lora("glow.safetensors", 0.8),), style="anime",
    )  # fmt: skip
    return pictures.request(recipe=recipe._replace(**changes.pop("recipe", {})), **changes)


def test_the_input_of_worker_sdxl_holds_only_keys_it_knows():
    build = input_builder("sdxl")
    given = build(full(recipe={"loras": (), "params": {"high_noise_frac": 0.8}}, embedding="mary-v2"))
    assert given == {
        "prompt": "a portrait in a garden", "negative_prompt": "blurry", "width": 832, "height": 1216, "seed": 7,
        "scheduler": "K_EULER", "num_inference_steps": 28, "guidance_scale": 7.0, "num_images": 1, "high_noise_frac": 0.8,
    }  # fmt: skip
    assert isinstance(given["guidance_scale"], float)


@pytest.mark.parametrize(
    ("names", "scheduler"),
    [
        ({"sampler_name": "DPM++ 2M"}, "DPMSolverMultistep"),
        ({"sampler_name": "PLMS"}, "PNDM"),
        ({"sampler_name": "DDIM", "scheduler": "Karras"}, "DDIM"),
        ({"sampler_name": None, "scheduler": "K_EULER"}, "K_EULER"),
        ({"sampler_name": "KLMS"}, "KLMS"),
        ({"sampler_name": None}, None),
    ],
)
def test_samplers_of_worker_sdxl(names, scheduler):
    assert sdxl_input(full(recipe={"loras": (), **names})).get("scheduler") == scheduler


@pytest.mark.parametrize(
    ("worker", "changes", "code", "words"),
    [
        ("sdxl", {}, "unsupported", "LoRAs"),
        ("sdxl", {"loras": (), "sampler_name": "LCM"}, "unknown_sampler", "K_EULER|euler"),
        ("sdxl", {"loras": (), "sampler_name": "Eulr"}, "unknown_sampler", "Eulr"),
        ("sdxl", {"loras": (), "params": {"cfg": 7}}, "unsupported", "cfg"),
        ("sdxl", {"loras": (), "params": {"seed": 7}}, "collision", "seed"),
        ("a1111", {"params": {"steps": 7}}, "collision", "steps"),
        ("a1111", {"params": {"override_settings": {"sd_model_checkpoint": "x"}}}, "collision", "override_settings"),
        ("a1111", {"loras": (Lora("a:b"),)}, "bad_lora", "a:b"),
        ("a1111", {"sampler_name": "Eulr"}, "unknown_sampler", "Euler"),
    ],
)
async def test_what_a_worker_cannot_do_is_found_before_anything_is_queued(
    cloud, autojump_clock, worker, changes, code, words
):
    backend = adapter(cloud, build=input_builder(worker))
    with pytest.raises(InvalidRequest, match=words) as caught:
        await backend.check(full(recipe=changes).recipe, images=3)
    assert caught.value.code == code
    assert cloud.requests == []


def test_the_input_of_worker_a1111_is_the_body_of_txt2img():
    params = {"clip_skip": 2, "override_settings": {"eta_ancestral": 1}}
    assert input_builder("a1111")(full(recipe={"params": params}, embedding="mary-v2")) == {
        "prompt": "a portrait in a garden, mary-v2, <lora:glow:0.8>", "negative_prompt": "blurry", "seed": 7, "steps": 28,
        "cfg_scale": 7, "width": 832, "height": 1216, "sampler_name": "Euler", "batch_size": 1, "n_iter": 1,
        "send_images": True, "force_task_id": pictures.TICKET, "clip_skip": 2, "override_settings_restore_afterwards": False,
        "override_settings": {"eta_ancestral": 1, "sd_model_checkpoint": "animagine.safetensors"},
    }  # fmt: skip


async def test_worker_a1111_s_own_record_tells_whether_it_used_the_embedding(cloud, autojump_clock):
    for texts, used in ((['Steps: 1, TI hashes: "mary-v2: 0a1b"'], True), (["Steps: 1"], False)):
        cloud.plans.append(Plan(output={"images": [B64], "info": json.dumps({"infotexts": texts})}))
        picture = await made(adapter(cloud, build=input_builder("a1111")), asked(embedding="mary-v2"))
        assert picture.used_embedding is used


def test_the_input_of_worker_comfyui_is_the_graph():
    build = input_builder("comfyui", graph=lambda request: {"1": {"seed": request.seed}})
    assert build(full()) == {"workflow": {"1": {"seed": 7}}}


TEMPLATE = {
    "text": "{{prompt}}", "seed": "{{seed}}", "cfg": "{{cfg_scale}}", "steps": "{{ steps }}", "note": "seed {{seed}}{{embedding}}",
    "size": ["{{width}}", "{{height}}"], "opts": {"lora": "{{loras}}", "ti": "{{embedding}}", "fixed": True}, "x": "{{eta}}",
    "sometimes": ["{{scheduler}}"], "model": "{{model}}", "style": "{{style}}", "id": "{{ticket}}",
}  # fmt: skip


def test_a_template_s_values_keep_their_type_and_absent_ones_are_left_away():
    build = input_builder("custom", template=TEMPLATE)
    assert build(full(recipe={"params": {"eta": 0.5, "tiling": True}})) == {
        "text": "a portrait in a garden", "seed": 7, "cfg": 7, "steps": 28, "note": "seed 7", "size": [832, 1216],
        "opts": {"lora": [{"name": "glow.safetensors", "weight": 0.8}], "fixed": True}, "x": 0.5, "sometimes": [],
        "model": "animagine.safetensors", "style": "anime", "id": pictures.TICKET, "tiling": True,
    }  # fmt: skip


def test_a_template_can_hold_a_graph_or_a_txt2img_body():
    template = {"workflow": "custom", "payload": "{{workflow}}"}
    build = input_builder("custom", template=template, graph=lambda request: {"1": request.seed})
    assert build(full(recipe={"params": {"3.seed": 1}})) == {"workflow": "custom", "payload": {"1": 7}}
    body = input_builder("custom", template={"api": {"method": "POST"}, "payload": "{{txt2img}}"})(full())
    assert body["payload"] == input_builder("a1111")(full())


@pytest.mark.parametrize(
    ("template", "params", "code", "words"),
    [
        ({"a": "{{promt}}"}, {}, "no_value", 'did you mean "prompt"'),
        ({"a": "{{zzz}}"}, {}, "no_value", "not in its params$"),
        ({"a": "{{prompt}}", "b": 1}, {"b": 2}, "collision", "may not set b"),
    ],
)
def test_a_template_that_cannot_be_filled_says_why(template, params, code, words):
    with pytest.raises(InvalidRequest, match=words) as caught:
        input_builder("custom", template=template)(full(recipe={"params": params}))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("worker", "more", "words"),
    [
        ("custom", {}, "needs an `input:` template"),
        ("custom", {"template": {"a": "{{workflow}}"}}, "no `workflow:` file"),
        ("comfyui", {}, "choose one of"),
        ("sdxll", {}, "choose one of sdxl"),
    ],
)
def test_a_worker_that_lacks_something_is_a_configuration_error(worker, more, words):
    with pytest.raises(ConfigError, match=words):
        input_builder(worker, **more)


# --- real sockets


async def test_on_a_real_socket_jobs_go_on_while_the_program_is_away():
    cloud = RunPod()
    cloud.plans.append(Plan(seconds=0.2, make_output=sdxl_output))
    with served(cloud) as origin:
        async with open_transport(origin, slots=1) as wire:
            first = Runpod(f"{origin}/v2/e", wire, api_key=KEY, build=sdxl_input, pace=Pace(150), fetcher=Fetcher())
            submission = await first.submit(asked())
        cloud.skipped = 29 * 60
        async with open_transport(origin, slots=1) as wire:
            second = Runpod(f"{origin}/v2/e", wire, api_key=KEY, build=sdxl_input, pace=Pace(150), fetcher=Fetcher())
            picture = await second.collect(asked(), submission)
        assert (picture.data, picture.gpu_seconds, cloud.paid) == (PICTURE, 0.2, 1)
