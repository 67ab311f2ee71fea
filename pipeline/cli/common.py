"""What every command shares: the configuration, how it speaks, how it fails."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import TypeAdapter, ValidationError

from pipeline.config import Config, load_config
from pipeline.errors import HeldElsewhere, IndexTrouble, SpoolTrouble, UserError
from pipeline.inbox.names import readable
from pipeline.spec.types import Duration

FAILED = 1
INVALID = 2


def configured(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the Config as its first argument, and take `--config` after the command's name too."""

    @wraps(function)
    def wrapper(*args: Any, config_path: str | None, **kwargs: Any) -> None:  # noqa: ANN401  # the command's own
        with complaints():
            _check_words(kwargs)
            function(loaded(config_path or click.get_current_context().find_root().obj), *args, **kwargs)

    return click.option("--config", "config_path", metavar="PATH", help="The configuration to use.")(wrapper)


def loaded(path: str | None) -> Config:
    """Read the configuration named, or the one that is found."""
    return load_config(Path(path) if path else None, environ=os.environ)


def index_is_lost(config: Config) -> bool:
    """Tell whether there is no index although jobs have ended here: whoever makes one forgets them."""
    return not config.index.exists() and any((config.jobs / "done").glob("*.result.json"))


def _check_words(said: Mapping[str, object]) -> None:
    """Refuse what is no text: of all that can be said at a command, only a file's name may be any bytes."""
    for key, value in said.items():
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str) and not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
                refuse(f"{key}: {readable(word)} is not UTF-8; names and texts are")


class complaints:  # noqa: N801  # reads as a sentence: with complaints()
    """Print what a user can mend to stderr, without a traceback, and leave with its exit code."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Turn a UserError into a message; a folder held elsewhere, or in trouble, is no fault of the call."""
        if isinstance(error, HeldElsewhere | IndexTrouble | SpoolTrouble):
            click.echo(str(error), err=True)
            raise SystemExit(FAILED)
        if isinstance(error, UserError):
            refuse(str(error))


def refuse(message: str) -> NoReturn:
    """Say what is wrong with the call and leave with exit code 2."""
    click.echo(message, err=True)
    raise SystemExit(INVALID)


def say_json(value: Any) -> None:  # noqa: ANN401  # anything JSON
    """Print one JSON document, in UTF-8 also where a file name in it is not."""
    wide = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not wide, indent=2)
    click.echo(text.encode("utf-8", "replace").decode())


class DurationType(click.ParamType[float]):
    """Seconds, or "90s", "10m", "2h", as in the configuration."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the configuration's way of writing durations."""
        try:
            return float(TypeAdapter(Duration).validate_python(value))
        except ValidationError:
            self.fail(f'{value}: seconds are expected, or "90s", "10m", "2h"', param, ctx)


DURATION = DurationType()
NUMBER = click.IntRange(1, 2**63 - 1)  # of an image; more, SQLite does not count to
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
