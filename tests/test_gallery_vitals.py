"""What the gallery says of itself: its description, its metrics, and the headers of its page."""

import random

import jsonschema
import pytest

from pipeline.config import JwtConfig
from pipeline.gallery.ready import AnswerCache, Ready
from pipeline.model import LaneState
from tests.support.windows import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path, settings={"image_sources": ("https://res.cloudinary.com",)}) as made:
        await made.studio.made(n=2, labels=["spring"])
        await made.studio.job(n=1)
        await made.studio.give_up("mary", 3)
        await made.studio.job(n=1)
        yield made


async def test_every_described_route_answers_as_it_is_described(home):
    described = (await home.client.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert len(described["paths"]) == 10
    pictures = described["paths"].pop("/media/{publicId}.{ext}")["get"]["responses"]["200"]["content"]
    for path, item in described["paths"].items():
        route = path.replace("{characterId}", "mary").replace("{jobId}", "job-1").replace("{number}", "1")
        security = item["get"].get("security")
        open_to_all = security is not None and (not security or {} in security)
        for status, answer in (
            ("200", await home.get(route)),
            ("401", None if open_to_all else await home.client.get(route)),
        ):
            if answer is None:
                continue
            assert answer.status_code == int(status), route
            kind = answer.headers["content-type"].partition(";")[0]
            schema = item["get"]["responses"][status]["content"][kind]["schema"]
            told = answer.json() if kind == "application/json" else answer.text
            jsonschema.validate(
                told, {**schema, "components": described["components"]}, jsonschema.Draft202012Validator
            )
    answer = await home.get("/media/alice/characters/mary/images/mary_image_1.png")
    assert answer.headers["content-type"] in pictures


async def test_every_described_bound_is_the_one_that_is_kept(home):
    described = (await home.client.get("/openapi.json")).json()
    parameters = described["paths"]["/api/image-generation/character/{characterId}"]["get"]["parameters"]
    names = {p["name"] for p in parameters if p["in"] == "query"}
    assert names == {"limit", "cursor", "wait", "status", "job", "label", "since", "until", "seed", "q", "favorite"}
    for name in ("limit", "wait", "seed"):
        (schema,) = [p["schema"] for p in parameters if p["name"] == name]
        for value, status in ((schema["maximum"], 200), (schema["maximum"] + 1, 400), (schema["minimum"] - 1, 400)):
            assert (await home.get(f"{home.images()}?{name}={value:.0f}")).status_code == status, (name, value)
    for name in ("job", "label", "q"):
        (schema,) = [p["schema"] for p in parameters if p["name"] == name]
        for value in ("a", "\n\tein \x85Ü", "a\0", "\0a", "", "x" * 400, "x" * 401):
            allowed = jsonschema.Draft202012Validator(schema).is_valid(value)
            answer = await home.client.get(
                home.images(), params={name: value}, headers={"authorization": f"Bearer {home.alice}"}
            )
            assert (answer.status_code == 200) == allowed, (name, value)


async def test_logins_are_described_where_they_are_taken(tmp_path):
    settings = {"jwt": JwtConfig(secret="s" * 32)}
    async with house(tmp_path, settings=settings) as home:
        assert "login" in (await home.client.get("/openapi.json")).json()["components"]["securitySchemes"]


async def test_metrics_of_back_ends(home):
    await home.studio.ledger.notes.lane(LaneState("pod", "ready", 2, 1, 3, 11.5))
    await home.studio.ledger.notes.lane(LaneState("xl", "down", 60, 0, reason="proxy 404: pod stopped?"))
    lines = (await home.client.get("/metrics")).text.splitlines()
    for line in (
        'pipeline_backend_ready{backend="pod"} 1.0', 'pipeline_backend_ready{backend="xl"} 0.0', 'pipeline_backend_typical_seconds{backend="pod"} 11.5',
        'pipeline_backend_waiting{backend="pod"} 3.0', 'pipeline_images_ended_total{backend="pod",status="done"} 2.0', 'pipeline_images{status="placeholder"} 1.0',
        'pipeline_jobs_unfinished{status="queued"} 1.0', "pipeline_http_held_requests 0.0",
    ):  # fmt: skip
        assert line in lines, line


async def test_pictures_may_come_from_below_a_public_address_with_a_path(tmp_path):
    async with house(tmp_path, settings={"public_url": "https://g.example/sub"}) as home:
        policy = (await home.client.get("/")).headers["content-security-policy"]
    assert "; img-src 'self' https://g.example; " in policy


async def test_the_page_and_its_files_hold_no_data_and_allow_nothing_from_elsewhere(home):
    for path in ("/", "/gallery/mary", "/gallery/nobody", "/assets/app.js", "/assets/page.css", "/assets/icon.svg"):
        answer = await home.client.get(path)
        assert answer.status_code == 200
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' http://testserver https://res.cloudinary.com"
        assert "unsafe" not in str(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert (await home.client.get(path, headers={"if-none-match": answer.headers["etag"]})).status_code == 304
    assert (await home.client.get("/gallery/mary")).content == (await home.client.get("/gallery/nobody")).content
    text = (await home.client.get("/")).text
    assert "<style" not in text
    assert " style=" not in text
    assert "<script>" not in text
    for missing in ("index.html", "../app.py", "%2e%2e%2fapp.py", "x.js", ""):
        assert (await home.client.get("/assets/" + missing)).status_code == 404


def test_the_cache_keeps_what_was_asked_for_last_within_its_bound():
    cache = AnswerCache(10_000)
    for key in range(20):
        cache.put(key, 1, Ready(random.Random(key).randbytes(1000)))
        assert cache.held <= 10_000
        assert cache.get(0, 1) is not None
    kept = [key for key in range(20) if cache.get(key, 1) is not None]
    assert kept == [0, *range(20 - len(kept) + 1, 20)]
    assert 5 <= len(kept) <= 8
    assert cache.get(19, 2) is None
    held = cache.held
    cache.put(19, 2, Ready(b"x" * 1000))
    assert cache.held == held
    cache.put("large", 1, Ready(b"x" * 5000))
    assert cache.get("large", 1) is None


def test_what_leaves_the_front_of_the_cache_goes_on_folded_and_is_the_same_still():
    cache = AnswerCache(20_000)
    bodies = {key: f'{{"image": {key}}}'.encode() * 200 for key in range(15)}
    made = {key: Ready(body, following="on") for key, body in bodies.items()}
    tags = {key: (ready.tag, ready.packed_tag, ready.packed()) for key, ready in made.items()}
    for key, ready in made.items():
        cache.put(key, 1, ready)
    assert sum(len(body) for body in bodies.values()) > 2 * cache.held
    for key, body in bodies.items():
        found = cache.get(key, 1)
        assert found is not None, key
        assert (found.body, found.next) == (body, "on")
        assert (found.tag, found.packed_tag, found.packed()) == tags[key]
    cache.put(0, 2, Ready(b"another"))
    assert cache.get(0, 1) is None
    assert cache.get(0, 2).body == b"another"
