"""What an asset says about itself, so that the index can be rebuilt from the account alone.

Cloudinary's context is a flat map of short texts; names and prompts are percent-encoded where its own syntax
(`key=value|key=value`) or the SDK's escaping would change them.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from pipeline.model import Asset, Item, Status, Stored
from pipeline.spec.types import LARGEST_SEED
from pipeline.tools.clock import rfc3339

VALUE_BYTES = 1000  # Cloudinary keeps 1,024 a value
_UNSAFE = re.compile(r"[%\\|=\x00-\x1f\x7f]")
_HALF_A_CODE = re.compile(r"%[0-9A-F]?$")


def written_context(item: Item) -> dict[str, str]:
    """Return all that is needed to rebuild the image's row, the prompt cut to what fits."""
    context = {
        "number": str(item.number),
        "seed": str(item.seed),
        "status": item.status.value,
        "createdAt": rfc3339(item.created_at),
        "job": item.job_id,
        "character": item.character_id,
        "name": item.character_name,
        "owner": item.owner,
        "prompt": item.prompt,
    }
    if item.color:
        context["color"] = item.color
    return {key: encoded(value) for key, value in context.items() if value}


def encoded(value: str) -> str:
    """Percent-encode what would not survive, and cut to what a value may hold without splitting a character."""
    safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", value)
    if len(whole := safe.encode()) <= VALUE_BYTES:
        return safe
    return _HALF_A_CODE.sub("", whole[:VALUE_BYTES].decode(errors="ignore"))


def read_asset(record: Mapping[str, Any], owner_slug: str, stored: Stored) -> Asset | None:
    """Read a listing's record as one of a character's images; None for what lies there under another kind of name."""
    named = re.fullmatch(
        rf"{re.escape(owner_slug)}/characters/([^/]+)/images/\1_image_([1-9]\d{{0,8}})", stored.public_id
    )
    if named is None:
        return None
    said = read_context(record)
    return Asset(
        stored=stored,
        slug=named[1],
        number=int(named[2]),
        owner=said.get("owner"),
        character_id=said.get("character"),
        character_name=said.get("name"),
        status=Status.PLACEHOLDER if said.get("status") == Status.PLACEHOLDER else Status.DONE,
        job_id=said.get("job"),
        seed=_seed(said.get("seed", "")),
        prompt=said.get("prompt"),
        color=said.get("color"),
    )


def read_context(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the record's context decoded, without what says nothing; Cloudinary wraps it in `custom`."""
    context = record.get("context")
    custom = context.get("custom", context) if isinstance(context, dict) else {}
    if not isinstance(custom, dict):
        return {}
    said = {text_of(key): text_of(unquote(text_of(value))) for key, value in custom.items()}
    return {key: value for key, value in said.items() if value}


def first_stored(record: Mapping[str, Any]) -> int | None:
    """Return when we first stored the image, which Cloudinary's own date does not tell after an overwrite."""
    return moment(read_context(record).get("createdAt"))


def moment(said: object) -> int | None:
    """Read a date as milliseconds since 1970; None for what is none."""
    try:
        return int(datetime.fromisoformat(text_of(said)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def text_of(value: object) -> str:
    """Return a text or number of an answer as text that the index can keep; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).encode("utf-8", "replace").decode().replace("\0", " ")


def _seed(said: str) -> int | None:
    return int(said) if re.fullmatch(r"[0-9]{1,10}", said) and int(said) <= LARGEST_SEED else None
