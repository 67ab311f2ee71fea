"""Death at every point with services far away, on real sockets that go on while the daemon is dead: nothing that was
paid for is bought again, unless nobody could know that it was, and then it is counted; nothing is uploaded twice.
"""

import os
import random
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest

from tests.support import cloudinary_emulator as cloudinary
from tests.support import loopback, runpod_emulator
from tests.support.a1111_emulator import A1111
from tests.support.afterwards import Dropped, rows, wrongs
from tests.support.cloudinary_emulator import CloudinaryEmulator
from tests.support.comfyui_emulator import Comfy
from tests.support.loopback import said
from tests.support.runpod_emulator import Plan, RunPod

UNLUCKY = 13  # every attempt at this seed fails at the back end
ATTEMPTS = 2
SMALL = "width: 64\nheight: 64\n"
FILES = {
    "a.yaml": f"character: Mary\nprompt: a\nquantity: 3\nseed: 1\n{SMALL}",
    "b.yaml": f"character: Mary\nprompt: b\nquantity: 2\nseed: 12\n{SMALL}",
    "c.yaml": f"character: John\nprompt: c\nseed: 13\non_failure: fail\n{SMALL}",
}
DROPPED = Dropped({"a": ("done",) * 3, "b": ("done", "placeholder"), "c": ("failed",)})
MADE = 4
COMMON = "settle: 0\nscan_interval: 0.05\ngallery: {enabled: false}\n"
PARTS = 4
AT_ONCE = 6  # worlds at the same time: most of a life is waiting for answers


def deliver(given):
    if given["seed"] == UNLUCKY:
        return {"error": "CUDA error: an illegal memory access was encountered"}
    return runpod_emulator.sdxl_output(given)


class UnluckyComfy(Comfy):
    """Fails at one seed, however often it is asked."""

    def _end(self, at, result):
        seeds = {node["inputs"].get("seed") for node in self.running.graph.values()}
        super()._end(at, "error" if UNLUCKY in seeds else result)


@dataclass
class Far:
    """What is far away, and how its bills are read."""

    config: str
    paid: object
    finds: bool = False
    model: str = ""  # a line for each job
    uploads: object = None  # None: the store is a folder


def backend(settings):
    return f"backends: {{far: {{{settings}, stagger: 0, attempts: {ATTEMPTS}, timeout: 30}}}}\n"


@contextmanager
def runpod():
    pods = RunPod()
    pods.usual = Plan(seconds=0.02, make_output=deliver)
    with loopback.served(pods) as origin:
        yield Far(backend(f"type: runpod, url: {origin}/v2/e, api_key: {runpod_emulator.KEY}"), lambda: pods.paid)


@contextmanager
def comfyui():
    comfy = UnluckyComfy(seconds=0.02)
    with loopback.served(comfy) as origin:
        yield Far(
            backend(f"type: comfyui, url: {origin}"),
            lambda: len(comfy.accepted),
            finds=True,
            model="model: animagine.safetensors\n",
        )


@contextmanager
def a1111():
    webui = A1111(seconds=0.02)
    webui.by_seed[UNLUCKY] = said({"error": "RuntimeError", "detail": "", "errors": "NaN in Unet"}, 500)
    with loopback.served(webui) as origin:
        yield Far(backend(f"type: a1111, url: {origin}"), lambda: webui.paid)


@contextmanager
def sketch():
    yield Far(backend(f"type: sketch, fail_seeds: [{UNLUCKY}]"), lambda: 0)


@contextmanager
def a_folder():
    yield "store: {type: local}\n", None


@contextmanager
def an_account():
    with CloudinaryEmulator() as cloud:
        account = f"cloud_name: {cloudinary.CLOUD}, api_key: {cloudinary.KEY}, api_secret: {cloudinary.SECRET}"
        yield f"store: {{type: cloudinary, {account}, upload_prefix: {cloud.url}}}\n", lambda: cloud.uploads


PAIRS = {
    "runpod, cloudinary": (runpod, an_account),
    "comfyui, local": (comfyui, a_folder),
    "a1111, local": (a1111, a_folder),
    "a1111, cloudinary": (a1111, an_account),
    "runpod, local": (runpod, a_folder),
    "comfyui, cloudinary": (comfyui, an_account),
    "sketch, cloudinary": (sketch, an_account),
}
MAIN, OTHERS = list(PAIRS)[:2], list(PAIRS)[2:]  # of the main ones every point is tried, of the others some


@contextmanager
def far_away(pair):
    service, store = PAIRS[pair]
    with service() as far, store() as (config, uploads):
        yield replace(far, config=f"{COMMON}{config}{far.config}", uploads=uploads)


def set_up(folder, far):
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(far.config)
    for n, (name, text) in enumerate(FILES.items()):
        (folder / "jobs" / name).write_text(text + far.model)
        os.utime(folder / "jobs" / name, (n, n))


def die_and_go_on(died, tmp_path, pair, deaths):
    """Die in a fresh world for each of `deaths`, which are points in a row, a few at once; check, and read the bills."""
    deaths = list(dict.fromkeys(deaths))
    for at in range(0, len(deaths), AT_ONCE):
        with ExitStack() as worlds:
            far = {points: worlds.enter_context(far_away(pair)) for points in deaths[at : at + AT_ONCE]}
            folders = {tmp_path / ("-".join(map(str, points)) or "whole"): points for points in far}
            for folder, points in folders.items():
                set_up(folder, far[points])
            lives = died.die_and_go_on(folders)
            for folder, (causes, told) in lives.items():
                assert not told["waiting"], (causes, (folder / "daemon.log").read_text()[-4000:])
                check(folder, far[folders[folder]], causes)
                shutil.rmtree(folder)
    return told["steps"]


def check(folder, far, causes):
    assert wrongs(folder, DROPPED, local=far.uploads is None) == [], causes
    images = rows(folder)
    doubtful = sum(image["doubtful"] for image in images)
    bought = [image["attempts"] for image in images]
    assert bought == [1, 1, 1, 1, ATTEMPTS, ATTEMPTS], (causes, bought)
    assert far.paid() <= sum(bought) + doubtful, (causes, far.paid(), doubtful)
    assert doubtful <= 3 * len(causes), (causes, doubtful)
    if far.finds:
        assert (far.paid(), doubtful) == (sum(bought), 0), causes
    if far.uploads is not None:
        assert far.uploads() == MADE + 1, causes


def some_deaths(pair, steps, n):
    """Single deaths, and a few in a row: the second during the recovery from the first."""
    chance = random.Random(pair)
    singles = [(point,) for point in chance.sample(range(1, steps), n)]
    return singles + [tuple(chance.randint(20, 250) for _ in range(chance.randint(2, 4))) for _ in range(n // 2)]


@pytest.mark.long
@pytest.mark.parametrize("pair", MAIN)
def test_a_death_at_some_points_buys_and_uploads_nothing_twice(died, tmp_path, pair):
    steps = die_and_go_on(died, tmp_path, pair, [()])
    assert len(steps) > 150
    die_and_go_on(died, tmp_path, pair, [(point,) for point in random.Random(pair).sample(range(1, len(steps)), 4)])


def test_deaths_where_the_answer_is_the_picture_buy_nothing_uncounted(died, tmp_path):
    die_and_go_on(died, tmp_path, "a1111, local", [(), *some_deaths("quick", 150, 2)])


@pytest.mark.torture
@pytest.mark.parametrize("pair", MAIN)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_death_at_every_point_buys_and_uploads_nothing_twice(died, tmp_path, pair, part):
    steps = die_and_go_on(died, tmp_path, pair, [()])
    die_and_go_on(died, tmp_path, pair, [(point,) for point in range(1 + part, len(steps) + 10, PARTS)])


@pytest.mark.torture
@pytest.mark.parametrize("pair", OTHERS)
def test_a_death_at_many_points_of_the_other_pairs_buys_and_uploads_nothing_twice(died, tmp_path, pair):
    steps = die_and_go_on(died, tmp_path, pair, [()])
    die_and_go_on(died, tmp_path, pair, some_deaths(pair, len(steps), 16))


@pytest.mark.torture
@pytest.mark.parametrize("pair", MAIN)
def test_several_deaths_in_a_row_buy_and_upload_nothing_twice(died, tmp_path, pair):
    chance = random.Random(pair)
    deaths = [tuple(chance.randint(20, 250) for _ in range(chance.randint(2, 4))) for _ in range(16)]
    die_and_go_on(died, tmp_path, pair, deaths)
