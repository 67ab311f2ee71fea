"""Addresses for stored images that open as they are, for as long as they should.

A local address carries its expiry and a keyed hash (BLAKE2b, which is quicker than an HMAC: a page takes two for each
image) over everything that chooses what is shown. The expiry is rounded up to the end of the next window of 12 h, so
answers stay the same for a window and hold for at least another.
"""

import base64
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus

from pipeline.errors import ConfigError
from pipeline.model import Stored
from pipeline.naming import extension
from pipeline.ports import Delivery, Links
from pipeline.tools.files import write_durably

WINDOW: Final = 12 * 60 * 60  # seconds
KEY_BYTES: Final = 32


class LocalDelivery:
    """Mints signed addresses under the gallery's own `/media/`.

    Args:
        public_url: where the gallery is reached from outside, without a trailing slash.
        key: from `load_key`; the gallery verifies with the same.
    """

    def __init__(self, public_url: str, key: bytes) -> None:
        self._public_url = public_url.rstrip("/")
        self._key = key

    def links(self, stored: Stored, *, now: int) -> Links:
        if stored.path is None:  # kept elsewhere, before the store was changed
            return Links(stored.url, stored.url)
        file, version = media_file(stored), stored.version or ""
        expires = str((now // 1000 // WINDOW + 2) * WINDOW)
        shown = f"v={quote_plus(version)}&expires={expires}" if version else f"expires={expires}"
        place = f"{self._public_url}/media/{file}?{shown}"
        whole = _signature(self._key, file, version, expires, "")
        small = _signature(self._key, file, version, expires, "1")
        return Links(f"{place}&signature={whole}", f"{place}&thumbnail=1&signature={small}")


class ByPlace:
    """Mints local addresses for what stands in a local file, and the other delivery's for all else."""

    def __init__(self, local: Delivery, remote: Delivery) -> None:
        self._local = local
        self._remote = remote

    def links(self, stored: Stored, *, now: int) -> Links:
        place = self._remote if stored.path is None else self._local
        return place.links(stored, now=now)


def verify_signature(key: bytes, file: str, query: Mapping[str, str], *, now: int) -> bool:
    """Tell whether `query` is one that was minted for this file and has not expired.

    Args:
        key: the one that it was minted with.
        file: what stands after `/media/`: `{publicId}.{ext}`.
        query: the decoded query parameters; only `v`, `expires`, `thumbnail` and `signature` are looked at.
        now: milliseconds.
    """
    expires, given = query.get("expires", ""), query.get("signature", "")
    minted = _signature(key, file, query.get("v", ""), expires, query.get("thumbnail", ""))
    genuine = hmac.compare_digest(minted.encode(), _encoded(given))
    return genuine and int(expires) * 1000 > now


def media_file(stored: Stored) -> str:
    """Return what stands after `/media/` in a stored image's address."""
    return f"{stored.public_id}.{extension(stored.format)}"


def plain_url(public_url: str, public_id: str, format: str) -> str:  # noqa: A002 - the field's own word
    """Return the address that needs the owner's token."""
    return f"{public_url.rstrip('/')}/media/{public_id}.{extension(format)}"


def load_key(path: Path) -> bytes:
    """Return the signing key of this state folder, made at first use and readable by its owner alone.

    Two processes that start at once agree on one key.

    Raises:
        OSError: the state folder cannot be written, or the key cannot be read.
        ConfigError: the file is no key any more.
    """
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_durably(path, secrets.token_bytes(KEY_BYTES), replace=False, mode=0o600)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}: delete it, a new one is made")
    return key


def _signature(key: bytes, file: str, version: str, expires: str, thumbnail: str) -> str:
    chosen = _encoded(f"{file}\n{version}\n{expires}\n{thumbnail}")
    digest = hashlib.blake2b(chosen, key=key, digest_size=KEY_BYTES).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _encoded(text: str) -> bytes:
    """Encode whatever a query may decode to, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")
