"""What a file of the local store says about itself, so that the index can be rebuilt from the folder alone.

A PNG carries it as JSON in its text chunk `pipeline`. Bytes that must not be touched (other formats, signed
content credentials) have the same JSON in a file of its own.
"""

import json
from datetime import datetime
from typing import Any

from pipeline.model import Item, Status
from pipeline.tools import pngtext
from pipeline.tools.clock import rfc3339

KEY = "pipeline"


def written(item: Item) -> str:
    """Return the label of an item as JSON; equal items have equal labels."""
    said = {
        "publicId": item.public_id,
        "status": item.status.value,
        "number": item.number,
        "owner": item.owner,
        "character": item.character_id,
        "name": item.character_name,
        "job": item.job_id,
        "prompt": item.prompt,
        "seed": item.seed,
        "createdAt": rfc3339(item.created_at),
        "labels": list(item.labels),
        "color": item.color,
        "pixels": item.artifact.pixels,
    }
    return json.dumps(said, ensure_ascii=False, sort_keys=True)


def takes_label(data: bytes) -> bool:
    """Tell whether the label may be put into the bytes themselves."""
    return pngtext.is_png(data) and not pngtext.is_signed(data)


def labelled(data: bytes, label: str) -> bytes:
    """Return what is stored: the bytes with the label inside where they may hold it, else as they are."""
    return pngtext.with_text(data, {KEY: label}) if takes_label(data) else data


def bare(data: bytes) -> bytes:
    """Return the bytes without the label: what two copies of one image have in common."""
    return pngtext.without_text(data, KEY) if takes_label(data) else data


def parsed(text: str | None) -> dict[str, Any]:
    """Read a label; one that is missing or damaged says nothing."""
    try:
        said = json.loads(text or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def text_of(said: dict[str, Any], key: str) -> str | None:
    """Return a text of a label; what is no text was not written by us."""
    value = said.get(key)
    return value if isinstance(value, str) and value else None


def number_of(said: dict[str, Any], key: str) -> int | None:
    """Return a whole number of a label."""
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def status_of(said: dict[str, Any]) -> Status:
    """Return what the image was stored as; whatever is not said to be a placeholder is an image."""
    return Status.PLACEHOLDER if said.get("status") == Status.PLACEHOLDER.value else Status.DONE


def created_at(said: dict[str, Any]) -> int | None:
    """Return when the image was first stored, in milliseconds."""
    try:
        return round(datetime.fromisoformat(str(said.get("createdAt"))).timestamp() * 1000)
    except ValueError:
        return None
