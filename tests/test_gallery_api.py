"""The JSON answers: exact keys, order, pages, filters, refusals; over ASGI, from a real index."""

import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from pipeline.gallery import answers
from pipeline.model import Fault, Lora, OnFailure, Recipe
from pipeline.plan import make_job
from pipeline.spec.job import parse_job
from pipeline.spec.keys import JobKeys, Rules
from tests.support.windows import house

IMAGE_KEYS = [
    "url",
    "publicId",
    "createdAt",
    "filename",
    "number",
    "status",
    "updatedAt",
    "thumbnailUrl",
    "width",
    "height",
    "format",
    "bytes",
    "color",
    "prompt",
    "negativePrompt",
    "seed",
    "style",
    "model",
    "steps",
    "cfgScale",
    "samplerName",
    "backend",
    "gpuSeconds",
    "attempts",
    "labels",
    "favorite",
    "retrying",
    "error",
    "jobId",
]


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        yield made


def strict(kind, content):
    return TypeAdapter(kind).validate_json(json.dumps(content), strict=True, extra="forbid")


async def test_an_image_is_told_with_exactly_the_promised_keys_in_their_order(home):
    await home.studio.made(n=1, labels=["spring"])
    answer = (await home.get(home.images())).json()
    assert list(answer) == ["success", "data"]
    assert list(answer["data"]) == ["images", "totalCount", "characterId", "next"]
    image = answer["data"]["images"][0]
    assert list(image) == IMAGE_KEYS
    told = {
        key: image[key]
        for key in (
            "publicId",
            "filename",
            "number",
            "status",
            "createdAt",
            "width",
            "height",
            "format",
            "labels",
            "jobId",
            "seed",
        )
    }
    assert told == {
        "publicId": "alice/characters/mary/images/mary_image_1", "filename": "mary_image_1", "number": 1, "status": "done",
        "createdAt": "2025-07-28T10:00:00.000Z", "width": 24, "height": 16, "format": "png", "labels": ["spring"], "jobId": "job-1", "seed": 1,
    }  # fmt: skip
    assert image["gpuSeconds"] == 2.5
    assert image["attempts"] == 1
    strict(answers.GalleryAnswer, answer)


async def test_newest_first_and_what_is_not_stored_before_it_by_number_descending(home):
    await home.studio.made(n=2)
    await home.studio.job(n=3)
    await home.studio.finish("mary", 4)
    await home.studio.start("mary", 5)
    images = (await home.data(home.images() + "?status=done,queued,running"))["images"]
    assert [(i["number"], i["status"], i["url"] is None, i["createdAt"] is None) for i in images] == [
        (5, "running", True, True), (3, "queued", True, True), (4, "done", False, False), (2, "done", False, False), (1, "done", False, False),
    ]  # fmt: skip
    shown = await home.data(home.images())
    assert [i["number"] for i in shown["images"]] == [4, 2, 1]
    assert shown["totalCount"] == 3


async def test_a_placeholder_tells_why_and_a_failed_row_likewise(home):
    await home.studio.job(n=1)
    await home.studio.job(n=1, on_failure=OnFailure.FAIL)
    await home.studio.give_up("mary", 1)
    await home.studio.give_up("mary", 2, Fault("blank_output", "all of one colour"))
    images = (await home.data(home.images() + "?status=placeholder,failed"))["images"]
    assert {i["status"]: (i["error"], i["url"] is None) for i in images} == {
        "placeholder": ({"code": "timed_out", "message": "it took longer than 600 s"}, False),
        "failed": ({"code": "blank_output", "message": "all of one colour"}, True),
    }


async def test_pages_hold_while_images_arrive_and_the_link_header_leads_on(home):
    await home.studio.made(n=5)
    first = await home.get(home.images() + "?limit=2&ignored=x")
    assert first.links["next"]["url"].startswith("http://testserver/api/image-generation/character/mary?limit=2")
    await home.studio.made(n=2)
    second = (await home.get(first.links["next"]["url"])).json()["data"]
    third = await home.get(home.images() + f"?limit=2&cursor={second['next']}")
    numbers = [i["number"] for page in (first.json()["data"], second, third.json()["data"]) for i in page["images"]]
    assert numbers == [5, 4, 3, 2, 1]
    assert third.json()["data"]["next"] is None
    assert "link" not in third.headers
    assert second["totalCount"] == 7


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("job=job-2", [4, 3]),
        ("label=spring", [2, 1]),
        ("label=nobody", []),
        ("seed=8", [4]),
        ("q=harbour", [3]),
        ("q=PORTRAIT%20gard", [2, 1]),
        ("since=2025-07-28T10:00:02Z", [4, 3]),
        ("until=2025-07-28T10:00:02Z", [2, 1]),
        ("since=2025-07-28T12:00:01%2B02:00&until=2025-07-28T10:00:03Z", [3, 2]),
        ("since=2025-07-28T12:00:01+02:00", [4, 3, 2]),
        ("since=2025-07-29", []),
        ("favorite=true", [3]),
        ("favorite=false", [4, 2, 1]),
        ("status=placeholder", []),
    ],
)
async def test_filters(home, query, numbers):
    await home.studio.made(n=2, labels=["spring"])
    await home.studio.made(n=2, prompts=["at the harbour", "in a tower"], seed=7)
    await home.studio.ledger.favorite(home.studio.ledger.image_by_number("mary", 3), chosen=True)
    found = await home.data(home.images() + "?" + query)
    assert [i["number"] for i in found["images"]] == numbers
    assert found["totalCount"] == len(numbers)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "limit=1&limit=2", "limit=%EF%BC%91", "limit=99999999999", "cursor=x", "cursor=", "cursor=W10", "status=",
     "status=done,nonsense", "seed=-1", "seed=4294967296", "since=yesterday", "since=2025-07-28T10:00:00", "until=0001-13-01", "favorite=maybe", "q=", "q=%21%3F",
     "job=", "label=" + "x" * 401, "label=%00", "wait=-1", "wait=301", "wait=nan", "wait=1e3"],
)  # fmt: skip
async def test_known_parameters_with_bad_values_are_refused_in_a_sentence(home, query):
    await home.studio.made(n=1)
    answer = await home.get(home.images() + "?" + query)
    assert answer.status_code == 400, answer.text
    strict(answers.ErrorAnswer, answer.json())
    assert answer.json()["code"] == "bad_request"


async def test_unknown_parameters_are_ignored(home):
    await home.studio.made(n=1)
    plain, strange = await home.get(home.images()), await home.get(home.images() + "?_=1&limits=0&status[]=x")
    assert plain.content == strange.content


async def test_characters_with_counts_and_their_newest_picture(home):
    await home.studio.made(n=2)
    await home.studio.job("john", n=2, display="John of the harbour")
    await home.studio.job("eve", owner="bob")
    await home.studio.give_up("john", 1)
    answer = (await home.get("/api/characters?limit=1")).json()
    strict(answers.CharactersAnswer, answer)
    (john,) = answer["data"]["characters"]
    assert (john["characterId"], john["name"], john["newest"]) == ("john", "John of the harbour", None)
    assert john["counts"] == {
        "queued": 1,
        "running": 0,
        "done": 0,
        "placeholder": 1,
        "failed": 0,
        "cancelled": 0,
        "removed": 0,
    }
    assert answer["data"]["totalCount"] == 2
    rest = await home.data("/api/characters?cursor=" + answer["data"]["next"])
    assert [c["characterId"] for c in rest["characters"]] == ["mary"]
    assert rest["characters"][0]["newest"]["number"] == 2
    one = (await home.get("/api/characters/mary")).json()
    strict(answers.OneCharacterAnswer, one)
    assert one["data"] == rest["characters"][0]
    assert (await home.client.get(one["data"]["newest"]["thumbnailUrl"])).status_code == 200


async def test_jobs_and_one_job_in_the_shape_of_its_result_file(home):
    await home.studio.made(n=2)
    await home.studio.job("john", prompts=["a", "b"])
    listed = (await home.get("/api/jobs?limit=1")).json()
    strict(answers.JobsAnswer, listed)
    assert [j["jobId"] for j in listed["data"]["jobs"]] == ["job-2"]
    assert listed["data"]["jobs"][0]["prompt"] == ["a", "b"]
    rest = await home.data("/api/jobs?cursor=" + listed["data"]["next"])
    assert [j["jobId"] for j in rest["jobs"]] == ["job-1"]
    job = (await home.get("/api/jobs/job-1")).json()
    strict(answers.JobAnswer, job)
    assert job["data"]["generatedCount"] == 2
    assert "signature" not in job["data"]["imageUrl"]
    assert (await home.client.get(job["data"]["imageUrl"])).status_code == 401
    assert (await home.get(job["data"]["imageUrl"])).status_code == 200


async def test_success_of_a_job_is_false_where_it_ended_without_one_picture(home):
    await home.studio.job(n=1)
    assert (await home.get("/api/jobs/job-1")).json()["success"] is True
    await home.studio.cancel("mary", 1)
    assert (await home.get("/api/jobs/job-1")).json()["success"] is False


async def test_what_is_not_there_and_what_is_anothers_cannot_be_told_apart(home):
    await home.studio.made("eve", n=1, owner="bob")
    for there, nowhere in (("character/eve", "character/nobody"),):
        answers_ = [await home.get(f"/api/image-generation/{path}") for path in (there, nowhere)]
        assert [a.status_code for a in answers_] == [404, 404]
        assert answers_[0].content == answers_[1].content
        assert dict(answers_[0].headers.items()) == dict(answers_[1].headers.items())
    pairs = [("/api/characters/eve", "/api/characters/x"), ("/api/jobs/job-1", "/api/jobs/x"),
             ("/media/bob/characters/eve/images/eve_image_1.png", "/media/x.png"), ("/nowhere", "/api/")]  # fmt: skip
    seen = {(await home.get(path)).content for pair in pairs for path in pair}
    assert len(seen) == 1


STYLES = Rules(styles={"anime": JobKeys(prompt="{prompt}, soft light", negative_prompt="{negative_prompt}, lowres")})


async def test_an_image_is_written_back_as_the_job_that_makes_it_again(tmp_path):
    recipe = Recipe(
        width=64, height=96, style="anime", negative_prompt="hands, lowres", steps=28, sampler_name="euler",
        scheduler="karras", embedding="mary-v2", loras=(Lora("film", 0.5),), params={"clip_skip": 2},
    )  # fmt: skip
    async with house(tmp_path, settings={"rules": STYLES}) as home:
        await home.studio.made(prompts=["in a garden, soft light", "at sea, soft light"], recipe=recipe, seed=7)
        made = await home.data(home.images() + "/images/2/job")
        strict(answers.JobFileData, made)
        job = planned(made["jobFile"])
        assert [(image.prompt, image.seed) for image in job.images] == [("at sea, soft light", 8)]
        assert job.recipe == recipe
        assert job.character.id == "mary"
        more = planned((await home.data(home.images() + "/images/2/job?quantity=4"))["jobFile"])
        assert [(image.prompt, image.seed) for image in more.images] == [
            ("at sea, soft light", 99 + i) for i in range(4)
        ]
        assert more.recipe == recipe


def planned(text):
    spec = parse_job(text.encode(), file="again.yaml")
    return make_job(spec, file="again.yaml", rules=STYLES, draw_seed=lambda: 99)._replace(id="x")


async def test_where_no_job_file_can_ask_for_an_image_the_answer_says_why(tmp_path):
    async with house(tmp_path, settings={"rules": replace(STYLES, default_style="anime")}) as home:
        await home.studio.made(prompts=["without the style's words"])
        answer = await home.get(home.images() + "/images/1/job")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_job_file")
        assert 'style "anime" adds to every prompt' in answer.json()["error"]
        for number in ("2", "0", "01", "x", "9" * 30, "-1"):
            assert (await home.get(f"{home.images()}/images/{number}/job")).status_code == 404
        assert (await home.get(home.images() + "/images/1/job?quantity=0")).status_code == 400
