"""The documentation is held to the code: what it shows is parsed, run or followed here."""

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest
import trio
import yaml
from pydantic import TypeAdapter

from docs import generate
from pipeline.cli import main
from pipeline.config import Config, load_config
from pipeline.gallery.answers import ErrorAnswer
from pipeline.plan import make_job
from pipeline.spec.job import parse_job
from pipeline.spec.shapes import record_of
from tests.support.reader import FENCE, Reader, code
from tests.support.reader import commands as lines_to_type
from tests.test_docs_run import NOT_TYPED

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SECRETS = {
    "RUNPOD_API_KEY": "k",
    "CLOUDINARY_API_KEY": "1",
    "CLOUDINARY_API_SECRET": "s",
    "A1111_USER": "u",
    "A1111_PASSWORD": "p",
    "GALLERY_JWT_SECRET": "s" * 32,
    "NOTIFY_SECRET": "n",
}


def blocks(*languages: str, pages: list[Path] = PAGES) -> Iterator[tuple[str, str]]:
    for page in pages:
        text = page.read_text()
        for found in FENCE.finditer(text):
            if found[1] in languages:
                yield f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", found[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, without the environment's accounts."""
    for name in ("CLOUDINARY_URL", "PIPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- generated parts


def test_the_generated_parts_are_current():
    stale = [page.name for page, _ in generate.stale()]
    assert not stale, f"`just docs` writes {', '.join(stale)} anew"


def test_every_part_that_can_be_generated_stands_on_a_page():
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert {name for name in generate.PARTS if f"<!-- generated: {name} -->" in pages} == set(generate.PARTS)


def test_a_change_in_the_code_makes_a_page_stale():
    text = (ROOT / "docs" / "job-file.md").read_text()
    assert generate.rewritten(text.replace("pixels, 64 to 4096", "pixels")) == text


# -- files shown


@pytest.mark.parametrize(("place", "text"), list(blocks("yaml")), ids=lambda value: value if "\n" not in value else "")
def test_every_yaml_block_is_a_job_or_a_configuration(elsewhere, place, text):
    said = yaml.safe_load(text)
    if said.keys() & {"character", "characterId", "prompt"}:
        rules = load_config(None, environ={}).rules()
        spec = parse_job(text.encode(), file="shown.yaml")
        assert make_job(spec, file="shown.yaml", rules=rules, draw_seed=lambda: 1).images
        return
    assert said.keys() <= record_of(Config).keys.keys()
    (elsewhere / "pipeline.yaml").write_text(text)
    assert load_config(None, environ=SECRETS).source == elsewhere / "pipeline.yaml"


@pytest.mark.parametrize(("place", "text"), list(blocks("json")), ids=lambda value: value if "{" not in value else "")
def test_every_json_block_is_a_job_or_an_answer(place, text):
    if "success" in json.loads(text):
        TypeAdapter(ErrorAnswer).validate_json(text)
    else:
        assert parse_job(text.encode(), file="shown.json").prompt


def test_the_back_ends_are_all_shown(elsewhere):
    kinds = set()
    for text in code("back-ends.md", "yaml"):
        (elsewhere / "pipeline.yaml").write_text(text)
        for backend in load_config(None, environ=SECRETS).backends.values():
            kinds.add((backend.type, getattr(backend, "worker", None)))
    assert kinds == {
        ("sketch", None),
        ("comfyui", None),
        ("a1111", None),
        *(("runpod", worker) for worker in ("sdxl", "comfyui", "custom")),
    }


# -- commands shown


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text()
        for place, block in blocks("sh", "console", "cron", pages=[page]):
            for line in block.splitlines():
                for part in re.split(r"&&|\||;", line.partition(" # ")[0]):
                    yield place, part.strip().removeprefix("$ ").removeprefix("uv run ")
        for inline in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
            yield page.name, " ".join(inline.split()).removeprefix("uv run ")


SHOWN = sorted({(place, text) for place, text in commands() if re.match(r"pipeline(?: |$)", text)})


def parsed(words: list[str]) -> None:
    """Parse a command line as click would, without asking whether every value is there."""
    command: click.Command = main
    context = click.Context(main, info_name="pipeline", **main.context_settings)
    while True:
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not isinstance(command, click.Group) or not rest:
            return
        name, *words = rest
        inner = command.get_command(context, name)
        if inner is None:
            raise click.UsageError(f"no command {name}")
        command, context = inner, click.Context(inner, info_name=name, parent=context)


@pytest.mark.parametrize(("place", "line"), SHOWN, ids=[f"{place} {line}" for place, line in SHOWN])
def test_every_command_shown_exists_with_its_options(place, line):
    words = shlex.split(re.sub(r"\s>.*", "", line))
    parsed([word for word in words[1:] if word != "…"])


@pytest.mark.parametrize("line", ["pipeline rnu", "pipeline run --onec", "pipeline token make alice"])
def test_a_command_that_does_not_exist_would_be_found(line):
    with pytest.raises(click.UsageError):
        parsed(line.split()[1:])


def test_commands_are_found_in_blocks_and_in_sentences():
    lines = {line for _, line in SHOWN}
    assert {"pipeline demo", "pipeline token create alice", "pipeline verify --store"} <= lines


# -- links


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    if not re.match(r"https?:", target)
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{page.name} {target}" for page, target in LINKS])
def test_every_link_leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.exists()
    if anchor:
        assert anchor in anchors(there)


def test_the_readme_goes_from_trying_to_what_it_is_not_for():
    headings = re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert headings == [
        "Try it", "The smallest job", "Your ComfyUI", "Your RunPod", "Your Cloudinary", "From cron", "Coming from an API",
        "When things break", "When not to use it", "More",
    ]  # fmt: skip


def test_every_page_is_reached_from_the_readme():
    reached: set[Path] = set()
    new = {ROOT / "README.md"}
    while new:
        reached |= new
        new = {(page.parent / target.partition("#")[0]).resolve() for page, target in LINKS if page in new} - reached
    assert set(PAGES) <= reached


# -- the tutorial, done; the snippets, called


PROOFS = re.findall(r"`uv run pytest ([^`]+)`", (ROOT / "docs/reliability.md").read_text())


@pytest.mark.parametrize("words", PROOFS)
def test_every_promise_is_proved_by_tests_that_are_there(words):
    files = [word for word in words.split() if word.startswith("tests/")]
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
        has_long_half = "mark.torture" in (ROOT / file).read_text()
        assert not has_long_half or '-m "torture or not torture"' in words, file


async def test_the_tutorial_and_the_snippets_do_what_they_say(elsewhere, monkeypatch):
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            reader = Reader(nursery, monkeypatch)
            for line in lines_to_type("tutorial.md"):
                if line not in NOT_TYPED:
                    await reader.do(line)
            while (gallery := json.loads(reader.said)["data"])["totalCount"] < 7 or not _refused():
                await trio.sleep(0.05)
                await reader.do(line)
            assert sorted(image["number"] for image in gallery["images"]) == [1, 2, 3, 4, 5, 6, 7]
            job = next(image["jobId"] for image in gallery["images"] if image["number"] == 7)
            await trio.to_thread.run_sync(_try_snippets, reader.address, reader.token, job)
            await reader.end()
    assert "oops.yaml:1:1: `prompt` is missing" in _refused()
    assert (elsewhere / "studio/images/me/characters/mary/images/mary_image_1.png").exists()


def _refused() -> str:
    return "".join(file.read_text() for file in Path("jobs/rejected").glob("oops.error.txt"))


def _try_snippets(address: str, token: str, job: str) -> None:
    told: dict = {}
    exec(code("http.md", "python")[0], told)
    with told["client"](address, token) as client:
        assert len(list(told["images"](client, "mary"))) == 7
        ended = told["ended"](client, job)
    assert (ended["generatedCount"], ended["jobId"]) == (2, job)


async def test_the_route_of_the_migration_page_leaves_a_job(elsewhere, monkeypatch):
    (elsewhere / "jobs").mkdir()
    monkeypatch.setenv("PIPELINE_JOBS", str(elsewhere / "jobs"))
    told: dict = {}
    exec(code("migrating.md", "python")[0], told)
    body = json.loads(code("migrating.md", "json")[0]) | {"owner": "mallory", "priority": 100}
    transport = httpx.ASGITransport(told["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://app", headers={"x-user": "alice"}) as client:
        path, key = "/api/image-generation/generate", {"idempotency-key": "order-1234567890abcdef"}
        answers = [await client.post(path, json=body, headers=key) for _ in range(2)]
        answers.append(await client.post(path, json=body))
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    ids = [answer.json()["data"]["jobId"] for answer in answers]
    assert ids[0] == ids[1] == "order-1234567890abcdef"
    files = {file.name for file in (elsewhere / "jobs").iterdir()}
    assert files == {f"{ids[0]}.json", f"{ids[2]}.json"}
    spec = parse_job((elsewhere / "jobs" / f"{ids[2]}.json").read_bytes(), file="x.json")
    assert (spec.owner, spec.id, spec.quantity, spec.priority) == ("alice", ids[2], 5, 0)
    assert spec.character is not None
    assert spec.character.id == "123"


DISTRIBUTIONS = {"PIL": "pillow", "jwt": "pyjwt", "pydantic_core": "pydantic", "yaml": "pyyaml"}  # called otherwise


def test_every_library_that_is_imported_is_asked_for_and_has_its_reason():
    asked_for = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match("[a-z0-9-]+", line)[0] for line in asked_for}
    imported = {
        found
        for file in (ROOT / "pipeline").rglob("*.py")
        for found in re.findall(
            r"^\s*(?:import|from) (\w+)(?:\.\w+)*(?: import| as |$)", file.read_text(), re.MULTILINE
        )
    }
    theirs = imported - sys.stdlib_module_names - {"pipeline"}
    assert {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in theirs} == names
    _, _, table = (ROOT / "docs/architecture.md").read_text().partition("| library | for |\n|---|---|\n")
    reasons = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    assert {name for cell in reasons for name in cell.split(", ")} == names
