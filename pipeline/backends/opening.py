"""From what the configuration says about a back end to the adapter itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import assert_never

from pydantic import SecretStr

from pipeline.backends.connecting import open_transport
from pipeline.backends.pace import Pace
from pipeline.config.adapters import A1111Config, BackendConfig, ComfyuiConfig, RunpodConfig, SketchConfig
from pipeline.ports import Backend


@asynccontextmanager
async def open_backend(config: BackendConfig, pace: Pace | None = None) -> AsyncIterator[Backend]:
    """Open a back end with whatever connections it needs; they are closed with it.

    Args:
        config: its part of the configuration.
        pace: tells an adapter that has to ask when to look next; shared with its lane.

    Raises:
        ConfigError: its workflow or its input template cannot be used; the message names the file or the key.
    """
    pace = pace or Pace(config.poll_rate)
    match config:
        case SketchConfig():
            from pipeline.backends.sketch import Sketch

            yield Sketch(delay=config.delay, fail_seeds=config.fail_seeds)
        case RunpodConfig():
            async with _open_runpod(config, pace) as backend:
                yield backend
        case ComfyuiConfig():
            from pipeline.backends.binding import bind
            from pipeline.backends.comfyui import ComfyUI
            from pipeline.backends.graph import load_workflow

            binding = bind(load_workflow(config.workflow))
            async with open_transport(config.url, slots=config.concurrency) as transport:
                yield ComfyUI(config.url, transport, binding=binding, login=_login(config), pace=pace)
        case A1111Config():
            from pipeline.backends.a1111 import A1111

            async with open_transport(config.url, slots=config.concurrency) as transport:
                yield A1111(config.url, transport, login=_login(config), pace=pace)
        case _:
            assert_never(config)


@asynccontextmanager
async def _open_runpod(config: RunpodConfig, pace: Pace) -> AsyncIterator[Backend]:
    from pipeline.backends.fetch import Fetcher
    from pipeline.backends.runpod import Runpod
    from pipeline.backends.runpod_inputs import input_builder

    graph = None
    if config.worker == "comfyui" or config.workflow is not None:
        from pipeline.backends.binding import bind
        from pipeline.backends.filling import fill
        from pipeline.backends.graph import load_workflow

        graph = partial(fill, bind(load_workflow(config.workflow)))
    build = input_builder(config.worker, graph=graph, template=config.input)
    async with open_transport(config.base_url, slots=config.concurrency) as transport:
        yield Runpod(
            config.base_url,
            transport,
            api_key=_plain(config.api_key),
            build=build,
            pace=pace,
            fetcher=Fetcher(config.allow_hosts),
        )


def _login(config: ComfyuiConfig | A1111Config) -> tuple[str, str] | None:
    password = _plain(config.password)
    return None if config.user is None or password is None else (config.user, password)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
