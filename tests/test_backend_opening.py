"""From the configuration to an adapter that works against the service it names."""

import logging

import pytest
from pydantic import TypeAdapter

from pipeline.backends.opening import open_backend
from pipeline.config.adapters import BackendConfig
from pipeline.errors import ConfigError, InvalidRequest, NotWorthRepeating
from pipeline.model import Recipe
from tests.support import a1111_emulator, pictures
from tests.support.a1111_emulator import LOGIN
from tests.support.loopback import served
from tests.support.runpod_emulator import KEY, Plan, RunPod

SMALL = Recipe(width=24, height=16)


def config(**given) -> BackendConfig:
    return TypeAdapter(BackendConfig).validate_python(given)


async def made(backend, request):
    return await backend.collect(request, await backend.submit(request))


@pytest.fixture
def cloud():
    cloud = RunPod()
    cloud.usual.seconds = 0.01
    return cloud


async def test_a_runpod_endpoint_with_its_key(cloud, caplog):
    caplog.set_level(logging.DEBUG)
    with served(cloud) as origin:
        given = config(type="runpod", url=f"{origin}/v2/e", api_key=KEY, worker="sdxl")
        async with open_backend(given) as backend:
            assert (await made(backend, pictures.request(recipe=SMALL))).data == pictures.plain(shade=7)
    assert KEY not in caplog.text


@pytest.mark.parametrize("allowed", [True, False])
async def test_images_by_url_come_from_allowed_hosts(cloud, allowed):
    with served(cloud) as origin:
        cloud.plans.append(Plan(seconds=0.01, output={"image_url": f"{origin}/v2/e/health?hush"}))
        hosts = ["127.0.0.1"] if allowed else []
        given = config(type="runpod", url=f"{origin}/v2/e", api_key=KEY, allow_hosts=hosts)
        async with open_backend(given) as backend:
            if allowed:
                cloud.key = None  # the picture's own host is not sent the key
                assert (await made(backend, pictures.request(recipe=SMALL))).data.startswith(b"{")
                assert "authorization" not in cloud.headers[-1]
            else:
                with pytest.raises(NotWorthRepeating, match="allow_hosts"):
                    await made(backend, pictures.request(recipe=SMALL))


async def test_a_comfyui_worker_gets_the_built_in_graph(cloud):
    with served(cloud) as origin:
        given = config(type="runpod", url=f"{origin}/v2/e", api_key=KEY, worker="comfyui")
        async with open_backend(given) as backend:
            await backend.submit(pictures.request(recipe=Recipe(width=24, height=16, model="animagine.safetensors")))
            with pytest.raises(InvalidRequest):
                await backend.check(Recipe(sampler_name="Eulr"), images=1)
    kinds = {node["class_type"] for node in cloud.bodies[0]["input"]["workflow"].values()}
    assert {"KSampler", "SaveImage", "CheckpointLoaderSimple"} <= kinds


async def test_a_template_without_its_workflow_is_a_configuration_error(cloud):
    given = config(type="runpod", url="http://runpod.test", worker="custom", input={"payload": "{{workflow}}"})
    with pytest.raises(ConfigError, match="workflow"):
        async with open_backend(given):
            pass


async def test_an_a1111_with_its_login():
    webui = a1111_emulator.A1111()
    webui.login = LOGIN
    with served(webui) as origin:
        given = config(type="a1111", url=origin, user=LOGIN[0], password=LOGIN[1])
        async with open_backend(given) as backend:
            await backend.probe()
            answer = await backend.submit(pictures.request(recipe=SMALL))
    assert answer.data == pictures.plain(shade=7)
