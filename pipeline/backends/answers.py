"""What an HTTP service answered, read whole, and what is in it for a person: its words without secrets."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import trio

from pipeline.model import Submission
from pipeline.tools import room
from pipeline.tools.pauses import asked_for
from pipeline.tools.scrub import scrub

LONGEST_RUN = 30 * 86_400_000  # milliseconds of work that are believed
LONGEST_ID = 200  # characters of a service's own name for a submission
_FREE = 128 << 10  # bytes: what says no more than how an image is getting on must not queue behind large pictures
_STEPS = (_FREE, 2 << 20, 16 << 20)  # bytes claimed one after the other for a body that does not say how long it is


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, at most as large as was allowed; `headers` has lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx and the answer the service's own."""
        return 200 <= self.status < 300 and not self.is_page

    @property
    def is_page(self) -> bool:
        """Whether it is a web page: a proxy, a login or an error page, never the service's own word."""
        if "text/html" in self.headers.get("content-type", "").lower():
            return True
        return self.body[:64].lstrip().lower().startswith((b"<!doctype html", b"<html"))

    def json(self) -> object:
        """Parse the body, NaN and Infinity included; halves of characters become question marks.

        Raises:
            ValueError: it is empty, cut short, nested too deep, or no JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return _leniently(self.body)

    def words(self, secrets: Sequence[str] = ()) -> str:
        """Return what it says, for an error message."""
        if self.is_page:
            return "a web page"
        return scrub(self.body[:4096].decode("utf-8", "replace"), secrets) or "nothing"

    def pause(self, now: int) -> float | None:
        """Return how many seconds from `now` (milliseconds) its `Retry-After` asks for."""
        return asked_for(self.headers.get("retry-after", "").strip(), now)


def is_id(text: str, secrets: Sequence[str] = ()) -> bool:
    """Whether a service may call a submission so: it goes into the index, the log and a path, credentials do not."""
    return 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable() and scrub(text, secrets) == text


def over_at(submission: Submission, now: int) -> float:
    """Turn a deadline on the wall, which may be set meanwhile, into a moment on trio's clock, which nobody sets."""
    return trio.current_time() + (submission.deadline - now) / 1000


def seconds(milliseconds: object) -> float | None:
    """Read a duration that a service tells; None for what is none."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return max(milliseconds, 0) / 1000 if milliseconds <= LONGEST_RUN else None  # NaN is not less either


def _leniently(body: bytes) -> object:
    """What orjson refuses and services write: NaN, Infinity, and half a character."""
    try:
        whole = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(whole)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def declared_size(text: str) -> int | None:
    """Read a `Content-Length`; None where there is none, or none that can be believed."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


async def read_at_most(limit: int, chunks: AsyncIterator[bytes], *, declared: int | None) -> bytes | None:
    """Join the chunks of a body, with room for it in memory; None as soon as they are more than `limit` bytes.

    Args:
        limit: bytes.
        chunks: of the body.
        declared: bytes that it says it has; None: not said, and room is claimed in steps.
    """
    try:
        body = await _read(limit, chunks, declared or 0)
    except BaseException:
        room.let_go()
        raise
    await room.claim(0 if body is None or len(body) <= _FREE else len(body))
    return body


async def _read(limit: int, chunks: AsyncIterator[bytes], declared: int) -> bytes | None:
    body, size = [], 0
    claimed = await _claim(declared)
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            await _end(chunks)
            return None
        body.append(chunk)
        if size > claimed:
            claimed = await _claim(next(step for step in (*_STEPS, limit) if step >= size))
    return b"".join(body)


async def _end(chunks: AsyncIterator[bytes]) -> None:
    """To leave them alone would leave a chain of async generators unfinished; a cancellation ends them from within."""
    with trio.CancelScope() as enough:
        enough.cancel()
        async for _ in chunks:
            pass


async def _claim(size: int) -> int:
    """Claim room for a body that is about to be read, and return how far that reaches."""
    if size <= _FREE:
        return _FREE
    await room.claim(size)
    return size
