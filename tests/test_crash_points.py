"""The daemon dies before and after each thing it does to the disk, and is started again: nothing is lost or doubled."""

import os
import random
import shutil
from dataclasses import replace

import pytest
import trio

from pipeline.ledger import open_ledger
from pipeline.lifecycle import Retried
from pipeline.model import State
from tests.support.afterwards import Dropped, first_numbers, wrongs
from tests.support.pictures import plain

CONFIG = """
settle: 0
scan_interval: 0.05
gallery: {enabled: false}
backends: {sketch: {type: sketch, concurrency: 2, attempts: 2, fail_seeds: [13]}}
"""
SMALL = "width: 64\nheight: 64\n"
FILES = {
    "a.yaml": f"character: Mary\nprompt: a\nquantity: 2\nseed: 1\n{SMALL}",
    "b.json": '{"characterId": "123", "prompt": "b", "numImages": 1, "width": 64, "height": 64}',
    "c.yaml": f"character: {{id: other-mary, name: Mary}}\nprompt: c\n{SMALL}",
    "d.yaml": f"character: Mary\nprompt: d\nseed: 13\non_failure: fail\n{SMALL}",
    "e.yaml": f"character: Mary\nprompt: e\nquantity: 2\nseed: 12\n{SMALL}",
    "f.yaml": f"character: Mary\nowner: alice\nid: f\nprompt: f\n{SMALL}",
    "g.yaml": f"character: Mary\nid: own\nprompt: g\n{SMALL}",
    "h.yaml": f"character: Mary\nid: own\nprompt: g\n{SMALL}",
    "i.yaml": "character: Mary\nid: own\nprompt: another\n",
    "j.yaml": "character: Mary\nprompt: x\nquantty: 3\n",
    "20250728-120000-k-ab12.yaml": f"character: Mary\nprompt: k\n{SMALL}",
}
DROPPED = Dropped(
    {
        "a": ("done", "done"),
        "b": ("done",),
        "c": ("done",),
        "d": ("failed",),
        "e": ("done", "placeholder"),
        "f": ("done",),
        "g": ("done",),
        "k": ("done",),
    },
    rejected=2,
    duplicates=1,
)
ALL_DONE = replace(DROPPED, jobs={prompt: ("done",) * len(ends) for prompt, ends in DROPPED.jobs.items()})
NUMBERED = {  # by prompt: the character's id, and the job's first number
    "a": ("mary", 1),
    "b": ("123", 1),
    "c": ("other-mary", 1),
    "d": ("mary", 3),
    "e": ("mary", 4),
    "f": ("mary-2", 4),  # after the three numbers that the picture found in the store holds
    "g": ("mary", 6),
    "k": ("mary", 7),
}
PARTS = 8
AT_ONCE = 3  # folders in which daemons live at the same time: they wait for the disk, and now and then for a clock


def set_up(folder):
    """Files that lay there before the start, and a picture that another tool made for one of the owners."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(CONFIG)
    for n, (name, text) in enumerate(FILES.items()):
        (folder / "jobs" / name).write_text(text)
        os.utime(folder / "jobs" / name, (n, n))
    there = folder / "images/alice/characters/mary/images"
    there.mkdir(parents=True)
    (there / "mary_image_3.png").write_bytes(plain(64, 64))


def assert_all_is_well(folder, about):
    assert wrongs(folder, DROPPED) == [], about
    assert first_numbers(folder) == NUMBERED, about


def die_and_go_on(died, tmp_path, deaths):
    """Die in a fresh folder for each of `deaths`, which are points in a row, a few at once; check what is left."""
    for some in in_batches(deaths):
        folders = {tmp_path / "-".join(map(str, points)): points for points in some}
        for folder in folders:
            set_up(folder)
        for folder, (causes, told) in died.die_and_go_on(folders).items():
            assert not told["waiting"], causes
            assert_all_is_well(folder, causes)
            shutil.rmtree(folder)


def in_batches(deaths):
    deaths = list(dict.fromkeys(deaths))
    return [deaths[at : at + AT_ONCE] for at in range(0, len(deaths), AT_ONCE)]


def count_steps(died, folder):
    set_up(folder)
    told = died.run(folder)
    assert_all_is_well(folder, "nobody died")
    return told["steps"]


def test_a_run_that_nobody_disturbs_passes_the_same_checks_and_meets_every_kind_of_step(died, tmp_path):
    steps = count_steps(died, tmp_path / "work")
    kinds = {"COMMIT", "renameat2", "replace", "fsync", "unlink", "mkdir", "submit", "put"}
    assert {f"{side} {kind}" for kind in kinds for side in ("before", "after")} <= set(steps)
    assert len(steps) > 300


def test_a_death_at_some_points_loses_and_doubles_nothing(died, tmp_path):
    steps = count_steps(died, tmp_path / "work")
    die_and_go_on(died, tmp_path, [(point,) for point in range(1, len(steps), 97)])


def test_a_power_cut_at_some_points_loses_and_doubles_nothing(died, tmp_path):
    steps = count_steps(died, tmp_path / "work")
    die_and_go_on(died, tmp_path, [(-point,) for point in range(30, len(steps), 149)])


def test_a_death_during_the_recovery_from_a_death_is_recovered_from_too(died, tmp_path):
    die_and_go_on(died, tmp_path, [(90, 40), (150, 30, 30), (330, 60)])


@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
def test_a_death_at_every_third_point(died, tmp_path, part):
    steps = count_steps(died, tmp_path / "work")
    die_and_go_on(died, tmp_path, [(point,) for point in range(1 + 3 * part, len(steps) + 10, 3 * PARTS)])


@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
def test_a_power_cut_at_every_sixth_point(died, tmp_path, part):
    steps = count_steps(died, tmp_path / "work")
    die_and_go_on(died, tmp_path, [(-point,) for point in range(1 + 6 * part, len(steps), 6 * PARTS)])


@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
def test_several_deaths_in_a_row(died, tmp_path, part):
    chance = random.Random(part)
    deaths = [tuple(chance.randint(1, 500) for _ in range(chance.randint(2, 5))) for _ in range(8)]
    die_and_go_on(died, tmp_path, deaths)


def set_up_retry(died, folder):
    """Everything has ended; what became no picture is to be made again, and this time the back end can."""
    set_up(folder)
    died.run(folder)
    (folder / "pipeline.yaml").write_text(CONFIG.replace("[13]", "[]"))
    trio.run(_ask_for_a_retry, folder)


async def _ask_for_a_retry(folder):
    async with open_ledger(folder / ".pipeline/index.db") as ledger:
        for image in ledger.images_where(states=(State.PLACEHOLDER, State.FAILED)):
            await ledger.record(image, Retried())


def die_and_go_on_retrying(died, tmp_path, points):
    """An image's path is in the index, so what is tried again lies at the same place again."""
    work, before = tmp_path / "work", tmp_path / "before"
    set_up_retry(died, work)
    shutil.copytree(work, before)
    for point in points:
        shutil.rmtree(work)
        shutil.copytree(before, work)
        told = died.run(work, point)
        cause = (point, told["steps"][-1])
        told = died.run(work)
        assert wrongs(work, ALL_DONE) == [], cause
        assert first_numbers(work) == NUMBERED, cause


def test_a_death_while_images_are_made_again_spoils_neither_the_old_nor_the_new(died, tmp_path):
    die_and_go_on_retrying(died, tmp_path, range(10, 150, 47))


@pytest.mark.torture
@pytest.mark.parametrize("part", range(2))
def test_a_death_at_every_point_of_a_retry(died, tmp_path, part):
    die_and_go_on_retrying(died, tmp_path, range(1 + part, 180, 2))
