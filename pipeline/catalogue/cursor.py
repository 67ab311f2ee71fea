"""Opaque cursors: the sort key of the last row shown, so that arrivals shift nothing."""

import base64
import binascii
import json

from pipeline.catalogue.values import BadCursor

LARGEST = 2**63 - 1


def encode(*key: int) -> str:
    """Write a sort key as a word for addresses."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(text: str, length: int) -> tuple[int, ...]:
    """Read a sort key of `length` numbers back.

    Raises:
        BadCursor: it was not made by `encode` for such a key.
    """
    try:
        key = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor(f'"{text[:80]}" is no cursor; take `next` of the page before as it is') from error
    if not isinstance(key, list) or len(key) != length or not all(type(n) is int and abs(n) <= LARGEST for n in key):
        raise BadCursor(f'"{text[:80]}" is no cursor of this list; take `next` of the page before as it is')
    return tuple(key)
