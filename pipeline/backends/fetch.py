"""Downloads of images that an answer names by URL, from public addresses only.

The URL was chosen by whatever runs behind a back end, so each connection, after each redirect too, goes through the
guard. No credentials are sent. The URL, which may be presigned, stands in no message: only its host does.
"""

from collections.abc import Collection

import httpcore
import httpx
import trio

from pipeline.backends.answers import declared_size, read_at_most
from pipeline.backends.connecting import CONNECT, quieten, tls
from pipeline.backends.transport import LARGE
from pipeline.errors import AttemptFailed, NotWorthRepeating, Unavailable
from pipeline.tools import room, sizes
from pipeline.tools.guard import FAILURES, Guard, PrivateAddress, Resolve, resolve

DOWNLOAD = 120.0  # seconds for one image, redirects included
_REDIRECTS = 5
_HEADERS = ((b"User-Agent", b"pipeline"), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity"))


class Fetcher:
    """Fetches images by URL; `allow_hosts` names hosts (`host` or `host:port`) that may have private addresses."""

    def __init__(self, allow_hosts: Collection[str] = (), *, resolve: Resolve = resolve, limit: int = LARGE) -> None:
        quieten()
        self._guard = Guard(allow_hosts, resolve=resolve)
        self._limit = limit

    async def fetch(self, url: str, *, timeout: float = DOWNLOAD) -> bytes:
        """Return the bytes behind an `http` or `https` URL.

        Raises:
            NotWorthRepeating: it leads to a private address, or is no web address (code `forbidden_address`).
            AttemptFailed: it is gone (code `expired`) or larger than is taken (code `too_large`).
            Unavailable: passing weather; trying again may help.
        """
        place = _Place.of(url)
        try:
            with room.fail_after(timeout):
                for _ in range(_REDIRECTS):
                    found = await self._get(place)
                    if isinstance(found, bytes):
                        return found
                    place = found
        except trio.TooSlowError:
            raise Unavailable(f"{place} gave no whole image in {timeout:g} s", code="image_host") from None
        raise AttemptFailed(f"{place} redirects without end", code="bad_image_url")

    async def _get(self, place: "_Place") -> "bytes | _Place":
        seconds = {"connect": CONNECT, "read": DOWNLOAD, "write": CONNECT, "pool": CONNECT}
        try:
            async with (
                httpcore.AsyncConnectionPool(ssl_context=tls(), network_backend=self._guard) as pool,
                pool.stream(
                    "GET",
                    place.target,
                    headers=[(b"Host", place.url.netloc), *_HEADERS],
                    extensions={"timeout": seconds},
                ) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers}
                if 300 <= response.status < 400 and b"location" in headers:
                    return place.moved_to(headers[b"location"].decode("latin-1"))
                if response.status != 200:
                    raise _refusal(place, response.status)
                declared = declared_size(headers.get(b"content-length", b"").decode("latin-1"))
                return await self._whole(place, response, declared)
        except PrivateAddress as error:
            raise NotWorthRepeating(
                f"the back end names an image at {error.host}, which is a private address: "
                "list that host in the back end's allow_hosts if it may be fetched from",
                code="forbidden_address",
            ) from None
        except FAILURES:
            # Not chained: the cause may quote the URL.
            raise Unavailable(f"{place} broke off or could not be reached", code="image_host") from None

    async def _whole(self, place: "_Place", response: httpcore.Response, declared: int | None) -> bytes:
        body = None
        if declared is None or declared <= self._limit:
            body = await read_at_most(self._limit, response.aiter_stream(), declared=declared)
        if body is None:
            raise AttemptFailed(f"{place} sends more than {sizes.in_words(self._limit)}", code="too_large")
        return body


class _Place:
    """Where an image lies; written as its host alone."""

    def __init__(self, url: httpx.URL) -> None:
        self.url = url

    @classmethod
    def of(cls, url: str) -> "_Place":
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 0) > 65535:
            raise NotWorthRepeating(
                "the back end names an image by something that is not a web address", code="forbidden_address"
            )
        return cls(parsed)

    def __str__(self) -> str:
        return f"the image's host {self.url.host}"

    @property
    def target(self) -> httpcore.URL:
        url = self.url
        return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)

    def moved_to(self, location: str) -> "_Place":
        try:
            return _Place.of(str(self.url.join(location)))
        except httpx.InvalidURL:
            raise AttemptFailed(f"{self} redirects to something that is not an address", code="bad_image_url") from None


def _refusal(place: _Place, status: int) -> Exception:
    if status in (408, 429) or status >= 500:
        return Unavailable(f"{place} answered {status}", code="image_host")
    return AttemptFailed(f"{place} no longer gives the image ({status})", code="expired")
