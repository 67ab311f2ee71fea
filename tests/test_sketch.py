import io
import time

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from pipeline import picture
from pipeline.backends import scenery
from pipeline.backends.sketch import Sketch, draw
from pipeline.errors import AttemptFailed
from pipeline.model import Recipe, State
from pipeline.tools import pngtext
from tests.support import pictures
from tests.support.index import images_of
from tests.support.scripted import house, job
from tests.support.waiting import inline


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def distance(one, other):
    """Mean difference of two pictures of one size, 0 to 255 a band."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def sketched(prompt="a portrait in a garden", seed=7, width=208, height=304):
    return draw(pictures.request(prompt, seed, recipe=Recipe(width=width, height=height)))


def test_the_same_prompt_and_seed_give_the_same_bytes():
    assert sketched() == sketched()


@pytest.mark.parametrize(
    "prompt", ["a garden", "at the harbour", "mountains in winter", "a city", "green hills", "Mary"]
)
def test_neighbouring_seeds_differ_at_a_glance(prompt):
    drawn = [opened(sketched(prompt, seed)) for seed in range(1, 9)]
    closest = min(distance(one, other) for i, one in enumerate(drawn) for other in drawn[:i])
    assert closest > 12


def test_another_prompt_is_another_picture():
    assert distance(opened(sketched("a garden")), opened(sketched("a city at night"))) > 12


@pytest.mark.parametrize(
    ("prompt", "motif"),
    [
        ("A portrait in a beautiful garden", "garden"),
        ("ROSES, soft light", "garden"),
        ("at the harbour", "sea"),
        ("two boats.", "sea"),
        ("snow, castle", "mountains"),
        ("tokyo at night", "city"),
        ("an autumn forest", "hills"),
    ],
)
def test_the_words_choose_what_is_drawn(prompt, motif):
    assert scenery.motif(prompt) == motif


def test_words_that_name_nothing_still_draw_something():
    assert {scenery.motif(f"portrait {n}") for n in range(60)} == set(scenery.MOTIFS)


@pytest.mark.parametrize("prompt", [words[0] for words in scenery.MOTIFS.values()])
@pytest.mark.parametrize("size", [(64, 64), (64, 4096), (4096, 64), (65, 97), (1024, 1536)])
def test_every_motif_is_drawn_at_every_size(prompt, size):
    seen = picture.examine(sketched(prompt, 3, *size))
    assert (seen.width, seen.height, seen.format) == (*size, "png")


def test_the_largest_size_needs_no_larger_canvas():
    assert picture.size_of(sketched(width=4096, height=4096)) == (4096, 4096)


def test_it_says_what_it_is():
    signed = scenery.paint("a garden", 7, 208, 304, label="sketch")
    unsigned = scenery.paint("a garden", 7, 208, 304, label="other")
    _, top, right, _ = ImageChops.difference(signed, unsigned).getbbox()
    assert right < 104
    assert top > 270


def test_parameters_are_written_as_a1111_does():
    recipe = Recipe(width=64, height=96, negative_prompt="blurry", steps=28, sampler_name="Euler a", cfg_scale=6.5)
    data = draw(pictures.request("a cat, 8k", 7, recipe=recipe))
    assert pngtext.read_text(data)["parameters"] == (
        "a cat, 8k\nNegative prompt: blurry\nSteps: 28, Sampler: Euler a, CFG scale: 6.5, Seed: 7, Size: 64x96, Model: sketch"
    )


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=100), st.integers(0, 2**32 - 1))
def test_any_prompt_and_any_seed_can_be_drawn(prompt, seed):
    assert picture.size_of(sketched(prompt, seed, 64, 64)) == (64, 64)


async def test_it_can_be_slow(autojump_clock):
    begin = trio.current_time()
    await Sketch(delay=2.5, run_sync=inline).submit(pictures.request())
    assert trio.current_time() - begin == 2.5


async def test_chosen_seeds_fail_after_the_time_they_took(autojump_clock):
    sketch = Sketch(delay=2, fail_seeds=[13], run_sync=inline)
    begin = trio.current_time()
    with pytest.raises(AttemptFailed, match="13"):
        await sketch.submit(pictures.request(seed=13))
    assert trio.current_time() - begin == 2


async def test_what_would_take_too_long_is_given_up_after_its_attempts(tmp_path, autojump_clock):
    slow = Sketch(delay=30, run_sync=inline)
    slow.base_url = None
    async with house(tmp_path, {"slow": slow}, timeout=1.0, attempts=2) as home:
        await home.accept(job(backends=("slow",)))
        with trio.fail_after(60):
            await home.settled()
        (image,) = images_of(home.ledger, "j1")
    assert (image.state, image.fault.code) == (State.PLACEHOLDER, "timed_out")
    assert (image.attempts, image.failures, image.doubtful) == (2, 2, 0)
    assert 1.9 <= trio.current_time() < 2.5


async def test_drawing_does_not_hold_up_the_loop():
    ticks = []

    async def tick():
        while True:
            ticks.append(time.perf_counter())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await Sketch().submit(pictures.request(recipe=Recipe(width=832, height=1216)))
        nursery.cancel_scope.cancel()
    assert len(ticks) > 20
