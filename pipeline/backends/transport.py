"""The wall between our adapters and HTTP: one service and its credentials.

What a failure means (`failures` puts it into words) depends on what the request could have bought:

- `ask`: costs nothing and may be repeated. Whatever keeps us from an answer is `Unavailable` or, for a 429,
  `NotAccepted`; 2xx and plain 4xx come back as an `Answer`.
- `order`: may be charged for. A failure before the request went out is `Unavailable`; anything after it that is no
  answer is `AcceptanceUnknown`. Every answer comes back; `taken` reads the status.

Credentials go to the origin they were configured for and nowhere else. What an HTTP client adds to a transport
(cookies, redirects, authentication of its own) is what must not happen here, so there is none in between.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache, partial
from typing import Any

import httpx
import trio

from pipeline.backends.answers import Answer, declared_size, read_at_most
from pipeline.backends.connecting import CONNECT, canonical
from pipeline.backends.failures import OURS_TO_MEND, Failures
from pipeline.errors import AcceptanceUnknown, AttemptFailed, ConfigError, InvalidRequest, Unavailable
from pipeline.tools import clock as wall
from pipeline.tools import room, sizes, spacing

LOOK = 30.0  # seconds for a whole request that only looks
SMALL = 4 << 20  # bytes of an answer that holds no picture
LARGE = 96 << 20  # bytes of an answer that may hold one

# Nothing of these requests reached the service.
_BEFORE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
# The whole exchange has the caller's limit.
_PATIENCE = {"timeout": httpx.Timeout(None, connect=CONNECT, pool=CONNECT).as_dict()}
_PLAIN_HEADERS = httpx.Headers({"Accept-Encoding": "identity", "User-Agent": "pipeline"})
_ITS_OWN_NO = frozenset(range(400, 500)) - OURS_TO_MEND - {408, 429}

_Origin = tuple[str, str, int | None]


class Service:
    """One HTTP service at one base URL.

    `called` and `remedy` are the service's name and what a person does when it refuses our credentials; both go into
    error messages. `key` is sent as a bearer token, `login` (or a user in the URL) as Basic auth. `always_there` is a path
    that every such service answers with 2xx: where it does not, a proxy or a stranger speaks.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        called: str,
        remedy: str = "check the credentials",
        key: str | None = None,
        login: tuple[str, str] | None = None,
        always_there: str | None = None,
        clock: wall.Clock = wall.now,
    ) -> None:
        parsed = _parsed(url, called)
        if login is None and parsed.username:
            login = (parsed.username, parsed.password)
        self.url = canonical(url)
        self.secrets: tuple[str, ...] = ()
        self._called = called
        self._always_there = always_there
        self._origin = _origin(parsed)
        self._transport = transport
        # An image is asked after at the same address until it is done.
        self._bare_request = lru_cache(maxsize=1_000)(partial(self._request, "GET"))
        self._headers = httpx.Headers(_PLAIN_HEADERS)  # for this origin alone
        if key is not None:
            self._headers["Authorization"] = f"Bearer {_header_safe(key, called)}"
            self.secrets = (key.strip(),)
        elif login is not None:
            pair = base64.b64encode(":".join(login).encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
            self.secrets = (login[1], pair)
        self._failures = Failures(called, self.url, remedy, self.secrets, clock)
        self.at = self._failures.at
        # Adapters put what they find themselves into the same words.
        self.refusal = self._failures.refusal
        self.down = self._failures.down
        self.scrub = self._failures.scrub
        self.objecting = self._failures.objecting

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        base_url: str | None = None,
        timeout: float = LOOK,
        limit: int = SMALL,
    ) -> Answer:
        """Make a request that costs nothing; `base_url` where an earlier configuration's address is meant.

        Returns 2xx and those 4xx that are the service's own word (400, 404, 405, 409, 422 …), be they web pages.

        Raises:
            NotAccepted: 429, or all our connections are taken.
            Unavailable: no answer, none in time, or none that is the service's own; code `too_large` over `limit`.
        """
        base = base_url or self.url
        url = f"{base}/{path}"
        content = None if body is None else encoded(body)
        try:
            answer = await self._exchange(method, url, content, timeout=timeout, limit=limit, params=params)
        except _TooLargeError as error:
            raise Unavailable(f"{self._called} at {base} {error}", code="too_large") from None
        except httpx.PoolTimeout as error:
            raise self._failures.crowded() from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise self._failures.unreached(error, base) from error
        except trio.TooSlowError:
            raise Unavailable(
                f"{self._called} at {base} gave no whole answer in {timeout:g} s", code="silent"
            ) from None
        if answer.status == 429:
            raise self.refusal(answer)
        if answer.is_success or (answer.status in _ITS_OWN_NO and await self._is_its_own(answer, path, base)):
            return answer
        raise self._failures.down(answer, base)

    async def ask_for_picture(self, path: str, *, base_url: str, params: Mapping[str, str] | None = None) -> Answer:
        """Ask likewise for what may hold a picture.

        Raises:
            NotAccepted, Unavailable: as `ask` does.
            AttemptFailed: it is larger than is taken, and will be again.
        """
        try:
            return await self.ask(path, params=params, base_url=base_url, limit=LARGE)
        except Unavailable as error:
            if error.code == "too_large":
                raise AttemptFailed(str(error), code="too_large") from None
            raise

    async def order(self, path: str, body: Mapping[str, Any] | bytes, *, timeout: float, limit: int = SMALL) -> Answer:
        """Make a POST that may be charged for, once; whatever is answered comes back, to be read by `taken`.

        Raises:
            NotAccepted, Unavailable: nothing went out.
            AcceptanceUnknown: it went out, and no whole answer came; code `too_large` over `limit`, `timed_out`
                after `timeout`.
            InvalidRequest: the body cannot be written as JSON.
        """
        content = body if isinstance(body, bytes) else encoded(body)
        at = self.at
        await spacing.departure()
        try:
            return await self._exchange("POST", f"{self.url}/{path}", content, timeout=timeout, limit=limit)
        except _TooLargeError as error:
            raise AcceptanceUnknown(f"{at} {error}", code="too_large") from None
        except httpx.PoolTimeout as error:
            raise self._failures.crowded() from error
        except _BEFORE as error:
            raise self._failures.unreached(error, self.url) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            why = self._failures.why(error)
            raise AcceptanceUnknown(f"{at} broke off after the request went out: {why}", code="no_answer") from error
        except trio.TooSlowError:
            raise AcceptanceUnknown(f"{at} gave no whole answer in {timeout:g} s", code="timed_out") from None

    def taken(self, answer: Answer) -> object:
        """Return the JSON of an order that was accepted; otherwise raise what `refusal` makes of the answer."""
        if not answer.is_success:
            raise self.refusal(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise AcceptanceUnknown(
                f"{self.at} answered {answer.status} with no JSON: {answer.words(self.secrets)}",
                code="no_answer",
            ) from error

    async def _exchange(
        self,
        method: str,
        url: str,
        content: bytes | None,
        *,
        timeout: float,
        limit: int,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send, and read the whole answer; raises TooSlowError after `timeout` seconds, in which waiting for room does not count."""
        bare = method == "GET" and not params
        request = self._bare_request(url) if bare else self._request(method, url, content, params)
        with room.fail_after(timeout):
            response = await self._transport.handle_async_request(request)
            try:
                body = await _body_of(response, limit)
            except BaseException:
                with trio.move_on_after(1, shield=True):
                    await response.aclose()
                raise
            await response.aclose()
        return Answer(response.status_code, body, dict(response.headers.multi_items()))

    def _request(
        self, method: str, url: str, content: bytes | None = None, params: Mapping[str, str] | None = None
    ) -> httpx.Request:
        target, origin = _target(url)
        headers = self._headers if origin == self._origin else _PLAIN_HEADERS
        request = httpx.Request(method, target, content=content, params=params, headers=headers, extensions=_PATIENCE)
        if content is not None:
            request.headers["Content-Type"] = "application/json"
        return request

    async def _is_its_own(self, answer: Answer, path: str, base: str) -> bool:
        """Tell whether the service itself says no: many do with a web page, but a proxy says so of everything.

        Raises:
            NotAccepted, Unavailable: what is always there cannot be had either.
        """
        if not answer.is_page:
            return True
        if self._always_there in (None, path):
            return False
        return (await self.ask(self._always_there, base_url=base)).is_success


class _TooLargeError(Exception):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"answered with {sizes.in_words(size)} or more; at most {sizes.in_words(limit)} are taken")


def encoded(body: Mapping[str, Any]) -> bytes:
    """Write a request body as JSON.

    Raises:
        InvalidRequest: `params` holds something that JSON has no word for.
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"the request cannot be written as JSON: {error}", code="invalid_request") from error


def _parsed(url: str, called: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"the url of {called} is none: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 0) > 65535:
        raise ConfigError(f"the url of {called} must begin with http:// or https:// and name a host")
    return parsed


async def _body_of(response: httpx.Response, limit: int) -> bytes:
    declared = declared_size(response.headers.get("content-length", ""))
    if declared is not None and declared > limit:
        raise _TooLargeError(declared, limit)
    body = await read_at_most(limit, _pieces(response), declared=declared)
    if body is None:
        raise _TooLargeError(limit, limit)
    return body


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it came; only what is compressed all the same goes through httpx's decoders."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    compressed = response.headers.get("content-encoding", "identity") != "identity"
    return response.aiter_bytes() if compressed else aiter(response.stream)


@lru_cache(maxsize=1_000)  # to read an address costs as much as to send what is asked there
def _target(url: str) -> tuple[httpx.URL, _Origin]:
    parsed = httpx.URL(url)
    return parsed, _origin(parsed)


def _origin(url: httpx.URL) -> _Origin:
    return (url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme))


def _header_safe(key: str, called: str) -> str:
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(f"the api_key of {called} is empty or holds characters that no HTTP header may: copy it anew")
    return key
