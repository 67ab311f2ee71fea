"""The JSON answers: exact keys, order, pages, filters, refusals; over ASGI, from a real index."""

import json
import re
from urllib.parse import quote

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pipeline.gallery import answers
from pipeline.model import Fault, OnFailure
from tests.support.windows import START, house

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
     "job=", "label=" + "x" * 401, "label=%00", "wait=-1", "wait=301", "wait=nan", "wait=1e2"],
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


async def test_a_strong_etag_for_every_answer_and_304_in_every_form_of_the_question(home):
    await home.studio.made(n=3)
    for path in (
        home.images(),
        "/api/characters",
        "/api/characters/mary",
        "/api/jobs",
        "/api/jobs/job-1",
        "/openapi.json",
    ):
        answer = await home.get(path)
        tag = answer.headers["etag"]
        assert re.fullmatch(r'"[^"]+"', tag)
        for held in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await home.get(path, if_none_match=held)
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), (path, held)
        assert (await home.get(path, if_none_match='"x"')).status_code == 200
        head = await home.client.head(path, headers={"authorization": f"Bearer {home.alice}"})
        assert head.content == b""
        assert dict(head.headers) == dict(answer.headers)
        if path != "/openapi.json":
            assert answer.headers["cache-control"] == "private, no-cache"
            assert answer.headers["vary"] == "Authorization, Accept-Encoding"


async def test_compression_has_an_etag_of_its_own_and_both_are_known_again(home):
    await home.studio.made(n=4)
    plain = await home.get(home.images())
    packed = await home.get(home.images(), accept_encoding="br, gzip;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert packed.headers["etag"] != plain.headers["etag"]
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    for tag in (plain.headers["etag"], packed.headers["etag"]):
        assert (await home.get(home.images(), accept_encoding="gzip", if_none_match=tag)).status_code == 304
    for refusing in ("gzip;q=0", "identity", "*;q=0", "gzip;q=1.2.3", "gzip;q=0, *"):
        assert "content-encoding" not in (await home.get(home.images(), accept_encoding=refusing)).headers
    assert (await home.get(home.images(), accept_encoding="*")).headers["content-encoding"] == "gzip"


async def test_an_unchanged_gallery_is_not_computed_twice_and_a_changed_one_is(home):
    await home.studio.made(n=2)
    first = await home.get(home.images())
    asked = []
    compute = home.catalogue.page
    home.catalogue.page = lambda *a, **k: asked.append(a) or compute(*a, **k)  # counts, and changes nothing
    assert (await home.get(home.images())).content == first.content
    assert asked == []
    await home.studio.made(n=1)
    assert (await home.get(home.images())).json()["data"]["totalCount"] == 3
    assert len(asked) == 1
    home.studio.moment += 12 * 3600 * 1000  # addresses of the next window
    later = (await home.get(home.images())).json()["data"]["images"]
    assert later[0]["number"] == 3
    assert len(asked) == 2


async def test_answers_stay_equal_within_a_window_of_twelve_hours(home):
    await home.studio.made(n=1)
    home.studio.moment = START - START % (12 * 3600 * 1000) + 1
    early = await home.get(home.images())
    home.studio.moment += 12 * 3600 * 1000 - 2
    assert (await home.get(home.images())).headers["etag"] == early.headers["etag"]
    home.studio.moment += 2
    late = await home.get(home.images())
    assert late.headers["etag"] != early.headers["etag"]
    home.studio.moment += 12 * 3600 * 1000 - 1
    assert (await home.client.get(late.json()["data"]["images"][0]["url"])).status_code == 200


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


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_any_other_method_is_405_wherever_it_goes(home, method):
    for path in ("/", "/api/characters", "/media/x", "/nowhere", "/assets/app.js"):
        answer = await home.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["code"] == "method_not_allowed"


async def test_the_old_generation_endpoint_says_which_folder_to_drop_the_body_into(tmp_path):
    async with house(tmp_path, settings={"jobs_folder": "/srv/studio/jobs"}) as home:
        answer = await home.client.post("/api/image-generation/generate", json={"characterId": "123"})
        assert answer.status_code == 405
        assert "/srv/studio/jobs" in answer.json()["error"]
        assert (await home.get("/api/image-generation/generate")).status_code == 404


async def test_health_and_readiness(tmp_path):
    alive = [True]
    async with house(tmp_path, intake_alive=lambda: alive[0]) as home:
        for path in ("/healthz", "/readyz"):
            answer = await home.client.get(path)
            strict(answers.HealthAnswer, answer.json())
            assert answer.status_code == 200
        alive[0] = False
        assert (await home.client.get("/readyz")).json()["code"] == "intake_stopped"
        assert (await home.client.get("/healthz")).status_code == 200
        alive[0] = True
        for file in (tmp_path / ".pipeline").glob("index.db*"):
            file.rename(file.with_name("gone-" + file.name))
        answer = await home.client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "index_unreadable")
        broken = await home.get("/api/characters")
        assert (broken.status_code, broken.json()["code"]) == (503, "unavailable")


async def test_under_serve_the_index_alone_decides(home):
    assert (await home.client.get("/readyz")).status_code == 200


async def test_a_defect_of_ours_is_an_answer_without_a_word_of_the_inside(home):
    home.catalogue.character = lambda _: 1 / 0
    answer = await home.get(home.images())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "division" not in answer.text


async def test_metrics_name_no_owner_no_character_and_no_job(home):
    await home.studio.made(n=2)
    await home.studio.job("john", n=1)
    text = (await home.client.get("/metrics")).text
    assert 'pipeline_images{status="done"} 2.0' in text
    assert 'pipeline_jobs_unfinished{status="queued"} 1.0' in text
    assert not re.search(r"alice|mary|john|job-", text)


async def test_metrics_need_a_token_off_loopback_and_behind_a_proxy(home):
    for headers in ({"x-forwarded-for": "1.2.3.4"}, {"forwarded": "for=1.2.3.4"}):
        assert (await home.client.get("/metrics", headers=headers)).status_code == 401
    assert (await home.get("/metrics", x_forwarded_for="1.2.3.4")).status_code == 200


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")

    async def fill():
        async with house(folder) as home:
            await home.studio.made(n=2)

    trio.run(fill)
    return folder


@settings(max_examples=60, deadline=None)
@given(
    parameters=st.lists(
        st.tuples(st.sampled_from(["limit", "cursor", "status", "job", "label", "since", "until", "seed", "favorite", "q", "other"]), st.text(max_size=60)), max_size=4
    ),
    held=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60),
    path=st.text(max_size=40),
)  # fmt: skip
def test_no_path_no_query_and_no_header_meets_a_defect(filled, parameters, held, path):
    async def ask():
        async with house(filled) as home:
            headers = {"if-none-match": held.encode("latin-1"), "accept-encoding": held.encode("latin-1")}
            bearer = {"authorization": f"Bearer {home.alice}"}
            answer = await home.client.get(home.images(), params=parameters, headers={**bearer, **headers})
            assert answer.status_code in {200, 304, 400}, answer.text
            for start in ("/", "/media/", "/api/jobs/", "/api/characters/", "/api/image-generation/character/"):
                answer = await home.client.get(start + quote(path, safe="/"), headers=bearer)
                assert answer.status_code in {200, 404}, answer.text
            answer = await home.client.get(home.images(), headers={"authorization": held.encode("latin-1")})
            assert answer.status_code == 401

    trio.run(ask)
