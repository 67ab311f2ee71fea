"""From what the configuration says about a back end to the adapter itself."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import assert_never

import httpx
from pydantic import SecretStr

from pipeline.backends.a1111 import A1111
from pipeline.backends.binding import bind
from pipeline.backends.comfyui import ComfyUI
from pipeline.backends.fetch import Fetcher
from pipeline.backends.filling import fill
from pipeline.backends.graph import load_workflow
from pipeline.backends.pace import Pace
from pipeline.backends.runpod import Runpod
from pipeline.backends.runpod_inputs import Build, input_builder
from pipeline.backends.sketch import Sketch
from pipeline.config.adapters import A1111Config, BackendConfig, ComfyuiConfig, RunpodConfig, SketchConfig
from pipeline.ports import Backend

SLOTS_A_CLIENT = 6  # a client's pool looks at each of its idle connections at every request: few slots share one
MOST_CLIENTS = 16


@asynccontextmanager
async def open_backend(name: str, config: BackendConfig, pace: Pace | None = None) -> AsyncIterator[Backend]:
    """Open a back end with whatever connections it needs; they are closed with it.

    Args:
        name: what the configuration calls it.
        config: its part of the configuration.
        pace: tells an adapter that has to ask when to look next; shared with its lane.

    Raises:
        ConfigError: its workflow or its input template cannot be used; the message names the file or the key.
    """
    pace = pace or Pace(config.poll_rate)
    async with AsyncExitStack() as stack:
        match config:
            case SketchConfig():
                yield Sketch(delay=config.delay, fail_seeds=config.fail_seeds)
            case RunpodConfig():
                yield Runpod(
                    config.base_url,
                    await _clients(stack, config.concurrency),
                    api_key=_plain(config.api_key),
                    build=_inputs(config),
                    pace=pace,
                    fetcher=Fetcher(config.allow_hosts),
                )
            case ComfyuiConfig():
                binding = bind(load_workflow(config.workflow))
                clients = await _clients(stack, config.concurrency)
                yield ComfyUI(config.url, clients, binding=binding, login=_login(config), pace=pace)
            case A1111Config():
                yield A1111(config.url, await _clients(stack, config.concurrency), login=_login(config), pace=pace)
            case _:
                assert_never(config)


def _inputs(config: RunpodConfig) -> Build:
    workflow: Path | None = config.workflow
    graph = None
    if config.worker == "comfyui" or workflow is not None:
        graph = partial(fill, bind(load_workflow(workflow)))
    return input_builder(config.worker, graph=graph, template=config.input)


def _login(config: ComfyuiConfig | A1111Config) -> tuple[str, str] | None:
    password = _plain(config.password)
    return None if config.user is None or password is None else (config.user, password)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _clients(stack: AsyncExitStack, slots: int) -> Sequence[httpx.AsyncClient]:
    number = min(ceil(slots / SLOTS_A_CLIENT), MOST_CLIENTS)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * SLOTS_A_CLIENT)
    return [
        # Every exchange has its own deadline (transport.Service), which covers all phases of a request.
        await stack.enter_async_context(httpx.AsyncClient(verify=_tls(), limits=limits, timeout=None))  # noqa: S113
        for _ in range(number)
    ]


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 20 ms and a megabyte: once for all clients."""
    return httpx.create_ssl_context()
