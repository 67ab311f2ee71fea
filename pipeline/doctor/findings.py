"""What an examination says, and what of the world around it a test may replace."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr

from pipeline.tools.clock import Clock, now
from pipeline.tools.mounts import MOUNTINFO


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it will do, and in words what is there or what to mend."""

    name: str
    ok: bool
    message: str


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class World:
    """What is asked besides the configuration."""

    clock: Clock = now
    free_bytes: Callable[[Path], int] = _free
    mountinfo: Path = MOUNTINFO
    timeout: float = 10.0  # seconds for each request


def secrets_of(value: object) -> Iterator[str]:
    """Go through all secrets of a configuration, so that none is printed whatever a service says."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from secrets_of(one)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for one in value:
            yield from secrets_of(one)
