"""Images copied out of the store, and written back as the jobs that ask for them."""

import hashlib
import json
from dataclasses import replace

import httpx
import pytest

from pipeline.again import Made, job_again
from pipeline.catalogue import Catalogue
from pipeline.cli.export import copy_out
from pipeline.config import load_config
from pipeline.errors import UserError
from pipeline.model import Lora, Recipe
from pipeline.plan import make_job
from pipeline.ports import Links
from pipeline.spec.job import parse_job
from tests.support import index
from tests.support.index import images_of
from tests.test_cli_steer import Workspace

# -- export


@pytest.fixture
def space(tmp_path):
    made = Workspace(tmp_path)
    made.drop(quantity=3)
    made.work_off()
    return made


def test_images_are_copied_once_with_a_list(space, tmp_path):
    folder = tmp_path / "out/mary"
    assert space.call("export", "mary", str(folder)) == f"3 images in {folder}, 3 of them new\n"
    told = json.loads((folder / "images.json").read_text())
    assert told["characterId"] == "mary"
    assert [image["file"] for image in told["images"]] == [f"mary_image_{n}.png" for n in (1, 2, 3)]
    assert [image["status"] for image in told["images"]] == ["done", "placeholder", "done"]
    assert "url" not in told["images"][0]
    original = tmp_path / "images/me/characters/mary/images/mary_image_1.png"
    assert (folder / "mary_image_1.png").read_bytes() == original.read_bytes()
    (folder / "mary_image_2.png").write_bytes(b"half")
    again = json.loads(space.call("export", "mary", str(folder), "--json"))
    assert (again["images"], again["copied"]) == (3, 1)


def test_a_missing_file_is_told_and_the_others_are_copied(space, tmp_path):
    (tmp_path / "images/me/characters/mary/images/mary_image_2.png").unlink()
    told = space.call("export", "mary", str(tmp_path / "out"), code=1)
    assert "mary_image_2: not copied (No such file or directory)" in told
    assert (tmp_path / "out/mary_image_3.png").exists()


def test_what_cannot_be_exported_is_refused(space, tmp_path):
    assert 'no character has the id "nope"' in space.call("export", "nope", str(tmp_path / "out"), code=2)
    (tmp_path / "file").write_text("")
    assert "choose a folder" in space.call("export", "mary", str(tmp_path / "file/out"), code=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/images.json").write_text('{"characterId": "john"}')
    assert "the list of another export (john)" in space.call("export", "mary", str(tmp_path / "other"), code=2)
    (tmp_path / "other/images.json").write_text("[1")
    space.call("export", "mary", str(tmp_path / "other"))
    (tmp_path / ".pipeline/index.db").unlink()
    assert "index.db" in space.call("export", "mary", str(tmp_path / "out"), code=1)


class Signed:
    """Delivery addresses with a signature in them."""

    def links(self, stored, *, now):
        return Links(f"https://res.example/s--hush--/{stored.public_id}", "")


@pytest.mark.parametrize(
    ("status", "content", "trouble"),
    [
        (200, b"the picture", None),
        (404, b"", "the store answered 404"),
        (200, b"another picture", "the store delivered other bytes than were stored"),
        (None, b"", "the store was not reached: ConnectError"),
    ],
)
async def test_what_stands_at_a_store_far_away_is_fetched_and_compared(tmp_path, status, content, trouble):
    async with index.open_index(tmp_path) as ledger:
        await index.adopted(ledger)
        await ledger.accept([index.job("a")])
        (image,) = images_of(ledger, "a")
        image = await index.fetch(ledger, image)
        kept = index.stored(image, md5=hashlib.md5(b"the picture").hexdigest())
        await ledger.record(image, index.law.StoredAt(kept))
    asked = []

    def answer(request):
        asked.append(str(request.url))
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, content=content)

    rows = list(Catalogue(tmp_path / "index.db").page("mary").rows)
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        new, troubles = copy_out(rows, Signed(), tmp_path / "out", client, "mary")
    assert asked == ["https://res.example/s--hush--/me/characters/mary/images/mary_image_1"]
    assert (new, troubles) == ((1, []) if trouble is None else (0, [f"mary_image_1: not copied ({trouble})"]))
    assert (tmp_path / "out/mary_image_1.png").exists() == (trouble is None)


# -- as a job

STYLES = """
backends: {pod: {type: sketch}, xl: {type: sketch}}
styles:
  anime: {prompt: "{prompt}, soft light", negative_prompt: "blurry, {negative_prompt}", steps: 28}
  plain: {backend: xl}
"""
SAYINGS = {
    "style": {"style": "anime"},
    "style and negative": {"style": "anime", "negative_prompt": "hands"},
    "no style": {},
    "odd words": {"prompt": "yes: no # {prompt} 'x' \u2603, soft light", "style": "anime"},
    "several lines": {"prompt": "one\ntwo  \n three"},
    "all of it": {
        "style": "plain",
        "model": "m.safetensors",
        "steps": 30,
        "cfg_scale": 6.5,
        "sampler_name": "Euler a",
        "scheduler": "karras",
        "embedding": "mary-v2",
        "loras": [{"name": "glow", "weight": 0.5}],
        "params": {"hires": {"scale": 1.5, "on": True, "list": [1, "2"]}},
        "labels": ["spring", "007"],
        "negative_prompt": "hands",
    },
    "without the character's embedding": {"embedding": None},
}


def rules(text, folder):
    (folder / "pipeline.yaml").write_text(text)
    return load_config(folder / "pipeline.yaml", environ={}).rules()


def planned(job, its_rules):
    spec = parse_job(json.dumps(job).encode(), file="a.json")
    return make_job(spec, file="a.json", rules=its_rules, draw_seed=lambda: 5)._replace(id="a")


def made_of(job, **changes):
    made = Made(
        filename="mary_image_1",
        character_id="mary",
        character_embedding=None,
        owner="me",
        said=job.prompt,
        prompt=job.images[0].prompt,
        seed=job.images[0].seed,
        recipe=job.recipe,
        backend="pod",
        labels=job.labels,
    )
    return replace(made, **changes)


def parsed(text, its_rules):
    spec = parse_job(text.encode(), file="again.yaml")
    return make_job(spec, file="again.yaml", rules=its_rules, draw_seed=lambda: 0)._replace(id="b")


@pytest.mark.parametrize("said", SAYINGS.values(), ids=SAYINGS)
@pytest.mark.parametrize("default", ["", "default_style: anime\n"], ids=["no default", "default style"])
def test_the_job_that_is_written_plans_the_same_image(tmp_path, said, default):
    its_rules = rules(STYLES + default, tmp_path)
    job = planned({"character": "Mary", "prompt": "in a garden", "seed": 7} | said, its_rules)
    again = parsed(job_again(made_of(job), its_rules), its_rules)
    assert again.images == job.images
    assert again.recipe._replace(no_embedding=False) == job.recipe._replace(no_embedding=False)
    assert (again.backends, again.labels, again.character.id) == (("pod",), job.labels, "mary")


HEAVY = {"quantity": 3, "loras": [{"name": "glow"}], "params": {"hires": True}}


@pytest.mark.parametrize("without", [{"quantity": 1}, {"loras": []}, {"params": {}}, {"loras": [], "params": {}}, {}])
@pytest.mark.parametrize("how_many", [1, 4])
def test_what_a_style_would_bring_and_the_image_went_without_stays_out(tmp_path, without, how_many):
    text = STYLES + f"  heavy: {json.dumps(HEAVY)}\ndefault_style: heavy\n"
    its_rules = rules(text, tmp_path)
    job = planned({"character": "Mary", "prompt": "in a garden", "seed": 7} | without, its_rules)
    made = made_of(job, seed=job.images[-1].seed)
    again = parsed(job_again(made, its_rules, quantity=how_many), its_rules)
    assert [image.seed for image in again.images] == ([made.seed] if how_many == 1 else [0, 1, 2, 3])
    assert (again.recipe.loras, again.recipe.params) == (job.recipe.loras, job.recipe.params)


def test_a_template_that_has_changed_since_is_got_round(tmp_path):
    job = planned({"character": "Mary", "prompt": "in a garden", "style": "anime"}, rules(STYLES, tmp_path))
    changed = rules(STYLES.replace("soft light", "hard light"), tmp_path)
    text = job_again(made_of(job, backend="gone"), changed)
    again = parsed(text, changed)
    assert (again.images, again.recipe.style) == (job.images, None)
    assert "backend" not in text
    assert "prompt: in a garden, soft light" in text


def test_a_style_that_is_gone_is_got_round(tmp_path):
    job = planned({"character": "Mary", "prompt": "in a garden", "style": "anime"}, rules(STYLES, tmp_path))
    its_rules = rules(STYLES.replace("anime:", "manga:"), tmp_path)
    assert parsed(job_again(made_of(job), its_rules), its_rules).images == job.images


def test_where_the_default_style_adds_to_everything_it_is_said_that_it_cannot_be(tmp_path):
    job = planned({"character": "Mary", "prompt": "in a garden"}, rules(STYLES, tmp_path))
    with pytest.raises(UserError, match=r'no job file can ask for it .* style "anime" adds to every prompt'):
        job_again(made_of(job), rules(STYLES + "default_style: anime\n", tmp_path))


def test_an_embedding_that_the_character_got_later_is_kept_out(tmp_path):
    its_rules = rules(STYLES, tmp_path)
    job = planned({"character": "Mary", "prompt": "in a garden"}, its_rules)
    assert "embedding: null" in job_again(made_of(job, character_embedding="mary-v3"), its_rules)
    loras = (Lora("glow", 0.5), Lora("glow", 0.5))
    text = job_again(made_of(job, recipe=Recipe(embedding="mary-v2", loras=loras)), its_rules)
    assert "embedding: mary-v2" in text
    assert "&" not in text
