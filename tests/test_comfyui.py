"""The ComfyUI adapter against an emulated server: ids, looks, restarts, refusals, and exact times."""

import json
from pathlib import Path

import pytest
import trio

from pipeline import picture
from pipeline.backends.binding import bind
from pipeline.backends.comfyui import ComfyUI
from pipeline.backends.graph import load_workflow, read_workflow
from pipeline.backends.pace import Pace
from pipeline.errors import AcceptanceUnknown, AttemptFailed, InvalidRequest, NotAccepted, OutOfTime, Unavailable
from pipeline.model import Lora, Recipe, Submission
from pipeline.ports import NotThere
from tests.support.comfyui_emulator import STOPPED_POD, Comfy, Reply, Weather
from tests.support.loopback import transport
from tests.support.pictures import TICKET, request
from tests.support.waiting import EPOCH, wall

WORKFLOWS = Path(__file__).parent / "workflows"
URL = "http://comfy.test:8188"
OTHER = "7d1f3f0e-61a4-4a0f-8f0e-8a9d4d0b7c55"
SMALL = Recipe(width=64, height=96, model="animagine.safetensors")
HTML = {"Content-Type": "text/html"}


def workflow(name):
    return bind(load_workflow(WORKFLOWS / f"{name}.json"))


class Stage:
    """A server, the adapter, and what the adapter learns."""

    def __init__(self, *, age="new", seconds=10.0, binding=None, url=URL, clock=wall, **options):
        self.comfy = Comfy(clock=trio.current_time, age=age, seconds=seconds)
        self.pace = Pace(20, clock=wall)
        wire = transport(self.comfy)
        binding = binding or bind(load_workflow(None))
        self.backend = ComfyUI(url, wire, binding=binding, pace=self.pace, clock=clock, **options)

    def graph(self):
        return self.comfy.bodies[-1]["prompt"]

    def asked(self, *kinds):
        return [path for _, path in self.comfy.requests if path.strip("/").split("/")[0] in kinds]


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def ask():
    return request(recipe=SMALL)


def always(reply, **where):
    return Weather("answer", reply=reply, times=1000, **where)


async def test_a_prompt_goes_out_under_our_ticket_and_nothing_of_it_is_left_to_chance(autojump_clock, stage, ask):
    got = await stage.backend.submit(ask)
    assert got == Submission(TICKET, URL, EPOCH, EPOCH + 600_000)
    assert stage.comfy.accepted == [TICKET]
    assert stage.comfy.bodies[0].keys() == {"prompt", "prompt_id"}, "a number of ours would collide"
    assert stage.graph()["7"]["inputs"]["filename_prefix"] == f"pipeline/{TICKET}"
    assert all("origin" not in headers for headers in stage.comfy.headers)


async def test_the_picture_comes_with_its_time_on_the_gpu(autojump_clock, stage, ask):
    made = await stage.backend.collect(ask, await stage.backend.submit(ask))
    seen = picture.examine(made.data)
    assert (seen.width, seen.height, seen.format) == (64, 96, "png")
    assert (made.gpu_seconds, made.used_embedding) == (10.0, False)
    assert 10.0 <= trio.current_time() <= 10.5, "at most 5 % after it was done"
    assert stage.pace.typical == pytest.approx(trio.current_time(), abs=0.001)


async def test_the_first_look_comes_after_a_quarter_of_a_second_and_waiting_costs_one_request(
    autojump_clock, stage, ask
):
    submission = await stage.backend.submit(ask)
    with trio.move_on_after(1.0):
        await stage.backend.collect(ask, submission)
    assert [path for _, path in stage.comfy.requests] == ["/prompt", "/queue", "/queue", "/queue"]


async def test_images_wait_in_the_servers_own_queue(autojump_clock, stage, ask):
    second = ask._replace(ticket=OTHER, seed=8)
    first_in, second_in = await stage.backend.submit(ask), await stage.backend.submit(second)
    one = await stage.backend.collect(ask, first_in)
    two = await stage.backend.collect(second, second_in)
    assert trio.current_time() == pytest.approx(20.0, abs=1.0)
    assert one.data != two.data
    assert two.gpu_seconds == 10.0


async def test_a_result_found_long_after_it_was_made_teaches_nothing(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(300)
    await stage.backend.collect(ask, submission)
    assert trio.current_time() == 300, "what is old enough is looked at at once"
    assert stage.pace.typical is None


async def test_a_quick_result_teaches_though_it_was_never_seen_waiting(autojump_clock, ask):
    stage = Stage(seconds=0.1)
    await stage.backend.collect(ask, await stage.backend.submit(ask))
    assert stage.pace.typical == 0.25


async def test_of_several_images_the_bound_nodes_is_taken(autojump_clock, ask):
    stage = Stage(binding=workflow("hires_fix"))
    plain = ask._replace(recipe=SMALL._replace(model="v1-5-pruned.ckpt"))
    submission = await stage.backend.submit(plain)
    made = await stage.backend.collect(plain, submission)
    ours = stage.comfy.files["output", "pipeline", f"{TICKET}_00001_.png"]
    stage.comfy.files["output", "", "ComfyUI_00001_.png"] = b"the first pass"
    again = await stage.backend.collect(plain, submission)
    assert made.data == again.data == ours


# --- what is in doubt is looked up ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 5.0, 60.0])
async def test_an_accepted_prompt_is_found_waiting_running_or_done(autojump_clock, stage, ask, after):
    blocker = ask._replace(ticket=OTHER)
    await stage.backend.submit(blocker)
    stage.comfy.weather.append(Weather("swallow", "POST", "/prompt"))
    with pytest.raises(AcceptanceUnknown):
        await stage.backend.submit(ask)
    await trio.sleep(after)
    found = await stage.backend.find(ask)
    assert found == Submission(TICKET, URL, EPOCH + round(after * 1000), EPOCH + round(after * 1000) + 600_000)
    await stage.backend.collect(ask, found)
    assert stage.comfy.accepted == [OTHER, TICKET], "bought once"


@pytest.mark.parametrize("after", [0, 11], ids=["waiting", "done"])
async def test_it_is_looked_for_and_collected_where_it_went(autojump_clock, stage, ask, after):
    await stage.backend.submit(ask)
    await trio.sleep(after)
    found = await stage.backend.find(ask._replace(sent_to="http://old.test:8188"))
    assert isinstance(found, Submission)
    assert found.base_url == "http://old.test:8188"
    assert stage.comfy.headers[-1]["host"] == "old.test:8188"
    assert (await stage.backend.collect(ask, found)).data


async def test_what_is_neither_queued_nor_done_nor_on_disk_is_not_there(autojump_clock, stage, ask):
    assert await stage.backend.find(ask) == NotThere()
    assert trio.current_time() == 1.0, "a request held up on the way gets a second to arrive"
    kinds = [path.split("/")[1] for _, path in stage.comfy.requests]
    assert kinds == ["queue", "history", "queue", "history", "view"], "the queue first: it moves on to the history"


async def test_a_request_that_arrives_late_is_found_at_the_second_look(autojump_clock, stage, ask):
    empty = Reply(200, b'{"queue_running": [], "queue_pending": []}')
    await stage.backend.submit(ask)
    stage.comfy.weather.append(Weather("answer", "GET", "/queue", reply=empty))
    found = await stage.backend.find(ask)
    assert isinstance(found, Submission)
    assert found.accepted_at == EPOCH + 1000


async def test_a_finished_file_is_found_after_a_restart_of_the_server(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(11)
    stage.comfy.restart()
    assert isinstance(await stage.backend.find(ask), Submission)
    made = await stage.backend.collect(ask, submission)
    assert picture.examine(made.data).width == 64
    assert made.gpu_seconds is None
    assert len(stage.comfy.accepted) == 1


async def test_a_prompt_that_a_restart_swept_away_is_lost_after_two_looks(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(5)
    stage.comfy.restart()
    stage.comfy.requests.clear()
    with pytest.raises(AttemptFailed, match="restarted") as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == "lost"
    assert [path.split("/")[1] for _, path in stage.comfy.requests] == ["queue", "history", "queue", "history", "view"]
    assert await stage.backend.find(ask) == NotThere()


async def test_a_loss_is_known_within_seconds_however_old_the_submission(autojump_clock, stage, ask):
    submission = Submission(TICKET, URL, EPOCH - 90 * 24 * 3_600_000, EPOCH)
    with pytest.raises(AttemptFailed):
        await stage.backend.collect(ask, submission)
    assert trio.current_time() == 1.0


async def test_one_look_without_a_trace_is_no_loss(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    empty = Reply(200, b'{"queue_running": [], "queue_pending": []}')
    stage.comfy.weather.append(Weather("answer", "GET", "/queue", reply=empty))
    made = await stage.backend.collect(ask, submission)
    assert made.gpu_seconds == 10.0


async def test_a_file_that_vanished_after_the_history_named_it_is_lost(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(11)
    stage.comfy.handle("GET", "/queue", {}, b"")
    stage.comfy.files.clear()
    with pytest.raises(AttemptFailed, match=f"{TICKET}_00001_.png") as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == "lost"


async def test_a_file_that_is_missing_once_is_no_loss(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(Weather("answer", "GET", "/view", reply=Reply(404, b"")))
    made = await stage.backend.collect(ask, submission)
    assert picture.examine(made.data).width == 64
    assert not stage.comfy.weather


async def test_a_file_that_is_named_by_an_address_is_told_without_its_signature(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(11)
    stage.comfy.handle("GET", "/queue", {}, b"")
    listed = stage.comfy.history[submission.remote_id]["outputs"]
    for node in listed.values():
        node["images"][0]["filename"] = "https://bucket.test/a.png?X-Amz-Signature=hush"
    with pytest.raises(AttemptFailed, match=r"a\.png\?\*\*\*") as caught:
        await stage.backend.collect(ask, submission)
    assert "hush" not in str(caught.value)


async def test_an_old_server_keeps_its_own_ids_and_is_asked_by_them(autojump_clock, ask):
    stage = Stage(age="ancient")
    submission = await stage.backend.submit(ask)
    assert submission.remote_id == stage.comfy.accepted[0] != TICKET
    found = await stage.backend.find(ask)
    assert isinstance(found, Submission)
    assert found.remote_id == submission.remote_id, "known by the name it will be saved under"
    made = await stage.backend.collect(ask, submission)
    assert made.gpu_seconds == 10.0


async def test_a_half_written_picture_is_handed_on_for_the_caller_to_judge(autojump_clock, stage, ask):
    stage.comfy.results.append("garbage")
    made = await stage.backend.collect(ask, await stage.backend.submit(ask))
    with pytest.raises(AttemptFailed):
        picture.examine(made.data)


# --- what the server says no to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        ("error", "execution_error", ["node 5 (KSampler)", "RuntimeError", "bad shapes"]),
        ("oom", "out_of_memory", ["node 5 (KSampler)", "smaller size"]),
        ("silent_error", "execution_error", []),
        ("empty", "empty_output", ["SaveImage"]),
        ("temp", "empty_output", ["SaveImage"]),
        ("interrupted", "interrupted", ["node 5 (KSampler)", "interrupted"]),
    ],
)
async def test_a_failed_run_is_told_in_words(autojump_clock, stage, ask, result, code, words):
    stage.comfy.results.append(result)
    submission = await stage.backend.submit(ask)
    with pytest.raises(AttemptFailed) as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == code
    assert [word for word in words if word not in str(caught.value)] == []
    paid = 10.0 if result in ("error", "oom", "interrupted") else 0.0
    assert caught.value.gpu_seconds == paid


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            SMALL._replace(model="gone.safetensors"),
            ["node 1 (CheckpointLoaderSimple)", "gone.safetensors", "animagine.s"],
        ),
        (SMALL._replace(loras=(Lora("gone.safetensors"),)), ["LoraLoader", "gone.safetensors", "detail.safetensors"]),
        (SMALL._replace(width=8), ["node 4 (EmptyLatentImage)", "smaller than min"]),
    ],
)
async def test_a_refused_graph_names_node_input_and_choices(autojump_clock, stage, ask, recipe, words):
    with pytest.raises(InvalidRequest) as caught:
        await stage.backend.submit(ask._replace(recipe=recipe))
    assert caught.value.code == "invalid_request"
    assert [word for word in words if word not in str(caught.value)] == []
    assert stage.comfy.accepted == []


async def test_a_missing_node_class_is_named(autojump_clock, stage, ask):
    del stage.comfy.info["VAEDecode"]
    with pytest.raises(InvalidRequest, match=r"VAEDecode.*custom node") as caught:
        await stage.backend.submit(ask)
    assert caught.value.code == "missing_node"


@pytest.mark.parametrize("cancel_fails", [False, True])
async def test_a_graph_that_runs_only_in_part_is_refused_and_stopped(autojump_clock, ask, cancel_fails):
    raw = json.loads((WORKFLOWS / "sd15.json").read_text())
    raw["20"] = {"class_type": "VAELoader", "inputs": {"vae_name": "gone.safetensors"}}
    raw["21"] = {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["20", 0]}}
    raw["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["21", 0]}}
    stage = Stage(binding=bind(read_workflow(json.dumps(raw).encode(), source="anime.json")))
    if cancel_fails:
        stage.comfy.weather.append(Weather("refuse", "POST", "/api/jobs"))
    with pytest.raises(InvalidRequest, match=r"node 20 \(VAELoader\).*gone\.safetensors") as caught:
        await stage.backend.submit(ask)
    assert caught.value.code == "invalid_workflow"
    assert stage.comfy.accepted == [TICKET]
    assert (stage.comfy.running is None) is not cancel_fails
    assert stage.comfy.executed == []


PAGE = Reply(200, b"<html>please wait</html>", HTML)


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (Reply(401, b"no"), Unavailable, "credentials"),
        (Reply(403, b"no"), Unavailable, "credentials"),
        (Reply(404, b"no"), Unavailable, "not_found"),
        (Reply(404, STOPPED_POD, HTML), Unavailable, "not_found"),
        (Reply(302, b"", {"Location": "https://login.test/"}), Unavailable, "redirected"),
        (Reply(503, b"starting"), Unavailable, "unavailable"),
        (Reply(413, b"too large"), InvalidRequest, "invalid_request"),
        (Reply(400, b"bad"), InvalidRequest, "invalid_request"),
        (Reply(400, b'{"error": "no prompt", "node_errors": []}'), InvalidRequest, "invalid_request"),
        (Reply(400, b'{"error": {"type": "x", "message": "m", "details": ""}}'), InvalidRequest, "invalid_request"),
        (Reply(400, b'{"error": 5, "node_errors": {"1": {"errors": [5]}}}'), InvalidRequest, "invalid_request"),
        (Reply(400, b"[]"), InvalidRequest, "invalid_request"),
        (Reply(400, b"<html>", HTML), AcceptanceUnknown, "no_answer"),
        (Reply(500, b"oops"), AcceptanceUnknown, "no_answer"),
        (Reply(502, b"<html>", HTML), AcceptanceUnknown, "no_answer"),
        (Reply(504, b""), AcceptanceUnknown, "no_answer"),
        (Reply(524, b""), AcceptanceUnknown, "no_answer"),
        (PAGE, AcceptanceUnknown, "no_answer"),
        (Reply(200, b""), AcceptanceUnknown, "no_answer"),
        (Reply(200, b'{"prompt_id": null}'), AcceptanceUnknown, "no_answer"),
        (Reply(200, b"[]"), AcceptanceUnknown, "no_answer"),
    ],
)
async def test_what_an_answer_to_a_prompt_means(autojump_clock, stage, ask, reply, error, code):
    stage.comfy.weather.append(Weather("answer", "POST", "/prompt", reply=reply))
    with pytest.raises(error) as caught:
        await stage.backend.submit(ask)
    assert (type(caught.value), caught.value.code) == (error, code)


async def test_a_full_server_says_how_long_to_wait(autojump_clock, stage, ask):
    full = Reply(429, b"", {"Retry-After": "17"})
    stage.comfy.weather.append(Weather("answer", "POST", "/prompt", reply=full))
    with pytest.raises(NotAccepted) as caught:
        await stage.backend.submit(ask)
    assert (type(caught.value), caught.value.retry_after) == (NotAccepted, 17.0)


async def test_a_stopped_pods_page_is_known_for_what_it_is(autojump_clock, ask):
    stage = Stage(url="https://abc-8188.proxy.runpod.net")
    stage.comfy.weather.append(always(Reply(404, STOPPED_POD, HTML)))
    for call in (stage.backend.submit(ask), stage.backend.find(ask), stage.backend.probe()):
        with pytest.raises(Unavailable, match="proxy 404: pod stopped") as caught:
            await call
        assert caught.value.code == "pod_stopped"


NO_SUCH_PAGE = Reply(404, b"<!DOCTYPE html><title>404</title>Not Found", HTML)


async def test_a_missing_file_is_missing_also_where_a_page_says_so(autojump_clock, stage, ask):
    stage.comfy.weather.append(always(NO_SUCH_PAGE, path="/view"))
    assert await stage.backend.find(ask) == NotThere()
    submission = await stage.backend.submit(ask)
    with pytest.raises(AttemptFailed) as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == "lost"


async def test_a_cancel_that_a_page_knows_nothing_of_is_made_the_old_way(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(always(NO_SUCH_PAGE, method="POST", path="/api/jobs"))
    await stage.backend.cancel(submission)
    assert stage.comfy.interrupts == [TICKET]


async def test_lists_that_a_page_says_are_not_there_refuse_nothing(autojump_clock, stage):
    stage.comfy.weather.append(always(NO_SUCH_PAGE, path="/object_info"))
    await stage.backend.check(SMALL._replace(model="anything", loras=(Lora("x"),)), images=2)


@pytest.mark.parametrize(
    ("kind", "error", "at"),
    [
        ("refuse", Unavailable, 0),
        ("reset", AcceptanceUnknown, 0),
        ("swallow", AcceptanceUnknown, 0),
        ("hang", AcceptanceUnknown, 60),
    ],
)
async def test_a_submission_that_breaks_off_is_refused_or_in_doubt(autojump_clock, stage, ask, kind, error, at):
    stage.comfy.weather.append(Weather(kind, "POST", "/prompt"))
    with pytest.raises(error):
        await stage.backend.submit(ask)
    assert trio.current_time() == at
    found = await stage.backend.find(ask)
    assert isinstance(found, Submission) == (kind in ("swallow", "hang"))


# --- weather while waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/queue", "/history", "/view"])
async def test_passing_weather_is_waited_out(autojump_clock, stage, ask, path):
    submission = await stage.backend.submit(ask)
    await trio.sleep(10 if path != "/queue" else 0)
    for weather in (
        Weather("answer", "GET", path, reply=Reply(502, b"<html>", HTML)),
        Weather("answer", "GET", path, reply=Reply(200, b"{" if path != "/view" else b"<html>")),
        Weather("reset", "GET", path),
        Weather("refuse", "GET", path),
    ):
        stage.comfy.weather.append(weather)
    made = await stage.backend.collect(ask, submission)
    assert picture.examine(made.data).width == 64
    assert len(stage.comfy.weather) == 0
    assert len(stage.comfy.accepted) == 1


@pytest.mark.parametrize("path", ["/queue", "/history", "/view"])
@pytest.mark.parametrize("status", [409, 413, 422])
async def test_a_look_that_is_refused_says_nothing_of_the_image(autojump_clock, stage, ask, path, status):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(Weather("answer", "GET", path, reply=Reply(status, b'{"error": "not so"}')))
    made = await stage.backend.collect(ask, submission)
    assert picture.examine(made.data).width == 64
    assert not stage.comfy.weather
    stage.comfy.weather.append(always(Reply(status, b'{"error": "not so"}'), path=path))
    with pytest.raises(Unavailable, match=str(status)):
        await stage.backend.collect(ask, submission)


@pytest.mark.parametrize("path", ["/queue", "/history"])
async def test_a_refused_question_for_a_submission_in_doubt_is_no_defect(autojump_clock, stage, ask, path):
    stage.comfy.weather.append(Weather("answer", "GET", path, reply=Reply(400, b'{"error": "not so"}')))
    with pytest.raises(Unavailable):
        await stage.backend.find(ask)


async def test_weather_that_stays_is_the_lanes_matter(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(Weather("refuse", times=1000))
    with pytest.raises(Unavailable):
        await stage.backend.collect(ask, submission)
    assert trio.current_time() == pytest.approx(0.5 + 1 + 2 + 4, abs=1.0), "growing pauses, five looks"


async def test_single_bad_looks_do_not_add_up(autojump_clock, ask):
    stage = Stage(seconds=60)
    submission = await stage.backend.submit(ask)
    gusts = iter(range(100))

    def handle(*request, calm=stage.comfy.handle):
        if next(gusts) % 5 == 0:
            stage.comfy.weather.append(Weather("refuse"))
        return calm(*request)

    stage.comfy.handle = handle
    await stage.backend.collect(ask, submission)
    assert next(gusts) > 30, "more than five looks were spoilt"


async def test_a_spoilt_look_at_an_old_submission_is_made_again_soon(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(3600)
    stage.comfy.weather.append(Weather("refuse", times=2))
    await stage.backend.collect(ask, submission)
    assert trio.current_time() == pytest.approx(3601.5, abs=0.2)


async def test_refused_credentials_are_told_at_once(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.login = "Basic other"
    with pytest.raises(Unavailable) as caught:
        await stage.backend.collect(ask, submission)
    assert (caught.value.code, trio.current_time()) == ("credentials", 0.25)


async def test_a_pause_of_nothing_is_no_pause_that_was_asked_for(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(always(Reply(429, b"", {"Retry-After": "-5"})))
    with pytest.raises(NotAccepted):
        await stage.backend.collect(ask, submission)
    assert trio.current_time() == pytest.approx(0.5 + 1 + 2 + 4, abs=1.0), "as where no pause is named"


async def test_a_servers_own_pause_is_kept(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    stage.comfy.weather.append(Weather("answer", "GET", "/queue", reply=Reply(429, b"", {"Retry-After": "40"})))
    await stage.backend.collect(ask, submission)
    assert 40.25 <= trio.current_time() < 41


async def test_a_giant_answer_ends_the_attempt(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    giant = Reply(200, b"x", {"Content-Length": str(200 << 20)})
    stage.comfy.weather.append(Weather("answer", "GET", "/view", reply=giant))
    with pytest.raises(AttemptFailed, match="MB") as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("odd", [{"images": None}, {"images": [5, {"filename": ""}]}, {"text": ["a caption"]}, 5])
async def test_outputs_that_are_no_pictures_are_passed_over(autojump_clock, stage, ask, odd):
    submission = await stage.backend.submit(ask)
    await trio.sleep(11)
    stage.comfy.handle("GET", "/queue", {}, b"")
    real = stage.comfy.history[TICKET]["outputs"]
    stage.comfy.history[TICKET]["outputs"] = {"7": odd, "9": real["7"]}
    assert picture.examine((await stage.backend.collect(ask, submission)).data).width == 64


async def test_a_queue_that_is_no_queue_is_no_trace(autojump_clock, stage, ask):
    stage.comfy.weather.append(always(Reply(200, b"[]"), method="GET", path="/queue"))
    assert await stage.backend.find(ask) == NotThere()


async def test_a_history_that_is_no_history_is_no_end(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    empty = Reply(200, b'{"queue_running": [], "queue_pending": [["odd"]]}')
    stage.comfy.weather.append(always(empty, method="GET", path="/queue"))
    entry = {TICKET: {"prompt": [], "outputs": None}}
    stage.comfy.weather.append(always(Reply(200, json.dumps(entry).encode()), method="GET", path="/history"))
    with pytest.raises(AttemptFailed) as caught:
        await stage.backend.collect(ask, submission)
    assert caught.value.code == "lost"


async def test_a_history_without_a_status_counts_by_its_outputs(autojump_clock, stage, ask):
    submission = await stage.backend.submit(ask)
    await trio.sleep(11)
    stage.comfy.handle("GET", "/queue", {}, b"")
    del stage.comfy.history[TICKET]["status"]
    made = await stage.backend.collect(ask, submission)
    assert made.gpu_seconds is None


# --- cancelling -------------------------------------------------------------------------------------------------


async def test_what_still_runs_when_its_time_is_over_is_told_from_what_failed(autojump_clock, ask):
    stage = Stage(seconds=1000)
    brief = ask._replace(timeout=3)
    with pytest.raises(OutOfTime, match="after 3 s") as caught:
        await stage.backend.collect(brief, await stage.backend.submit(brief))
    assert (caught.value.code, trio.current_time()) == ("timed_out", 3.0)


async def test_a_wall_clock_that_is_put_on_ends_nothing_that_still_has_time(autojump_clock, ask):
    stage = Stage(seconds=20, clock=lambda: wall() + (3_600_000 if trio.current_time() > 5 else 0))
    made = await stage.backend.collect(ask, await stage.backend.submit(ask))
    assert picture.examine(made.data).width == 64


async def test_a_look_after_its_time_is_over_still_finds_what_was_made(autojump_clock, stage, ask):
    brief = ask._replace(timeout=3)
    submission = await stage.backend.submit(brief)
    await trio.sleep(11)
    assert picture.examine((await stage.backend.collect(brief, submission)).data).width == 64


@pytest.mark.parametrize("age", ["new", "old"])
async def test_only_our_own_prompt_is_cancelled(autojump_clock, ask, age):
    stage = Stage(age=age)
    other = ask._replace(ticket=OTHER)
    running, waiting = await stage.backend.submit(other), await stage.backend.submit(ask)
    await stage.backend.cancel(waiting)
    assert stage.comfy.running.id == OTHER
    assert stage.comfy.pending == []
    await stage.backend.cancel(running)
    assert stage.comfy.running is None
    assert stage.comfy.interrupts == ([OTHER] if age == "old" else []), "never an interrupt that names nobody"
    with pytest.raises(AttemptFailed) as caught:
        await stage.backend.collect(other, running)
    assert caught.value.code == "interrupted"


@pytest.mark.parametrize("age", ["new", "old"])
async def test_what_has_ended_or_never_was_is_cancelled_without_harm(autojump_clock, ask, age):
    stage = Stage(age=age)
    submission = await stage.backend.submit(ask)
    await stage.backend.collect(ask, submission)
    other = await stage.backend.submit(ask._replace(ticket=OTHER))
    await stage.backend.cancel(submission)
    await stage.backend.cancel(other._replace(remote_id="no/such id"))
    assert stage.comfy.running.id == OTHER
    assert stage.comfy.interrupts == []


# --- what is installed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "code", "words"),
    [
        (
            SMALL._replace(model="animagin.safetensors"),
            "missing_model",
            ['did you mean "animagine.safetensors"', "v1-5"],
        ),
        (SMALL._replace(model="gone"), "missing_model", ['"gone"', "animagine.safetensors"]),
        (SMALL._replace(loras=(Lora("inks.safetensors"),)), "missing_lora", ["inks", "style/ink.safetensors"]),
        (SMALL._replace(loras=(Lora("x"),)), "missing_lora", ['"x"', "detail.safetensors"]),
        (SMALL._replace(sampler_name="dpm_fast"), "missing_sampler", ["dpm_fast", "euler"]),
        (SMALL._replace(sampler_name="eulr"), "unknown_sampler", ["eulr", "euler"]),
        (SMALL._replace(scheduler="kl_optimal"), "missing_scheduler", ["kl_optimal", "karras"]),
        (SMALL._replace(negative_prompt="x", model=None), "missing_model", ["set model", "animagine.safetensors"]),
    ],
)
async def test_what_is_not_installed_is_named_before_anything_is_queued(autojump_clock, stage, recipe, code, words):
    with pytest.raises(InvalidRequest) as caught:
        await stage.backend.check(recipe, images=500)
    assert caught.value.code == code
    assert [word for word in words if word not in str(caught.value)] == []
    assert stage.comfy.bodies == []


async def test_what_is_installed_passes(autojump_clock, stage):
    full = SMALL._replace(
        loras=(Lora("ink"),), sampler_name="DPM++ 2M Karras", cfg_scale=6, steps=20, negative_prompt="bad"
    )
    await stage.backend.check(full._replace(embedding="mary-v2"), images=500)
    await stage.backend.check(full._replace(sampler_name="res_2s"), images=500)
    assert stage.comfy.bodies == []


@pytest.mark.parametrize("name", ["flux", "sdxl_refiner", "lora_chain", "controlnet"])
async def test_a_workflows_own_models_and_nodes_are_checked_too(autojump_clock, name):
    stage = Stage(binding=workflow(name))
    recipe = SMALL._replace(model=None)
    await stage.backend.check(recipe, images=2)
    kind, used = next(
        (node["class_type"], name)
        for node in json.loads((WORKFLOWS / f"{name}.json").read_text()).values()
        for name, value in node["inputs"].items()
        if name in ("vae_name", "ckpt_name", "lora_name", "control_net_name") and isinstance(value, str)
    )
    taken = stage.comfy.info[kind]
    taken["input"]["required"][used] = [["another.safetensors"]]
    with pytest.raises(InvalidRequest, match=r"another\.safetensors") as caught:
        await stage.backend.check(recipe, images=2)
    assert caught.value.code.startswith("missing_")
    del stage.comfy.info[kind]
    with pytest.raises(InvalidRequest, match=f'"{kind}", which is not installed') as caught:
        await stage.backend.check(recipe, images=2)
    assert caught.value.code == "missing_node"


async def test_a_workflow_without_a_seed_fails_the_check_for_several_images(autojump_clock):
    stage = Stage(binding=workflow("no_seed"))
    await stage.backend.check(Recipe(), images=1)
    with pytest.raises(InvalidRequest, match="no seed input"):
        await stage.backend.check(Recipe(), images=2)


async def test_a_server_that_does_not_tell_is_not_second_guessed(autojump_clock, stage):
    stage.comfy.weather.append(always(Reply(404, b"404: Not Found"), path="/object_info"))
    await stage.backend.check(SMALL._replace(model="anything", loras=(Lora("x"),)), images=2)
    with pytest.raises(InvalidRequest, match="set model"):
        await stage.backend.check(SMALL._replace(model=None), images=2)


@pytest.mark.parametrize(
    "told", [5, {}, {"input": {"required": None}}, {"input": {"required": {"ckpt_name": ["COMBO", {"remote": "x"}]}}}]
)
async def test_choices_that_are_not_told_are_left_to_the_server(autojump_clock, stage, told):
    stage.comfy.info["CheckpointLoaderSimple"] = told
    await stage.backend.check(SMALL._replace(model="anything"), images=2)


async def test_a_server_that_is_down_cannot_be_checked(autojump_clock, stage):
    stage.comfy.weather.append(Weather("refuse"))
    with pytest.raises(Unavailable):
        await stage.backend.check(SMALL, images=2)


async def test_the_one_installed_checkpoint_is_the_default(autojump_clock, stage, ask):
    stage.comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = ["COMBO", {"options": ["only.ckpt"]}]
    open_model = ask._replace(recipe=SMALL._replace(model=None))
    await stage.backend.check(open_model.recipe, images=2)
    await stage.backend.submit(open_model)
    assert stage.graph()["1"]["inputs"]["ckpt_name"] == "only.ckpt"


async def test_without_any_checkpoint_the_person_is_told(autojump_clock, stage, ask):
    stage.comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [[]]
    with pytest.raises(InvalidRequest, match="none is installed there"):
        await stage.backend.submit(ask._replace(recipe=SMALL._replace(model=None)))


async def test_names_without_extension_or_folder_are_completed(autojump_clock, stage, ask):
    stage.comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0].append("v1.5")
    recipe = SMALL._replace(model="Animagine", loras=(Lora("ink", 0.5),))
    await stage.backend.submit(ask._replace(recipe=recipe._replace(model="v1.5")))
    assert stage.graph()["1"]["inputs"]["ckpt_name"] == "v1.5", "a dot alone makes no extension"
    await stage.backend.submit(ask._replace(ticket=OTHER, recipe=recipe))
    assert stage.graph()["1"]["inputs"]["ckpt_name"] == "animagine.safetensors"
    assert stage.graph()["8"]["inputs"]["lora_name"] == "style/ink.safetensors"
    stage.comfy.info["LoraLoader"]["input"]["required"]["lora_name"] = [["a/ink.pt", "b/ink.pt"]]
    with pytest.raises(InvalidRequest, match="2 of that name"):
        await stage.backend.submit(ask._replace(recipe=recipe))


async def test_exact_names_cost_no_further_request(autojump_clock, stage, ask):
    await stage.backend.submit(ask._replace(recipe=SMALL._replace(loras=(Lora("detail.safetensors"),))))
    assert stage.comfy.requests == [("POST", "/prompt")]


async def test_an_embedding_counts_as_used_where_it_was_sent_and_exists(autojump_clock, stage, ask):
    asked = ask._replace(recipe=ask.recipe._replace(embedding="mary-v2.safetensors"))
    submission = await stage.backend.submit(asked)
    assert stage.graph()["2"]["inputs"]["text"] == f"{ask.prompt}, embedding:mary-v2"
    assert (await stage.backend.collect(asked, submission)).used_embedding is True


async def test_an_embedding_that_is_missing_is_refused_where_the_server_would_only_log_it(autojump_clock, stage, ask):
    for call in (
        stage.backend.submit(ask._replace(recipe=ask.recipe._replace(embedding="mary-v3"))),
        stage.backend.check(SMALL._replace(embedding="mary-v3"), images=2),
    ):
        with pytest.raises(InvalidRequest, match=r'"mary-v3".*did you mean "mary-v2"') as caught:
            await call
        assert caught.value.code == "missing_embedding"
    assert stage.comfy.bodies == []


async def test_an_embedding_is_named_as_it_was_asked_for_where_none_are_listed(autojump_clock, stage, ask):
    for reply in (Reply(404, b"404: Not Found"), NO_SUCH_PAGE):
        stage.comfy.weather.append(Weather("answer", "GET", "/embeddings", reply=reply))
        await stage.backend.submit(ask._replace(recipe=ask.recipe._replace(embedding="mary-v3")))
        assert stage.graph()["2"]["inputs"]["text"] == f"{ask.prompt}, embedding:mary-v3"


async def test_a_long_list_of_choices_is_cut(autojump_clock, stage):
    many = [f"m{n:02}.safetensors" for n in range(40)]
    stage.comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [many]
    with pytest.raises(InvalidRequest, match=r"m11\.safetensors and 28 more"):
        await stage.backend.check(SMALL._replace(model="z.safetensors"), images=1)


# --- the rest ---------------------------------------------------------------------------------------------------


async def test_the_probe_knows_a_comfyui(autojump_clock, stage):
    await stage.backend.probe()
    for reply in (Reply(200, b'{"hello": 1}'), Reply(200, b"[]"), Reply(404, b"no")):
        stage.comfy.weather.append(Weather("answer", reply=reply))
        with pytest.raises(Unavailable):
            await stage.backend.probe()


async def test_credentials_go_to_their_origin_and_into_no_message(autojump_clock, ask):
    stage = Stage(url="http://bob:s3cretword@comfy.test:8188/sd/")
    stage.comfy.login = "Basic Ym9iOnMzY3JldHdvcmQ="
    stage.comfy.weather.append(Weather("answer", "POST", "/sd/prompt", reply=Reply(400, b"s3cretword is wrong")))
    with pytest.raises(InvalidRequest) as caught:
        await stage.backend.submit(ask)
    assert "s3cretword" not in str(caught.value)
    old = Submission(TICKET, "http://old.test:8188", EPOCH, EPOCH + 600_000)
    with pytest.raises(Unavailable) as refused:
        await stage.backend.collect(ask, old)
    assert refused.value.code == "credentials", "the old address was not told them"
    assert all("authorization" not in headers for headers in stage.comfy.headers)


async def test_a_login_is_sent_and_kept_out_of_the_index(autojump_clock, ask):
    stage = Stage(login=("bob", "s3cretword"))
    stage.comfy.login = "Basic Ym9iOnMzY3JldHdvcmQ="
    submission = await stage.backend.submit(ask)
    assert submission.base_url == URL
    stage.comfy.login = "Basic another"
    with pytest.raises(Unavailable, match="refuses our credentials"):
        await stage.backend.probe()


async def test_the_emulator_insists_on_uuids_and_reuses_what_it_has_cached(autojump_clock, stage, ask):
    await stage.backend.submit(ask)
    body = json.dumps({"prompt": stage.graph(), "prompt_id": TICKET.upper()}).encode()
    assert stage.comfy.handle("POST", "/prompt", {}, body).status == 400
    await trio.sleep(11)
    stage.comfy.handle("POST", "/prompt", {}, body.replace(TICKET.upper().encode(), TICKET.encode()))
    assert stage.comfy.accepted == [TICKET, TICKET], "not idempotent"
    assert len(stage.comfy.files) == 1
