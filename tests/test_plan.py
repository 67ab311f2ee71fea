"""From a parsed job and the rules of the house to the images with their prompts and seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.model import StyleKeys
from pipeline.errors import SpecError
from pipeline.model import CharacterRef, Job, Lora, OnFailure, PlannedImage, Recipe
from pipeline.plan import digest, make_job
from pipeline.spec.job import JobSpec, parse_job
from pipeline.spec.keys import CharacterSpec, LoraSpec, Rules

MARY = CharacterSpec(name="Mary")
STYLES = {
    "anime": StyleKeys(backend=("pod",), model="a.safetensors", steps=28, prompt="{prompt}, {soft|hard} light {}"),
    "noir": StyleKeys(negative_prompt="{negative_prompt}, colour", width=512, labels=("bw",), seed=5, quantity=3),
    "fixed": StyleKeys(
        prompt="a lighthouse", negative_prompt="people", character=CharacterSpec(id="house", owner="al")
    ),
}
RULES = Rules(default_owner="me", backends=("pod", "xl"))
STYLED = Rules(
    default_owner="me", styles=STYLES, default_style="anime", backends=("pod", "xl"), default_backend=("xl",)
)


def plan(spec, rules=RULES, seed=100, **more):
    return make_job(spec, **{"file": "j.yaml", "draw_seed": lambda: seed} | more, rules=rules)


def complaints(spec, rules=RULES):
    with pytest.raises(SpecError) as caught:
        plan(spec, rules)
    return [said.message for said in caught.value.complaints]


def test_the_whole_job():
    spec = JobSpec(
        character=CharacterSpec(id="123", name="Mary", owner="alice", embedding="mary-v2"),
        prompt="x", negative_prompt="y", style="label", model="m", width=832, height=1216, steps=3, cfg_scale=4.5,
        sampler_name="euler", scheduler="karras", seed=7, embedding="e", loras=(LoraSpec(name="a", weight=0.5),),
        params={"clip_skip": 2}, stagger=3.0, priority=4, on_failure=OnFailure.FAIL, notify="https://a.example",
        labels=("l",), id="own",
    )  # fmt: skip
    assert plan(spec, file="own.yml") == Job(
        id="own", own_id=True, character=CharacterRef(id="123", name="Mary", embedding="mary-v2"), owner="alice",
        default_owner="me", prompt="x", images=(PlannedImage("x", 7),), backends=("pod", "xl"), stagger=3.0, priority=4,
        on_failure=OnFailure.FAIL, notify="https://a.example", labels=("l",), digest=digest(spec), file="own.yml",
        recipe=Recipe(
            width=832, height=1216, negative_prompt="y", style="label", model="m", steps=3, cfg_scale=4.5,
            sampler_name="euler", scheduler="karras", embedding="e", loras=(Lora("a", 0.5),), params={"clip_skip": 2},
        ),
    )  # fmt: skip


def test_quantity_images_of_each_prompt_in_order():
    job = plan(JobSpec(character=MARY, prompt=("a", "b"), quantity=2, seed=7))
    assert job.images == tuple(PlannedImage(*said) for said in [("a", 7), ("a", 8), ("b", 9), ("b", 10)])
    assert job.prompt == ("a", "b")


@pytest.mark.parametrize("spec", [{}, {"seed": -1}])
def test_a_seed_is_drawn_once_and_leaves_one_for_each_image(spec):
    drawn = []

    def draw():
        drawn.append(2**32 - 2)
        return drawn[-1]

    job = plan(JobSpec(character=MARY, prompt="x", quantity=4, **spec), draw_seed=draw)
    assert [image.seed for image in job.images] == [2**32 - 4, 2**32 - 3, 2**32 - 2, 2**32 - 1]
    assert len(drawn) == 1


def test_a_seed_that_is_given_is_not_drawn():
    assert plan(JobSpec(character=MARY, prompt="x", seed=0), draw_seed=lambda: 1 / 0).images[0].seed == 0


@given(
    prompts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=20),
    quantity=st.integers(1, 50),
    seed=st.one_of(st.just(-1), st.integers(0, 2**32 - 1001)),
    drawn=st.integers(0, 2**32 - 1),
)
def test_images_are_counted_ordered_and_differ_in_their_seeds(prompts, quantity, seed, drawn):
    spec = JobSpec(character=MARY, prompt=tuple(prompts), quantity=quantity, seed=seed)
    job = plan(spec, seed=drawn)
    assert [image.prompt for image in job.images] == [p.strip() for p in prompts for _ in range(quantity)]
    seeds = [image.seed for image in job.images]
    assert seeds == list(range(seeds[0], seeds[0] + len(prompts) * quantity))
    assert all(0 <= one <= 2**32 - 1 for one in seeds)
    assert seeds[0] == (min(drawn, 2**32 - len(seeds)) if seed < 0 else seed)
    assert job.digest == digest(spec)


def test_a_styles_keys_are_defaults_and_the_jobs_own_key_wins():
    job = plan(JobSpec(character=MARY, prompt="x", style="noir", width=640, labels=("own",)), STYLED)
    assert (job.recipe.width, job.labels, job.recipe.style) == (640, ("own",), "noir")
    assert [image.seed for image in job.images] == [5, 6, 7]
    assert job.backends == ("xl",)


def test_the_default_style_and_its_back_end():
    job = plan(JobSpec(character=MARY, prompt="a cat"), STYLED)
    assert (job.recipe.style, job.recipe.model, job.recipe.steps, job.backends) == (
        "anime",
        "a.safetensors",
        28,
        ("pod",),
    )
    assert plan(JobSpec(character=MARY, prompt="a cat", backend=("xl", "pod")), STYLED).backends == ("xl", "pod")


def test_a_value_that_is_the_general_default_still_wins_over_the_style():
    job = plan(JobSpec(character=MARY, prompt="x", style="noir", width=1024, seed=-1, quantity=1), STYLED)
    assert (job.recipe.width, [image.seed for image in job.images]) == (1024, [100])


def test_only_the_two_names_in_a_template_are_replaced():
    job = plan(JobSpec(character=MARY, prompt="a {cat} {negative_prompt}", negative_prompt="dogs"), STYLED)
    assert job.images[0].prompt == "a {cat} {negative_prompt}, {soft|hard} light {}"
    assert job.prompt == "a {cat} {negative_prompt}"
    plain = plan(JobSpec(character=MARY, prompt="{prompt}, {soft|hard} light"))
    assert plain.images[0].prompt == "{prompt}, {soft|hard} light"


def test_templates_frame_every_prompt_and_the_negative_one():
    both = Rules(
        styles={"s": StyleKeys(prompt="{prompt} not {negative_prompt}", negative_prompt="{negative_prompt}/{prompt}")}
    )
    job = plan(JobSpec(character=MARY, prompt=("a", "b"), negative_prompt="n", style="s"), both)
    assert [image.prompt for image in job.images] == ["a not n", "b not n"]
    assert job.recipe.negative_prompt == "n/a, b"
    assert (
        plan(JobSpec(character=MARY, prompt="a", negative_prompt="n", style="s"), both).recipe.negative_prompt == "n/a"
    )


def test_a_negative_template_without_a_negative_prompt():
    assert plan(JobSpec(character=MARY, prompt="x", style="noir"), STYLED).recipe.negative_prompt == ", colour"


def test_a_text_without_the_braces_is_a_default_that_the_jobs_own_replaces():
    bare = plan(JobSpec(style="fixed"), STYLED)
    assert (bare.images[0].prompt, bare.prompt, bare.recipe.negative_prompt) == (
        "a lighthouse",
        "a lighthouse",
        "people",
    )
    assert (bare.character, bare.owner) == (CharacterRef(id="house", name=None), "al")
    own = plan(JobSpec(character=MARY, owner="bo", prompt="x", negative_prompt="y", style="fixed"), STYLED)
    assert (own.images[0].prompt, own.recipe.negative_prompt) == ("x", "y")
    assert (own.character, own.owner) == (CharacterRef(id=None, name="Mary"), "bo")


def test_a_frame_round_nothing_is_a_missing_prompt():
    assert complaints(JobSpec(character=MARY), STYLED) == ["`prompt` is missing"]


@pytest.mark.parametrize(
    ("spec", "recipe"),
    [
        ({}, ("style-e", False)),
        ({"embedding": "own"}, ("own", False)),
        ({"embedding": None}, (None, True)),
    ],
)
def test_embeddings(spec, recipe):
    rules = Rules(styles={"s": StyleKeys(embedding="style-e")})
    job = plan(JobSpec(character=MARY, prompt="x", style="s", **spec), rules)
    assert (job.recipe.embedding, job.recipe.no_embedding) == recipe


def test_without_styles_a_style_is_a_label():
    assert plan(JobSpec(character=MARY, prompt="x", style="whatever")).recipe.style == "whatever"
    assert plan(JobSpec(character=MARY, prompt="x"), Rules(default_style="s")).recipe.style == "s"
    assert plan(JobSpec(character=MARY, prompt="x")).recipe.style is None


def test_the_pool_is_the_jobs_the_default_or_everything():
    spec = JobSpec(character=MARY, prompt="x")
    assert plan(spec).backends == ("pod", "xl")
    assert plan(spec, Rules()).backends == ("sketch",)
    assert plan(spec, Rules(backends=("pod", "xl"), default_backend=("xl",))).backends == ("xl",)


def test_notify_and_owner_have_their_defaults():
    rules = Rules(default_owner="house", notify="https://a.example/hook")
    job = plan(JobSpec(character=MARY, prompt="x"), rules)
    assert (job.owner, job.default_owner, job.notify) == (None, "house", "https://a.example/hook")
    assert plan(JobSpec(character=MARY, prompt="x", notify="https://b.example"), rules).notify == "https://b.example"


def test_unknown_names_and_all_else_at_once():
    assert complaints(JobSpec(style="anmie", backend=("pdo", "xl")), STYLED) == [
        "`character` is missing",
        "`prompt` is missing",
        'unknown style "anmie"; did you mean "anime"?',
        'unknown back end "pdo"; did you mean "pod"?',
    ]


def test_the_bounds_hold_for_what_a_style_adds():
    rules = Rules(styles={"many": StyleKeys(quantity=5000), "late": StyleKeys(seed=2**32 - 1)})
    text = b"character: M\nstyle: many\nprompt: [a, b, c]\n"
    with pytest.raises(SpecError) as caught:
        plan(parse_job(text, file="f"), rules)
    assert str(caught.value).startswith("f:3:9: 3 prompts with 5000 images each are 15,000 images\n")
    text = b"character: M\nstyle: late\nprompt: a\nquantity: 2\n"
    with pytest.raises(SpecError) as caught:
        plan(parse_job(text, file="f"), rules)
    assert str(caught.value).startswith("f:4:11: seed: 4294967295 leaves no seed for image 2 of 2\n")


def test_ten_thousand_images_with_the_last_seeds():
    job = plan(JobSpec(character=MARY, prompt="x", quantity=10_000, seed=2**32 - 10_000))
    assert (len(job.images), job.images[-1].seed) == (10_000, 2**32 - 1)
