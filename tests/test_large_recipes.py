"""A job may hold pictures in its `params`: they are read once for the job, not once for each of its images, nor kept for long."""

import tracemalloc
from contextlib import contextmanager

import trio

from pipeline.catalogue import Filter
from pipeline.making.checks import Checks
from pipeline.model import Recipe
from pipeline.tools.brake import Brake
from tests.support.index import images_of, job
from tests.support.scripted import ScriptedBackend, lane

SIZE = 200_000  # characters of such a picture
ALL = Filter(statuses=("queued", "running", "done"))


def recipe(n=0):
    return Recipe(width=64, height=96, style="anime", params={"init_images": [f"{n:0{SIZE}}"]})


@contextmanager
def at_most(megabytes, *, held=False):
    """Python's own memory, at its highest or, where `held`, at the end."""
    tracemalloc.start()
    try:
        yield
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (now if held else peak) < megabytes * 1e6


async def test_all_images_of_a_job_share_one(ledger):
    await ledger.accept([job("a", quantity=200, recipe=recipe())])
    with at_most(5):
        images = images_of(ledger, "a") + ledger.planned("a", 200) + ledger.images_where(job_id="a")
    assert len(images) == 600
    assert all(image.recipe is images[0].recipe for image in images)
    assert images[0].recipe == recipe()


async def test_what_is_shown_of_an_image_comes_without_them(ledger, catalogue):
    await ledger.accept([job("a", quantity=200, recipe=recipe())])
    with at_most(5):
        result, page, shown = catalogue.result("a"), catalogue.page("mary", ALL), catalogue.job("a")
    assert (len(result["images"]), result["style"], shown.style) == (200, "anime", "anime")
    assert [(row.width, row.recipe["style"], "params" in row.recipe) for row in page.rows] == [
        (64, "anime", False)
    ] * 200
    assert catalogue.recipe("a")["params"] == recipe().params


async def test_a_list_of_jobs_comes_without_them(ledger, catalogue):
    await ledger.accept([job(f"j{n}", recipe=recipe(n)) for n in range(50)])
    with at_most(5):
        assert len(catalogue.jobs(None).rows) == 50


async def test_those_of_few_jobs_are_kept(ledger):
    await ledger.accept([job(f"j{n}", recipe=recipe(n)) for n in range(150)])
    with at_most(12, held=True):
        for n in range(150):
            (image,) = images_of(ledger, f"j{n}")
            assert image.recipe == recipe(n)
        del image


async def test_answers_to_checks_are_kept_without_the_question(ledger, autojump_clock):
    await ledger.accept([job(f"j{n}", recipe=recipe(n)) for n in range(50)])
    gate, checks = lane("pod", ScriptedBackend(), Brake()), Checks()
    with at_most(10, held=True):
        for n in range(50):
            (image,) = images_of(ledger, f"j{n}")
            assert await checks.obstacle(image, gate) is None
            gate.backend.checks.clear()
        del image
    assert trio.current_time() < 60
