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
_LEVEL = 1  # rows resemble each other so much that more pains save next to nothing
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ENTRY_OVERHEAD = 512  # bytes counted for an entry beside its bodies


class Ready:
    """An answer's bytes and ETag; the compressed twin is made when first asked for, under an ETag of its own."""

    __slots__ = ("_body", "_packed", "_worth_packing", "media_type", "next", "packed_tag", "tag")

    def __init__(self, body: bytes, *, media_type: str = "application/json", following: str | None = None) -> None:
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        self._body: bytes | None = body
        self._worth_packing = len(body) >= _WORTH_PACKING
        self.media_type = media_type
        self.next = following  # cursor of the following page, for the Link header
        self.tag = f'"{digest}"'
        self.packed_tag = f'"{digest}-gzip"'
        self._packed: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes held in memory; of what is not folded, the compressed twin is counted as if it were there."""
        if self._body is None:
            return len(self.packed()) + _ENTRY_OVERHEAD
        return len(self._body) + len(self._body) // 4 + _ENTRY_OVERHEAD

    @property
    def body(self) -> bytes:
        """The bytes, unpacked anew each time once they are folded."""
        return gzip.decompress(self.packed()) if self._body is None else self._body

    def fold(self) -> None:
        """Hold the compressed twin alone from now on."""
        self.packed()
        self._body = None

    def packed(self) -> bytes:
        """Return the body compressed by gzip."""
        if self._packed is None:
            assert self._body is not None
            self._packed = gzip.compress(self._body, _LEVEL, mtime=0)
        return self._packed

    def known_tag(self, headers: Headers) -> str | None:
        """Return the ETag that the caller already holds of these bytes, in either encoding."""
        held = ",".join(headers.getlist("if-none-match"))
        if not held:
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
        if self._worth_packing and takes_gzip(request.headers):
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


class AnswerCache:
    """Answers kept under what they were made from, within a bound in bytes.

    Half of the bound is for answers as they are sent. What was longest not asked for there goes on folded, in a tenth
    of the room or less, and only leaves when the whole is full: a page costs far more to make than to unfold.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = _ByUse()
        self._folded = _ByUse()

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._open.held + self._folded.held

    def get(self, key: Hashable, version: Hashable) -> Ready | None:
        """Return the answer under `key` if it was made from this `version`."""
        return self._open.get(key, version) or self._folded.get(key, version)

    def put(self, key: Hashable, version: Hashable, ready: Ready) -> None:
        """Keep an answer in place of the one of an earlier version."""
        self._open.drop(key)
        self._folded.drop(key)
        if ready.size > self._most // 4:
            return
        self._open.put(key, version, ready)
        while self._open.held > self._most // 2:
            longest, made_from, old = self._open.oldest()
            old.fold()
            self._folded.put(longest, made_from, old)
        while self.held > self._most:
            self._folded.oldest()


class _ByUse:
    """Answers in the order in which they were last asked for, and their size."""

    def __init__(self) -> None:
        self.held = 0
        self._kept: OrderedDict[Hashable, tuple[Hashable, Ready, int]] = OrderedDict()

    def get(self, key: Hashable, version: Hashable) -> Ready | None:
        entry = self._kept.get(key)
        if entry is None or entry[0] != version:
            return None
        self._kept.move_to_end(key)
        return entry[1]

    def put(self, key: Hashable, version: Hashable, ready: Ready) -> None:
        size = ready.size
        self._kept[key] = (version, ready, size)
        self.held += size

    def drop(self, key: Hashable) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self.held -= entry[2]

    def oldest(self) -> tuple[Hashable, Hashable, Ready]:
        """Take out what was longest not asked for."""
        key, (version, ready, size) = self._kept.popitem(last=False)
        self.held -= size
        return key, version, ready
