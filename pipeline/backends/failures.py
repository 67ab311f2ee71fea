"""What a service's failures mean: the error that an answer, or the lack of one, comes to, with name, place and remedy."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from pipeline.backends.answers import Answer
from pipeline.backends.connecting import CONNECT
from pipeline.errors import AcceptanceUnknown, BackendError, InvalidRequest, NotAccepted, Unavailable
from pipeline.tools import clock as wall
from pipeline.tools.scrub import scrub

OURS_TO_MEND = frozenset({401, 402, 403})
# Cloudflare's own words for an origin that its request never reached: down, unreachable, no TLS, no DNS.
_EDGE_DID_NOT_REACH = frozenset({521, 523, 525, 526, 530})
_POD_PROXY = ".proxy.runpod.net"


@dataclass(frozen=True, slots=True)
class Failures:
    """Puts what went wrong at one service into our errors.

    `called` and `remedy` are the service's name and what a person does when it refuses our credentials; `secrets` are what
    no message may hold.
    """

    called: str
    url: str
    remedy: str
    secrets: tuple[str, ...]
    clock: wall.Clock

    def refusal(self, answer: Answer) -> BackendError:
        """Say what an answer to an order means that is not the one hoped for."""
        status, words = answer.status, answer.words(self.secrets)
        if status == 429:
            pause = answer.pause(self.clock())
            return NotAccepted(f"{self.at} has enough for now (429)", code="rate_limited", retry_after=pause)
        if status in OURS_TO_MEND | _EDGE_DID_NOT_REACH | {404, 503} or 300 <= status < 400:
            return self.down(answer, self.url)
        if 400 <= status < 500 and status != 408 and not answer.is_page:
            return InvalidRequest(f"{self.at} refuses the request ({status}): {words}", code="invalid_request")
        return AcceptanceUnknown(
            f"{self.at} answered {status} with {words}: it may have been accepted", code="no_answer"
        )

    def scrub(self, text: str) -> str:
        """Make the service's words fit for a message."""
        return scrub(text, self.secrets)

    @contextmanager
    def objecting(self) -> Iterator[None]:
        """Say of an objection raised within to whom the request was to go; names listed there are its own words."""
        try:
            yield
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.at}: {self.scrub(str(error))}", code=error.code) from None

    @property
    def at(self) -> str:
        """Who speaks, and where."""
        return f"{self.called} at {self.url}"

    def crowded(self) -> NotAccepted:
        """All our connections are taken."""
        return NotAccepted(f"no connection to {self.at} was free", code="busy")

    def unreached(self, error: Exception, base: str) -> Unavailable:
        """Nothing could be asked at `base`."""
        return Unavailable(f"{self.called} at {base} cannot be reached: {self.why(error)}", code="unreachable")

    def why(self, error: BaseException) -> str:
        """Name the cause that lies deepest: DNS, TLS and refused connections all arrive as ConnectError."""
        link: BaseException | None = error
        while link is not None:
            if (known := _KNOWN_CAUSES.get(type(link))) is not None:
                return known
            if isinstance(link, ssl.SSLCertVerificationError):
                return f"its TLS certificate is not accepted: {link.verify_message}"
            if isinstance(link, ssl.SSLError):
                return f"TLS failed: {link.reason or 'no common protocol'}"
            deeper = link.exceptions[0] if isinstance(link, BaseExceptionGroup) else link.__cause__
            link = deeper or link.__context__
        return self.scrub(str(error)) or type(error).__name__

    def down(self, answer: Answer, base: str) -> Unavailable:
        """What stands at `base` is not the service as it should be, whatever it was asked."""
        status, pause = answer.status, answer.pause(self.clock())
        at = f"{self.called} at {base}"
        if 300 <= status < 400:
            aim = _host_of(answer.headers.get("location", "")) or "somewhere else"
            return Unavailable(f"{at} redirects to {aim} ({status}): put the right address in url", code="redirected")
        if status in (401, 403):
            return Unavailable(f"{at} refuses our credentials ({status}): {self.remedy}", code="credentials")
        if status == 402:
            return Unavailable(f"{at} wants payment (402): the account's balance is used up", code="payment")
        if httpx.URL(base).host.endswith(_POD_PROXY) and (answer.is_page or status == 404):
            return Unavailable(f"proxy {status}: pod stopped, or the port of {base} is not open", code="pod_stopped")
        if status == 404:
            return Unavailable(f"{at} is not there (404): is the address right, and is it running?", code="not_found")
        words = answer.words(self.secrets)
        return Unavailable(f"{at} answered {status} with {words}", code="unavailable", retry_after=pause)


_KNOWN_CAUSES: Mapping[type[BaseException], str] = {
    socket.gaierror: "its name is not known (DNS)",
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "connection reset",
    httpx.ConnectTimeout: f"no connection within {CONNECT:g} s",
    httpx.ReadTimeout: "it fell silent",
    httpx.WriteTimeout: "it stopped reading",
}


def _host_of(location: str) -> str:
    try:
        return httpx.URL(location).host
    except httpx.InvalidURL:
        return ""
