"""Where the contract suites meet the adapters: a stand is an adapter with a service behind it that tests can steer.

To put a further adapter under its contract, write one factory and add it to `BACKENDS` or `STORES`. What a service
cannot be made to do is left None, and the tests of it are skipped for that adapter.
"""

import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.backends.a1111 import A1111
from pipeline.backends.binding import bind
from pipeline.backends.comfyui import ComfyUI
from pipeline.backends.fetch import Fetcher
from pipeline.backends.graph import load_workflow
from pipeline.backends.pace import Pace
from pipeline.backends.runpod import Runpod
from pipeline.backends.runpod_inputs import sdxl_input
from pipeline.backends.sketch import Sketch
from pipeline.model import Recipe, Request, Stored, Submission
from pipeline.ports import Backend, Store
from pipeline.stores.cloudinary import Account, CloudinaryStore
from pipeline.stores.local import LocalStore
from pipeline.tools.clock import now
from tests.support import a1111_emulator, loopback, pictures
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator, failing
from tests.support.comfyui_emulator import Comfy, Weather
from tests.support.runpod_emulator import KEY as RUNPOD_KEY
from tests.support.runpod_emulator import Plan, RunPod
from tests.support.scripted import ScriptedBackend
from tests.support.waiting import inline


@dataclass
class BackendStand:
    """A Backend, and levers on the service behind it."""

    backend: Backend
    good: Request  # will be made
    invalid: Request | None = None  # the service names a fault in it
    failing: Request | None = None  # is accepted, then fails
    unknown_model: Request | None = None  # `check` refuses its recipe
    go_down: Callable[[], Any] | None = None  # nothing answers any more
    forgotten: Submission | None = None  # of a submission that the service does not know
    finds: bool = False  # `find` can tell, rather than CannotTell


@dataclass
class StoreStand:
    """A Store, and levers on the service behind it."""

    store: Store
    content: Callable[[Stored], Any]  # the bytes kept there, None where there are none; sync or async
    plant: Callable[[str, bytes], Any]  # put a picture under a public id as a stranger would
    go_down: Callable[[], Any]


BackendFactory = Callable[[Path], AbstractAsyncContextManager[BackendStand]]
StoreFactory = Callable[[Path], AbstractAsyncContextManager[StoreStand]]


async def pull(lever: Callable[..., Any], *args: Any) -> Any:
    """Use a lever, be it a function or a coroutine function."""
    result = lever(*args)
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def sketch(folder: Path) -> AsyncIterator[BackendStand]:
    yield BackendStand(
        backend=Sketch(fail_seeds={13}, run_sync=inline),
        good=pictures.request(),
        failing=pictures.request(seed=13),
        forgotten=Submission("never", "sketch:", 0, 600_000),
        finds=True,
    )


@asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[BackendStand]:
    """The fake that other tests rely on keeps the promises, too."""
    backend = ScriptedBackend(takes=0.0)

    def go_down() -> None:
        backend.down = "nobody listens there"

    yield BackendStand(
        backend=backend,
        good=pictures.request(recipe=Recipe(width=24, height=16)),
        go_down=go_down,
        finds=True,
    )


@asynccontextmanager
async def runpod(folder: Path) -> AsyncIterator[BackendStand]:
    cloud = RunPod()
    cloud.usual.seconds = 0.01
    cloud.by_seed[13] = Plan(seconds=0.01, ends="FAILED", error="the GPU fell off the bus")
    cloud.by_seed[14] = Plan(seconds=0.01, ends="FAILED", error=["Unexpected input. x is not a valid input option."])
    url, small = "http://runpod.test/v2/e", Recipe(width=24, height=16)
    async with loopback.transport(cloud) as wire:
        yield BackendStand(
            backend=Runpod(url, wire, api_key=RUNPOD_KEY, build=sdxl_input, pace=Pace(150), fetcher=Fetcher()),
            good=pictures.request(recipe=small),
            invalid=pictures.request(seed=14, recipe=small),
            failing=pictures.request(seed=13, recipe=small),
            go_down=lambda: cloud.weather.append(loopback.Weather("refuse", times=99)),
            forgotten=Submission("never", url, now(), now() + 60_000),
        )


@asynccontextmanager
async def a1111(folder: Path) -> AsyncIterator[BackendStand]:
    webui = a1111_emulator.A1111()
    webui.by_seed[13] = loopback.said({"error": "RuntimeError", "detail": "", "errors": "NaN in Unet"}, 500)
    webui.by_seed[14] = loopback.said({"detail": [{"loc": ["body", "steps"], "msg": "not an integer"}]}, 422)
    url, small = "http://webui.test:7860", Recipe(width=24, height=16)
    async with loopback.transport(webui) as wire:
        yield BackendStand(
            backend=A1111(url, wire, pace=Pace(20)),
            good=pictures.request(recipe=small),
            invalid=pictures.request(seed=14, recipe=small),
            failing=pictures.request(seed=13, recipe=small),
            unknown_model=pictures.request(recipe=Recipe(width=24, height=16, model="nobody-has-this")),
            go_down=lambda: webui.weather.append(loopback.Weather("refuse", times=99)),
            forgotten=Submission("never", url, now(), now() + 60_000),
        )


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[StoreStand]:
    images = folder / "images"

    def content(stored: Stored) -> bytes | None:
        path = Path(stored.path or "")
        return path.read_bytes() if path.is_file() else None

    def plant(public_id: str, data: bytes) -> None:
        path = images / f"{public_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def go_down() -> None:
        if images.exists():
            images.rename(folder / "unmounted")
        images.write_text("a file where the folder was")

    yield StoreStand(LocalStore(images), content, plant, go_down)


@asynccontextmanager
async def cloudinary(folder: Path) -> AsyncIterator[StoreStand]:
    with CloudinaryEmulator() as cloud:
        account = Account(CLOUD, KEY, SECRET, cloud.url)
        store = CloudinaryStore(account, delivery_type="authenticated", clock=now, timeout=5)

        def content(stored: Stored) -> bytes | None:
            asset = cloud.assets.get((stored.type, stored.public_id))
            return asset.data if asset is not None else None

        def go_down() -> None:
            cloud.weather.extend([failing(503)] * 20)

        yield StoreStand(store, content, partial(cloud.plant, type="authenticated"), go_down)


@asynccontextmanager
async def comfyui(folder: Path) -> AsyncIterator[BackendStand]:
    comfy = Comfy(clock=time.monotonic, seconds=0.0)
    comfy.fail_seeds.append(13)
    recipe = Recipe(width=64, height=96, model="animagine.safetensors")
    async with loopback.transport(comfy) as wire:
        yield BackendStand(
            backend=ComfyUI("http://comfy.test:8188", wire, binding=bind(load_workflow(None)), pace=Pace(1000)),
            good=pictures.request(recipe=recipe),
            invalid=pictures.request(recipe=Recipe(width=8, height=96, model="animagine.safetensors")),
            failing=pictures.request(seed=13, recipe=recipe),
            unknown_model=pictures.request(recipe=Recipe(width=64, height=96, model="nowhere.safetensors")),
            go_down=lambda: comfy.weather.append(Weather("refuse", times=1_000_000)),
            forgotten=Submission("5c1f3f0e-61a4-4a0f-8f0e-8a9d4d0b7c55", "http://comfy.test:8188", 0, 600_000),
            finds=True,
        )


BACKENDS: dict[str, BackendFactory] = {
    "sketch": sketch,
    "scripted": scripted,
    "comfyui": comfyui,
    "runpod": runpod,
    "a1111": a1111,
}
STORES: dict[str, StoreFactory] = {"local": local, "cloudinary": cloudinary}
