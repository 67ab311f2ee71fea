"""What goes wrong with a call to Cloudinary, in our words: the SDK's own quote whole answers and Python's exceptions."""

import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import IncompleteRead

from pipeline.errors import StoreError, StoreRefused, StoreUnavailable
from pipeline.tools.clock import rfc3339
from pipeline.tools.pauses import LONGEST_ASKED, asked_for
from pipeline.tools.scrub import scrub

_LONGEST = 300  # characters of Cloudinary's sentence
_NO_JSON = "it answered with what is no JSON"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer said beside its body, which the SDK does not hand on."""

    status: int
    retry_after: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A call that failed: why, as a sentence's second half, and whether that is Cloudinary's own word."""

    said: str
    own: bool = True


def reason_of(error: Exception, timeout: float) -> Reason:
    """Read an exception of the SDK's; `timeout` (seconds) is the call's."""
    text = str(error)
    if text.startswith("Error parsing server response"):
        return Reason(_NO_JSON, own=False)
    own = re.match(r"Error \d{3} - ", text)
    if own is not None:
        return Reason(text[own.end() :])
    return Reason(next(_causes(error, timeout), "the SDK could not read its answer"), own=False)


def translated(
    about: Reason, heard: Envelope | None, *, cloud_name: str, secrets: Iterable[str], now: int
) -> StoreError:
    """Return our error for a failed call; only Cloudinary's sentence is kept, cut short, with no secret in it.

    Args:
        about: what went wrong.
        heard: the answer's status and wish for a pause; None where none came.
        cloud_name: whose credentials were sent.
        secrets: what must not show.
        now: milliseconds.
    """
    status = 0 if heard is None else heard.status
    # What follows "String to sign" is the request itself, the prompt included.
    said = scrub(about.said.partition(" String to sign")[0], secrets, longest=_LONGEST)
    if about.own and "Stale request" in about.said:
        return StoreUnavailable(
            f"Cloudinary refuses requests as stale: this machine's clock says {rfc3339(now)}; set it right",
            code="clock", credentials=True,
        )  # fmt: skip
    if about.own and (status in {401, 403} or (status == 404 and "cloud" in about.said.lower())):
        return StoreUnavailable(
            f"Cloudinary refuses the credentials for cloud {cloud_name!r}: check cloud_name, api_key and "
            f"api_secret, or CLOUDINARY_URL ({said})",
            code="credentials", credentials=True,
        )  # fmt: skip
    wait = None if heard is None else asked_for(heard.retry_after, now)
    if status in {420, 429}:
        wait = _reset_after(about.said, now) if wait is None else wait
        return StoreUnavailable(f"Cloudinary's rate limit is reached: {said}", code="rate_limited", retry_after=wait)
    if status == 413 or (about.own and status in {400, 415, 422}):
        reason = said if about.own else "it is too large"
        return StoreRefused(f"Cloudinary refuses the image: {reason}", code="store_refused")
    where = f" ({status})" if status else ""
    return StoreUnavailable(f"Cloudinary is not to be had{where}: {said}", code="store_down", retry_after=wait)


def _causes(error: BaseException, timeout: float) -> Iterator[str]:
    link: BaseException | None = error
    while link is not None:
        match link:
            case TimeoutError():
                yield f"no answer within {timeout:g} s"
            case socket.gaierror():
                yield "its name is not known (DNS)"
            case ConnectionRefusedError():
                yield "connection refused"
            case IncompleteRead():
                yield "its answer broke off"
            case ConnectionError():
                yield "the connection broke off"
            case ssl.SSLCertVerificationError():
                yield f"its TLS certificate is not accepted: {link.verify_message}"
            case ssl.SSLError():
                yield f"TLS failed: {link.reason or 'no common protocol'}"
        link = link.__cause__ or link.__context__


def _reset_after(text: str, now: int) -> float | None:
    """Read `Try again on 2024-10-04 14:00:00 UTC` as seconds from now."""
    found = re.search(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", text)
    if not found:
        return None
    try:
        reset = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return min(max(0.0, reset.timestamp() - now / 1000), LONGEST_ASKED)
