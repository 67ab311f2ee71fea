"""`/media/`: the local store's files, for a signed address or the owner's token, found through the index alone."""

import os
import stat
from pathlib import Path

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable, Response

from pipeline.catalogue import Catalogue
from pipeline.gallery.auth import Doorkeeper
from pipeline.gallery.refusals import not_found, not_in_range
from pipeline.gallery.settings import LocalFiles
from pipeline.stores.delivery import verify_signature
from pipeline.tools import clock

_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; sandbox",
    "vary": "Authorization",
}


class _File(FileResponse):
    chunk_size = 256 * 1024  # each chunk costs a hop to a thread

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """Starlette's own answers are plain text; a range that is none is to be ignored (RFC 9110, 14.2)."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable:
            raise not_in_range(file_size) from None


class Media:
    """Answers for files, those that were stored before the store was changed included."""

    def __init__(
        self, catalogue: Catalogue, doorkeeper: Doorkeeper, files: LocalFiles | None, now: clock.Clock
    ) -> None:
        self._catalogue = catalogue
        self._doorkeeper = doorkeeper
        self._files = files
        self._now = now

    async def file(self, request: Request) -> Response:
        """`/media/{publicId}.{ext}`, small with `thumbnail=1`."""
        name = request.path_params["file"]
        files = self._files
        query = request.query_params
        signed = (
            files is not None and "signature" in query and verify_signature(files.key, name, query, now=self._now())
        )
        caller = None if signed else self._doorkeeper.caller(request)
        public_id, _, extension = name.rpartition(".")
        found = self._catalogue.media(public_id)
        if files is None or found is None or (caller is not None and not caller.may_see(found.owner)):
            raise not_found()
        stored = found.stored
        place = self._catalogue.place(stored)
        if place is None or _TYPES.get(extension) is not (kind := _TYPES.get(stored.format)) or kind is None:
            raise not_found()
        lifetime = self._lifetime(query, stored.version) if signed else "private, no-cache"
        choices = [(place, f'"{stored.md5}"', kind)]
        if query.get("thumbnail") == "1":  # the whole picture does where the small one is missing
            choices.insert(0, (files.thumbnail(place, public_id), f'"{stored.md5}-small"', "image/webp"))
        for path, tag, media_type in choices:
            if (seen := _regular(path)) is not None:
                headers = {**_ALWAYS, "etag": tag, "cache-control": lifetime}
                if _holds(request, tag):
                    return Response(status_code=304, headers=headers)
                return _File(path, headers=headers, media_type=media_type, stat_result=seen)
        raise not_found()

    def _lifetime(self, query: QueryParams, version: str | None) -> str:
        """Let a browser keep what a signed address of the present version shows, until that address expires."""
        if not version or query.get("v") != version:
            return "private, no-cache"
        left = max(0, int(query["expires"]) - self._now() // 1000)
        return f"private, max-age={left}, immutable"


def _regular(path: Path) -> os.stat_result | None:
    """Return what stands at `path` if it is a file itself: a link would lead out of the store."""
    try:
        seen = path.lstat()
    except (OSError, ValueError):
        return None
    return seen if stat.S_ISREG(seen.st_mode) else None


def _holds(request: Request, tag: str) -> bool:
    held = ",".join(request.headers.getlist("if-none-match"))
    return held.strip() == "*" or tag in {part.strip().removeprefix("W/") for part in held.split(",")}
