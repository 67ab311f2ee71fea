"""What a job file may say, and in how many ways."""

import pytest

from pipeline.errors import SpecError
from pipeline.model import OnFailure
from pipeline.plan import digest
from pipeline.spec.job import JobSpec, parse_job
from pipeline.spec.keys import CharacterSpec, LoraSpec

POST_BODY = b'{"characterId": "123", "prompt": "a portrait", "numImages": 5, "width": 1024, "height": 1536}'


def job(text, file="job.yaml"):
    return parse_job(text if isinstance(text, bytes) else text.encode(), file=file)


def complaints(text, file="job.yaml"):
    with pytest.raises(SpecError) as caught:
        job(text, file)
    return [said.message for said in caught.value.complaints]


def test_the_smallest_job_has_the_defaults():
    spec = job("character: Mary\nprompt: in a garden\n")
    assert spec == JobSpec(character=CharacterSpec(name="Mary"), prompt="in a garden")
    assert (spec.quantity, spec.width, spec.height, spec.seed, spec.priority) == (1, 1024, 1536, -1, 0)
    assert spec.model_fields_set == {"character", "prompt"}


@pytest.mark.parametrize("file", ["a.json", "a.yaml", "a.yml", "A.JSON"])
def test_the_body_that_apps_have_been_posting_is_a_job(file):
    spec = job(POST_BODY, file)
    assert (spec.character, spec.prompt, spec.quantity) == (CharacterSpec(id="123"), "a portrait", 5)
    assert (spec.width, spec.height) == (1024, 1536)


def test_a_json_body_under_a_yaml_name_keeps_jsons_escapes():
    assert job('{"character": "M", "prompt": "\\ud83d\\ude00"}').prompt == "\U0001f600"
    assert job(' {"character": "M", "prompt": "\\ud83d\\ude00"}').prompt == "\U0001f600"
    assert job("{character: M, prompt: in a garden}").prompt == "in a garden"


def test_every_key():
    spec = job("""
character: {id: "123", name: Mary, owner: alice, embedding: mary-v2}
prompt: [in a garden, at the harbour]
negative_prompt: blurry
quantity: 2
style: anime
backend: [pod, xl, pod]
model: m.safetensors
width: 832
height: 1216
steps: 28
cfg_scale: 5.5
sampler_name: euler
scheduler: karras
seed: 7
embedding: other
loras: [{name: a, weight: 0.5}, {name: b}, c]
params: {clip_skip: 2, deep: {a: [1, no, "1"]}}
stagger: 90s
priority: -5
on_failure: fail
id: my-job
notify: https://app.example/hook/
labels: [spring, covers, spring]
x-mine: {anything: [goes]}
""")
    assert spec.character == CharacterSpec(id="123", name="Mary", owner="alice", embedding="mary-v2")
    assert spec.prompt == ("in a garden", "at the harbour")
    assert spec.backend == ("pod", "xl")
    assert spec.loras == (LoraSpec(name="a", weight=0.5), LoraSpec(name="b"), LoraSpec(name="c", weight=1.0))
    assert spec.params == {"clip_skip": 2, "deep": {"a": [1, "no", "1"]}}
    assert (spec.stagger, spec.priority, spec.on_failure) == (90.0, -5, OnFailure.FAIL)
    assert (spec.steps, spec.cfg_scale, spec.sampler_name, spec.scheduler) == (28, 5.5, "euler", "karras")
    assert (spec.style, spec.model, spec.id, spec.embedding) == ("anime", "m.safetensors", "my-job", "other")
    assert (spec.seed, spec.negative_prompt, spec.notify) == (7, "blurry", "https://app.example/hook/")
    assert spec.labels == ("spring", "covers")


@pytest.mark.parametrize(
    ("spelling", "field", "text", "value"),
    [
        *[(key, "quantity", "5", 5) for key in ("numImages", "num_images", "count", "n", "quantity")],
        *[(key, "owner", "al", "al") for key in ("ownerId", "owner_id", "userId", "user_id")],
        *[(key, "style", "a", "a") for key in ("artStyle", "art_style")],
        *[(key, "cfg_scale", "5", 5.0) for key in ("cfg", "guidance_scale", "guidanceScale", "cfgScale")],
        *[(key, "steps", "9", 9) for key in ("num_inference_steps", "numInferenceSteps")],
        *[(key, "sampler_name", "e", "e") for key in ("sampler", "samplerName")],
        ("negativePrompt", "negative_prompt", "x", "x"),
        ("onFailure", "on_failure", "fail", OnFailure.FAIL),
        *[(key, "character", "7", CharacterSpec(id="7")) for key in ("characterId", "character_id")],
        *[(key, "character", "7", CharacterSpec(name="7")) for key in ("characterName", "character_name")],
    ],
)
def test_other_spellings(spelling, field, text, value):
    assert getattr(job(f"{spelling}: {text}\n"), field) == value


def test_other_spellings_of_a_loras_weight_and_a_characters_owner():
    spec = job("character: {name: M, userId: al}\nloras: [{name: a, strength: 0.5}]\n")
    assert spec.loras[0].weight == 0.5
    assert spec.said()["owner"] == "al"


@pytest.mark.parametrize(
    "text",
    [
        "quantity: 5\nn: 5",
        "quantity: 5\nn: 05",
        "cfg: 5.0\ncfg_scale: 5",
        "character: {id: 7}\ncharacterId: 7",
        "characterId: 7\ncharacter: {name: M}",
        "character: Mary\ncharacterName: Mary",
        "character: {name: M, owner: al}\nowner: al",
        "quantity: 5\nn: null",
        "quantity: ~\nn: 5",
    ],
)
def test_one_thing_may_be_said_twice_alike(text):
    job(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantity: 5\nn: 6", '"n" says it differently from "quantity"'),
        ("quantity: 5\nn: six", '"n" says it differently from "quantity"'),
        ("character: {id: 7}\ncharacterId: 8", '"characterId" says it differently from "character.id"'),
        ("characterId: 8\ncharacter: {id: 7}", '"characterId" says it differently from "character.id"'),
        ("character: Mary\ncharacterName: Anne", '"characterName" says it differently from "character.name"'),
        ("character: {name: M, owner: al}\nowner: bob", '"owner" says it differently from "character.owner"'),
        ("loras: [{name: a, weight: 1, strength: 2}]", '"strength" says it differently from "weight"'),
    ],
)
def test_one_thing_said_twice_and_differently_is_an_error(text, message):
    assert complaints(text) == [message]


def test_scalars_are_converted_by_the_keys_own_type():
    spec = job("character: {id: 007, name: no}\nprompt: 1e3\nquantity: '05'\nlabels: 7\nseed: +3\nmodel: null\n")
    assert spec.character == CharacterSpec(id="007", name="no")
    assert (spec.prompt, spec.quantity, spec.labels, spec.seed, spec.model) == ("1e3", 5, ("7",), 3, None)
    assert job('{"character": 7, "prompt": true, "quantity": "5"}', "a.json").prompt == "true"


def test_null_means_absent_except_for_the_jobs_embedding():
    spec = job("character: {name: M, embedding: null}\nprompt: ~\nwidth:\nparams: null\nstyle: NULL\nembedding: null\n")
    assert spec.model_fields_set == {"character", "embedding"}
    assert spec.embedding is None
    assert spec.character is not None
    assert spec.character.embedding is None
    assert job("model: 'null'\n").model == "null"


def test_prompts_lose_the_white_space_around_them_and_nothing_within():
    spec = job("prompt: |\n  two\n  lines\nnegative_prompt: '  x '\ncharacter: ' Mary '\n")
    assert (spec.prompt, spec.negative_prompt) == ("two\nlines", "x")
    assert spec.character == CharacterSpec(name="Mary")


def test_where_it_was_read_is_no_part_of_what_it_says():
    one, other = job("character: M\nprompt: x\n"), job('{"prompt": "x", "characterName": "M"}', "b.json")
    assert one == other
    assert one == JobSpec(character=CharacterSpec(name="M"), prompt="x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("character: M\nprompt: x\nn: 2", "numImages: 02\nprompt: x\ncharacter: {name: M}"),
        ("character: {name: M, owner: al}\nprompt: x", "characterName: M\nuserId: al\nprompt: 'x'"),
        ("character: M\nprompt: x\nseed: -1", "character: M\nprompt: x\nquantity: 1"),
        ("character: M\nprompt: x\nstagger: 90s", "character: M\nprompt: x\nstagger: 1.5m\nx-note: hello"),
        ("character: M\nprompt: x\nparams: {a: 1, b: 2}", "character: M\nprompt: x\nparams: {b: 2, a: 1}"),
        ("character: M\nprompt: x\nlabels: a", "character: M\nprompt: x\nlabels: [a]"),
    ],
)
def test_the_digest_is_equal_for_jobs_that_say_the_same(one, other):
    assert digest(job(one)) == digest(job(other))


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("{character: Mary, prompt: in a garden}", "b192e44e68bf9968545556e51ccbf269e455c572cfa9e9274b8cd0e5e259554c"),
        (
            """
            character: {id: "123", name: Mary, owner: alice, embedding: mary-v2}
            prompt: [in a garden, at the harbour]
            quantity: 2
            width: 832
            seed: 7
            embedding: null
            loras: [{name: soft}]
            params: {clip_skip: 2}
            notify: https://a.example/hook
            labels: [spring]
            id: own
            """,
            "e27614230ca1a5ab35b6c844ddca2dac87e0ca46a5b0fb086efc0db234e6a7cb",
        ),
    ],
)
def test_a_job_that_an_index_recorded_is_known_again_after_an_update(text, recorded):
    assert digest(job(text)) == recorded


def test_the_digest_differs_with_every_key():
    base = "character: M\nprompt: x\n"
    others = [
        "owner: a", "negative_prompt: a", "quantity: 2", "style: a", "backend: a", "model: a", "width: 64", "height: 64",
        "steps: 1", "cfg_scale: 1", "sampler_name: a", "scheduler: a", "seed: 1", "embedding: a", "embedding: null",
        "loras: [a]", "params: {a: 1}", "params: {a: '1'}", "stagger: 1", "priority: 1", "on_failure: fail", "id: a",
        "notify: http://a", "labels: a",
    ]  # fmt: skip
    digests = {digest(job(base + other)) for other in ["", *others]}
    digests |= {digest(job("characterId: M\nprompt: x")), digest(job("character: M\nprompt: y"))}
    assert len(digests) == len(others) + 3


def test_a_spec_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        job("character: M\n").quantity = 3
    with pytest.raises(AttributeError):
        job("character: M\n").complaint(message="x").line = 2


def test_a_choice_said_twice_is_compared_by_its_meaning():
    said = b"character: Mary\nprompt: x\non_failure: fail\nonFailure: %s\n"
    assert parse_job(said % b"fail", file="m.yaml").on_failure == "fail"
    with pytest.raises(SpecError, match="differently"):
        parse_job(said % b"placeholder", file="m.yaml")
