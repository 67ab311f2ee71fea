"""The answers as HTTP: validators, compression, caching, methods, health, and input that nobody means well."""

import re
from urllib.parse import quote

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import Pulse
from tests.support.windows import START, house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        yield made


async def test_a_strong_etag_for_every_answer_and_304_in_every_form_of_the_question(home):
    await home.studio.made(n=3)
    for path in (
        home.images(),
        "/api/characters",
        "/api/characters/mary",
        "/api/jobs",
        "/api/jobs/job-1",
        "/openapi.json",
        "/healthz",
        "/readyz",
    ):
        answer = await home.get(path)
        tag = answer.headers["etag"]
        assert re.fullmatch(r'"[^"]+"', tag)
        for held in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await home.get(path, if_none_match=held)
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), (path, held)
        assert (await home.get(path, if_none_match='"x"')).status_code == 200
        lines = [("authorization", f"Bearer {home.alice}"), ("if-none-match", '"x"'), ("if-none-match", tag)]
        assert (await home.client.get(path, headers=lines)).status_code == 304
        head = await home.client.head(path, headers={"authorization": f"Bearer {home.alice}"})
        assert head.content == b""
        assert dict(head.headers) == dict(answer.headers)
        if path.startswith("/api/"):
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
    well = Pulse(None, None, taken=1, rejected=0, duplicates=0, lag=0.0, passed_at=1, free_bytes=1)
    pulse = [well]
    async with house(tmp_path, pulse=lambda: pulse[0]) as home:
        for path in ("/healthz", "/readyz"):
            answer = await home.client.get(path)
            assert answer.json()["success"] is True
            assert answer.status_code == 200
        pulse[0] = well._replace(deaf="no inotify instance is left")
        answer = await home.client.get("/readyz")
        assert (answer.status_code, answer.json()["data"]["notes"]) == (
            200,
            ["New job files are found by scanning alone."],
        )
        for trouble, code in (({"intake": "no such folder"}, "intake_stopped"), ({"disk": "full"}, "disk_full")):
            pulse[0] = well._replace(**trouble)
            answer = await home.client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert (await home.client.get("/healthz")).status_code == 200
        pulse[0] = well
        for file in (tmp_path / ".pipeline").glob("index.db*"):
            file.rename(file.with_name("gone-" + file.name))
        answer = await home.client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "index_unreadable")
        broken = await home.get("/api/characters")
        assert (broken.status_code, broken.json()["code"]) == (503, "unavailable")


async def test_under_serve_the_index_alone_decides(home):
    assert (await home.client.get("/readyz")).status_code == 200


async def test_a_defect_of_ours_is_an_answer_without_a_word_of_the_inside(home):
    home.catalogue.whose = lambda _: 1 / 0
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


def ask_many(filled, questions, **more):
    @settings(max_examples=questions, deadline=None, **more)
    @given(
        parameters=st.lists(
            st.tuples(st.sampled_from(["limit", "cursor", "status", "job", "label", "since", "until", "seed", "favorite", "q", "other"]), st.text(max_size=60)), max_size=4
        ),
        held=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60),
        path=st.text(max_size=40),
    )  # fmt: skip
    def asked(parameters, held, path):
        trio.run(ask, filled, parameters, held, path)

    asked()


async def ask(filled, parameters, held, path):
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


def test_no_path_no_query_and_no_header_meets_a_defect(filled):
    ask_many(filled, 25)


@pytest.mark.torture
def test_no_path_no_query_and_no_header_of_many_meets_a_defect(filled):
    ask_many(filled, 500, derandomize=False, print_blob=True)
