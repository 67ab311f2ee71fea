"""The kinds of value that job files and the configuration are made of; each says in its description what is expected."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

LARGEST_SEED = 2**32 - 1
MOST_IMAGES = 10_000  # in one job

_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"": 1.0, "b": 1.0} | {
    f"{letter}{end}": float(base**power)
    for power, letter in enumerate("kmgt", start=1)
    for end, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_NUMBER = r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,2})?"
_AMOUNT = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]*)\s*")


def _amount(value: object, units: dict[str, float], kind: Literal["duration", "size"]) -> object:
    if not isinstance(value, str):
        return value
    found = _AMOUNT.fullmatch(value)
    unit = units.get(found[2].lower()) if found else None
    if not found or unit is None:
        raise PydanticCustomError("amount", "is no {kind}", {"kind": kind})
    return float(found[1]) * unit


def _whole_bytes(value: object) -> object:
    size = _amount(value, _BYTES, "size")
    return int(size) if isinstance(size, float) else size


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or re.search(r"\s", value):
        raise PydanticCustomError("url_parsing", "is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError("url_secret", "carries a user or a password, which would show wherever it is named")
    return value


def _a_beginning(value: str) -> str:
    if "?" in value or "#" in value:
        raise PydanticCustomError("url_parsing", "ends in a query or a fragment, behind which no path can be put")
    return value.rstrip("/")


def one_or_several(value: object) -> object:
    """Take a single value for a list of one."""
    return (value,) if isinstance(value, str) else value


def without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    """Keep the first of equal entries."""
    return tuple(dict.fromkeys(values))


_AMOUNT_SCHEMA = {"type": ["number", "string"], "minimum": 0}

Duration = Annotated[
    float,
    BeforeValidator(lambda value: _amount(value, _SECONDS, "duration")),
    Field(ge=0, le=10 * 365 * 86_400, allow_inf_nan=False, description='seconds, or "90s", "10m", "2h", "7d"'),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
Size = Annotated[
    int,
    BeforeValidator(_whole_bytes),
    Field(ge=0, description='bytes, or "500MB", "10GB", "10GiB"'),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
Hook = Annotated[str, AfterValidator(_web_address), Field(description="an address like https://host/path")]
WebAddress = Annotated[Hook, AfterValidator(_a_beginning)]  # what paths are put behind

ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\r\n]*$")
]
CHARACTER_ID_IS = "ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 64"
JOB_ID_IS = "ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 80"
OWNER_IS = "ASCII letters, digits, `. _ - @ | : +`, the first a letter or digit, at most 128"
CharacterId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), Field(description=CHARACTER_ID_IS)
]
JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"), Field(description=JOB_ID_IS)]
OWNER = r"[A-Za-z0-9][A-Za-z0-9._@|:+-]{0,127}"
Owner = Annotated[str, StringConstraints(pattern=f"^{OWNER}$"), Field(description=OWNER_IS)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\r\n]*$")]
Names = Annotated[
    tuple[ShortText, ...],
    BeforeValidator(one_or_several),
    AfterValidator(without_repeats),
    Field(min_length=1, max_length=100),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 100}]}
    ),
]
