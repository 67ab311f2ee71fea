"""Cloudinary's delivery addresses, minted when a gallery is read; pure, so the gallery may use it without the account's client.

The public ids of assets that stand under another type (adopted ones) keep it; only the type `upload` is open to everybody,
so everything else is signed. The secret takes part in the signature alone.
"""

from functools import lru_cache
from typing import Final

from cloudinary.utils import cloudinary_url

from pipeline.model import Stored
from pipeline.ports import Links

THUMBNAIL_WIDTH: Final = 480  # pixels: twice the gallery's rows, for dense screens
THUMBNAIL: Final = {
    "crop": "fill",
    "gravity": "auto",
    "fetch_format": "auto",
    "quality": "auto",
    "width": THUMBNAIL_WIDTH,
}


class CloudinaryDelivery:
    """Mints `https://res.cloudinary.com/…` addresses of one cloud; plain signatures do not expire (Cloudinary's own rule)."""

    def __init__(self, cloud_name: str, api_secret: str) -> None:
        self._cloud_name = cloud_name
        self._api_secret = api_secret
        # An address depends on nothing but the asset's version; a gallery asks for the same ones again and again.
        self._minted = lru_cache(maxsize=20_000)(self._mint)

    def links(self, stored: Stored, *, now: int) -> Links:  # local addresses need the moment, these do not
        return self._minted(stored.public_id, stored.type, stored.version, stored.format)

    def _mint(self, public_id: str, delivery_type: str, version: str | None, extension: str) -> Links:
        place = {
            "cloud_name": self._cloud_name,
            "api_secret": self._api_secret,
            "type": delivery_type,
            "version": version,
            "sign_url": delivery_type != "upload",
            "secure": True,
            "auth_token": False,
        }
        url, _ = cloudinary_url(public_id, format=extension, **place)
        thumbnail, _ = cloudinary_url(public_id, **THUMBNAIL, **place)
        return Links(str(url), str(thumbnail))
