"""Finished answers: the bytes, their strong ETags, their compressed twin, and what is sent of them to whom."""

import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

_WORTH_PACKING = 1024  # bytes: below this gzip saves less than its header costs in time
_LEVEL = 4
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ENTRY_OVERHEAD = 512  # bytes counted for an entry beside its bodies


class Ready:
    """An answer's bytes and ETag; the compressed twin is made when first asked for, under an ETag of its own."""

    __slots__ = ("_packed", "body", "media_type", "next", "packed_tag", "tag")

    def __init__(self, body: bytes, *, media_type: str = "application/json", following: str | None = None) -> None:
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        self.body = body
        self.media_type = media_type
        self.next = following  # cursor of the following page, for the Link header
        self.tag = f'"{digest}"'
        self.packed_tag = f'"{digest}-gzip"'
        self._packed: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes held in memory, the compressed twin counted as if it were there."""
        return len(self.body) + len(self.body) // 4 + _ENTRY_OVERHEAD

    def packed(self) -> bytes:
        """Return the body compressed by gzip."""
        if self._packed is None:
            self._packed = gzip.compress(self.body, _LEVEL, mtime=0)
        return self._packed

    def known_tag(self, headers: Headers) -> str | None:
        """Return the ETag that the caller already holds of these bytes, in either encoding."""
        held = headers.get("if-none-match")
        if held is None:
            return None
        if held.strip() == "*":
            return self.tag
        tags = {match[1] for match in _TAG.finditer(held)}
        return next((tag for tag in (self.tag, self.packed_tag) if tag in tags), None)

    def response(self, request: Request, *, headers: Mapping[str, str]) -> Response:
        """Return what this request is answered with: 304, the bytes, the compressed bytes, or their headers alone."""
        fields = dict(headers)
        known = self.known_tag(request.headers)
        if known is not None:
            return Response(status_code=304, headers={**fields, "etag": known})
        if len(self.body) >= _WORTH_PACKING and takes_gzip(request.headers):
            body = self.packed()
            fields |= {"etag": self.packed_tag, "content-encoding": "gzip"}
        else:
            body = self.body
            fields |= {"etag": self.tag}
        if request.method == "HEAD":
            fields["content-length"] = str(len(body))
            body = b""
        return Response(body, 200, fields, self.media_type)


def takes_gzip(headers: Headers) -> bool:
    """Tell whether the caller accepts gzip, an explicit word on gzip going before `*`."""
    weights: dict[str, float] = {}
    for part in ",".join(headers.getlist("accept-encoding")).split(","):
        name, _, rest = part.partition(";")
        weight = re.search(r"q\s*=\s*([0-9.]+)", rest)
        try:
            weights[name.strip().lower()] = float(weight[1]) if weight else 1.0
        except ValueError:
            weights[name.strip().lower()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


class Shelf:
    """Answers kept under what they were made from, least recently asked for out first, within a bound in bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._kept: OrderedDict[Hashable, tuple[Hashable, Ready]] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._held

    def get(self, key: Hashable, version: Hashable) -> Ready | None:
        """Return the answer under `key` if it was made from this `version`."""
        entry = self._kept.get(key)
        if entry is None or entry[0] != version:
            return None
        self._kept.move_to_end(key)
        return entry[1]

    def put(self, key: Hashable, version: Hashable, ready: Ready) -> None:
        """Keep an answer in place of the one of an earlier version."""
        old = self._kept.pop(key, None)
        if old is not None:
            self._held -= old[1].size
        if ready.size > self._most // 4:
            return
        self._kept[key] = (version, ready)
        self._held += ready.size
        while self._held > self._most:
            _, (_, gone) = self._kept.popitem(last=False)
            self._held -= gone.size
