"""The ComfyUI adapter over real sockets, where answers break off, drip, hang, or come from somebody else.

The clock runs thirty times faster than the wall's, so that patience costs the tests little.
"""

from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from trio.testing import MockClock

from pipeline import picture
from pipeline.backends.binding import bind
from pipeline.backends.comfyui import ComfyUI
from pipeline.backends.graph import load_workflow
from pipeline.backends.pace import Pace
from pipeline.errors import AcceptanceUnknown, Unavailable
from pipeline.model import Recipe, Submission
from pipeline.ports import NotThere
from tests.support.comfyui_emulator import STOPPED_POD, Comfy, Reply, Weather
from tests.support.loopback import served
from tests.support.pictures import TICKET, request
from tests.support.waiting import wall

HTML = {"Content-Type": "text/html; charset=utf-8"}
SMALL = Recipe(width=64, height=96, model="animagine.safetensors")


@pytest.fixture
def fast_clock():
    return MockClock(rate=15)  # faster, and a busy machine takes longer to connect than the client waits


@pytest.fixture
def ask():
    return request(recipe=SMALL)


class Stage:
    def __init__(self, comfy, url, wire):
        self.comfy = comfy
        self.url = url
        self.backend = ComfyUI(url, wire, binding=bind(load_workflow(None)), pace=Pace(20, clock=wall), clock=wall)


@asynccontextmanager
async def staged(seconds=0.02):
    comfy = Comfy(seconds=seconds)
    with served(comfy) as url:
        async with httpx.AsyncHTTPTransport() as wire:
            yield Stage(comfy, url, wire)


async def test_an_image_travels_over_a_real_socket(fast_clock, ask):
    async with staged() as stage:
        await stage.backend.check(SMALL._replace(embedding="mary-v2"), images=5)
        submission = await stage.backend.submit(ask)
        made = await stage.backend.collect(ask, submission)
        assert picture.examine(made.data).height == 96
        await stage.backend.cancel(submission)
        await stage.backend.probe()
        assert stage.comfy.executed == [TICKET]


@pytest.mark.parametrize(
    ("weather", "bought"),
    [
        (Weather("reset"), 0),
        (Weather("swallow"), 1),
        (Weather("cut"), 1),
        (Weather("hang"), 1),
        (Weather("drip"), 1),
        (Weather("answer", reply=Reply(502, b"<html>bad gateway</html>", HTML)), 0),
        (Weather("answer", reply=Reply(200, b"", {"Content-Type": "application/json"})), 0),
    ],
    ids=lambda value: value.kind if isinstance(value, Weather) else "",
)
async def test_what_is_in_doubt_is_bought_once_all_the_same(fast_clock, ask, weather, bought):
    async with staged() as stage:
        stage.comfy.weather.append(replace(weather, method="POST", path="/prompt"))
        with pytest.raises(AcceptanceUnknown):
            await stage.backend.submit(ask)
        found = await stage.backend.find(ask)
        assert isinstance(found, Submission) == bool(bought)
        if found == NotThere():
            found = await stage.backend.submit(ask)
        made = await stage.backend.collect(ask, found)
        assert picture.examine(made.data).width == 64
        assert stage.comfy.accepted == [TICKET]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *((kind, path) for kind in ("reset", "cut") for path in ("/queue", "/history", "/view")),
        ("hang", "/queue"),
        ("drip", "/view"),
    ],
)
async def test_a_look_that_breaks_off_is_made_again(fast_clock, ask, kind, path):
    async with staged() as stage:
        submission = await stage.backend.submit(ask)
        stage.comfy.weather.append(Weather(kind, "GET", path))
        made = await stage.backend.collect(ask, submission)
        assert picture.examine(made.data).width == 64
        assert stage.comfy.accepted == [TICKET]
        assert not stage.comfy.weather


async def test_where_nobody_listens_nothing_is_bought(fast_clock, ask):
    with served(Comfy()) as url:
        pass
    async with httpx.AsyncHTTPTransport() as wire:
        closed = Stage(None, url, wire).backend
        for call in (closed.submit(ask), closed.find(ask), closed.probe()):
            with pytest.raises(Unavailable, match="connection refused"):
                await call


async def test_a_stopped_pods_page_costs_nothing(fast_clock, ask):
    async with staged() as stage:
        stage.comfy.weather.append(Weather("page", reply=Reply(404, STOPPED_POD, HTML), times=3))
        for call in (stage.backend.submit(ask), stage.backend.find(ask), stage.backend.probe()):
            with pytest.raises(Unavailable):
                await call
        assert stage.comfy.bodies == []


async def test_a_giant_answer_is_not_read_to_its_end(fast_clock, ask):
    async with staged() as stage:
        giant = Reply(200, b"[" + b"0," * (3 << 20))
        stage.comfy.weather.append(Weather("answer", "GET", "/queue", reply=giant))
        with pytest.raises(Unavailable, match="MB") as caught:
            await stage.backend.probe()
        assert caught.value.code == "too_large"
