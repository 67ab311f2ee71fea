"""From what the configuration says about a back end to the adapter itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.backends.pace import Pace
from pipeline.backends.sketch import Sketch
from pipeline.config.adapters import BackendConfig, SketchConfig
from pipeline.errors import ConfigError
from pipeline.ports import Backend


@asynccontextmanager
async def open_backend(name: str, config: BackendConfig, pace: Pace | None = None) -> AsyncIterator[Backend]:
    """Open a back end with whatever connections it needs; they are closed with it.

    Args:
        name: what the configuration calls it.
        config: its part of the configuration.
        pace: tells an adapter that has to ask when to look next; shared with its lane.

    Raises:
        ConfigError: this kind of back end is not known here.
    """
    match config:
        case SketchConfig():
            yield Sketch(delay=config.delay, fail_seeds=config.fail_seeds)
        case _:
            raise ConfigError(f"back end {name}: type {config.type} is not known")
