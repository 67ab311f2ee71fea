"""Kinds of value that only the configuration has."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo
from pydantic_core import PydanticCustomError

# Models are built with the one that holds them, or where they are first asked.
FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


def _rooted(path: Path, info: ValidationInfo) -> Path:
    """Start a relative path from the folder that is validation's context."""
    root = info.context if isinstance(info.context, Path) else Path.cwd()
    return (root / path.expanduser()).absolute()


def _named(value: object) -> object:
    """Refuse an empty text: it would mean the folder that all the others lie in."""
    if value == "":
        raise PydanticCustomError("path", "is empty")
    return value


def fault(sentence: str, *, key: str | None = None, expected: str | None = None) -> PydanticCustomError:
    """Return an error that stands at `key` of the mapping it is raised for, in these words."""
    context = {"sentence": sentence, "key": key, "expected": expected}
    return PydanticCustomError(
        "fault", "{sentence}", {name: word for name, word in context.items() if word is not None}
    )


RootedPath = Annotated[
    Path, BeforeValidator(_named), AfterValidator(_rooted), PlainSerializer(str), Field(description="a path")
]
Host = Annotated[str, Field(pattern=r"^[^\s/:@]+$|^[0-9A-Fa-f:.]+$", description="a host name or an IP address")]
