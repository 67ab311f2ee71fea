"""Cloudinary's delivery addresses, minted when a gallery is read; pure, so the gallery may use it without the account's client.

Written out here rather than asked of the SDK, whose general way takes twenty times as long: a page of a gallery has a hundred
addresses. The rule (Cloudinary's "Delivery URL signatures"): the first eight characters of the URL-safe base64 of
SHA-1 over `transformation/public_id.format` and the secret. A test compares every address with the SDK's own.

The public ids of assets that stand under another type (adopted ones) keep it; only the type `upload` is open to everybody,
so everything else is signed. The secret takes part in the signature alone.
"""

import hashlib
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from pipeline.model import Stored
from pipeline.ports import Links

THUMBNAIL_WIDTH: Final = 480  # pixels: twice the gallery's rows, for dense screens
THUMBNAIL: Final = f"c_fill,f_auto,g_auto,q_auto,w_{THUMBNAIL_WIDTH}"
_PLAIN = "/:.-_"  # what Cloudinary leaves unescaped in a public id, beside letters and digits


class CloudinaryDelivery:
    """Mints `https://res.cloudinary.com/…` addresses of one cloud; plain signatures do not expire (Cloudinary's own rule)."""

    def __init__(self, cloud_name: str, api_secret: str) -> None:
        self._base = f"https://res.cloudinary.com/{cloud_name}/image"
        self._secret = api_secret.encode()
        # An address depends on nothing but the asset's version; a gallery asks for the same ones again and again.
        self._minted = lru_cache(maxsize=20_000)(self._mint)

    def links(self, stored: Stored, *, now: int) -> Links:  # local addresses need the moment, these do not
        return self._minted(stored.public_id, stored.type, stored.version, stored.format)

    def url(self, stored: Stored) -> str:
        """Mint the address of the whole image alone."""
        return self._address("", f"{stored.public_id}.{stored.format}", stored.type, stored.version)

    def has_minted(self, url: str) -> bool:
        """Tell whether an address is one of this cloud's."""
        return url.startswith(f"{self._base}/")

    def _mint(self, public_id: str, delivery_type: str, version: str | None, extension: str) -> Links:
        whole = self._address("", f"{public_id}.{extension}", delivery_type, version)
        return Links(whole, self._address(THUMBNAIL, public_id, delivery_type, version))

    def _address(self, transformation: str, asset: str, delivery_type: str, version: str | None) -> str:
        path = quote(asset, safe=_PLAIN).replace("~", "%7E")
        signed = None if delivery_type == "upload" else self._signature(f"{transformation}/{path}".lstrip("/"))
        at = f"v{version}" if version else "v1" * ("/" in asset)  # the SDK's stand-in before what has a folder
        return "/".join(part for part in (self._base, delivery_type, signed, transformation, at, path) if part)

    def _signature(self, text: str) -> str:
        digest = hashlib.sha1(text.encode() + self._secret, usedforsecurity=False).digest()
        return f"s--{urlsafe_b64encode(digest)[:8].decode()}--"
