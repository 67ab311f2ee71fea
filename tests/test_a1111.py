"""AUTOMATIC1111: one blocking request an image, and honesty about what became of it."""

import base64
import json
import traceback
from dataclasses import replace

import httpx
import pytest
import structlog
import trio

from pipeline import picture
from pipeline.backends.a1111 import A1111
from pipeline.backends.connecting import open_transport
from pipeline.backends.pace import Pace
from pipeline.errors import AcceptanceUnknown, AttemptFailed, BackendError, InvalidRequest, NotAccepted, Unavailable
from pipeline.model import Lora, Recipe, State, Submission
from pipeline.ports import CannotTell
from tests.support import a1111_emulator, pictures
from tests.support.a1111_emulator import LOGIN
from tests.support.index import images_of
from tests.support.loopback import Reply, Weather, page, said, served, transport
from tests.support.scripted import house, job
from tests.support.waiting import wall

URL = "http://webui.test:7860"
TXT2IMG = "/sdapi/v1/txt2img"
PICTURE = pictures.plain(24, 16, shade=7)


@pytest.fixture
def webui():
    return a1111_emulator.A1111(trio.current_time, seconds=10)


def adapter(webui, url=URL, *, wire=None, **more) -> A1111:
    wire = wire or transport(webui)
    return A1111(url, wire, pace=Pace(20, clock=wall), clock=wall, **more)


def asked(recipe=None, **changes):
    return pictures.request(recipe=recipe or Recipe(width=24, height=16), **changes)


def paths(webui):
    return [path for _, path in webui.requests]


# --- the straight way


async def test_the_answer_is_the_picture(webui, autojump_clock):
    made = await adapter(webui).submit(asked())
    assert (made.data, made.gpu_seconds, made.used_embedding) == (PICTURE, None, False)
    assert trio.current_time() == 10
    assert webui.bodies == [
        {
            "prompt": "a portrait in a garden", "seed": 7, "width": 24, "height": 16, "batch_size": 1, "n_iter": 1,
            "send_images": True, "force_task_id": pictures.TICKET,
        }
    ]  # fmt: skip
    assert paths(webui) == [TXT2IMG]


async def test_a_grid_is_no_picture(webui, autojump_clock):
    webui.grid = True
    assert (await adapter(webui).submit(asked())).data == PICTURE


async def test_a_whole_recipe_arrives(webui, autojump_clock):
    recipe = Recipe(
        width=24, height=16, model="animagine.safetensors", steps=28, cfg_scale=6.5, sampler_name="dpmpp_2m",
        scheduler="karras", loras=(Lora("glow", 0.8),), params={"enable_hr": True, "override_settings": {"eta": 1}},
    )  # fmt: skip
    await adapter(webui).submit(asked(recipe, embedding="mary-v2"))
    body = webui.bodies[0]
    assert body["prompt"] == "a portrait in a garden, mary-v2, <lora:glow:0.8>"
    assert (body["sampler_name"], body["scheduler"], body["enable_hr"]) == ("DPM++ 2M", "Karras", True)
    assert body["override_settings"] == {"eta": 1, "sd_model_checkpoint": "animagine.safetensors"}
    assert body["override_settings_restore_afterwards"] is False


@pytest.mark.parametrize(
    ("embedding", "prompt", "sent", "used"),
    [
        ("mary-v2", "in a garden", "in a garden, mary-v2", True),
        ("Mary-V2", "in a garden", "in a garden, mary-v2", True),
        ("mary-v2", "mary-v2 in a garden", "mary-v2 in a garden", True),
        ("mary-v2", " ", "mary-v2", True),
        ("old-mary", "in a garden", "in a garden, old-mary", True),  # made for another model: its record decides
        ("nobody", "in a garden", "in a garden", False),
        (None, "in a garden", "in a garden", False),
    ],
)
async def test_an_embedding_is_sent_where_it_exists_and_said_to_be_used_only_then(
    webui, autojump_clock, embedding, prompt, sent, used
):
    made = await adapter(webui).submit(asked(prompt=prompt, embedding=embedding))
    assert (webui.bodies[0]["prompt"], made.used_embedding) == (sent, used)


async def test_where_embeddings_cannot_be_listed_none_is_sent(webui, autojump_clock):
    webui.absent.add("embeddings")
    made = await adapter(webui).submit(asked(embedding="mary-v2"))
    assert (webui.bodies[0]["prompt"], made.used_embedding) == ("a portrait in a garden", False)


async def test_basic_auth_goes_to_its_origin(webui, autojump_clock):
    webui.login = LOGIN
    await adapter(webui, login=LOGIN).submit(asked())
    with pytest.raises(Unavailable, match="--api-auth") as caught:
        await adapter(webui).submit(asked())
    assert caught.value.code == "credentials"
    with pytest.raises(Unavailable, match="--api-auth"):
        await adapter(webui, login=("painter", "wrong")).probe()


# --- refusals and failures

OOM = {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"}
ANSWERS = [
    (said({"detail": [{"loc": ["body", "steps"], "msg": "not an integer"}]}, 422), InvalidRequest, "invalid_request"),
    (said({"detail": "Sampler not found"}, 404), InvalidRequest, "invalid_request"),
    (said({"detail": "Not Found"}, 404), Unavailable, "not_found"),
    (said(OOM, 500), AttemptFailed, "out_of_memory"),
    (said({"error": "RuntimeError", "detail": "", "errors": "NaN"}, 500), AttemptFailed, "failed"),
    (said({"detail": "Incorrect username or password"}, 401), Unavailable, "credentials"),
    (said({"detail": "later"}, 503), Unavailable, "unavailable"),
    (Reply(500, b"Internal Server Error"), AcceptanceUnknown, "no_answer"),
    (page(502), AcceptanceUnknown, "no_answer"),
    (page(524), AcceptanceUnknown, "no_answer"),
    (page(200), AcceptanceUnknown, "no_answer"),
    (Reply(200), AcceptanceUnknown, "no_answer"),
    (said({"images": [], "parameters": {}, "info": ""}), AttemptFailed, "empty_output"),
    (said({"images": ["https://elsewhere.test/a.png"]}), AttemptFailed, "empty_output"),
    (Reply(200, b"{", zeros=200 << 20), AttemptFailed, "too_large"),
]


@pytest.mark.parametrize(("reply", "kind", "code"), ANSWERS)
async def test_what_an_answer_without_a_picture_means(webui, autojump_clock, reply, kind, code):
    webui.results.append(replace(reply))
    with pytest.raises(BackendError) as caught:
        await adapter(webui).submit(asked())
    assert (type(caught.value), caught.value.code) == (kind, code)


@pytest.mark.parametrize(
    ("kind", "error", "paid"),
    [
        ("refuse", Unavailable, 0),
        ("reset", AcceptanceUnknown, 0),
        ("swallow", AcceptanceUnknown, 1),
        ("cut", AcceptanceUnknown, 1),
    ],
)
async def test_a_broken_connection(webui, autojump_clock, kind, error, paid):
    webui.weather.append(Weather(kind, path="/txt2img"))
    with pytest.raises(error):
        await adapter(webui).submit(asked())
    assert webui.paid == paid


async def test_bad_weather_while_looking_things_up_buys_nothing(webui, autojump_clock):
    webui.weather.append(Weather("page", path="/embeddings", reply=Reply(429)))
    with pytest.raises(NotAccepted):
        await adapter(webui).submit(asked(embedding="mary-v2"))
    assert webui.paid == 0


# --- time-outs, doubts


@pytest.mark.parametrize(("timeout", "stopped_at"), [(200, 190), (20, 18), (6, 5), (2, 1.5)])
async def test_what_takes_too_long_is_stopped_if_it_is_ours(webui, autojump_clock, timeout, stopped_at):
    webui.seconds = 1000
    with pytest.raises(AttemptFailed) as caught:
        await adapter(webui).submit(asked(timeout=timeout))
    assert caught.value.code == "timed_out"
    assert trio.current_time() == stopped_at
    assert webui.interrupted == [pictures.TICKET]


async def test_another_s_image_is_never_interrupted(webui, autojump_clock):
    webui.seconds = 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(httpx.AsyncClient(transport=transport(webui)).post, URL + TXT2IMG)
        webui.weather.append(Weather("page", path="/txt2img", reply=Reply(200)))
        await trio.testing.wait_all_tasks_blocked()
        webui.tasks.append(a1111_emulator.Task("theirs", 0, 1000))
        with pytest.raises(AttemptFailed) as caught:  # the web UI says that ours waits there: it took it
            await adapter(webui).submit(asked(timeout=50))
        await adapter(webui).cancel(Submission(pictures.TICKET, URL, 0, 1))
        nursery.cancel_scope.cancel()
    assert caught.value.code == "timed_out"
    assert webui.interrupted == []


async def test_a_service_that_fell_silent_altogether_is_a_doubt(webui, autojump_clock):
    webui.weather.append(Weather("hang", times=99))
    with pytest.raises(AcceptanceUnknown):
        await adapter(webui).submit(asked(timeout=200))
    assert trio.current_time() == 199


@pytest.mark.parametrize(
    "deaf",
    [
        {"reply": said({"detail": "Not Found"}, 404), "kind": "page"},
        {"reply": Reply(500), "kind": "page"},
        {"kind": "hang"},
    ],
)
async def test_what_runs_there_was_accepted_though_it_cannot_be_stopped(webui, autojump_clock, deaf):
    webui.seconds = 1000
    webui.weather.append(Weather(path="/interrupt", **deaf))
    with pytest.raises(AttemptFailed) as caught:
        await adapter(webui).submit(asked(timeout=200))
    assert caught.value.code == "timed_out"
    assert trio.current_time() < 200


async def test_an_image_longer_than_its_timeout_uses_up_its_attempts_and_is_no_doubt(tmp_path, webui, autojump_clock):
    webui.seconds = 9
    webui.absent.add("interrupt")
    slow = adapter(webui)
    slow.base_url = URL
    async with house(tmp_path, {"slow": slow}, timeout=6.0, attempts=3) as home:
        await home.accept(job(backends=("slow",)))
        with trio.fail_after(120):
            await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.fault.code) == (State.PLACEHOLDER, "timed_out")
    assert (image.attempts, image.failures, image.doubtful) == (3, 3, 0)
    assert len(webui.bodies) == 3


async def test_what_is_in_doubt_is_waited_for_until_it_has_ended(webui, autojump_clock):
    webui.tasks += [a1111_emulator.Task("theirs", 0, 5), a1111_emulator.Task(pictures.TICKET, 5, 40)]
    found = await adapter(webui).find(asked())
    assert isinstance(found, CannotTell)
    assert "keeps no picture" in found.reason
    assert 40 <= trio.current_time() <= 42


async def test_what_seems_to_run_for_ever_is_not_waited_for_for_ever(webui, autojump_clock):
    webui.tasks.append(a1111_emulator.Task(pictures.TICKET, 0, 9999))
    found = await adapter(webui).find(asked(timeout=60))
    assert isinstance(found, CannotTell)
    assert "still runs" in found.reason
    assert 60 <= trio.current_time() <= 63
    assert webui.interrupted == [pictures.TICKET]


async def test_without_the_web_interface_the_running_task_alone_can_be_seen(autojump_clock):
    webui = a1111_emulator.A1111(trio.current_time, ui=False)
    webui.tasks.append(a1111_emulator.Task(pictures.TICKET, 0, 20))
    found = await adapter(webui).find(asked())
    assert isinstance(found, CannotTell)
    assert "--nowebui" in found.reason
    assert 20 <= trio.current_time() <= 22


async def test_a_login_of_the_web_interface_alone_does_not_look_like_an_outage(webui, autojump_clock):
    webui.weather.append(Weather("page", path="/internal/progress", reply=Reply(401), times=9))
    assert isinstance(await adapter(webui).find(asked()), CannotTell)


async def test_while_it_is_down_nothing_can_be_said(webui, autojump_clock):
    webui.weather.append(Weather("refuse", times=9))
    with pytest.raises(Unavailable):
        await adapter(webui).find(asked())
    with pytest.raises(AttemptFailed) as caught:
        await adapter(webui).collect(asked(), Submission("x", URL, 0, 1))
    assert caught.value.code == "lost"


async def test_a_cancel_that_cannot_be_heard_is_no_error(webui, autojump_clock):
    webui.weather.append(Weather("refuse"))
    await adapter(webui).cancel(Submission(pictures.TICKET, URL, 0, 1))
    webui.weather.append(Weather("hang"))
    await adapter(webui).cancel(Submission(pictures.TICKET, URL, 0, 1))
    assert trio.current_time() == 10


# --- what exists there


@pytest.mark.parametrize(
    ("recipe", "embedding", "code", "words"),
    [
        (Recipe(model="animagne.safetensors"), None, "missing_model", "animagine.safetensors"),
        (Recipe(sampler_name="LCM"), None, "missing_sampler", "Euler a"),
        (Recipe(sampler_name="zzz"), None, "unknown_sampler", "zzz"),
        (Recipe(scheduler="Beta"), None, "missing_scheduler", "Karras"),
        (Recipe(), "mary-v3", "missing_embedding", "mary-v2"),
        (Recipe(loras=(Lora("glowing"),)), None, "missing_lora", "glow"),
    ],
)
async def test_what_is_missing_is_named_with_the_nearest(webui, autojump_clock, recipe, embedding, code, words):
    with pytest.raises(InvalidRequest, match=words) as caught:
        await adapter(webui).check(recipe._replace(embedding=embedding), images=9)
    assert caught.value.code == code
    assert webui.paid == 0


@pytest.mark.parametrize(
    ("recipe", "embedding"),
    [
        (Recipe(), None),
        (Recipe(model="animagine", sampler_name="DPM++ 2M Karras", loras=(Lora("Glow.safetensors"),)), "MARY-v2"),
        (Recipe(model="animagine.safetensors [1449e5b0b9]", sampler_name="Euler", scheduler="Automatic"), "old-mary"),
    ],
)
async def test_what_is_there_is_found(webui, autojump_clock, recipe, embedding):
    await adapter(webui).check(recipe._replace(embedding=embedding), images=9)


async def test_a_sampler_of_an_extension_is_taken_where_it_is_installed(webui, autojump_clock):
    webui.samplers.append("Odd One")
    recipe = Recipe(width=24, height=16, sampler_name="Odd One")
    await adapter(webui).check(recipe, images=1)
    await adapter(webui).submit(asked(recipe))
    assert webui.bodies[0]["sampler_name"] == "Odd One"


async def test_lists_that_this_version_does_not_have_refuse_nothing(webui, autojump_clock):
    webui.absent |= {"sd-models", "samplers", "schedulers", "embeddings", "loras"}
    recipe = Recipe(model="x", sampler_name="LCM", scheduler="Beta", loras=(Lora("y"),))
    await adapter(webui).check(recipe._replace(embedding="z"), images=1)


async def test_lists_that_a_page_says_are_not_there_refuse_nothing(webui, autojump_clock):
    for what in ("sd-models", "samplers", "schedulers", "embeddings", "loras"):
        webui.weather.append(Weather("page", path=f"/{what}", reply=page(404)))
    recipe = Recipe(model="x", sampler_name="Euler", scheduler="Karras", loras=(Lora("y"),))
    await adapter(webui).check(recipe._replace(embedding="z"), images=1)
    assert not webui.weather


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (said({"detail": "Not Found"}, 404), "not_found"),
        (Reply(200, b"pong"), "no_answer"),
        (page(200), "unavailable"),
        (Reply(500), "unavailable"),
    ],
)
async def test_a_probe_that_finds_something_else(webui, autojump_clock, reply, code):
    await adapter(webui).probe()
    webui.weather.append(Weather("page", path="/progress", reply=reply))
    with pytest.raises(Unavailable) as caught:
        await adapter(webui).probe()
    assert caught.value.code == code


def test_the_limit_of_a_pod_s_proxy_is_explained_at_the_start():
    with structlog.testing.capture_logs() as logs:
        A1111("https://abc-7860.proxy.runpod.net", httpx.AsyncHTTPTransport(), pace=Pace(20))
        A1111(URL, httpx.AsyncHTTPTransport(), pace=Pace(20))
    assert len(logs) == 1
    assert "100 s" in logs[0]["hint"]


@pytest.mark.parametrize(
    "weather",
    [
        *(Weather("answer", reply=Reply(code, f"{LOGIN[1]} Basic {base64.b64encode(':'.join(LOGIN).encode()).decode()}".encode()))
          for code in (200, 400, 401, 404, 422, 500, 503)),
        Weather("answer", reply=said({"error": "X", "errors": f"password={LOGIN[1]}"}, 500)),
        Weather("answer", reply=said({"detail": LOGIN[1]}, 422)),
        Weather("answer", reply=said({"images": [], "detail": LOGIN[1]})),
        *(Weather(kind) for kind in ("refuse", "reset", "swallow", "cut", "hang")),
    ],
)  # fmt: skip
async def test_no_secret_is_in_any_error_or_log(webui, autojump_clock, caplog, weather):
    caplog.set_level("DEBUG")
    backend = adapter(webui, login=LOGIN)
    texts = []
    with structlog.testing.capture_logs() as logs:
        for act in (
            lambda: backend.submit(asked()),
            lambda: backend.find(asked(timeout=20)),
            lambda: backend.check(Recipe(model="animagine"), images=1),
            lambda: backend.cancel(Submission(pictures.TICKET, URL, 0, 1)),
            backend.probe,
        ):
            webui.weather.clear()
            webui.weather.append(replace(weather, times=99))
            try:
                with trio.move_on_after(1000):
                    await act()
            except BackendError as error:
                texts.append("".join(traceback.format_exception(error)))
    texts += [repr(logs), caplog.text]
    for secret in (LOGIN[1], base64.b64encode(":".join(LOGIN).encode()).decode()):
        assert not any(secret in text for text in texts)


# --- real sockets


async def test_on_a_real_socket_images_are_made_one_after_the_other():
    webui = a1111_emulator.A1111(seconds=0.2)
    with served(webui) as origin:
        async with open_transport(origin, slots=2) as wire:
            backend = A1111(origin, wire, pace=Pace(20))
            made = []

            async def make(seed):
                made.append(await backend.submit(asked(seed=seed, ticket=f"t-{seed}")))

            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(make, 1)
                    nursery.start_soon(make, 2)
    assert len({picture.examine(one.data).pixels for one in made}) == 2
    first, second = sorted(webui.tasks, key=lambda task: task.starts)
    assert second.starts == pytest.approx(first.ends)
    assert json.dumps(webui.bodies)
